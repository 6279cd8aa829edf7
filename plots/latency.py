# SPDX-License-Identifier: MIT
"""Percentiles of round-trip times of each way, without other traffic and with a background load.

Above the usual times, where the ways differ; below all of them, on a logarithmic scale. The x axis
gives each further nine of the percentiles the same room; the longest time stands at its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from plots._curves import INTERVALS, curves_of, draw_curves, label_ends, number
from plots._style import finish, new_figure, tidy
from testbed.results import Curve, Result

__all__ = ["draw"]

_TICKS = {50.0: "50", 90.0: "90", 99.0: "99", 99.9: "99.9", 100.0: "max"}
_NEAR = 90.0  # how far the upper panels go
_LONGEST = 4.0  # where it stands: one nine further than 99.9


def draw(result: Result) -> Figure:
    """Draw the figure of a result that has round-trip times."""
    figure = new_figure(7.2, 5.6)
    rows = figure.subplots(2, 2, sharey="row", height_ratios=(1, 1))
    loads = result.parameters["loads"]
    for near, far, load in zip(*rows, loads, strict=True):
        curves = [_by_nines(c) for c in curves_of(result, f"round-trip time, {loads[load]}")]
        near.set_title(_title(result, load), loc="left")
        _draw(near, [_cut(curve) for curve in curves], until=_nines(_NEAR))
        far.set_yscale("log")
        _draw(far, curves, until=_LONGEST)
        far.set_xlabel("percentile")
    _limit(rows[0][0], result)
    rows[0][0].set_ylabel("round-trip time (µs)")
    rows[1][0].set_ylabel("round-trip time (µs), to the longest")
    rows[1][0].yaxis.set_major_locator(LogLocator(base=10))
    rows[1][0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    for axes, load in zip(rows[0], loads, strict=True):
        curves = [_by_nines(c) for c in curves_of(result, f"round-trip time, {loads[load]}")]
        label_ends(axes, [_cut(curve) for curve in curves], height_in=1.7)
    finish(figure, result, notes=_notes(result))
    return figure


def _draw(axes: Axes, curves: Sequence[Curve], *, until: float) -> None:
    ticks = {_nines(percentile): text for percentile, text in _TICKS.items()}
    axes.xaxis.set_major_locator(FixedLocator([at for at in ticks if at <= until]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([text for at, text in ticks.items() if at <= until])
    axes.set_xlim(-0.01 * until, 1.01 * until)
    draw_curves(axes, curves)
    tidy(axes)


def _limit(axes: Axes, result: Result) -> None:
    """Show the medians' neighbourhood, where the ways differ by tenths of a µs."""
    values = [
        point.value
        for curve in result.curves
        for point in curve.points
        if point.value is not None and point.x <= _NEAR
    ]
    if values:
        margin = 0.15 * (max(values) - min(values)) + 0.01
        axes.set_ylim(min(values) - margin, max(values) + margin)


def _nines(percentile: float) -> float:
    """Where a percentile stands: 90 at 1, 99 at 2, 99.9 at 3."""
    return _LONGEST if percentile >= 100 else -math.log10(1 - percentile / 100)


def _by_nines(curve: Curve) -> Curve:
    points = tuple(p.model_copy(update={"x": _nines(p.x)}) for p in curve.points)
    return curve.model_copy(update={"points": points})


def _title(result: Result, load: str) -> str:
    text = str(result.parameters["loads"][load])
    if load != "load":
        return text.capitalize()
    return f"{text.capitalize()}: UDP, {result.parameters['load_mbps']:g} Mbit/s"


def _cut(curve: Curve) -> Curve:
    points = tuple(point for point in curve.points if point.x <= _nines(_NEAR))
    return curve.model_copy(update={"points": points})


def _notes(result: Result) -> list[str]:
    parameters, facts = result.parameters, result.facts
    books, cores = facts.get("ledger", {}), facts.get("cores", {})
    trips = sum(facts.get("round_trips", {}).values())
    return [
        f"{INTERVALS.replace('rounds', 'repeats')}; {trips:,} round trips in all; measured"
        f" {parameters['repeats']} times for {parameters['seconds']} s each.",
        f"{parameters['datagram_bytes']}-byte UDP datagrams; both ends poll, on cores"
        f" {cores.get('left')} and {cores.get('right')}, which a background load shares.",
        f"{books.get('sent', 0):,} packets sent = {books.get('received', 0):,} received"
        f" + {sum(books.get('dropped', {}).values()):,} dropped by NFs"
        f" + {sum(books.get('lost', {}).values()):,} lost elsewhere"
        f" + {books.get('unexplained', 0):,} unexplained.",
    ]
