# SPDX-License-Identifier: MIT
"""The ways through user space: one NF behind NFQUEUE, in C and in Python.

The program runs on the same core as the sender, so that a packet's time is the whole of its way,
as it is for the ways in the kernel. What is sent waits in the queue, which holds all of it.
"""

from __future__ import annotations

from testbed.bench.variant import Variant, chain, one_chain
from testbed.chain import NF, Nfqueue, Policy
from topologies.line import RIGHT

__all__ = ["user_variants"]

_NEEDS = ("nfnetlink_queue",)
_PACKETS = 20_000
_QUEUE = 65_535


def _variant(name: str, text: str, nf: NF, *, forward: str) -> Variant:
    policy = one_chain(RIGHT, forward=forward, nfs=(nf,))
    queue = Nfqueue(length=_QUEUE, batch=64)
    policy = Policy(datapath="nfqueue", nfqueue=queue, chains=policy.chains)
    return Variant(
        name=name,
        text=text,
        most_packets=_PACKETS,
        to_the_end=True,
        on=chain(policy),
        probes=_NEEDS,
    )


def user_variants(*, threshold_mbps: int) -> tuple[Variant, ...]:
    """Pass-through and DAD in C and in Python, and pass-through that goes on in the kernel."""
    limit = {"threshold_mbps": threshold_mbps}
    passing, passing_python = NF(name="pass", place="user"), NF(name="pass", place="python")
    dad, dad_python = (NF(name="dad", place=p, params=limit) for p in ("user", "python"))
    return (
        _variant("nfqueue-c", "pass-through behind NFQUEUE in C", passing, forward="stack"),
        _variant(
            "nfqueue-python",
            "pass-through behind NFQUEUE in Python",
            passing_python,
            forward="stack",
        ),
        _variant("nfqueue-c-dad", "DAD behind NFQUEUE in C", dad, forward="stack"),
        _variant("nfqueue-python-dad", "DAD behind NFQUEUE in Python", dad_python, forward="stack"),
        _variant(
            "nfqueue-c-direct",
            "as nfqueue-c, back to the kernel and forward: direct",
            passing,
            forward="direct",
        ),
    )
