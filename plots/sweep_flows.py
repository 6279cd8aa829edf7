# SPDX-License-Identifier: MIT
"""Time per packet with 1 to 1,000,000 flows through DAD and DNAT, and the ratios of rates."""

from __future__ import annotations

from matplotlib.figure import Figure

from plots._curves import log_x
from plots._swept import PAIRS, Sweep, draw_sweep
from testbed.results import Result

__all__ = ["draw"]

_WAYS = ("chain-direct", "chain-stack", "routing", "nftables", "nftables-stateless")
_WHAT = (
    "Flows take turns and are known before. nftables: a limit per flow and DNAT by connection"
    " tracking; stateless: one limit for all, no connections."
)


_SWEEP = Sweep(
    ways=_WAYS,
    pairs=PAIRS,
    what=_WHAT,
    x_label="flows",
    x_axis=lambda axes, values: log_x(axes, values, unnamed=(65_536,)),
)


def draw(result: Result) -> Figure:
    """Draw the figure of a result that has curves."""
    return draw_sweep(result, _SWEEP)
