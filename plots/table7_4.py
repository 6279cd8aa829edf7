# SPDX-License-Identifier: MIT
"""Figure 7.4 (and Table 7.4): received throughput of both flows, plain routing against NFC.

Bars are medians over the repeats, whiskers their bootstrap 95 % intervals, dots the single runs.
The published values stand beside them, on the same scale.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots._style import DARK, FLOW_COLOURS, finish, new_figure, tidy
from testbed.results import Compared, Result

__all__ = ["draw"]

_SIDES = (("routing", "plain routing"), ("nfc", "NFC"))
_WIDTH = 0.38
_TOP_MBPS = 1420.0
_TICKS_MBPS = (0, 200, 400, 600, 800, 1000)
_RATIO_MBPS = 1150.0
_BLACK = "#000000"


def draw(result: Result) -> Figure:
    """Draw the figure of a result that has compared values."""
    figure = new_figure(7.2, 3.4)
    left, right = figure.subplots(1, 2, sharey=True)
    flows = list(result.parameters["receivers"])
    rows = {row.name: row for row in result.compared}
    _bars(left, flows, rows, published=False)
    _dots(left, flows, result)
    left.set_title(_measured_title(result), loc="left")
    left.set_xlabel(_ledger(result), fontsize=6.5, color=DARK)
    left.set_ylabel("received UDP throughput (Mbit/s)")
    _bars(right, flows, rows, published=True)
    right.set_title("Published", loc="left")
    for axes in (left, right):
        tidy(axes)
        axes.set_ylim(0, _TOP_MBPS)
        axes.set_yticks(_TICKS_MBPS)
        axes.set_xlim(-0.6, len(flows) - 0.4)
        axes.set_xticks(
            range(len(flows)),
            [f"{f} at {result.parameters['receivers'][f].upper()}" for f in flows],
        )
    _legend(figure, left)
    finish(figure, result)
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    """Bars first, then what is drawn upon them."""
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [*(title for _, title in _SIDES), "95 % interval", "single run"]
    labels = [name for name in names if name in named]
    if not labels:
        return
    handles = [named[label] for label in labels]
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)


def _ledger(result: Result) -> str:
    """Where the packets of all runs went, and what CPU time was left meanwhile."""
    books, left = result.facts.get("ledger"), result.facts.get("cpu_left", {})
    if not books:
        return ""
    dropped, lost = (sum(books[what].values()) for what in ("dropped", "lost"))
    shares = ", ".join(f"{title} {left[side]:.0%}" for side, title in _SIDES if side in left)
    return (
        f"{books['sent']:,} packets sent = {books['received']:,} received + {dropped:,} dropped"
        f" by NFs\n+ {lost:,} lost elsewhere + {books['unexplained']:,} unexplained."
        f" CPU time left: {shares}."
    )


def _measured_title(result: Result) -> str:
    facts, parameters = result.facts, result.parameters
    count = min(sum(p.name.startswith(side) for p in result.phases) for side, _ in _SIDES)
    return (
        f"Measured: {count} runs of {parameters['duration_s']:g} s each way,"
        f" {parameters['rate_mbps']:g} Mbit/s\n"
        f"offered by each flow; MTU {facts.get('mtu')},"
        f" {facts.get('block_bytes')}-byte datagrams"
    )


def _bars(axes: Axes, flows: Sequence[str], rows: dict[str, Compared], *, published: bool) -> None:
    for place, flow in enumerate(flows):
        for index, (_, title) in enumerate(_SIDES):
            row = rows.get(f"{flow}, {title}")
            if row is None:
                continue
            value = row.published if published else row.value
            if value is None:
                continue
            x = _x(place, index)
            axes.bar(
                x,
                value,
                width=_WIDTH,
                color=FLOW_COLOURS[index],
                edgecolor=_BLACK,
                linewidth=0.5,
                hatch="////" if index else None,
                label=title if place == 0 else None,
                alpha=0.85,
                zorder=2,
            )
            top = value
            if not published and row.low is not None and row.high is not None:
                _whisker(axes, x, value, row, label="95 % interval" if place + index == 0 else None)
                top = max(value, row.high)
            axes.annotate(
                f"{round(value, 2):g}",
                (x, top),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                va="bottom",
            )
        _ratio(axes, place, rows.get(f"{flow}, NFC / routing"), published=published)


def _whisker(axes: Axes, x: float, value: float, row: Compared, *, label: str | None) -> None:
    low, high = row.low or 0.0, row.high or 0.0
    axes.errorbar(
        x,
        value,
        yerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
        color=_BLACK,
        linewidth=1.0,
        capsize=6,
        zorder=5,
        label=label,
    )


def _ratio(axes: Axes, place: int, row: Compared | None, *, published: bool) -> None:
    """Write the ratio above a flow's pair of bars, with a bracket over them."""
    if row is None:
        return
    text = "–" if row.value is None else f"{row.value:.4f}"
    if published:
        text = "–" if row.published is None else f"{row.published:.4f}"
    elif row.low is not None and row.high is not None:
        text += f"\n[{row.low:.4f}, {row.high:.4f}]"
    ends = (_x(place, 0), _x(place, 1))
    axes.plot(ends, (_RATIO_MBPS, _RATIO_MBPS), color=DARK, linewidth=0.7)
    axes.annotate(
        f"NFC / routing = {text}",
        (place, _RATIO_MBPS),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        weight="bold",
        fontsize=7.5,
    )


def _dots(axes: Axes, flows: Sequence[str], result: Result) -> None:
    for place, flow in enumerate(flows):
        for index, (side, _) in enumerate(_SIDES):
            values = [
                mean.whole
                for mean in result.means
                if mean.flow == flow and mean.phase.startswith(side) and mean.whole is not None
            ]
            middle = (len(values) - 1) / 2
            axes.plot(
                [_x(place, index) + 0.04 * (i - middle) for i in range(len(values))],
                values,
                linestyle="none",
                marker="o",
                markersize=2.5,
                markerfacecolor="white",
                markeredgecolor=_BLACK,
                markeredgewidth=0.5,
                label="single run" if place + index == 0 else None,
                zorder=6,
            )


def _x(place: int, index: int) -> float:
    return place + (index - 0.5) * (_WIDTH + 0.03)
