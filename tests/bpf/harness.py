# SPDX-License-Identifier: MIT
"""A policy's chains loaded into the kernel, run packet by packet with BPF_PROG_TEST_RUN.

The classifier is attached nowhere: ``run`` gives it one frame, and it walks the whole chain by the
same tail calls as with real packets. Everything lives in the sandbox of the test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from scapy.packet import Packet

from testbed.chain import Policy
from testbed.datapath.plan import Stage, make_plan
from testbed.datapath.status import NodeStatus, StageStatus
from testbed.datapath.tc import TcDatapath
from tests.frames import bytes_of, shown
from tests.sandboxed import bpffs

__all__ = ["NEEDS", "LoadedNode", "Outcome", "Verdict", "loaded", "policy_of"]

NEEDS = ("root", "namespaces", "bpffs", "objects", "tail_call", "prog_test_run", "bpf_timer")
"""What a test needs that loads a node (``pytest.mark.needs``)."""


class Verdict(Enum):
    """What the chain as a whole says to the kernel (<linux/pkt_cls.h>)."""

    ACCEPT = -1
    DROP = 2
    REDIRECT = 7


@dataclass(frozen=True)
class Outcome:
    """Verdict, and the frame as it left the chain."""

    verdict: Verdict
    frame: bytes

    def is_accepted_as(self, packet: Packet | bytes) -> None:
        """Assert that the chain accepted the packet and that it is now exactly this one."""
        wanted = packet if isinstance(packet, bytes) else bytes_of(packet)
        assert self.verdict is Verdict.ACCEPT
        assert self.frame == wanted, f"got {shown(self.frame)}\nnot {shown(wanted)}"


def policy_of(*chains: Mapping[str, Any]) -> Policy:
    """Give a policy; chains without an id are numbered, rules and NFs are as in a policy file."""
    numbered = [{"id": number, **chain} for number, chain in enumerate(chains, 1)]
    return Policy.model_validate({"chains": numbered})


class LoadedNode:
    """A node's chains; see :func:`loaded`."""

    def __init__(self, datapath: TcDatapath) -> None:
        self.datapath = datapath
        self.status = NodeStatus(datapath.plan, datapath.folder)
        self._classify = datapath.classifier.program("classify")

    def run(self, packet: Packet | bytes, *, repeat: int = 1, **skb: int) -> Outcome:
        """Run the chain on a packet (scapy, from the IP header on) or a whole frame.

        :param skb: fields of ``struct __sk_buff``: ifindex, gso_segs, gso_size.
        """
        frame = packet if isinstance(packet, bytes) else bytes_of(packet)
        done = self._classify.test_run(frame, repeat=repeat, skb=skb)
        return Outcome(Verdict(done.result), done.packet)

    def leaves_alone(self, frame: bytes) -> None:
        """Assert that a frame passes untouched, no chain having seen it."""
        before = self.status.specials()["left_alone"].packets
        entered = sum(rule.packets for rule in self.status.rules())
        self.run(frame).is_accepted_as(frame)
        assert self.status.specials()["left_alone"].packets == before + 1
        assert sum(rule.packets for rule in self.status.rules()) == entered

    def stage(self, name: str) -> Stage:
        """Give the only stage of this NF."""
        (found,) = [stage for stage in self.datapath.plan.stages() if stage.nf.name == name]
        return found

    def counts(self, name: str) -> StageStatus:
        """Give the counters of the only stage of this NF."""
        label = self.stage(name).label
        return next(status for status in self.status.stages() if status.label == label)

    def special(self, name: str) -> int:
        """Give the packets that no rule took, for this reason."""
        return self.status.specials()[name].packets


@contextlib.contextmanager
def loaded(
    *chains: Mapping[str, Any], ways: Mapping[int, int] | None = None
) -> Iterator[LoadedNode]:
    """Load the chains of :func:`policy_of`; they are gone after the block."""
    folder = bpffs() / "node"
    datapath = TcDatapath(make_plan(policy_of(*chains)), folder=folder, ways=ways or {}, tcx=True)
    try:
        yield LoadedNode(datapath)
    finally:
        datapath.close()
