# SPDX-License-Identifier: MIT
"""The load of experiment 2 (thesis 7.3): two UDP flows of 1 Gbit/s each for 10 s.

Packets are jumbo ones. A machine of two cores that plays sender, switch, VM1 and both receivers at
once carries twice 1 Gbit/s in packets of 9,000 bytes, and loses much of it in packets of 1,500.
"""

from __future__ import annotations

from typing import Any

from experiments._carried import RATE_MBPS
from experiments._course import five_tuple, with_forward
from experiments._scene import MARGIN_S
from experiments._way import flows_of
from testbed.chain import Policy
from testbed.errors import UserError
from testbed.experiment.runner import Options
from testbed.paths import ROOT

__all__ = ["MTU", "POLICY", "loaded", "parameters"]

MTU = 9000
POLICY = ROOT / "experiments/policies/counting.yaml"
_DURATION_S, _QUICK_S = 10.0, 4.0


def loaded(policy: Policy, options: Options) -> Policy:
    """The policy after the options.

    :raises UserError: it does not take both flows.
    """
    if options.forward:
        policy = with_forward(policy, options.forward)
    for flow in flows_of("nfc", MTU):
        if policy.match(five_tuple(flow)) is None:
            raise UserError(
                f"the policy has no rule for {flow.name} (udp to {flow.dst}:{flow.dport})"
            )
    return policy


def parameters(options: Options, states: tuple[str, ...]) -> dict[str, Any]:
    """What a result says of its run."""
    duration_s, mtu = (_QUICK_S if options.quick else _DURATION_S), options.mtu or MTU
    return {
        "topology": "thesis",
        "rate_mbps": RATE_MBPS,
        "duration_s": duration_s,
        "observed_s": duration_s - 2 * MARGIN_S,
        "mtu": mtu,
        "datagram_bytes": flows_of("nfc", mtu)[0].block_bytes,
        "states": list(states),
    }
