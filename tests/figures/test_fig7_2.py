# SPDX-License-Identifier: MIT
"""Figure 7.2 drawn from a recorded result (a quick run), without root and without a network."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plots import fig7_2
from plots._style import FLOW_COLOURS
from testbed.cli import main
from testbed.results import Result, read_result
from tests.drawn import RECORDED, imports_that_need_root, storing, words


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """Store the recorded result, with changes, in a folder."""
    return storing("fig7_2", tmp_path)


def recorded(**changes: Any) -> Result:
    return read_result(RECORDED / "fig7_2").model_copy(update=changes)


def test_plot_makes_a_png_of_300_dpi_and_an_svg(
    stored: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Both files lie beside the data, and nothing else does."""
    folder = stored()
    assert main(["plot", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {"result.json", "fig7_2.png", "fig7_2.svg"}
    assert str(folder / "fig7_2.png") in capsys.readouterr().out
    png = (folder / "fig7_2.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == (2160, 1290)  # 7.2 × 4.3 inches
    assert "</svg>" in (folder / "fig7_2.svg").read_text()


def test_same_data_gives_the_same_svg(stored: Callable[..., Path]) -> None:
    """No date and no chance: a figure in a repository changes only with its data."""
    folder = stored()
    texts = []
    for _ in range(2):
        assert main(["plot", str(folder)]) == 0
        texts.append((folder / "fig7_2.svg").read_text())
    assert texts[0] == texts[1]


def test_every_reading_is_drawn_and_the_published_course_beside_it() -> None:
    """The line has as many steps as there were readings, transitions included; no smoothing."""
    result = recorded()
    figure = fig7_2.draw(result)
    axes = figure.axes
    for row, (flow, node) in enumerate((("flow 1", "vm2"), ("flow 2", "vm3"))):
        series = result.find("throughput", flow=flow, node=node)
        assert series is not None
        left = axes[2 * row].patches[-1].get_data()  # type: ignore[attr-defined]
        assert tuple(left.values) == series.values
        assert tuple(left.edges) == (series.begin_s, *series.t_s)
        right = axes[2 * row + 1].patches[0].get_data()  # type: ignore[attr-defined]
        assert tuple(right.values) == (50.0, 150.0, 0.0)
        assert tuple(right.edges) == (0.0, 10.0, 20.0, 30.0)


def test_figure_says_what_it_shows() -> None:
    """Units, windows with their verdict, phases, the threshold, measured and published."""
    text = words(fig7_2.draw(recorded()))
    for wanted in (
        "time (s)",
        "UDP throughput (Mbit/s)",
        "DAD window 2: ACCEPT",
        "DAD window 3: DROP",
        "phase 2: 150 Mbit/s",
        "100 Mbit/s of IP = 98.1 Mbit/s of payload",
        "Measured: flow 1 at VM2",
        "Published: flow 2 at VM3",
        "Quick run",
    ):
        assert wanted in text
    for unwanted in ("HOST-LIMITED", "INCOMPLETE", "FAILED"):
        assert unwanted not in text


def test_flows_differ_in_grey() -> None:
    """Without colour the two lines still have lightness apart."""

    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    first, second = map(lightness, FLOW_COLOURS)
    assert abs(first - second) > 0.1


@pytest.mark.parametrize(
    ("changes", "stamp", "reason"),
    [
        (
            {"validity": {"state": "host-limited", "reasons": ["flow 1: sent 141 of 150 Mbit/s"]}},
            "HOST-LIMITED",
            "sent 141 of 150",
        ),
        ({"state": "failed", "reason": "iperf3 was killed"}, "INCOMPLETE RUN", "iperf3 was killed"),
        ({"state": "running"}, "INCOMPLETE RUN", "the run was killed"),
        (
            {"checks": [{"name": "a check", "value": 1, "expected": "2", "pass": False}]},
            "CHECKS FAILED",
            "a check",
        ),
    ],
)
def test_what_must_not_be_overlooked_is_stamped(
    stored: Callable[..., Path], changes: dict[str, Any], stamp: str, reason: str
) -> None:
    """A run that is no evidence cannot pass for one, and says why."""
    text = words(fig7_2.draw(read_result(stored(**changes))))
    assert stamp in text
    assert reason in text


def test_run_that_was_cut_short_is_drawn_as_far_as_it_came(stored: Callable[..., Path]) -> None:
    """One phase, no means: still a figure."""
    data = json.loads((RECORDED / "fig7_2" / "result.json").read_text())
    folder = stored(
        state="failed", reason="interrupted", phases=data["phases"][:1], means=[], checks=[]
    )
    assert main(["plot", str(folder)]) == 0
    assert (folder / "fig7_2.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"series": [], "reason": "no server"},
            "holds nothing to draw (the run failed: no server)",
        ),
        ({"experiment": "fig9_9"}, "no figure is known for experiment 'fig9_9'"),
        ({"version": 7}, "version 7 of the format"),
    ],
)
def test_result_that_cannot_be_drawn_is_refused(
    stored: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    """One message, exit code 2, no figure."""
    folder = stored(**changes)
    assert main(["plot", str(folder)]) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.glob("fig*"))


def test_drawing_imports_nothing_that_needs_root() -> None:
    """A figure is drawn on a machine without Mininet, libbpf or iperf3."""
    assert imports_that_need_root("plots.fig7_2") == []
