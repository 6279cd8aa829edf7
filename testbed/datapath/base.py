# SPDX-License-Identifier: MIT
"""What every datapath offers to the node that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from testbed.bpf import BpfObject
from testbed.datapath.plan import NodePlan

__all__ = ["Datapath"]


class Datapath(Protocol):
    """Chains of one node, built when the object is made, running from ``attach`` to ``close``.

    All calls are made from within the node's network namespace. What it pins lies in ``folder``,
    where :class:`testbed.datapath.status.NodeStatus` and ``nfcbed explain`` look for it::

        classifier/   rule_counters, flows, …    forward/   counters, slots, …
        chains/<stage label>/   counters, states, …

    :ivar classifier: object with the program ``classify``; a chain's run time is counted there.
    :ivar last: object with the last steps.
    :ivar stages: one object an NF instance, by the stage's label.
    :ivar interfaces: where packets enter, once attached.
    """

    plan: NodePlan
    folder: Path
    classifier: BpfObject
    last: BpfObject
    stages: dict[str, BpfObject]
    interfaces: tuple[str, ...]

    @property
    def hook(self) -> str:
        """Where packets enter, such as ``tcx ingress``."""

    def attach(self, interfaces: Mapping[str, int]) -> None:
        """Let the interfaces' packets enter the chains: name to index."""

    def refresh(self) -> None:
        """Look again at what may have changed about the interfaces, such as their queues."""

    def describe(self) -> dict[str, Any]:
        """What runs, as plain JSON values: enough to find the pins of everything."""

    def close(self) -> None:
        """Detach, unpin and unload everything, last-first."""
