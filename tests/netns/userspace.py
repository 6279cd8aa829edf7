# SPDX-License-Identifier: MIT
"""A line whose node runs NFs in user space, and what tests of it share."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.chain import Policy
from testbed.datapath.nfqueue import NfqueueDatapath
from testbed.datapath.node import NfcNode
from testbed.datapath.status import NodeStatus
from testbed.datapath.stepstatus import EntryStatus
from testbed.network import Network
from tests.netns.wire import Wire, status_of
from tests.sandboxed import bpffs
from topologies.line import Line

__all__ = ["NEEDS", "Running", "line", "policy", "until"]

NEEDS = (
    *("root", "namespaces", "veth", "bpffs", "objects", "tc_ingress", "bpf_timer", "fib_lookup"),
    *("nfnetlink_queue", "iptables", "nft", "ethtool"),
)


def policy(
    *nfs: Mapping[str, Any],
    forward: str = "stack",
    datapath: str = "tc",
    rules: Sequence[Mapping[str, Any]] = ({},),
    **nfqueue: Any,
) -> Policy:
    """One chain, for every packet if nothing else is said."""
    chain = {"id": 1, "forward": forward, "rules": rules, "nfs": nfs}
    return Policy.model_validate({"datapath": datapath, "nfqueue": nfqueue, "chains": [chain]})


def until(true: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class Running:
    """A policy that runs on a wire's node."""

    def __init__(self, wire: Wire, nfc: NfcNode) -> None:
        self.wire = wire
        self.nfc = nfc

    @property
    def datapath(self) -> NfqueueDatapath:
        """The node's datapath, which has steps into user space."""
        assert isinstance(self.nfc.datapath, NfqueueDatapath)
        return self.nfc.datapath

    @property
    def status(self) -> NodeStatus:
        """Its counters."""
        return status_of(self.nfc.node, self.nfc.policy)

    def way(self, label: str = "") -> EntryStatus:
        """The way there through a step, the only one if none is named."""
        (step,) = [step for step in self.status.steps() if label in ("", step.label)]
        return step.there

    def pid(self, label: str = "") -> int:
        """The process of a step's program, the only one if none is named."""
        programs = self.datapath.programs
        (pid,) = [p.pid for name, p in programs.items() if label in ("", name)]
        assert pid is not None
        return pid

    def kill(self, number: int, label: str = "") -> None:
        """Send a step's program a signal, and wait until it has stopped or ended."""
        pid = self.pid(label)
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            threads = Path(f"/proc/{pid}/task")
            until(
                lambda: all("\nState:\tT" in (t / "status").read_text() for t in threads.iterdir())
            )
        elif number == signal.SIGKILL:
            until(lambda: pid not in {p.pid for p in self.datapath.programs.values()})

    def restart(self) -> None:
        """Start the programs that do not run."""
        self.nfc.restart()


@contextlib.contextmanager
def line(policy: Policy, **topo: Any) -> Iterator[Running]:
    """A line whose node runs this policy."""
    with Network(Line(**topo)) as net:
        wire = Wire(*(net.node(name) for name in ("left", "node", "right")))
        with NfcNode(wire.node, policy, bpffs=bpffs()) as nfc:
            yield Running(wire, nfc)
