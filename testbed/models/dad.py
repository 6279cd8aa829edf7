# SPDX-License-Identifier: MIT
"""DoS Attack Denial after the thesis (6.1.5), step by step.

A window opens with a packet: the first of the flow, or the first to arrive after the window before
ran out. That packet is not counted in the window it opens. Every other packet is counted, denied
or not. While the counter exceeds the threshold the *next* verdict is DROP; it becomes the
*present* one when the next window opens.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self

from testbed.nf import NFDescription

__all__ = ["Dad", "Flow", "Verdict"]


class Verdict(Enum):
    """What an NF decides about a packet."""

    ACCEPT = 0
    DROP = 1


@dataclass
class Flow:
    """State of one flow."""

    window_start_ns: int
    counter: int = 0
    present: Verdict = Verdict.ACCEPT
    next: Verdict = Verdict.ACCEPT


@dataclass(kw_only=True)
class Dad:
    """All flows of one DAD.

    :ivar threshold: what a window may hold, in packets or in IP bytes.
    :ivar in_bytes: whether bytes are counted.
    :ivar max_flows: how many flows have state; None for no bound.
    :ivar untracked: packets of flows that found no room.
    """

    threshold: int
    window_ns: int = 10_000_000_000
    in_bytes: bool = False
    max_flows: int | None = None
    drop_when_full: bool = False
    flows: dict[Hashable, Flow] = field(default_factory=dict)
    untracked: int = 0

    @classmethod
    def of(cls, description: NFDescription, params: Mapping[str, Any]) -> Self:
        """Give the model for DAD's parameters. Raises PolicyError for wrong ones."""
        constants = description.rodata(params)
        return cls(
            threshold=constants["threshold"],
            window_ns=constants["window_ns"],
            in_bytes=bool(constants["unit"]),
            max_flows=description.flow_table(params)["max_flows"],
            drop_when_full=bool(constants["drop_when_full"]),
        )

    def packet(
        self, flow: Hashable, *, now_ns: int, packets: int = 1, ip_bytes: int = 0
    ) -> Verdict:
        """Judge one packet; time must not run backwards.

        :param packets: how many it is on the wire (a GSO packet is several).
        :param ip_bytes: their bytes, all together, IP headers included.
        """
        state = self.flows.get(flow)
        if state is None:
            return self._first(flow, now_ns, packets)
        state.counter += ip_bytes if self.in_bytes else packets
        if now_ns - state.window_start_ns < self.window_ns:
            over = state.counter > self.threshold
            state.next = Verdict.DROP if over else Verdict.ACCEPT
        else:
            state.window_start_ns = now_ns
            state.present = state.next
            state.counter = 0
        return state.present

    def _first(self, flow: Hashable, now_ns: int, packets: int) -> Verdict:
        if self.max_flows is not None and len(self.flows) >= self.max_flows:
            self.untracked += packets
            return Verdict.DROP if self.drop_when_full else Verdict.ACCEPT
        self.flows[flow] = Flow(window_start_ns=now_ns)
        return Verdict.ACCEPT
