# SPDX-License-Identifier: MIT
"""The figures of the sweeps drawn from recorded results, without root and without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text

from plots._curves import LOOKS, _apart, number
from testbed.cli import main
from testbed.results import Curve, Result, read_result

RECORDED = Path(__file__).with_name("recorded")
SWEEPS = ("sweep_nfs", "sweep_flows", "sweep_rules", "sweep_size")


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """Store a recorded result, with changes, in a folder."""

    def store(name: str, **changes: Any) -> Path:
        data = json.loads((RECORDED / name / "result.json").read_text()) | changes
        (tmp_path / "result.json").write_text(json.dumps(data))
        return tmp_path

    return store


def drawn(result: Result) -> Figure:
    figure: Figure = import_module(f"plots.{result.experiment}").draw(result)
    return figure


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")


def curves(axes: Axes) -> dict[str, ErrorbarContainer]:
    """Curves of a pair of axes, by the name of their way."""
    found = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    return {str(container.get_label()): container for container in found}


def wanted(curve: Curve, unit: float = 1.0) -> list[tuple[float, float, float, float]]:
    """Each point with a value: x, value, and the ends of its interval."""
    return [
        (p.x, p.value / unit, min(p.low, p.value) / unit, max(p.high, p.value) / unit)
        for p in curve.points
        if p.value is not None and p.low is not None and p.high is not None
    ]


def shown(container: ErrorbarContainer) -> list[tuple[float, float, float, float]]:
    """The same as it is drawn."""
    line, (bars,) = container.lines[0], container.lines[2]
    assert line is not None
    ends = [np.asarray(path.vertices)[:, 1] for path in bars.get_paths()]
    xs, ys = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    return [
        (float(x), float(y), float(low), float(high))
        for x, y, (low, high) in zip(xs, ys, ends, strict=True)
    ]


@pytest.mark.parametrize("name", ["sweep_nfs"])
def test_plot_makes_a_png_and_an_svg_that_depend_on_the_data_alone(
    name: str, stored: Callable[..., Path]
) -> None:
    """Both files lie beside the data; the same data gives the same SVG."""
    folder, texts = stored(name), []
    for _ in range(2):
        assert main(["plot", str(folder)]) == 0
        texts.append((folder / f"{name}.svg").read_text())
    assert texts[0] == texts[1]
    files = {path.name for path in folder.iterdir()}
    assert files == {"result.json", f"{name}.png", f"{name}.svg"}


@pytest.mark.parametrize("name", SWEEPS)
def test_points_and_bars_are_the_medians_and_intervals(name: str) -> None:
    """Each way's times as they stand in the result; nothing is left out but what has no value."""
    result = read_result(RECORDED / name)
    unit = 1000.0 if name == "sweep_rules" else 1.0
    on_axes = curves(drawn(result).axes[0])
    times = {c.way: c for c in result.curves if c.quantity == "time per packet"}
    assert set(on_axes) >= set(times) - {"generator"}
    for way, container in on_axes.items():
        assert np.array(shown(container)) == pytest.approx(np.array(wanted(times[way], unit)))


@pytest.mark.parametrize("name", SWEEPS)
def test_ratios_are_those_of_the_result(name: str) -> None:
    """A curve's name tells chain and reference, and so the quantity."""
    result = read_result(RECORDED / name)
    without = ", without the generator's time" if name == "sweep_size" else ""
    found = 0
    for axes in drawn(result).axes:
        for label, container in curves(axes).items():
            way, slash, reference = label.partition(" / ")
            if slash:
                (curve,) = (
                    c
                    for c in result.curves
                    if c.way == way and c.quantity == f"packet rate / {reference}{without}"
                )
                assert np.array(shown(container)) == pytest.approx(np.array(wanted(curve)))
                found += 1
    assert found >= 4


