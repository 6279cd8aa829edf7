# SPDX-License-Identifier: MIT
"""The same policy on another datapath: what ``--datapath`` asks for, pure."""

from __future__ import annotations

from typing import Literal

from testbed.chain import NF, Chain, Policy

__all__ = ["DatapathName", "on_datapath"]

DatapathName = Literal["tc", "xdp", "netfilter", "nfqueue", "hybrid", "auto"]
"""A datapath of a policy; ``hybrid`` is ``tc`` with a pass-through NF in user space."""


def on_datapath(policy: Policy, name: DatapathName) -> Policy:
    """Give the policy with another datapath.

    ``hybrid`` puts a pass-through NF in user space behind the first NF of every chain that has NFs:
    the first one and those behind run in the kernel, and packets that the first one drops never
    go to user space.
    """
    chains = tuple(map(_with_user_nf, policy.chains)) if name == "hybrid" else policy.chains
    datapath = "tc" if name == "hybrid" else name
    return Policy(datapath=datapath, nfqueue=policy.nfqueue, chains=chains)


def _with_user_nf(chain: Chain) -> Chain:
    if not chain.nfs:
        return chain
    first, *others = chain.nfs
    user = NF(name="pass", priority=first.priority, place="user")
    return chain.model_copy(update={"nfs": (first, user, *others)})
