# SPDX-License-Identifier: MIT
"""A node's own packets, at tc egress, for a datapath whose hook does not see them.

The node's ICMP errors may quote a packet that a chain has translated, and the node may be the one
that a flow was sent on to. Both are known to the flow table, and the NF that translated the flow
translates them back: in its tc form, with the state, the counters and the rows of its instance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from testbed.bpf import BpfObject, attach_tc
from testbed.datapath.linked import LinkedDatapath
from testbed.datapath.plan import ChainPlan, Stage
from testbed.paths import BUILD
from testbed.probe import probe

__all__ = ["OwnPackets"]

_OF_CLASSIFIER = ("flows", "rule_counters", "sweeper", "owners", "numbers")
_NOT_OF_STAGE = {"slots", "flows"}


class OwnPackets:
    """What sees a node's own packets, beside a datapath that is built."""

    def __init__(self, datapath: LinkedDatapath) -> None:
        self._datapath = datapath
        self._undo = contextlib.ExitStack()
        try:
            self._build()
        except BaseException:
            self._undo.close()
            raise

    def _open(self, name: str) -> BpfObject:
        bpf = BpfObject(BUILD / f"{name}.tc.bpf.o")
        self._undo.callback(bpf.close)
        return bpf

    def _build(self) -> None:
        plan = self._datapath.plan
        last = self._open("testbed/forward")
        last.share("counters", self._datapath.last.map("counters"))
        last.resize("slots", plan.slots)
        last.load()
        self._slots = last.map("slots")
        self._classifier = self._open("testbed/classifier")
        self._classifier.constants(plan.classifier_constants)
        self._classifier.leave_out("classify")
        self._classifier.share("slots", self._slots)
        for name in _OF_CLASSIFIER:
            self._classifier.share(name, self._datapath.classifier.map(name))
        self._classifier.load()
        for chain in plan.chains:
            for stage in chain.stages:
                if stage.reply_slot:
                    self._link(chain, stage, last)

    def _link(self, chain: ChainPlan, stage: Stage, last: BpfObject) -> None:
        original = self._datapath.stages[stage.label]
        bpf = self._open(f"nfs/{stage.nf.name}")
        bpf.leave_out("nf")
        bpf.constants(stage.constants)
        bpf.share("slots", self._slots)
        bpf.share("flows", self._datapath.classifier.map("flows"))
        for name in set(bpf.map_names) - _NOT_OF_STAGE:
            bpf.share(name, original.map(name))
        bpf.load()
        self._slots.set_program(chain.reply_next, last.program(chain.last_step).fd)
        self._slots.set_program(stage.reply_slot, bpf.program("nf_reply").fd)

    def attach(self, interfaces: Iterable[int]) -> None:
        """Let the node's packets that leave by these interfaces be seen."""
        for ifindex in interfaces:
            link = attach_tc(
                self._classifier.program("classify_out"),
                ifindex,
                tcx=probe("tcx").state == "yes",
                egress=True,
            )
            self._undo.callback(link.close)

    def close(self) -> None:
        """Detach and unload."""
        self._undo.close()
