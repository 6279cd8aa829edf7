# SPDX-License-Identifier: MIT
"""Counters and state of a node's chains, read from the pinned maps of a running testbed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.bpf import Map
from testbed.datapath.linked import HANDED_OVER, SPECIALS
from testbed.datapath.plan import ChainPlan, NodePlan, Stage
from testbed.datapath.steps import user_steps
from testbed.datapath.stepstatus import StepStatus, read_step

__all__ = ["Count", "NodeStatus", "StageStatus"]


@dataclass(frozen=True, kw_only=True)
class Count:
    """Packets on the wire (a merged packet counts as those it stands for) and their IP bytes."""

    packets: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """What one NF instance saw.

    :ivar seen: what entered the chain, or came to the program in user space, less what was dropped
        before this NF. Read one after the other, the counters can differ by the packets of a
        moment while traffic flows.
    :ivar dropped: by reason.
    :ivar replies_dropped: by reason, of packets on the way back, which enter no chain.
    :ivar missed: packets that found no next program, which must not happen; they were dropped.
    :ivar counters: the NF's own, by name.
    """

    label: str
    name: str
    seen: Count
    dropped: dict[str, int]
    replies_dropped: dict[str, int]
    missed: int
    counters: dict[str, int]

    @property
    def accepted(self) -> int:
        """Packets that went on to the next stage."""
        return self.seen.packets - sum(self.dropped.values())


class NodeStatus:
    """Reads a node's pinned maps.

    :param folder: the node's folder of pins, also seen through ``/proc/<pid>/root``.
    """

    def __init__(self, plan: NodePlan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder

    @contextmanager
    def _map(self, *path: str) -> Iterator[Map]:
        pinned = Map.from_pin(self.folder.joinpath(*path))
        try:
            yield pinned
        finally:
            pinned.close()

    def rules(self) -> list[Count]:
        """One count a flow rule, in first-match order."""
        with self._map("classifier", "rule_counters") as counters:
            return [Count(**counters.total(order)) for order in range(self.plan.n_rules)]

    def specials(self) -> dict[str, Count]:
        """Packets that no rule took, by what became of them (``SPECIALS``)."""
        with self._map("classifier", "rule_counters") as counters:
            return {
                name: Count(**counters.total(self.plan.n_rules + index))
                for index, name in enumerate(SPECIALS)
            }

    def entered(self, chain: ChainPlan) -> Count:
        """What the classifier gave to a chain."""
        counts = self.rules()
        ordered = self.plan.policy.ordered_rules()
        mine = [
            count
            for count, (owner, _) in zip(counts, ordered, strict=True)
            if owner.id == chain.chain.id
        ]
        return Count(packets=sum(c.packets for c in mine), bytes=sum(c.bytes for c in mine))

    def _stage(self, stage: Stage, seen: Count) -> tuple[StageStatus, Count]:
        """Counters of one NF instance, and what it passed on."""
        with self._map("chains", stage.label, "counters") as counters:
            total = counters.grand_total()

        def by_reason(counts: list[int]) -> dict[str, int]:
            return {r.name: n for r, n in zip(stage.description.drop_reasons, counts, strict=False)}

        extra = zip(stage.description.counters, total["extra"], strict=False)
        status = StageStatus(
            label=stage.label,
            name=stage.nf.name,
            seen=seen,
            dropped=by_reason(total["dropped"]),
            replies_dropped=by_reason(total["replies_dropped"]),
            missed=total["missed"] + total["replies_missed"],
            counters={counter.name: n for counter, n in extra},
        )
        gone = sum(total["dropped"]) + total["missed"]
        passed_on = Count(packets=seen.packets - gone, bytes=seen.bytes - total["dropped_bytes"])
        return status, passed_on

    def steps(self) -> list[StepStatus]:
        """What became of the packets that went to user space, step by step."""
        return [read_step(self.folder, step) for step in user_steps(self.plan)]

    def lost_in_user_space(self) -> dict[str, int]:
        """Packets that went to user space and did not come out, dropped by no NF; by step."""
        return {f"user space, {', '.join(s.nfs)}": s.lost for s in self.steps()}

    def stages(self) -> list[StageStatus]:
        """Counters of all NF instances, chain by chain."""
        found = []
        steps = self.steps()
        enter, leave = ({step.nfs[end]: step.there for step in steps} for end in (0, -1))
        for chain in self.plan.chains:
            here = self.entered(chain)
            for stage in chain.stages:
                if way := enter.get(stage.label):
                    here = Count(packets=way.arrived, bytes=way.arrived_bytes)
                status, here = self._stage(stage, here)
                found.append(status)
                if way := leave.get(stage.label):
                    here = Count(
                        packets=way.returned + way.passed_over,
                        bytes=way.returned_bytes + way.passed_over_bytes,
                    )
        return found

    def forwarded(self) -> tuple[Count, dict[str, int]]:
        """What the last steps got, and why ``direct`` handed packets to the kernel after all.

        A step into user space that ends its chain accepts its packets itself.
        """
        with self._map("forward", "counters") as counters:
            total = counters.total(0)
        handed = dict(zip(HANDED_OVER, total["handed"], strict=True))
        accepted = [way for step in self.steps() for way in step.accepting]
        return Count(
            packets=total["packets"] + sum(way.returned for way in accepted),
            bytes=total["bytes"] + sum(way.returned_bytes for way in accepted),
        ), handed

    def flows(self) -> list[tuple[dict[str, int], dict[str, Any]]]:
        """The flow table: 5-tuple (numbers, host byte order) and entry."""
        with self._map("classifier", "flows") as flows:
            return list(flows.items())

    def state(self, stage: Stage, number: int) -> dict[str, int] | None:
        """What an NF keeps for the flow of this number."""
        with self._map("chains", stage.label, "states") as states:
            found: dict[str, int] | None = states.get(number)
            return found
