# SPDX-License-Identifier: MIT
"""Curves over what was varied: lines with 95 % intervals, each named where it ends.

A way through the node looks the same in all figures; colour, line and marker differ together, so
that a grey print tells them apart as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from plots._style import DARK
from testbed.results import Curve, Result

__all__ = [
    "INTERVALS",
    "LOOKS",
    "Look",
    "curves_of",
    "draw_curves",
    "label_ends",
    "log_x",
    "missing",
    "number",
]

INTERVALS = "Points are medians over the rounds, bars their bootstrap 95 % intervals"

_GAP_PT = 9.0  # between two labels


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the curve of one way is drawn, and what it is called."""

    label: str
    colour: str
    marker: str
    line: str = "-"
    hollow: bool = False


# Okabe and Ito's colours. Chains are solid, references broken.
LOOKS: Mapping[str, Look] = {
    "chain-direct": Look(label="chain, direct", colour="#0072B2", marker="o"),
    "chain-stack": Look(label="chain, stack", colour="#56B4E9", marker="s"),
    "chain-direct-all": Look(
        label="chain, direct (all)", colour="#0072B2", marker="o", hollow=True
    ),
    "chain-stack-all": Look(label="chain, stack (all)", colour="#56B4E9", marker="s", hollow=True),
    "routing": Look(label="routing", colour="#000000", marker="", line="--"),
    "nftables": Look(label="nftables", colour="#D55E00", marker="^", line="-."),
    "nftables-stateless": Look(
        label="nftables, stateless", colour="#E69F00", marker="v", line="-."
    ),
    "nftables-map": Look(label="nftables, maps", colour="#E69F00", marker="v", line="-."),
    "nftables-map-all": Look(
        label="nftables, maps (all)", colour="#E69F00", marker="v", line="-.", hollow=True
    ),
    "nftables-rules": Look(label="nftables, list", colour="#D55E00", marker="^", line="-."),
    "iptables": Look(label="iptables, list", colour="#CC79A7", marker="D", line=":"),
    "generator": Look(label="generator alone", colour="#777777", marker="", line=":"),
}
_PLAIN = Look(label="", colour=DARK, marker=".", line="-")


def curves_of(result: Result, quantity: str, *, ways: Iterable[str] | None = None) -> list[Curve]:
    """The curves of one quantity, those of some ways only if they are named, in their order."""
    found = [curve for curve in result.curves if curve.quantity == quantity]
    if ways is None:
        return found
    by_way = {curve.way: curve for curve in found}
    return [by_way[way] for way in ways if way in by_way]


def draw_curves(
    axes: Axes, curves: Sequence[Curve], *, looks: Mapping[str, Look] = LOOKS, unit: float = 1.0
) -> None:
    """Draw each curve's points that have a value, with their intervals.

    :param unit: what values are divided by: 1000 shows ns as µs.
    """
    for curve in curves:
        look = looks.get(curve.way, _PLAIN)
        points = [point for point in curve.points if point.value is not None]
        values = np.array([point.value for point in points], dtype=float)
        # A median's interval holds it; that of so few rounds may not quite.
        low, high = (
            np.array([getattr(p, end) if getattr(p, end) is not None else p.value for p in points])
            for end in ("low", "high")
        )
        axes.errorbar(
            [point.x for point in points],
            values / unit,
            yerr=[np.maximum(0, values - low) / unit, np.maximum(0, high - values) / unit],
            color=look.colour,
            linestyle=look.line,
            linewidth=1.2,
            marker=look.marker,
            markersize=4,
            markerfacecolor="white" if look.hollow else look.colour,
            label=curve.way,
            zorder=3,
            capsize=2.0,
            capthick=0.8,
            elinewidth=0.8,
        )


def label_ends(
    axes: Axes,
    curves: Sequence[Curve],
    *,
    height_in: float,
    looks: Mapping[str, Look] = LOOKS,
    unit: float = 1.0,
) -> None:
    """Name each curve at its right end, beside the axes; labels keep off each other.

    The axes' limits have to be set before.

    :param height_in: about how high the axes are, to keep labels a line apart.
    """
    ends = []
    for curve in curves:
        points = [point for point in curve.points if point.value is not None]
        if points and points[-1].value is not None:
            x, y = points[-1].x, points[-1].value / unit
            there = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
            ends.append((float(there[1]), (x, y), looks.get(curve.way, _PLAIN), curve.way))
    ends.sort(key=lambda end: end[0])
    gap = _GAP_PT / 72 / height_in
    lines = [1 + (end[2].label or end[3]).count("\n") for end in ends]
    places = _apart([end[0] for end in ends], [gap * (n + 0.1) for n in lines])
    for place, (_, end, look, way) in zip(places, ends, strict=True):
        axes.annotate(
            look.label or way,
            end,
            xytext=(1.04, place),
            textcoords="axes fraction",
            va="center",
            ha="left",
            fontsize=7,
            color=look.colour,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": look.colour,
                "linewidth": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 3,
            },
        )


def _apart(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Move centres, sorted upwards, as little as needed so that things of these heights fit.

    They stay between 0 and 1 as long as there is room.
    """
    groups: list[tuple[float, list[int]]] = []  # centre of the group, its members
    for index, centre in enumerate(wanted):
        groups.append((_inside(centre, heights[index]), [index]))
        while len(groups) > 1 and _overlap(groups[-2], groups[-1], heights):
            (_, first), (_, second) = groups.pop(-2), groups.pop()
            members = first + second
            middle = sum(wanted[i] for i in members) / len(members)
            groups.append((_inside(middle, sum(heights[i] for i in members)), members))
    places = [0.0] * len(wanted)
    for centre, members in groups:
        bottom = centre - sum(heights[i] for i in members) / 2
        for index in members:
            places[index] = bottom + heights[index] / 2
            bottom += heights[index]
    return places


def _inside(centre: float, height: float) -> float:
    return min(max(centre, height / 2), max(1 - height / 2, 0.5))


def _overlap(
    lower: tuple[float, list[int]], upper: tuple[float, list[int]], heights: Sequence[float]
) -> bool:
    half = sum(heights[i] for i in (*lower[1], *upper[1])) / 2
    return upper[0] - lower[0] < half


def log_x(axes: Axes, values: Sequence[float], *, unnamed: Sequence[float] = ()) -> None:
    """A logarithmic x axis with a tick at each measured value.

    :param unnamed: values whose tick has no number, because another one is close.
    """
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: "" if value in unnamed else number(value))
    )


def number(value: float) -> str:
    """A value at a tick, short: 1, 1,500, 10 k, 65,536, 1 M."""
    if value >= 1e6 and value % 1e5 == 0:
        return f"{value / 1e6:g} M"
    if value >= 1e4 and value % 1e3 == 0:
        return f"{value / 1e3:g} k"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def missing(curves: Sequence[Curve], *, looks: Mapping[str, Look] = LOOKS) -> list[str]:
    """What has no value and why, in words for the small print; what has one reason together."""
    found: dict[tuple[float, str], list[str]] = {}
    for curve in curves:
        for point in curve.points:
            if point.value is None and point.note:
                label = looks.get(curve.way, _PLAIN).label or curve.way
                found.setdefault((point.x, point.note), []).append(label)
    return [f"No value of {'; '.join(who)} at {x:,.10g}: {why}." for (x, why), who in found.items()]
