# SPDX-License-Identifier: MIT
"""One way through the node, and how such a way is switched on for one measurement."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from testbed.bench.rig import DPORT, FRAME_BYTES, Rig, Sender
from testbed.chain import NF, Chain, FlowRule, Policy
from testbed.datapath.base import Datapath
from testbed.datapath.datapaths import open_datapath
from testbed.datapath.plan import make_plan
from testbed.datapath.status import NodeStatus
from testbed.errors import RunError
from testbed.probe import probe
from topologies.line import RIGHT

__all__ = [
    "Counted",
    "On",
    "Variant",
    "chain",
    "chain_on",
    "iptables",
    "nftables",
    "nothing",
    "one_chain",
]

Counted = Callable[[], int]
"""Gives the packets that walked the whole way so far, by the way's own counters."""

On = Callable[[Rig], contextlib.AbstractContextManager[Counted | None]]
"""Switches a way on; gives its counters where it has some."""

# The legacy iptables would make its lock in the host's /run.
_UNLOCKED = ("env", f"XTABLES_LOCKFILE={os.devnull}")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way through the node.

    :ivar to: destination address of the frames; None: they go nowhere.
    :ivar flows: 5-tuples that take turns.
    :ivar frame_bytes: length of the frames, Ethernet header included.
    :ivar sender: who makes the frames.
    :ivar most_packets: a slow way is measured with no more than these.
    :ivar to_the_end: timed until the last frame has arrived (:meth:`Rig.send`).
    :ivar on: switches it on, as a context manager.
    :ivar probes: names of the kernel features it needs (``testbed.probe``).
    :ivar tools: programs it needs.
    """

    name: str
    text: str
    to: str | None = RIGHT
    flows: int = 1
    frame_bytes: int = FRAME_BYTES
    sender: Sender = "live-frames"
    most_packets: int | None = None
    to_the_end: bool = False
    on: On = field(repr=False)
    probes: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    def lacking(self) -> str | None:
        """Say what this machine lacks for it, or give None."""
        for name in self.probes:
            answer = probe(name)
            if answer.state == "no":
                return f"{name}: {answer.detail}"
        return next((f"no {tool} here" for tool in self.tools if not shutil.which(tool)), None)

    def packets(self, wanted: int) -> int:
        """How many packets one measurement has where ``wanted`` are asked for."""
        return wanted if self.most_packets is None else min(wanted, self.most_packets)


def one_chain(to: str, *, forward: str, nfs: tuple[NF, ...]) -> Policy:
    """A chain for all of the generator's packets to one address."""
    rule = FlowRule.model_validate({"proto": "udp", "dst": to, "dport": DPORT})
    chain = {"id": 1, "name": "bench", "forward": forward, "rules": (rule,), "nfs": nfs}
    return Policy(chains=(Chain.model_validate(chain),))


@contextlib.contextmanager
def chain_on(rig: Rig, policy: Policy) -> Iterator[Datapath]:
    """A policy's chains at the node, for packets from `left`, on the datapath that it asks for."""
    interface = rig.node.interface("node-eth0")
    with rig.node.netns():
        datapath = open_datapath(make_plan(policy), folder=rig.bpffs / "bench")
    try:
        with rig.node.netns():
            datapath.attach({interface.name: interface.index})
        yield datapath
    finally:
        with rig.node.netns():
            datapath.close()


def chain(policy: Policy, *, conntrack: bool = False) -> On:
    """A policy's chains; what the last step got is what walked them.

    Switching it off raises RunError where packets got lost on their way to user space.
    """

    @contextlib.contextmanager
    def on(rig: Rig) -> Iterator[Counted]:
        if conntrack:
            _forget_connections(rig)
        with chain_on(rig, policy) as datapath:
            status = NodeStatus(datapath.plan, datapath.folder)
            yield lambda: status.forwarded()[0].packets
            if lost := sum(step.lost for step in status.steps()):
                raise RunError(f"the bench lost {lost} packets on their way to user space")

    return on


def nftables(rules: str, *, conntrack: bool = False) -> On:
    """Rules of nftables in the table ``ip bench``."""

    @contextlib.contextmanager
    def on(rig: Rig) -> Iterator[None]:
        if conntrack:
            _forget_connections(rig)
        rig.node.run(["nft", "-f", "-"], stdin=rules)
        try:
            yield
        finally:
            rig.node.run(["nft", "delete", "table", "ip", "bench"])
            if conntrack:  # so that the next one does not have to wait for it
                _forget_connections(rig)

    return on


def iptables(rules: str, *, table: str) -> On:
    """Rules of iptables, as ``iptables-restore`` reads them, in one table."""

    @contextlib.contextmanager
    def on(rig: Rig) -> Iterator[None]:
        rig.node.run([*_UNLOCKED, "iptables-restore"], stdin=rules)
        try:
            yield
        finally:
            rig.node.run([*_UNLOCKED, "iptables", "-t", table, "-F"])

    return on


def _forget_connections(rig: Rig) -> None:
    rig.node.run(["conntrack", "-F"])


@contextlib.contextmanager
def nothing(rig: Rig) -> Iterator[None]:  # noqa: ARG001
    """The kernel as it is."""
    yield
