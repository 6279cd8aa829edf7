# SPDX-License-Identifier: MIT
"""Figure 7.2: throughput of the two flows at VM2 and VM3, beside the published course.

Each reading of the receivers' counters is one step of the line, transitions included. Grey bands
are DAD's windows, hatched where its verdict was DROP.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots._style import (
    DARK,
    FLOW_COLOURS,
    PUBLISHED_COLOUR,
    SHADE,
    finish,
    new_figure,
    tidy,
)
from testbed.results import Result, Series

__all__ = ["draw"]

_TOP_MBPS = 200.0
_TICKS_MBPS = (0, 50, 100, 150)
_VERDICT_MBPS = 197.0


def draw(result: Result) -> Figure:
    """Draw the figure of a result that has series."""
    figure = new_figure(7.2, 4.3)
    axes = figure.subplots(2, 2, sharey=True, sharex="col", width_ratios=(2.6, 1), squeeze=False)
    throughput = [s for s in result.series if s.quantity == "throughput" and s.flow]
    flows = list(dict.fromkeys(series.flow or "" for series in throughput))
    for row, (flow, colour) in enumerate(zip(flows, FLOW_COLOURS, strict=False)):
        receiver = result.parameters["receivers"][flow]
        measured = result.find("throughput", flow=flow, node=receiver)
        left, right = axes[row]
        if measured is not None:
            _measured(left, result, measured, colour)
        left.set_title(f"Measured: {flow} at {receiver.upper()}", loc="left", pad=14)
        _published(right, [s for s in result.published if s.flow == flow])
        right.set_title(f"Published: {flow} at {receiver.upper()}", loc="left", pad=14)
        left.set_ylabel("UDP throughput (Mbit/s)")
    for axis in axes.flat:
        tidy(axis)
        axis.set_ylim(0, _TOP_MBPS)
        axis.set_yticks(_TICKS_MBPS)
    for axis in axes[-1]:
        axis.set_xlabel("time (s)")
    _legend(figure, axes[0][0])
    finish(figure, result)
    return figure


def _measured(axes: Axes, result: Result, series: Series, colour: str) -> None:
    end_s = max([phase.end_s for phase in result.phases] or [series.t_s[-1]])
    axes.set_xlim(-0.02 * end_s, 1.02 * end_s)
    _windows(axes, result, series.flow or "", end_s)
    _phases(axes, result, series.flow or "")
    _threshold(axes, result, series.flow or "")
    axes.stairs(
        series.values,
        (series.begin_s, *series.t_s),
        baseline=None,
        color=colour,
        linewidth=1.0,
        label="received, each reading",
        zorder=4,
    )
    for mean in result.means:
        if (mean.flow, mean.node) == (series.flow, series.node) and mean.steady_s is not None:
            middle_s = sum(mean.steady_s) / 2
            level = mean.steady or 0.0
            axes.annotate(
                f"{level:.2f}",
                (middle_s, level),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
                color=colour,
                weight="bold",
                zorder=6,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
            )


def _windows(axes: Axes, result: Result, flow: str, end_s: float) -> None:
    for index, window in enumerate(w for w in result.windows if w.flow == flow):
        denied = window.verdict == "DROP"
        begin_s, stop_s = max(window.begin_s, -0.02 * end_s), min(window.end_s, 1.02 * end_s)
        if stop_s <= begin_s:
            continue
        axes.axvspan(
            begin_s,
            stop_s,
            facecolor=SHADE if denied or index % 2 == 0 else "#F6F6F6",
            edgecolor="#AAAAAA" if denied else "none",
            hatch="////" if denied else None,
            linewidth=0,
            zorder=0,
        )
        axes.text(
            (begin_s + stop_s) / 2,
            _VERDICT_MBPS,
            f"DAD window {index + 1}: {window.verdict}",
            ha="center",
            va="top",
            fontsize=6.5,
            color=DARK,
            zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
        )


def _phases(axes: Axes, result: Result, flow: str) -> None:
    """Mark the phases above the axes, and what was offered in each."""
    for index, phase in enumerate(result.phases):
        offered = phase.offered_mbps[flow]
        axes.plot(
            (phase.begin_s, phase.end_s),
            (offered, offered),
            color=DARK,
            linewidth=0.7,
            linestyle=(0, (4, 2)),
            label="offered" if index == 0 else None,
            zorder=5,
        )
        axes.axvline(phase.begin_s, color=DARK, linewidth=0.5, linestyle=":", zorder=2)
        axes.annotate(
            f"{phase.name}: {offered:g} Mbit/s",
            ((phase.begin_s + phase.end_s) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            color=DARK,
        )


def _threshold(axes: Axes, result: Result, flow: str) -> None:
    level = result.parameters["threshold_mbps"][flow]
    text = result.parameters.get("threshold", {}).get(flow, f"{level:.4g} Mbit/s")
    axes.axhline(
        level,
        color="black",
        linewidth=0.8,
        linestyle="-.",
        zorder=2,
        label=f"DAD's threshold: {text}",
    )


def _published(axes: Axes, published: Sequence[Series]) -> None:
    for series in published:
        edges = (series.begin_s, *series.t_s)
        axes.set_xlim(-0.02 * edges[-1], 1.02 * edges[-1])
        axes.stairs(series.values, edges, baseline=None, color=PUBLISHED_COLOUR, linewidth=1.3)
        for begin_s, end_s, level in zip(edges, edges[1:], series.values, strict=False):
            axes.axvline(begin_s, color=DARK, linewidth=0.5, linestyle=":", zorder=2)
            axes.annotate(
                f"{level:g}",
                ((begin_s + end_s) / 2, level),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                va="bottom",
            )


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
