# SPDX-License-Identifier: MIT
"""A policy as rules of the kernel's own packet filters, to compare with and to read.

``compile_policy(policy, to="nftables")`` gives text that ``nft -f`` takes, ``to="iptables"`` text
for ``iptables-restore``. Where the peer cannot say the same, the text says in comments what
differs. Pure: nothing is loaded here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from testbed.chain import Policy
from testbed.policy import check_policy
from testbed.rulesets.iptables import iptables_rules
from testbed.rulesets.nftables import nftables_rules, translation_rules

__all__ = ["TARGETS", "Target", "compile_policy", "translation_rules"]

Target = Literal["nftables", "iptables"]
TARGETS: tuple[Target, ...] = get_args(Target)

_COMPILERS: Mapping[Target, Callable[[Policy], str]] = {
    "nftables": nftables_rules,
    "iptables": iptables_rules,
}


def compile_policy(policy: Policy, *, to: Target) -> str:
    """Give the policy as rules.

    :raises PolicyError: an NF or a parameter is wrong, or the peer has nothing like the NF.
    """
    check_policy(policy)
    return _COMPILERS[to](policy)
