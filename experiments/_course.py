# SPDX-License-Identifier: MIT
"""The course of experiment 1 (thesis 7.2): who sends what when, and what DAD should make of it.

Pure values: no kernel, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from testbed.chain import NF, Chain, FiveTuple, Policy
from testbed.errors import UserError
from testbed.experiment.iperf import BLOCK_BYTES, UdpFlow
from testbed.models.dad import Dad
from testbed.nf import load_descriptions
from testbed.results import Series

__all__ = [
    "FLOWS",
    "PUBLISHED",
    "RATES_MBPS",
    "SENDER",
    "SENDER_ADDRESS",
    "Guard",
    "expected_mbps",
    "five_tuple",
    "guard_of",
    "with_forward",
    "with_windows_scaled",
]

SENDER, SENDER_ADDRESS = "hv", "10.10.9.1"

FLOWS = (
    UdpFlow(name="flow 1", dst="10.10.9.5", dport=53, cport=50053, receiver="vm2"),
    UdpFlow(name="flow 2", dst="10.10.9.5", dport=123, cport=50123, receiver="vm3"),
)

RATES_MBPS = (50.0, 150.0, 100.0)
"""Offered by each flow in the three phases; a phase lasts as long as a window of DAD."""

PUBLISHED = tuple(
    Series(
        quantity="throughput",
        unit="Mbit/s",
        flow=flow.name,
        node=flow.receiver,
        t_s=(10.0, 20.0, 30.0),
        values=(50.0, 150.0, 0.0),
    )
    for flow in FLOWS
)
"""Figure 7.2 as published: the level of each phase, alike for both flows."""

_HEADER_BYTES = 28  # IPv4 and UDP
_SHORTEST_S, _LONGEST_S = 0.9, 120.0


@dataclass(frozen=True)
class Guard:
    """The DAD that judges a flow.

    :ivar chain_id: of its chain.
    :ivar position: of DAD in the chain.
    :ivar model: its parameters, in DAD's own units.
    """

    chain_id: int
    position: int
    model: Dad

    @property
    def window_s(self) -> float:
        """How long a window lasts."""
        return self.model.window_ns / 1e9

    @property
    def unit(self) -> Literal["byte", "packet"]:
        """What DAD counts."""
        return "byte" if self.model.in_bytes else "packet"

    @property
    def threshold_mbps(self) -> float:
        """The threshold as a rate of UDP payload, in packets as iperf3 sends them."""
        packet = BLOCK_BYTES + _HEADER_BYTES if self.model.in_bytes else 1
        return self.model.threshold / packet * BLOCK_BYTES * 8e-6 / self.window_s

    @property
    def threshold_in_words(self) -> str:
        """The threshold as the policy gives it, and as payload."""
        if self.model.in_bytes:
            given = f"{self.model.threshold * 8e-6 / self.window_s:.4g} Mbit/s of IP"
        else:
            given = f"{self.model.threshold / self.window_s:.6g} packets/s"
        return f"{given} = {self.threshold_mbps:.4g} Mbit/s of payload"


def five_tuple(flow: UdpFlow) -> FiveTuple:
    """The 5-tuple that a flow has from the sender to VM1."""
    return FiveTuple(
        src=SENDER_ADDRESS, dst=flow.dst, sport=flow.cport, dport=flow.dport, proto="udp"
    )


def guard_of(policy: Policy, flow: UdpFlow) -> Guard:
    """Find the DAD in the chain that a flow takes.

    :raises UserError: no rule takes it, or its chain has not exactly one DAD, or DAD's window is
        too short or too long to play the course by.
    """
    match = policy.match(five_tuple(flow))
    if match is None:
        raise UserError(f"the policy has no rule for {flow.name} (udp to {flow.dst}:{flow.dport})")
    found = [(i, nf) for i, nf in enumerate(match.chain.nfs) if nf.name == "dad"]
    if len(found) != 1:
        raise UserError(
            f"the chain of {flow.name} ({match.chain.name}) has {len(found)} dad: this experiment"
            " plays one phase per window of one dad"
        )
    position, nf = found[0]
    guard = Guard(match.chain.id, position, Dad.of(load_descriptions()["dad"], nf.params))
    if not _SHORTEST_S <= guard.window_s <= _LONGEST_S:
        raise UserError(
            f"dad's window_s of {flow.name} is {guard.window_s:g} s: this experiment needs"
            f" {_SHORTEST_S:g} to {_LONGEST_S:g} s"
        )
    return guard


def expected_mbps(guard: Guard, rates_mbps: Sequence[float] = RATES_MBPS) -> tuple[float, ...]:
    """What should arrive: a phase is denied if the one before exceeded the threshold."""
    before = (0.0, *rates_mbps)
    return tuple(
        0.0 if last > guard.threshold_mbps else rate
        for rate, last in zip(rates_mbps, before, strict=False)
    )


def with_windows_scaled(policy: Policy, factor: float) -> Policy:
    """Give the policy with every DAD's window that much longer; thresholds are rates and stay."""
    dad = load_descriptions()["dad"]

    def scaled(nf: NF) -> NF:
        if nf.name != "dad":
            return nf
        window_s = dad.check(nf.params)["window_s"] * factor
        return NF(
            name=nf.name, priority=nf.priority, params={**nf.params.plain(), "window_s": window_s}
        )

    return _each_chain(policy, lambda chain: {"nfs": tuple(scaled(nf) for nf in chain.nfs)})


def with_forward(policy: Policy, forward: Literal["stack", "direct"]) -> Policy:
    """Give the policy with another last hop for all chains."""
    return _each_chain(policy, lambda _: {"forward": forward})


def _each_chain(policy: Policy, changes: Callable[[Chain], dict[str, Any]]) -> Policy:
    return policy.with_chains(
        tuple(chain.model_copy(update=changes(chain)) for chain in policy.chains)
    )
