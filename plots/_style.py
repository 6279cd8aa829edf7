# SPDX-License-Identifier: MIT
"""One look for all figures: sizes, colours that colour-blind readers and grey prints tell apart.

Figures are made without pyplot, so that nothing is shared between two of them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.results import Result

__all__ = [
    "DARK",
    "FLOW_COLOURS",
    "PUBLISHED_COLOUR",
    "SHADE",
    "close",
    "finish",
    "new_figure",
    "save",
    "tidy",
]

# Okabe and Ito's palette: dark blue, and an orange that prints as a middle grey.
FLOW_COLOURS = ("#0072B2", "#D55E00")
PUBLISHED_COLOUR = "#000000"
DARK, SHADE = "#444444", "#E8E8E8"

DPI = 300
_WARNING = "#B00020"

mpl.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "hatch.linewidth": 0.4,
        "svg.hashsalt": "nfcbed",  # the same data gives the same file
    }
)


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure, laid out by itself."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def tidy(axes: Axes) -> None:
    """Leave only the lines that carry something."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(direction="out", length=3)


def finish(figure: Figure, result: Result, *, notes: Sequence[str] = ()) -> None:
    """Stamp what must not be overlooked, and write the small print below the figure.

    :param notes: what a reader has to know, before the rest of the small print.
    """
    stamps, small = [], list(notes)
    if result.validity.state == "host-limited":
        stamps.append("HOST-LIMITED")
        small += [f"Host-limited: {reason}." for reason in result.validity.reasons]
    if result.state != "complete":
        stamps.append("INCOMPLETE RUN")
        small.append(f"Incomplete: {result.reason or 'the run was killed'}.")
    failed = result.failed_checks
    if failed:
        stamps.append("CHECKS FAILED")
        names = ", ".join(check.name for check in failed[:3])
        small.append(f"{len(failed)} of {len(result.checks)} checks failed ({names} …).")
    if stamps:
        figure.text(
            0.5,
            0.5,
            "\n".join(stamps),
            ha="center",
            va="center",
            rotation=20,
            fontsize=30,
            weight="bold",
            color=_WARNING,
            alpha=0.45,
            zorder=100,
        )
    if result.quick:
        small.append("Quick run: time is scaled down.")
    if small:
        width = int(figure.get_figwidth() * 19)
        text = "\n".join(line for part in small for line in textwrap.wrap(part, width))
        figure.supxlabel(text, fontsize=6.5, color=_WARNING if stamps else DARK, ha="center")


def save(figure: Figure, path: Path, kind: str) -> None:
    """Write a figure as ``png`` or ``svg``, without a date in it."""
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
    figure.savefig(path, format=kind, dpi=DPI, metadata=metadata)


def close(figure: Figure) -> None:
    """Free what a figure holds."""
    figure.clear()
