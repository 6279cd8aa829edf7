# SPDX-License-Identifier: MIT
"""The `tc` datapath: linked programs at tcx or clsact ingress of a node's interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from testbed.bpf import BpfObject, Link, TcFilter, attach_tc
from testbed.datapath.linked import LinkedDatapath, make_folder, pin
from testbed.datapath.plan import NodePlan
from testbed.datapath.ways import ways_out
from testbed.probe import probe

__all__ = ["TcDatapath"]


class TcDatapath(LinkedDatapath):
    """Chains of one node at tc; see :class:`LinkedDatapath`.

    :param tcx: whether the kernel has tcx links.
    """

    name = "tc"

    def __init__(self, plan: NodePlan, *, folder: Path, ways: Mapping[int, int], tcx: bool) -> None:
        self.tcx = tcx
        self.links: dict[str, Link | TcFilter] = {}
        super().__init__(plan, folder=folder, ways=ways)

    @classmethod
    def open(cls, plan: NodePlan, *, folder: Path) -> Self:
        """Build it for the node in whose namespace this is called."""
        return cls(plan, folder=folder, ways=ways_out(), tcx=probe("tcx").state == "yes")

    def refresh(self) -> None:
        """Look again which interfaces have a queue."""
        self.set_ways(ways_out(own=self.plan.translates))

    def _prepare(self, classifier: BpfObject) -> None:
        """Nothing comes back from user space here."""
        classifier.leave_map_out("resumes")

    def attach(self, interfaces: Mapping[str, int]) -> None:
        """Let the interfaces' packets enter the chains: name to index."""
        make_folder(self.folder / "links", self._undo)
        for name, ifindex in interfaces.items():
            self._attach(name, "classify", ifindex)
            if self.plan.translates:
                self._attach(f"{name}-out", "classify_out", ifindex, egress=True)
        self.interfaces = tuple(sorted(interfaces))

    def _attach(self, name: str, program: str, ifindex: int, *, egress: bool = False) -> None:
        link = attach_tc(self.classifier.program(program), ifindex, tcx=self.tcx, egress=egress)
        self._undo.callback(link.close)
        if isinstance(link, Link):
            pin(link, self.folder / "links" / name, self._undo)
        self.links[name] = link

    @property
    def hook(self) -> str:
        """Where packets enter: ``tcx ingress`` or ``clsact ingress``."""
        return f"{'tcx' if self.tcx else 'clsact'} ingress"
