# SPDX-License-Identifier: MIT
"""Offered rate against loss of each way, and the rates without loss and with 0.5 % of it.

Left the share lost; on its axis 0 and small shares are told apart. Right the rates that were
searched for: NDR is filled, PDR hollow.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from plots._curves import INTERVALS, LOOKS, curves_of, draw_curves, label_ends, missing
from plots._style import DARK, SHADE, finish, new_figure, tidy
from testbed.results import Compared, Result

__all__ = ["draw"]

_LINEAR_BELOW = 0.1  # % lost
_TICKS = (0, 0.1, 0.5, 1, 10, 100)
_PLACES: Mapping[str, float] = {"NDR": 0.16, "PDR": -0.16}
_REFERENCES = ("routing", "nftables")


def draw(result: Result) -> Figure:
    """Draw the figure of a result that has searched rates."""
    figure = new_figure(7.2, 4.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _loss(left, result)
    _rates(right, result)
    for axes in (left, right):
        tidy(axes)
    finish(figure, result, notes=[*_notes(result), *missing(curves_of(result, "lost"))[:3]])
    return figure


def _loss(axes: Axes, result: Result) -> None:
    curves = [c for c in curves_of(result, "lost") if any(p.value is not None for p in c.points)]
    axes.set_yscale("symlog", linthresh=_LINEAR_BELOW, linscale=0.4)
    axes.set_ylim(-0.02, 150)
    axes.yaxis.set_major_locator(FixedLocator(list(_TICKS)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.axhline(0.5, color=SHADE, linewidth=0.8, zorder=1)
    axes.set_xlabel("offered rate (Mpps)")
    axes.set_ylabel("packets lost (%)")
    parameters = result.parameters
    axes.set_title(
        f"Lost of what was offered, {parameters['frame_bytes']}-byte packets", loc="left"
    )
    if not curves:
        axes.text(0.5, 0.5, "no rate was found", transform=axes.transAxes, ha="center")
        return
    draw_curves(axes, curves)
    axes.set_xlim(0, max(point.x for curve in curves for point in curve.points))
    label_ends(axes, curves, height_in=2.4)


def _rates(axes: Axes, result: Result) -> None:
    rows = {row.name: row for row in result.compared}
    ways = [way for way in reversed(result.parameters["ways"]) if f"{way}, NDR" in rows]
    for place, way in enumerate(ways):
        for goal, shift in _PLACES.items():
            _dot(axes, place + shift, rows.get(f"{way}, {goal}"), way, hollow=goal == "PDR")
        axes.annotate(
            _ratios(rows, way),
            (1.0, place - 0.43),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontsize=5.5,
            color=DARK,
        )
    axes.set_yticks(range(len(ways)), [LOOKS[way].label for way in ways])
    axes.set_ylim(-0.65, len(ways) - 0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("rate carried (Mpps)")
    axes.set_title("Rates with no loss (NDR), ≤ 0.5 % (PDR)", loc="left")
    handles = [
        Line2D([], [], linestyle="none", marker="o", color=DARK, label="NDR"),
        Line2D(
            [], [], linestyle="none", marker="o", color=DARK, markerfacecolor="white", label="PDR"
        ),
    ]
    axes.legend(handles=handles, loc="lower left", frameon=False, handletextpad=0.2)


def _dot(axes: Axes, y: float, row: Compared | None, way: str, *, hollow: bool) -> None:
    if row is None or row.value is None:
        axes.text(0.02, y, "not found", fontsize=6, va="center", color=DARK)
        return
    look = LOOKS[way]
    low, high = (row.value if end is None else end for end in (row.low, row.high))
    axes.errorbar(
        row.value,
        y,
        xerr=[[max(0.0, row.value - low)], [max(0.0, high - row.value)]],
        color=look.colour,
        marker=look.marker or "o",
        markersize=5,
        markerfacecolor="white" if hollow else look.colour,
        capsize=3,
        elinewidth=1.0,
    )


def _ratios(rows: Mapping[str, Compared], way: str) -> str:
    """The way's NDR by those of the references, in words."""
    found = []
    for reference in _REFERENCES:
        row = rows.get(f"{way} / {reference}, NDR")
        if row is not None and row.value is not None:
            found.append(f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}] × {reference}")
    return "NDR = " + "\n".join(found) if found else ""


def _notes(result: Result) -> list[str]:
    parameters, facts = result.parameters, result.facts
    books = facts.get("ledger", {})
    cores = facts.get("cores", {})
    lost = sum(books.get("lost", {}).values())
    return [
        f"{INTERVALS}.",
        f"Core {cores.get('sender')} sends in bursts of {parameters['burst_packets']} packets into"
        f" a queue of {parameters['queue_packets']:,} packets in front of core"
        f" {cores.get('node')}, which is the node.",
        f"{books.get('sent', 0):,} packets sent = {books.get('received', 0):,} received"
        f" + {sum(books.get('dropped', {}).values()):,} dropped by NFs + {lost:,} lost elsewhere"
        f" + {books.get('unexplained', 0):,} unexplained.",
    ]