def test_throughput_is_drawn_as_well() -> None:
    """Gbit/s over the size, by both senders."""
    result = read_result(RECORDED / "sweep_size")
    on_axes = curves(drawn(result).axes[1])
    for curve in result.curves:
        if curve.quantity == "throughput" and not curve.way.startswith("generator"):
            got = np.array(shown(on_axes[curve.way]))
            assert got == pytest.approx(np.array(wanted(curve)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sweep_nfs", ["NFs in the chain", "ns per packet", "each called in turn"]),
        ("sweep_flows", ["flows", "chain, direct", "nftables, stateless", "connection tracking"]),
        ("sweep_rules", ["flow rules", "µs per packet", "iptables, list", "One verdict map"]),
        ("sweep_size", ["Gbit/s", "bytes of an IP packet", "a packet socket", "fit a page"]),
    ],
)
def test_figure_says_what_it_shows(name: str, said: list[str]) -> None:
    """Units, ways at the ends of their curves, intervals, rounds, and where the packets went."""
    result = read_result(RECORDED / name)
    text = words(drawn(result))
    rounds = result.parameters["rounds"]
    sent = result.facts["ledger"]["sent"]
    for part in (
        *said,
        *("bootstrap 95 % intervals", f"{rounds} rounds in random order", "routing"),
        *(f"{sent:,} packets sent", "unexplained: 0", "ratio"),
    ):
        assert part.lower() in text.lower()


def test_value_that_cannot_be_is_told_below_the_figure(stored: Callable[..., Path]) -> None:
    """What connection tracking cannot hold is no gap without a word."""
    data = json.loads((RECORDED / "sweep_flows" / "result.json").read_text())
    why = "connection tracking holds 262,144 (nf_conntrack_max)"
    for curve in data["curves"]:
        if curve["way"] == "nftables":
            curve["points"][-1] |= {"value": None, "low": None, "high": None, "note": why}
    x = data["parameters"]["values"][-1]
    text = words(drawn(read_result(stored("sweep_flows", curves=data["curves"]))))
    assert f"No value of nftables at {x:,}: {why}." in text


@pytest.mark.parametrize("name", SWEEPS)
def test_what_must_not_be_overlooked_is_stamped(name: str, stored: Callable[..., Path]) -> None:
    """A run that is no evidence cannot pass for one, and says why."""
    validity = {"state": "host-limited", "reasons": ["9 of 9 measurements were disturbed"]}
    text = words(drawn(read_result(stored(name, validity=validity))))
    assert "HOST-LIMITED" in text
    assert "9 of 9 measurements were disturbed" in text
    good = stored(name, validity={"state": "valid", "reasons": []})
    assert "HOST-LIMITED" not in words(drawn(read_result(good)))


def test_run_cut_short_before_its_first_measurement_is_refused(
    stored: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing measured there is no figure, but one message."""
    folder = stored("sweep_nfs", curves=[], compared=[], state="failed", reason="interrupted")
    assert main(["plot", str(folder)]) == 2
    assert "holds nothing to draw (the run failed: interrupted)" in capsys.readouterr().err


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from((0.03, 0.05, 0.1))), min_size=1, max_size=10
    )
)
def test_labels_keep_off_each_other(ends: list[tuple[float, float]]) -> None:
    """In the order of the curves' ends, none over another, and inside as long as there is room."""
    ends.sort()
    heights = [height for _, height in ends]
    places = _apart([centre for centre, _ in ends], heights)
    slack = 1e-9
    for (low, low_height), (high, high_height) in pairwise(zip(places, heights, strict=True)):
        assert high - low >= (low_height + high_height) / 2 - slack
    assert places[0] >= heights[0] / 2 - slack
    assert places[-1] <= 1 - heights[-1] / 2 + slack


def test_ways_differ_in_more_than_colour() -> None:
    """Whoever sees no colours tells them apart by line, marker and filling."""
    seen = [(look.marker, look.line, look.hollow) for look in LOOKS.values()]
    twice = [look for look in seen if seen.count(look) > 1]
    # The two of nftables in one figure are a list and maps, or with connections and stateless.
    assert set(twice) <= {("^", "-.", False), ("v", "-.", False)}


def test_numbers_at_ticks() -> None:
    """Thousands have commas, large round numbers are short."""
    values = (0.5, 1, 1_500, 10_000, 65_536, 100_000, 1_000_000)
    assert [*map(number, values)] == ["0.5", "1", "1,500", "10 k", "65,536", "100 k", "1 M"]


def test_drawing_imports_nothing_that_needs_root() -> None:
    """A figure is drawn on a machine without Mininet or libbpf."""
    program = (
        "import sys, plots.sweep_nfs, plots.sweep_flows, plots.sweep_rules, plots.sweep_size;"
        "print([m for m in sys.modules if m.startswith(('mininet', 'pyroute2', 'testbed.bpf',"
        " 'testbed.network', 'testbed.sandbox', 'testbed.bench', 'experiments'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"
