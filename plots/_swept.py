# SPDX-License-Identifier: MIT
"""What the figures of all sweeps share: panels side by side, and the small print below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from plots._curves import INTERVALS, LOOKS, Look, curves_of, draw_curves, label_ends, missing
from plots._style import DARK, finish, new_figure, tidy
from testbed.results import Curve, Result

__all__ = [
    "FULL_IN",
    "HEIGHT_IN",
    "NS",
    "PAIRS",
    "WITHOUT",
    "Panel",
    "Sweep",
    "draw_panel",
    "draw_sweep",
    "notes",
    "ratios",
]

NS = "time per packet"
WITHOUT = ", without the generator's time"
FULL_IN, HEIGHT_IN = 7.2, 3.6
PAIRS = tuple(
    (way, reference)
    for way in ("chain-direct", "chain-stack")
    for reference in ("nftables", "routing")
)
_AXES_IN = 2.4  # about how high the axes are
_LONG = 18  # characters of a label that has one line
_STEPS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes.

    :ivar unit: what values are divided by.
    :ivar log: whether the y axis is logarithmic.
    :ivar one: whether a line stands at 1, where two ways are alike.
    """

    title: str
    y_label: str
    curves: Sequence[Curve]
    looks: Mapping[str, Look]
    unit: float = 1.0
    log: bool = False
    one: bool = False
    height_in: float = _AXES_IN


def ratios(
    result: Result,
    pairs: Sequence[tuple[str, str]],
    *,
    what: str = "",
    looks: Mapping[str, Look] = LOOKS,
) -> tuple[list[Curve], dict[str, Look]]:
    """Curves of packet rates, each of a chain by a reference, and how they are drawn.

    A curve has the chain's colour, and the marker and line of the reference.

    :param what: :data:`WITHOUT` for the ratios that leave the generator's time out.
    """
    curves, found = [], {}
    for way, reference in pairs:
        quantity = f"packet rate / {reference}{what}"
        for curve in curves_of(result, quantity, ways=[way]):
            name = f"{way} / {reference}"
            mine, other = looks[way], looks[reference]
            short = mine.label.removeprefix("chain, ")
            space = " " if len(short + other.label) < _LONG else "\n"
            label = f"{short}{space}/ {other.label}"
            found[name] = replace(mine, label=label, line=other.line, marker=other.marker)
            curves.append(curve.model_copy(update={"way": name}))
    return curves, found


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep's figure: times to the left, ratios to the right.

    :ivar ways: whose times are drawn.
    :ivar pairs: chain and reference of the ratios.
    :ivar what: what has to be known of the ways.
    :ivar x_axis: sets up an x axis for the values.
    :ivar micro: times in µs on a logarithmic axis, ratios as well.
    """

    ways: Sequence[str]
    pairs: Sequence[tuple[str, str]]
    what: str
    x_label: str
    x_axis: Callable[[Axes, Sequence[float]], None]
    micro: bool = False


def draw_sweep(result: Result, sweep: Sweep) -> Figure:
    """Draw the figure of a result that has curves."""
    figure = new_figure(FULL_IN, HEIGHT_IN)
    left, right = figure.subplots(1, 2)
    times = curves_of(result, NS, ways=sweep.ways)
    quotients, looks = ratios(result, sweep.pairs)
    for axes in (left, right):
        sweep.x_axis(axes, result.parameters["values"])
        axes.set_xlabel(sweep.x_label)
    draw_panel(
        left,
        Panel(
            title="Time per packet",
            y_label=f"{'µs' if sweep.micro else 'ns'} per packet",
            curves=times,
            looks=LOOKS,
            unit=1000 if sweep.micro else 1,
            log=sweep.micro,
        ),
    )
    draw_panel(
        right,
        Panel(
            title="Packet rate, chain / reference",
            y_label="ratio of packets per second",
            curves=quotients,
            looks=looks,
            log=sweep.micro,
            one=True,
        ),
    )
    finish(figure, result, notes=notes(result, times, sweep.what))
    return figure


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw a panel; the x axis is set up by the caller, before."""
    axes.set_title(panel.title, loc="left")
    axes.set_ylabel(panel.y_label)
    draw_curves(axes, panel.curves, looks=panel.looks, unit=panel.unit)
    values = [
        end / panel.unit
        for curve in panel.curves
        for point in curve.points
        for end in (point.value, point.high)
        if end is not None
    ]
    top = max(values, default=1.0)
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        least = min(values, default=0.5)
        axes.set_ylim(least / 1.5, top * 1.5)
        ticks = [s for s in _STEPS if least / 1.5 <= s <= top * 1.5]
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(0, top * 1.08)
    if panel.one:
        axes.axhline(1, color=DARK, linewidth=0.6, zorder=1)
    tidy(axes)
    label_ends(axes, panel.curves, looks=panel.looks, unit=panel.unit, height_in=panel.height_in)


def notes(
    result: Result, curves: Sequence[Curve], *more: str, looks: Mapping[str, Look] = LOOKS
) -> list[str]:
    """The small print: what points and bars are, how much was measured, what is missing.

    :param more: what else has to be known.
    """
    parameters, facts = result.parameters, result.facts
    alone = curves_of(result, NS, ways=["generator"])
    found = [p.value for curve in alone for p in curve.points if p.value is not None]
    size = parameters.get("frame_bytes")
    frames = f"{size}-byte UDP" if size else "UDP"
    text = (
        f"{INTERVALS}: {parameters['rounds']} rounds in random order, up to"
        f" {parameters['packets']:,} packets a point, {frames} frames, one core."
    )
    lines = [text, *more]
    if found and size:
        lines.append(
            f"Each time has the generator's in it ({min(found):.0f} ns), which draws ratios towards"
            " 1; without it they stand in the result."
        )
    books, disturbed = facts.get("ledger"), facts.get("disturbed_measurements")
    if books:
        lines.append(
            f"{books['sent']:,} packets sent, {books['received']:,} received, lost:"
            f" {sum(books['lost'].values())}; unexplained: {books['unexplained']}."
        )
    if disturbed:
        lines.append(f"{disturbed} of {facts['measurements']} measurements were disturbed.")
    return [" ".join([*lines, *missing(curves, looks=looks)])]
