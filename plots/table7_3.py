# SPDX-License-Identifier: MIT
"""Table 7.3: memory and CPU, idle and processing, beside the published values.

Above, the memory of the machine over time, and who used the CPUs; then what a packet costs by
either way of the chain and by plain routing; below, the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from plots._style import DARK, FLOW_COLOURS, PUBLISHED_COLOUR, finish, new_figure, tidy
from testbed.results import Compared, Result

__all__ = ["draw"]

_STATES = ("idle", "processing")
_COLOURS = dict(zip(_STATES, FLOW_COLOURS, strict=True))
_HATCH = {"idle": None, "processing": "////"}
_PER_PACKET = "CPU time per packet, "
_WAYS = {  # of a row's name: the way, and where its ratio to plain routing stands
    "plain routing": ("routing", None),
    "chain, in-stack": ("in-stack", "in-stack / routing"),
    "chain, forwarding": ("forwarding", "forwarding / routing"),
}


def draw(result: Result) -> Figure:
    """Draw the table of a result that has series."""
    rows = _matrix(result)
    ways = [row for row in result.compared if row.name.startswith(_PER_PACKET)]
    strip = 1.15 if ways else 0.0
    figure = new_figure(7.2, 3.4 + strip + 0.17 * len(rows))
    heights = (2.6, *([strip] if ways else []), 0.35 + 0.17 * len(rows))
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    _memory(figure.add_subplot(grid[0, 0]), result)
    _cpu(figure.add_subplot(grid[0, 1]), result.facts.get("states", {}))
    _table(figure.add_subplot(grid[-1, :]), rows)
    if ways:
        _per_packet(figure.add_subplot(grid[1, :]), ways, result)
    finish(figure, result)
    return figure


def _memory(axes: Axes, result: Result) -> None:
    """Used memory over time, against its middle when idle."""
    found = {s.node: s for s in result.series if s.quantity == "memory used"}
    states = result.facts.get("states", {})
    zero_kb = float(states.get("idle", {}).get("vmstat", {}).get("used_kb", 0.0))
    for name in _STATES:
        if name not in found:
            continue
        course = found[name]
        axes.plot(
            [t - course.t_s[0] for t in course.t_s],
            [(kb - zero_kb) / 1024 for kb in course.values],
            color=_COLOURS[name],
            linestyle="-" if name == "idle" else (0, (4, 1)),
            marker="o" if name == "idle" else "s",
            markersize=2.5,
            linewidth=1.0,
            label=f"{name} (vmstat)",
        )
    published = {row.name: row.published for row in result.compared}
    more_kb = published.get("processing − idle: memory used (vmstat)")
    if more_kb is not None:
        axes.axhline(
            more_kb / 1024,
            color=PUBLISHED_COLOUR,
            linewidth=0.9,
            linestyle="-.",
            label=f"published: processing {more_kb:+g} KB",
        )
    held = sum(states.get("processing", {}).get("held_bytes", {}).values())
    title = f"Machine's memory; the chain itself holds {held / 1024:.0f} KB" if held else "Memory"
    axes.set_title(title, loc="left")
    axes.set_xlabel("time in the state (s)")
    axes.set_ylabel("memory used, against idle (MB)")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.4 * (high - low))
    axes.legend(frameon=False, loc="upper left")
    tidy(axes)


def _cpu(axes: Axes, states: Mapping[str, Any]) -> None:
    """Who used the CPUs: the whole machine, its softirqs, the chain."""
    labels = ("whole machine\n(vmstat)", "softirqs\n(traced)", "the chain\n(bpf_stats)")
    top = 1.0
    for place, name in enumerate(name for name in _STATES if name in states):
        values = _cpu_values(states[name])
        for index, value in enumerate(values):
            if value is None:
                continue
            at = index + (place - 0.5) * 0.4
            top = max(top, value)
            axes.bar(
                at,
                value,
                width=0.38,
                color=_COLOURS[name] if name == "processing" else "white",
                edgecolor=_COLOURS[name],
                hatch=_HATCH[name],
                label=name if index == 0 else None,
            )
            axes.annotate(
                f"{value:.2f}" if value < 10 else f"{value:.0f}",
                (at, value),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=6.5,
            )
    axes.axhline(0, color=PUBLISHED_COLOUR, linewidth=0.9, linestyle="-.", label="published: 0 %")
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(0, top * 1.25)
    axes.set_ylabel("share of all CPUs' time (%)")
    axes.set_title("CPU; the machine is sender and receivers too", loc="left")
    axes.legend(frameon=False, loc="upper right")
    tidy(axes)


def _cpu_values(state: Mapping[str, Any]) -> tuple[float | None, ...]:
    traced, chain = state.get("traced"), state.get("chain")
    return (
        state["vmstat"]["cpu_percent"],
        traced["softirq_share"] * 100 if traced else None,
        chain["share_of_all_cpus"] * 100 if chain else None,
    )


def _per_packet(axes: Axes, rows: Sequence[Compared], result: Result) -> None:
    """What a packet costs: the median of each way, its interval, every round, and the ratio."""
    found = {row.name.removeprefix(_PER_PACKET): row for row in rows}
    rounds = result.facts.get("rounds", [])
    for place, (name, (way, ratio)) in enumerate(_WAYS.items()):
        row = found[name]
        value, low, high = row.value or 0.0, row.low or 0.0, row.high or 0.0
        chained = ratio is not None
        axes.barh(
            place,
            value,
            height=0.62,
            color=FLOW_COLOURS[1] if chained else "white",
            edgecolor=FLOW_COLOURS[1] if chained else FLOW_COLOURS[0],
            hatch=_HATCH["processing"] if chained else None,
            xerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
            error_kw={"linewidth": 0.9, "capsize": 2.5},
        )
        dots = [one["softirq_ns_per_packet"] for one in rounds if one["way"] == way]
        axes.plot(dots, [place] * len(dots), "o", color=DARK, markersize=2, linestyle="none")
        text = _ratio_text(found[ratio]) if ratio is not None else ""
        axes.annotate(
            f"{value:,.0f} ns{text}",
            (max([high, *(dot for dot in dots if dot is not None)]), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(range(len(_WAYS)), list(_WAYS))
    axes.invert_yaxis()
    axes.set_xlim(0, axes.get_xlim()[1] * 1.6)
    axes.set_xlabel("time of receiving softirqs per packet (ns)")
    axes.set_title(f"What a packet costs: {len(rounds) // len(_WAYS)} rounds in turn", loc="left")
    tidy(axes)


def _ratio_text(row: Compared) -> str:
    sign = "≤" if row.at_most else "≥"
    return f": {row.value:.3f} of routing [{row.low:.3f}, {row.high:.3f}], aim {sign} {row.aim:g}"


def _matrix(result: Result) -> list[list[str]]:
    """Rows of the table: quantity, idle, processing, and what was published."""
    rows: dict[str, dict[str, Compared]] = {}
    for row in result.compared:
        if row.name.startswith(_PER_PACKET):
            continue  # has a drawing of its own
        state, colon, what = row.name.partition(": ")
        if colon and state in _STATES:
            rows.setdefault(f"{what}, {row.unit}", {})[state] = row
        else:
            rows[f"{row.name}, {row.unit}".rstrip(", ")] = {"processing": row}
    return [
        [
            what,
            *(_text(cells[s].value) if s in cells else "" for s in _STATES),
            *(_published(cells.get(s)) for s in _STATES),
        ]
        for what, cells in rows.items()
    ]


def _published(row: Compared | None) -> str:
    return "" if row is None or row.published is None else _text(row.published)


def _text(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def _table(axes: Axes, rows: list[list[str]]) -> None:
    axes.axis("off")
    if not rows:
        return
    heads = ["", "idle", "processing", "published, idle", "published, processing"]
    table = axes.table(
        cellText=[heads, *rows],
        colWidths=[0.40, 0.10, 0.12, 0.17, 0.21],
        cellLoc="right",
        bbox=Bbox.from_bounds(0, 0, 1, 1),
        edges="horizontal",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    for (row, column), cell in table.get_celld().items():
        cell.set_linewidth(0.3)
        cell.set_edgecolor("#BBBBBB")
        if column == 0:
            cell.set_text_props(ha="left")
            cell.PAD = 0.01
        if row == 0:
            cell.set_text_props(weight="bold", color=DARK)
