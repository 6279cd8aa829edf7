# SPDX-License-Identifier: MIT
"""Time per packet with 1 to 10,000 flow rules, and the chain's packet rate by the references'."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.figure import Figure

from plots._curves import LOOKS, curves_of, log_x
from plots._swept import Sweep, draw_sweep
from testbed.results import Result

__all__ = ["draw"]

_WAYS = (
    *("chain-direct", "chain-direct-all", "chain-stack", "chain-stack-all", "routing"),
    *("nftables-map", "nftables-map-all", "nftables-rules", "iptables"),
)
_PAIRS = (
    ("chain-direct", "iptables"),
    ("chain-stack", "iptables"),
    ("chain-direct", "nftables-map"),
    ("chain-direct-all", "nftables-map"),
    ("chain-direct", "routing"),
    ("chain-stack", "routing"),
)
_LOADED = ("chain-direct", "nftables-map", "nftables-rules", "iptables")
_WHAT = (
    "(all): as many flows as rules take turns; otherwise all packets match the last rule."
    " Maps: one verdict map a mask. List: one rule behind the other."
)


_SWEEP = Sweep(
    ways=_WAYS,
    pairs=_PAIRS,
    what=_WHAT,
    x_label="flow rules",
    x_axis=log_x,
    micro=True,
)


def draw(result: Result) -> Figure:
    """Draw the figure of a result that has curves."""
    return draw_sweep(result, replace(_SWEEP, what=f"{_WHAT}{_loading(result)}"))


def _loading(result: Result) -> str:
    """How long it took to load the most rules."""
    took = []
    for curve in curves_of(result, "time to load", ways=_LOADED):
        last = curve.points[-1]
        if last.value is not None:
            took.append(f"{LOOKS[curve.way].label} {last.value / 1000:.2f} s")
    most = result.parameters["values"][-1]
    return f" Time to load {most:,} rules: {'; '.join(took)}." if took else ""
