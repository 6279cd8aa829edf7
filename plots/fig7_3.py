# SPDX-License-Identifier: MIT
"""Figure 7.3: histogram of tasks' on-CPU time, idle and processing, in the thesis's bins."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots._style import DARK, FLOW_COLOURS, SHADE, finish, new_figure, tidy
from testbed.results import Result

__all__ = ["draw"]

_STATES = ("idle", "processing")
_PUBLISHED_US = 2048
_ROOM = 4.0  # above the fullest bin, on a logarithmic axis


def draw(result: Result) -> Figure:
    """Draw the figure of a result that has series."""
    histograms = result.facts.get("histograms", {})
    figure = new_figure(7.2, 3.6)
    axes = figure.subplots(1, 2, sharey=True)
    lows = sorted({row[0] for rows in histograms.values() for row in rows})
    for place, (name, colour) in enumerate(zip(_STATES, FLOW_COLOURS, strict=True)):
        rows = histograms.get(name, [])
        _histogram(axes[place], rows, lows, colour)
        stretches = f"{sum(row[2] for row in rows):,} stretches"
        busy = _busy(result, name)
        axes[place].set_title(f"{name.capitalize()}: {stretches}{busy}", loc="left")
    top = max((row[2] for rows in histograms.values() for row in rows), default=1)
    axes[0].set_yscale("log")
    axes[0].set_ylim(0.7, top * _ROOM)
    axes[0].set_ylabel("stretches that tasks spent on a CPU")
    finish(figure, result)
    return figure


def _busy(result: Result, name: str) -> str:
    """How much of the machine's CPU time was used meanwhile, in words."""
    values = [v for s in result.series if (s.quantity, s.node) == ("busy", name) for v in s.values]
    return f" (CPU {sum(values) / len(values):.0f} % used)" if values else ""


def _histogram(axes: Axes, rows: Sequence[Sequence[int]], lows: Sequence[int], colour: str) -> None:
    places = {low: place for place, low in enumerate(lows)}
    if _PUBLISHED_US in places:
        at = places[_PUBLISHED_US]
        axes.axvspan(
            at - 0.5,
            at + 0.5,
            facecolor=SHADE,
            zorder=0,
        )
        axes.annotate(
            "published:\nfullest bin",
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -2),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=6.5,
            color=DARK,
        )
    axes.bar(
        [places[row[0]] for row in rows],
        [row[2] for row in rows],
        width=0.85,
        color=colour,
        zorder=3,
    )
    axes.set_xticks(
        range(len(lows)), [f"{low:,}" for low in lows], rotation=60, ha="right", va="top"
    )
    axes.set_xlabel("time on the CPU, from (µs)")
    tidy(axes)
