# SPDX-License-Identifier: MIT
"""Time per packet with 0 to 32 NFs in a chain, and the chain's packet rate by the references'."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots._swept import PAIRS, Sweep, draw_sweep
from testbed.results import Result

__all__ = ["draw"]

_WAYS = ("chain-direct", "chain-stack", "routing", "nftables")
_WHAT = "All NFs let packets through. nftables: a rule and as many chains, each called in turn."


def _x_axis(axes: Axes, values: Sequence[float]) -> None:
    axes.set_xticks([x for x in values if x == 0 or x >= 4])


_SWEEP = Sweep(
    ways=_WAYS,
    pairs=PAIRS,
    what=_WHAT,
    x_label="NFs in the chain",
    x_axis=_x_axis,
)


def draw(result: Result) -> Figure:
    """Draw the figure of a result that has curves."""
    return draw_sweep(result, _SWEEP)
