# SPDX-License-Identifier: MIT
"""The load of experiment 2 (thesis 7.3): two UDP flows of 1 Gbit/s each for 10 s.

Packets are jumbo ones. A machine of two cores that plays sender, switch, VM1 and both receivers at
once carries twice 1 Gbit/s in packets of 9,000 bytes, and loses much of it in packets of 1,500.

Pure values: no kernel, no clock.
"""

from __future__ import annotations

from dataclasses import replace

from testbed.chain import FiveTuple, Policy
from testbed.errors import UserError
from testbed.experiment.iperf import JUMBO_BLOCK_BYTES, UdpFlow

__all__ = [
    "CHAIN_FLOWS",
    "DURATION_S",
    "MTU",
    "POLICY",
    "RATE_MBPS",
    "ROUTED_FLOWS",
    "SENDER",
    "require_chain",
]

MTU = 9000
RATE_MBPS = 1000.0
DURATION_S = 10.0
POLICY = "experiments/policies/counting.yaml"

SENDER, SENDER_ADDRESS, VM1, VM2, VM3 = "hv", "10.10.9.1", "10.10.9.5", "10.10.9.4", "10.10.9.6"

CHAIN_FLOWS = tuple(
    UdpFlow(
        name=name,
        dst=VM1,
        dport=dport,
        cport=50000 + dport,
        receiver=receiver,
        block_bytes=JUMBO_BLOCK_BYTES,
    )
    for name, dport, receiver in (("flow 1", 53, "vm2"), ("flow 2", 123, "vm3"))
)
"""Both to VM1, whose chain translates them."""

ROUTED_FLOWS = tuple(
    replace(flow, dst=address) for flow, address in zip(CHAIN_FLOWS, (VM2, VM3), strict=True)
)
"""The same, to the receivers themselves: VM1 of the routing twin routes them."""


def require_chain(policy: Policy) -> None:
    """Raise UserError unless the policy takes both flows."""
    for flow in CHAIN_FLOWS:
        sent = FiveTuple(
            src=SENDER_ADDRESS, dst=flow.dst, sport=flow.cport, dport=flow.dport, proto="udp"
        )
        if policy.match(sent) is None:
            raise UserError(
                f"the policy has no rule for {flow.name} (udp to {flow.dst}:{flow.dport})"
            )
