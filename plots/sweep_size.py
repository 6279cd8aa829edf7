# SPDX-License-Identifier: MIT
"""Time per packet, throughput and ratios with packets of 64 to 9,000 bytes, by two senders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots._curves import LOOKS, Look, curves_of, log_x
from plots._style import finish, new_figure
from plots._swept import FULL_IN, NS, WITHOUT, Panel, draw_panel, notes, ratios
from testbed.results import Curve, Result

__all__ = ["draw"]

_HEIGHT_IN, _AXES_IN = 6.2, 2.0
_SOCKET = "-socket"
_WAYS = ("chain-direct", "chain-stack", "routing", "nftables")
_ALL = tuple(way + suffix for suffix in ("", _SOCKET) for way in _WAYS)
_WHAT = (
    "Filled: XDP live frames, which have to fit a page. Hollow, (socket): a packet socket, which"
    " copies each frame and whose own time is most of it. The ratios are those without the"
    " sender's time, so that they can be compared. MTU 9,000."
)


def _looks() -> dict[str, Look]:
    """The same ways, hollow where a socket sends."""
    found = dict(LOOKS)
    for way in (*_WAYS, "generator"):
        look = LOOKS[way]
        label = "socket alone" if way == "generator" else f"{look.label} (socket)"
        found[way + _SOCKET] = replace(look, label=label, marker=look.marker or "", hollow=True)
    found["generator"] = replace(LOOKS["generator"], label="live frames alone")
    found["routing" + _SOCKET] = replace(found["routing" + _SOCKET], marker="x")
    return found


def draw(result: Result) -> Figure:
    """Draw the figure of a result that has curves."""
    figure = new_figure(FULL_IN, _HEIGHT_IN)
    (times_at, bits_at), (routing_at, nftables_at) = figure.subplots(2, 2)
    looks = _looks()
    times = curves_of(result, NS, ways=(*_ALL, "generator", "generator" + _SOCKET))
    _draw(times_at, result, "Time per packet", "ns per packet", times, looks)
    bits = curves_of(result, "throughput", ways=_ALL)
    _draw(bits_at, result, "Throughput, sender's time included", "Gbit/s", bits, looks, log=True)
    for axes, reference in ((routing_at, "routing"), (nftables_at, "nftables")):
        pairs = [(w + s, reference) for s in ("", _SOCKET) for w in ("chain-direct", "chain-stack")]
        curves, mine = ratios(result, pairs, what=WITHOUT, looks=looks)
        title = f"Packet rate, chain / {reference}"
        label = "ratio without the sender's time"
        _draw(axes, result, title, label, curves, mine, one=True)
    finish(figure, result, notes=notes(result, times, _WHAT, looks=looks))
    return figure


def _draw(
    axes: Axes,
    result: Result,
    title: str,
    y_label: str,
    curves: Sequence[Curve],
    looks: dict[str, Look],
    *,
    log: bool = False,
    one: bool = False,
) -> None:
    values = result.parameters["values"]
    log_x(axes, values, unnamed=(128, 512, 1_024, 3_000))
    axes.set_xlabel("bytes of an IP packet")
    panel = Panel(
        title=title,
        y_label=y_label,
        curves=curves,
        looks=looks,
        log=log,
        one=one,
        height_in=_AXES_IN,
    )
    draw_panel(axes, panel)
