# SPDX-License-Identifier: MIT
"""The `nfqueue` datapath: chains at tc with steps into user space.

The classifier, the NFs that run in the kernel and the last step are those of `tc`. Where NFs run
in user space, ``to_user`` stands in the chain in their place (:mod:`testbed.datapath.steps`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.bpf import BpfObject
from testbed.datapath.carriers import USER
from testbed.datapath.linked import make_folder, pin
from testbed.datapath.plan import ChainPlan, NodePlan, Stage
from testbed.datapath.queuerules import QueueRules
from testbed.datapath.steps import FIRST_QUEUE, MARK_ENTRIES, Entry, UserStep, user_steps
from testbed.datapath.tc import TcDatapath
from testbed.datapath.userprogram import UserProgram
from testbed.datapath.wayback import WAY_BACK, WayBack
from testbed.errors import UnsupportedError
from testbed.paths import BUILD

__all__ = ["NfqueueDatapath"]

_STEP = "testbed/user.tc.bpf.o"
_PYTHON_MAPS = "testbed/python.tc.bpf.o"
_PYTHON_STAGE = BUILD / "user/python.user.so"
_NATIVE_PROGRAM = BUILD / "user/nfqueue"


class NfqueueDatapath(TcDatapath):
    """Chains of one node with NFs in user space; see :class:`LinkedDatapath`.

    :ivar steps: the steps into user space.
    :ivar programs: the program of each step, by the step's label.
    """

    def __init__(self, plan: NodePlan, *, folder: Path, ways: Mapping[int, int], tcx: bool) -> None:
        self.steps = user_steps(plan)
        self.programs: dict[str, UserProgram] = {}
        self._of_stage = {s.label: step for step in self.steps for s in step.stages}
        self._entries: dict[int, BpfObject] = {}
        self.rules: QueueRules | None = None
        super().__init__(plan, folder=folder, ways=ways, tcx=tcx)

    # ------------------------------------------------------------ building

    def _prepare(self, classifier: BpfObject) -> None:
        slots = [0] * MARK_ENTRIES
        for step in self.steps:
            for entry in step.entries:
                slots[entry.number] = entry.next_slot
        classifier.constants({"has_user_steps": 1, "resume_slots": slots})

    def _load_stage(self, stage: Stage) -> BpfObject:
        if stage.carrier != USER:
            return super()._load_stage(stage)
        return self._make_maps(stage)

    def _make_maps(self, stage: Stage) -> BpfObject:
        """Make the maps that the NF has in the kernel too, for its instance in user space."""
        native = f"nfs/{stage.nf.name}.tc.bpf.o"
        bpf = self._open(_PYTHON_MAPS if stage.language == "python" else native)
        for name in bpf.program_names:
            bpf.leave_out(name)
        tables = {} if stage.language == "python" else stage.description.tables(stage.nf.params)
        for name in {"slots", "flows"} & set(bpf.map_names):
            bpf.leave_map_out(name)
        sizes = {"counters": self.plan.policy.nfqueue.queues, "states": self.plan.max_flows + 1}
        sizes |= {name: max(1, len(rows)) for name, rows in tables.items()}
        for name in bpf.map_names:
            bpf.mappable(name)
            bpf.resize(name, sizes[name])
        bpf.load()
        for name, rows in tables.items():
            bpf.map(name).fill(enumerate(rows))
        return bpf

    def _open(self, name: str) -> BpfObject:
        bpf = BpfObject(BUILD / name)
        self._undo.callback(bpf.close)
        return bpf

    def _load_entry(self, step: UserStep, entry: Entry) -> BpfObject:
        settings = self.plan.policy.nfqueue
        bpf = self._open(_STEP)
        bpf.leave_out("from_user")
        bpf.share("slots", self.slots)
        bpf.resize("answered", settings.queues * MARK_ENTRIES)
        if entry is not step.there:
            for name in ("alive", "answered"):
                bpf.share(name, self._entries[step.there.number].map(name))
        bpf.constants(
            {
                "entry": entry.number,
                "first_queue": step.queues.start,
                "n_queues": len(step.queues),
                "next_slot": entry.next_slot,
                "fail_open": int(settings.fail == "open"),
            }
        )
        bpf.load()
        return bpf

    def _link(self, chain: ChainPlan) -> None:
        following = self.last.program(chain.last_step).fd
        self.slots.set_program(chain.reply_next, following)
        for stage in reversed(chain.stages):
            following = self._link_stage(stage, following)
        self.slots.set_program(chain.head, following)

    def _link_stage(self, stage: Stage, following: int) -> int:
        """Fill the slots of a stage; give the program that leads into it."""
        step = self._of_stage.get(stage.label)
        if step is None:
            bpf = self.stages[stage.label]
            self.slots.set_program(stage.next_slot, following)
            if stage.reply_slot:
                self.slots.set_program(stage.reply_slot, bpf.program("nf_reply").fd)
            return bpf.program("nf").fd
        if stage is not step.stages[-1]:
            return following
        for entry in step.entries:
            bpf = self._entries[entry.number] = self._load_entry(step, entry)
            if entry.slot is not None:
                self.slots.set_program(entry.slot, bpf.program("to_user").fd)
        self.slots.set_program(step.next_slot, following)
        return self._entries[step.there.number].program("to_user").fd

    def _pin(self) -> None:
        super()._pin()
        for step in self.steps:
            for entry in step.entries:
                folder = self.folder / "user" / str(entry.number)
                make_folder(folder, self._undo)
                bpf = self._entries[entry.number]
                for name in ("counters", "answered", "alive"):
                    pin(bpf.map(name), folder / name, self._undo)
                pin(bpf.program("to_user"), folder / "to_user", self._undo)

    # ------------------------------------------------------------ running

    def attach(self, interfaces: Mapping[str, int]) -> None:
        """Start the programs, then let the interfaces' packets enter the chains."""
        if any(step.back for step in self.steps):
            back = self._open(_STEP)
            back.leave_out("to_user")
            for name in set(back.map_names):
                back.leave_map_out(name)
            back.load()
            self._undo.callback(WayBack(back.program("from_user"), tcx=self.tcx).close)
        for step in self.steps:
            argv, descriptors = self._call(step)
            program = self.programs[step.label] = UserProgram(argv, descriptors)
            self._undo.callback(program.close)
        self.restart()
        self.rules = QueueRules(self.steps)
        self._undo.callback(self.rules.close)
        super().attach(interfaces)

    def restart(self) -> None:
        """Start the programs that do not run; their NFs go on with the state they had."""
        for program in self.programs.values():
            program.start()

    def _call(self, step: UserStep) -> tuple[list[str], list[int]]:
        """How a step's program is called, and the maps that it inherits."""
        settings = self.plan.policy.nfqueue
        entry = self._entries[step.there.number]
        maps = {name: entry.map(name).fd for name in ("alive", "answered")}
        if any(stage.reply_slot for stage in step.stages):
            maps["flows"] = self.classifier.map("flows").fd
        options = [
            f"queue={FIRST_QUEUE + step.queues.start}",
            f"queues={len(step.queues)}",
            f"length={settings.length}",
            f"batch={settings.batch}",
            f"gso={int(settings.gso)}",
            *(f"{name}={fd}" for name, fd in maps.items()),
            *([f"back={WAY_BACK}"] if step.back else []),
        ]
        descriptors = list(maps.values())
        for stage in step.stages:
            words, more = self._stage_options(stage)
            options += words
            descriptors += more
        options += [_entry_option(step, entry) for entry in step.entries]
        if not step.python:
            return [str(_NATIVE_PROGRAM), *options], descriptors
        nfs = json.dumps([_for_python(stage) for stage in step.stages])
        return [sys.executable, "-m", "testbed.user", nfs, *options], descriptors

    def _stage_options(self, stage: Stage) -> tuple[list[str], list[int]]:
        python = stage.language == "python"
        library = _PYTHON_STAGE if python else BUILD / f"nfs/{stage.nf.name}.user.so"
        if not library.exists():
            raise UnsupportedError(f"{library} is not there: run `make build`")
        bpf = self.stages[stage.label]
        maps = {name: bpf.map(name).fd for name in bpf.map_names}
        constants = {} if python else stage.description.rodata(stage.nf.params)
        options = [f"stage={library}"]
        options += [f"param:{name}={value}" for name, value in constants.items()]
        options += [f"table:{name}={fd}" for name, fd in maps.items()]
        if stage.reply_slot:
            options.append(f"reply_slot={stage.reply_slot}")
        return options, list(maps.values())

    def describe(self) -> dict[str, Any]:
        """What runs, the user-space programs among it."""
        return {
            **super().describe(),
            "datapath": USER,
            "queue_rules": self.rules.tool if self.rules else None,
            "steps": [
                {
                    "nfs": [stage.label for stage in step.stages],
                    "pid": self.programs[step.label].pid if self.programs else None,
                    "queues": [FIRST_QUEUE + queue for queue in step.queues],
                    "language": "python" if step.python else "native",
                }
                for step in self.steps
            ],
        }


def _entry_option(step: UserStep, entry: Entry) -> str:
    first, last = 0, len(step.stages) - 1
    if entry.stage is not None:
        first = last = step.stages.index(entry.stage)
    return f"entry={entry.number}:{first}:{last}:{int(entry.stage is not None)}:{int(entry.back)}"


def _for_python(stage: Stage) -> dict[str, Any] | None:
    """What the Python program has to know of an NF that it runs."""
    if stage.language != "python":
        return None
    return {
        "name": stage.nf.name,
        "params": stage.description.check(stage.nf.params),
        "reasons": [reason.name for reason in stage.description.drop_reasons],
        "counters": [counter.name for counter in stage.description.counters],
    }
