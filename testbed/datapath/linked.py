# SPDX-License-Identifier: MIT
"""Chains as linked eBPF programs: what the datapaths share whose programs follow each other.

Everything is built, filled and pinned beside the traffic first; the chains take effect when the
classifier is attached, interface by interface, as the last step.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from testbed.bpf import BpfObject, Map
from testbed.datapath.plan import ChainPlan, NodePlan, Stage
from testbed.errors import RunError
from testbed.paths import BUILD
from testbed.policy import dump_policy

__all__ = [
    "HANDED_OVER",
    "SPECIALS",
    "WAY_PEER",
    "WAY_QUEUE",
    "LinkedDatapath",
    "make_folder",
    "pin",
]

SPECIALS = ("unmatched", "left_alone", "replies", "table_full", "missed")
"""Counters behind those of the rules, in order (enum special in testbed/bpf/classify.h)."""

HANDED_OVER = ("ttl", "options", "route", "neighbour", "too_long", "queue")
"""Why the last step ``to_wire`` gave a packet to the kernel (enum handed_over in count_last.h)."""

WAY_QUEUE, WAY_PEER = 0, 1  # enum way in last.h


class LinkedDatapath(ABC):
    """Chains of one node, running while this object is open.

    :param plan: what to build.
    :param folder: folder in a bpffs, for this node alone; made here.
    :param ways: interface index to how to leave by it: ``WAY_PEER`` or ``WAY_QUEUE``.

    All calls are made from within the node's network namespace.
    """

    name: ClassVar[str]
    """As in a policy, and in the names of the objects."""

    shared: ClassVar[tuple[str, ...]] = ("slots",)
    """Maps of the last step's object that all programs of the node share."""

    def __init__(self, plan: NodePlan, *, folder: Path, ways: Mapping[int, int]) -> None:
        self.plan = plan
        self.folder = folder
        self.interfaces: tuple[str, ...] = ()
        self.stages: dict[str, BpfObject] = {}
        self._undo = contextlib.ExitStack()
        try:
            self._build(ways)
        except BaseException:
            self._undo.close()
            raise

    @property
    @abstractmethod
    def hook(self) -> str:
        """Where packets enter, such as ``tcx ingress``."""

    @abstractmethod
    def attach(self, interfaces: Mapping[str, int]) -> None:
        """Let the interfaces' packets enter the chains: name to index."""

    @abstractmethod
    def refresh(self) -> None:
        """Look again how to leave by each interface; call it after a queue came or went."""

    def _object(self, name: str) -> BpfObject:
        """The object of this name for this datapath, to be closed at the end."""
        bpf = BpfObject(BUILD / f"{name}.{self.name}.bpf.o")
        self._undo.callback(bpf.close)
        return bpf

    def _build(self, ways: Mapping[int, int]) -> None:
        self.last = self._object("testbed/forward")
        self.last.resize("slots", self.plan.slots)
        self.last.load()
        self.slots = self.last.map("slots")
        self.set_ways(ways)
        self.classifier = self._load_classifier()
        self._fill_classifier()
        for chain in self.plan.chains:
            for stage in chain.stages:
                self.stages[stage.label] = self._load_stage(stage)
            self._link(chain)
        self._pin()

    def _load_classifier(self) -> BpfObject:
        bpf = self._object("testbed/classifier")
        self._share(bpf)
        bpf.constants(self.plan.classifier_constants)
        self._leave_out(bpf)
        self._prepare(bpf)
        bpf.resize("rules", max(1, self.plan.n_rules))
        bpf.resize("rule_counters", self.plan.n_rules + len(SPECIALS))
        bpf.resize("flows", 2 * self.plan.max_flows)  # both directions
        bpf.resize("numbers", self.plan.max_flows)
        bpf.resize("owners", self.plan.max_flows + 1)
        bpf.load()
        return bpf

    def _share(self, bpf: BpfObject) -> None:
        for name in self.shared:
            bpf.share(name, self.last.map(name))

    def _leave_out(self, classifier: BpfObject) -> None:
        """Leave what this node does not need out of the classifier's object."""
        if not self.plan.translates:
            for name in {"classify_out"} & set(classifier.program_names):
                classifier.leave_out(name)

    def _prepare(self, classifier: BpfObject) -> None:  # noqa: B027 - most need nothing
        """Set what else a datapath's classifier needs, before it is loaded."""

    def _fill_classifier(self) -> None:
        self.classifier.map("rules").fill(self.plan.rules())

    def _load_stage(self, stage: Stage) -> BpfObject:
        bpf = self._object(f"nfs/{stage.nf.name}")
        self._share(bpf)
        if "flows" in bpf.map_names:
            bpf.share("flows", self.classifier.map("flows"))
        if "states" in bpf.map_names:
            bpf.resize("states", self.plan.max_flows + 1)
        for name, entries in stage.description.map_sizes(stage.nf.params).items():
            bpf.resize(name, entries)
        tables = stage.description.tables(stage.nf.params)
        for name, rows in tables.items():
            bpf.resize(name, max(1, len(rows)))
        bpf.constants(stage.constants)
        bpf.load()
        for name, rows in tables.items():
            bpf.map(name).fill(enumerate(rows))
        return bpf

    def _link(self, chain: ChainPlan) -> None:
        """Fill the chain's slots, the last one first: nothing points to what is not there yet."""
        following = self.last.program(chain.last_step).fd
        self.slots.set_program(chain.reply_next, following)
        for stage in reversed(chain.stages):
            bpf = self.stages[stage.label]
            self.slots.set_program(stage.next_slot, following)
            if stage.reply_slot:
                self.slots.set_program(stage.reply_slot, bpf.program("nf_reply").fd)
            following = bpf.program("nf").fd
        self.slots.set_program(chain.head, following)

    def _pin(self) -> None:
        """Name everything under the node's folder, so that it can be looked at from outside."""
        self._pin_object(self.last, self.folder / "forward")
        self._pin_object(self.classifier, self.folder / "classifier")
        for label, bpf in self.stages.items():
            self._pin_object(bpf, self.folder / "chains" / label)

    def _pin_object(self, bpf: BpfObject, folder: Path) -> None:
        make_folder(folder, self._undo)
        for name in bpf.map_names:
            pin(bpf.map(name), folder / name, self._undo)
        for name in bpf.program_names:
            pin(bpf.program(name), folder / name, self._undo)

    def set_ways(self, ways: Mapping[int, int]) -> None:
        """Say how to leave by each interface (forward: direct)."""
        table = self.last.map("ways")
        for ifindex, way in ways.items():
            table.set(ifindex, way)

    def map(self, label: str, name: str) -> Map:
        """A map of a stage, by the stage's label. Raises KeyError."""
        return self.stages[label].map(name)

    def describe(self) -> dict[str, Any]:
        """What runs, as plain JSON values: enough to find the pins of everything."""
        return {
            "datapath": self.name,
            "hook": self.hook,
            "interfaces": list(self.interfaces),
            "folder": str(self.folder),
            "policy": dump_policy(self.plan.policy),
        }

    def close(self) -> None:
        """Detach, unpin and unload everything, last-first."""
        self._undo.close()


def pin(thing: Any, path: Path, undo: contextlib.ExitStack) -> None:
    """Name a map, program or link in a bpffs until ``undo`` is closed."""
    thing.pin(path)
    undo.callback(path.unlink, missing_ok=True)


def make_folder(folder: Path, undo: contextlib.ExitStack) -> None:
    """Make a folder and its missing parents, each to be removed again."""
    if folder.exists():
        return
    make_folder(folder.parent, undo)
    try:
        folder.mkdir()
    except OSError as error:
        raise RunError(f"cannot make the folder {folder}: {error.strerror}") from None
    undo.callback(_remove_folder, folder)


def _remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
