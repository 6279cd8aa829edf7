# SPDX-License-Identifier: MIT
"""A node of a testbed that runs in another process, looked at through its pins.

What is told here is read from the kernel's objects: the chain is walked as a packet walks it,
from slot to slot of the live program array.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.bpf import Map, Program
from testbed.chain import MAX_CHAIN_LENGTH, FiveTuple
from testbed.datapath.carriers import USER
from testbed.datapath.plan import ChainPlan, NodePlan, make_plan
from testbed.datapath.status import NodeStatus
from testbed.datapath.steps import user_steps
from testbed.errors import RunError, UserError
from testbed.policy import parse_policy
from testbed.runs import RunInfo, list_runs

__all__ = ["LiveNode", "find_node"]

_TO_WIRE = "forward/to_wire"
PACKET_NO_PORTS = 1 << 4  # enum packet_flags in nfs/include/packet.h


@dataclass(frozen=True)
class LiveNode:
    """One NFC node of a running testbed.

    :ivar hook: such as ``tcx ingress``.
    :ivar interfaces: where packets enter its chains.
    :ivar folder: its pins, as seen from here.
    """

    run_id: str
    name: str
    hook: str
    interfaces: tuple[str, ...]
    plan: NodePlan
    folder: Path

    @property
    def status(self) -> NodeStatus:
        """Its counters and state."""
        return NodeStatus(self.plan, self.folder)

    def programs(self) -> dict[int, str]:
        """Kernel ids of its pinned programs, and their pins' places in the folder."""
        found = {}
        places = ["classifier/classify", "forward/to_stack", _TO_WIRE]
        for chain in self.plan.chains:
            places += self._places(chain)
        for stage in self.plan.stages():
            if stage.reply_slot and stage.carrier != USER:
                places.append(f"chains/{stage.label}/nf_reply")
        for place in places:
            if place == _TO_WIRE and not (self.folder / place).exists():
                continue  # a datapath that does not forward has no such step
            program = Program.from_pin(self.folder / place)
            try:
                found[program.id] = place
            finally:
                os.close(program.fd)
        return found

    def walk(self, chain: ChainPlan) -> Iterator[tuple[int, str]]:
        """Follow a chain's pointers from its head: kernel id and place of each program.

        :raises RunError: the pointers do not lead along the policy's NFs to its last step.
        """
        found = list(self._follow(chain))
        wanted = [*self._places(chain), f"forward/{chain.last_step}"]
        if [place for _, place in found] != wanted:
            there = " → ".join(place for _, place in found)
            raise RunError(
                f"chain {chain.chain.id} of {self.name} in the kernel is not the policy's: {there}"
            )
        yield from found

    def _places(self, chain: ChainPlan) -> dict[str, int]:
        """Programs of a chain, by their pins' places, and the slot of the pointer behind each.

        NFs in user space have one program together, which sends packets there.
        """
        steps = {stage.label: step for step in user_steps(self.plan) for stage in step.stages}
        found = {}
        for stage in chain.stages:
            if step := steps.get(stage.label):
                found[f"user/{step.there.number}/to_user"] = step.next_slot
            else:
                found[f"chains/{stage.label}/nf"] = stage.next_slot
        return found

    def _follow(self, chain: ChainPlan) -> Iterator[tuple[int, str]]:
        known = self.programs()
        next_slots = self._places(chain)
        slots = Map.from_pin(self.folder / "forward" / "slots")
        try:
            slot: int | None = chain.head
            for _ in range(MAX_CHAIN_LENGTH + 1):
                if slot is None:
                    return
                program_id = slots.get(slot)
                if program_id not in known:
                    raise RunError(f"slot {slot} of {self.name} leads nowhere known")
                place = known[program_id]
                yield program_id, place
                slot = next_slots.get(place)
        finally:
            slots.close()

    def flow(self, packet: FiveTuple) -> dict[str, Any] | None:
        """The flow table's entry of this 5-tuple, or None."""
        flows = Map.from_pin(self.folder / "classifier" / "flows")
        try:
            no_ports = 0 if packet.has_ports else PACKET_NO_PORTS
            key = {**packet.key()._asdict(), "info": no_ports}
            entry: dict[str, Any] | None = flows.get(key)
            return entry
        finally:
            flows.close()


def _live_node(run: RunInfo, name: str) -> LiveNode:
    facts = run.facts["nfc"][name]
    plan = make_plan(parse_policy(facts["policy"]))
    folder = run.root / str(facts["folder"]).lstrip("/")
    return LiveNode(
        run_id=run.run_id,
        name=name,
        hook=facts["hook"],
        interfaces=tuple(facts["interfaces"]),
        plan=plan,
        folder=folder,
    )


def find_node(*, run_id: str | None = None, name: str | None = None) -> LiveNode:
    """The NFC node that is meant; the only one that runs where nothing is said.

    :raises UserError: none runs, or several do and it is not said which.
    """
    candidates = [
        (run, node)
        for run in list_runs()
        if run.alive and run_id in (None, run.run_id)
        for node in run.facts.get("nfc", {})
        if name in (None, node)
    ]
    if not candidates:
        wanted = f" {name}" if name else ""
        raise UserError(
            f"no NFC node{wanted} is running: start one with `nfcbed shell`, or ask about a file"
            " with --policy"
        )
    if len(candidates) > 1:
        names = ", ".join(f"{node} of run {run.run_id}" for run, node in candidates)
        raise UserError(f"several NFC nodes run ({names}): say which with --run and --node")
    return _live_node(*candidates[0])
