# SPDX-License-Identifier: MIT
"""Load compiled rules into a node of a running network."""

from __future__ import annotations

import os

from testbed.chain import Policy
from testbed.netnode import NetNode
from testbed.rulesets import Target, compile_policy

__all__ = ["load_policy_rules"]

# The legacy iptables would make its lock in the host's /run.
_COMMANDS: dict[Target, list[str]] = {
    "nftables": ["nft", "-f", "-"],
    "iptables": ["env", f"XTABLES_LOCKFILE={os.devnull}", "iptables-restore"],
}


def load_policy_rules(node: NetNode, policy: Policy, *, to: Target) -> None:
    """Have the node do what the policy says by rules of nftables or iptables.

    :raises RunError: the tool or the kernel refuses the rules; the message says which.
    """
    node.run(_COMMANDS[to], stdin=compile_policy(policy, to=to))
