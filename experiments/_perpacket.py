# SPDX-License-Identifier: MIT
"""CPU time per packet of three ways, in turn: plain routing, and the chain with both last steps.

Pure values: no kernel, no clock. What a packet costs is the time of receiving softirqs (net_rx),
in which switch, node and receivers work; the senders' own time is the same in all ways.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from testbed.bench.stats import Interval, middle, ratio
from testbed.experiment.cputime import CpuTime
from testbed.results import Compared

__all__ = ["FORWARDS", "WAYS", "Spent", "compared", "order", "plain"]

Way = Literal["routing", "in-stack", "forwarding"]
WAYS: tuple[Way, ...] = ("routing", "in-stack", "forwarding")
FORWARDS: Mapping[Way, Literal["stack", "direct"] | None] = {
    "routing": None,
    "in-stack": "stack",
    "forwarding": "direct",
}
"""Last step of the chains; None: there are no chains."""

AIMS: Mapping[Way, float] = {"forwarding": 0.75, "in-stack": 1.15}
"""Of the ratio to plain routing, at most."""

_TEXTS: Mapping[Way, str] = {
    "routing": "plain routing",
    "in-stack": "chain, in-stack",
    "forwarding": "chain, forwarding",
}


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one way took in one round.

    :ivar position: its place in the round's order, from 0.
    :ivar packets: that arrived meanwhile.
    """

    way: Way
    round: int
    position: int
    seconds: float
    packets: int
    cpu: CpuTime

    @property
    def softirq_ns(self) -> float | None:
        """Time of receiving softirqs per packet; None if nothing arrived."""
        return self.cpu.softirq_ns["net_rx"] / self.packets if self.packets else None

    @property
    def busy_ns(self) -> float | None:
        """Time of all that kept CPUs busy, per packet; None if nothing arrived."""
        return self.cpu.busy_ns / self.packets if self.packets else None


def order(rounds: int, *, seed: int) -> list[tuple[int, int, Way]]:
    """Round, position and way: each round has every way, each in another random order."""
    chance, found = random.Random(seed), []
    for number in range(1, rounds + 1):
        turn = list(WAYS)
        chance.shuffle(turn)
        found += [(number, position, way) for position, way in enumerate(turn)]
    return found


def _whole_rounds(spent: Sequence[Spent]) -> dict[Way, list[float]]:
    """ns per packet by way, of the rounds in which all ways have a value, in order."""
    by_way: dict[Way, dict[int, float]] = {way: {} for way in WAYS}
    for one in spent:
        if one.softirq_ns is not None:
            by_way[one.way][one.round] = one.softirq_ns
    whole = sorted(set.intersection(*(set(found) for found in by_way.values())))
    return {way: [found[number] for number in whole] for way, found in by_way.items()}


def compared(spent: Sequence[Spent]) -> list[Compared]:
    """Median time of each way, and the chain's by that of routing; none before a whole round."""
    rounds = _whole_rounds(spent)
    if not rounds["routing"]:
        return []
    rows = [
        Compared(name=f"CPU time per packet, {_TEXTS[way]}", unit="ns", **_rounded(middle(values)))
        for way, values in rounds.items()
    ]
    rows += [
        Compared(
            name=f"CPU time per packet, {way} / routing",
            **_rounded(ratio(rounds[way], rounds["routing"])),
            aim=aim,
            at_most=True,
        )
        for way, aim in AIMS.items()
    ]
    return rows


def _rounded(interval: Interval) -> dict[str, float]:
    return {key: round(getattr(interval, key), 4) for key in ("value", "low", "high")}


def plain(spent: Sequence[Spent]) -> list[dict[str, Any]]:
    """Every round as JSON values."""
    return [
        {
            "way": one.way,
            "round": one.round,
            "position": one.position,
            "seconds": round(one.seconds, 6),
            "packets": one.packets,
            "net_rx_softirq_ns": one.cpu.softirq_ns["net_rx"],
            "busy_ns": one.cpu.busy_ns,
            "softirq_ns_per_packet": _whole(one.softirq_ns),
            "busy_ns_per_packet": _whole(one.busy_ns),
        }
        for one in spent
    ]


def _whole(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
