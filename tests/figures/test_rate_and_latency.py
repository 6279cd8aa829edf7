# SPDX-License-Identifier: MIT
"""The figures of offered rates and of round-trip times, drawn from recorded results."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from testbed.cli import main
from testbed.results import Result, read_result
from tests.drawn import RECORDED, imports_that_need_root, storing, words

NAMES = ("sweep_rate", "latency")
WAYS = ("routing", "chain-stack", "chain-direct", "nftables")


def drawn(result: Result) -> Figure:
    figure: Figure = import_module(f"plots.{result.experiment}").draw(result)
    return figure


def recorded(name: str) -> Result:
    return read_result(RECORDED / name)


@pytest.fixture
def store(tmp_path: Path) -> Callable[[str], Callable[..., Path]]:
    return lambda name: storing(name, tmp_path)


def lines(axes: Axes) -> dict[str, list[float]]:
    """Heights of the curves of some axes, by way."""
    found = {}
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
            heights = np.asarray(container.lines[0].get_ydata(), dtype=float)
            found[str(container.get_label())] = [float(height) for height in heights]
    return found


def values(result: Result, quantity: str) -> dict[str, list[float]]:
    """The same as they are stored."""
    return {
        curve.way: [point.value for point in curve.points if point.value is not None]
        for curve in result.curves
        if curve.quantity == quantity
    }


@pytest.mark.parametrize("name", NAMES)
def test_plot_depends_on_the_data_alone(
    name: str, store: Callable[[str], Callable[..., Path]]
) -> None:
    """A PNG and an SVG lie beside the data; the same data gives the same SVG."""
    folder = store(name)()
    texts = []
    for _ in range(2):
        assert main(["plot", str(folder)]) == 0
        texts.append((folder / f"{name}.svg").read_text())
    assert texts[0] == texts[1]
    assert (folder / f"{name}.png").stat().st_size > 10_000


def test_loss_is_drawn_as_stored() -> None:
    """Each way's curve has the stored shares, 0 included."""
    result = recorded("sweep_rate")
    found = lines(drawn(result).axes[0])
    assert found == values(result, "lost")
    assert set(found) == set(WAYS)
    assert all(0.0 in heights for heights in found.values())


def test_rates_are_drawn_as_stored() -> None:
    """A dot for each way's NDR and PDR."""
    result = recorded("sweep_rate")
    rates = [row.value for row in result.compared if row.unit == "Mpps"]
    containers = [c for c in drawn(result).axes[1].containers if isinstance(c, ErrorbarContainer)]
    dots = [float(np.asarray(c.lines[0].get_xdata())[0]) for c in containers if c.lines[0]]
    assert sorted(dots) == sorted(rate for rate in rates if rate is not None)
    assert len(dots) == 2 * len(WAYS)


def test_every_percentile_is_drawn() -> None:
    """The lower panels have all of them up to the longest, the upper ones those up to 90."""
    result = recorded("latency")
    axes = drawn(result).axes
    for place, text in enumerate(result.parameters["loads"].values()):
        stored = values(result, f"round-trip time, {text}")
        assert set(stored) == set(WAYS)
        assert lines(axes[2 + place]) == stored
        usual = result.parameters["percentiles"].index(90.0) + 1
        assert lines(axes[place]) == {way: times[:usual] for way, times in stored.items()}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sweep_rate", ("offered rate (Mpps)", "packets lost (%)", "1,024 packets", "NDR = ")),
        ("latency", ("round-trip time (µs)", "percentile", "100 Mbit/s", "round trips")),
    ],
)
def test_figure_says_what_it_shows(name: str, wanted: tuple[str, ...]) -> None:
    """Units, set-up, and where the packets went."""
    text = words(drawn(recorded(name)))
    for part in (*wanted, "0 unexplained", "95 % intervals"):
        assert part in text


@pytest.mark.parametrize("name", NAMES)
def test_what_must_not_be_overlooked_is_stamped(
    name: str, store: Callable[[str], Callable[..., Path]]
) -> None:
    """A host-limited run cannot pass for evidence, and a valid one has no stamp."""
    limited = {"state": "host-limited", "reasons": ["others had the core"]}
    text = words(drawn(read_result(store(name)(validity=limited))))
    assert "HOST-LIMITED" in text
    assert "others had the core" in text
    valid = store(name)(validity={"state": "valid", "reasons": []})
    assert "HOST-LIMITED" not in words(drawn(read_result(valid)))


@pytest.mark.parametrize("name", NAMES)
def test_drawing_imports_nothing_that_needs_root(name: str) -> None:
    """A figure is drawn on a machine without Mininet, libbpf or sockperf."""
    assert imports_that_need_root(f"plots.{name}") == []
