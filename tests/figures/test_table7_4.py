# SPDX-License-Identifier: MIT
"""Figure 7.4 drawn from a recorded result, without root and without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from plots import table7_4
from testbed.cli import main
from testbed.results import Result, read_result
from tests.drawn import RECORDED, imports_that_need_root, storing, words


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """Store the recorded result, with changes, in a folder."""
    return storing("table7_4", tmp_path)


def recorded() -> Result:
    return read_result(RECORDED / "table7_4")


def heights(figure: Figure, axes: int) -> list[float]:
    """Of the bars, from left to right."""
    bars = [p for p in figure.axes[axes].patches if isinstance(p, Rectangle)]
    return [bar.get_height() for bar in sorted(bars, key=lambda bar: bar.get_x())]


def test_plot_makes_a_png_and_an_svg_that_depend_on_the_data_alone(
    stored: Callable[..., Path],
) -> None:
    """Both files lie beside the data; the same data gives the same SVG."""
    folder = stored()
    texts = []
    for _ in range(2):
        assert main(["plot", str(folder)]) == 0
        texts.append((folder / "table7_4.svg").read_text())
    assert texts[0] == texts[1]
    assert {path.name for path in folder.iterdir()} == {
        *("result.json", "table7_4.png", "table7_4.svg")
    }


def test_bars_are_the_values_of_the_table() -> None:
    """Left ours, right the published ones: each flow by routing, then by NFC."""
    result = recorded()
    figure = table7_4.draw(result)
    rows = [row for row in result.compared if row.unit == "Mbit/s"]
    assert heights(figure, 0) == [row.value for row in rows]
    assert heights(figure, 1) == [801.6, 797.0, 804.0, 800.0]


def test_every_run_is_a_dot() -> None:
    """The single runs are seen, not only their median."""
    result = recorded()
    dots = [line for line in table7_4.draw(result).axes[0].lines if line.get_marker() == "o"]
    drawn = [float(value) for line in dots for value in np.asarray(line.get_ydata())]
    assert sorted(drawn) == sorted(mean.whole for mean in result.means if mean.whole is not None)


def test_whiskers_are_the_intervals() -> None:
    """Each bar of ours has its interval drawn; the published ones have none."""
    result = recorded()
    left, right = table7_4.draw(result).axes
    drawn = [
        tuple(path.vertices[:, 1])
        for bars in left.containers
        if isinstance(bars, ErrorbarContainer)
        for lines in bars[2]
        for path in lines.get_paths()
    ]
    wanted = [(row.low, row.high) for row in result.compared if row.unit == "Mbit/s"]
    assert np.array(sorted(drawn)) == pytest.approx(np.array(sorted(wanted)))
    assert not [bars for bars in right.containers if isinstance(bars, ErrorbarContainer)]


def test_figure_says_what_it_shows() -> None:
    """Units, ratios with interval, set-up, and where the packets went."""
    result = recorded()
    text = words(table7_4.draw(result))
    ratio = next(row for row in result.compared if row.aim)
    for wanted in (
        "received UDP throughput (Mbit/s)",
        f"NFC / routing = {ratio.value:.4f}",
        f"[{ratio.low:.4f}, {ratio.high:.4f}]",
        "NFC / routing = 0.9943",
        "NFC / routing = 0.9950",
        f"MTU {result.facts['mtu']}",
        f"{result.facts['block_bytes']}-byte datagrams",
        "0 unexplained",
        "CPU time left",
        "Published",
    ):
        assert wanted in text
    for unwanted in ("HOST-LIMITED", "INCOMPLETE", "FAILED"):
        assert unwanted not in text


@pytest.mark.parametrize(
    ("changes", "stamp", "reason"),
    [
        (
            {
                "validity": {
                    "state": "host-limited",
                    "reasons": ["nfc 1: 1.0% of CPU time was left"],
                }
            },
            "HOST-LIMITED",
            "1.0% of CPU time",
        ),
        (
            {"state": "failed", "reason": "interrupted", "checks": []},
            "INCOMPLETE RUN",
            "interrupted",
        ),
    ],
)
def test_what_must_not_be_overlooked_is_stamped(
    stored: Callable[..., Path], changes: dict[str, Any], stamp: str, reason: str
) -> None:
    """A run that is no evidence cannot pass for one, and says why."""
    text = words(table7_4.draw(read_result(stored(**changes))))
    assert stamp in text
    assert reason in text


def test_run_cut_short_before_its_first_pair_is_refused(
    stored: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing to compare there is no figure, but one message."""
    folder = stored(compared=[], state="failed", reason="interrupted")
    assert main(["plot", str(folder)]) == 2
    assert "holds nothing to draw (the run failed: interrupted)" in capsys.readouterr().err


def test_drawing_imports_nothing_that_needs_root() -> None:
    """A figure is drawn on a machine without Mininet, libbpf or iperf3."""
    assert imports_that_need_root("plots.table7_4") == []
