# SPDX-License-Identifier: MIT
"""What became of the packets that a step sent to user space: the step's own counters, in order.

Every packet that entered is in one of the counts, so that a loss shows where it happened. While
packets are on their way the counts lag behind each other, and ``lost`` holds what waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.bpf import Map
from testbed.datapath.steps import MARK_ENTRIES, Entry, UserStep

__all__ = ["EntryStatus", "StepStatus", "read_step"]


@dataclass(frozen=True, kw_only=True)
class EntryStatus:
    """The packets of one way through a step, on the wire, and the IP bytes of some.

    :ivar reply_of: label of the NF whose replies these are; None: the way there.
    :ivar back: whether its packets come back to the chain; else the program accepts them.
    :ivar sent: given to the queue.
    :ivar lost: of these, what never came to the program: the queue was full, or it died.
    :ivar arrived: came to the program.
    :ivar failed: dropped by the program, because an NF in Python raised an error or the way back
        was shut.
    :ivar returned: what came out of the step: accepted by the program, or come back to the chain.
    :ivar lost_back: sent back, but not come back.
    :ivar refused: dropped while the program was dead (``fail: closed``).
    :ivar passed_over: passed the NFs over while the program was dead (``fail: open``).
    :ivar missed: dropped, since the chain went on nowhere, which must not happen.
    :ivar own: the node's own packets, which the NFs do not see.
    """

    reply_of: str | None
    back: bool
    sent: int
    lost: int
    arrived: int
    arrived_bytes: int
    failed: int
    returned: int
    returned_bytes: int
    lost_back: int
    refused: int
    passed_over: int
    passed_over_bytes: int
    missed: int
    own: int


@dataclass(frozen=True, kw_only=True)
class StepStatus:
    """A step's packets: the way there, and the replies of each NF that translates."""

    label: str
    nfs: tuple[str, ...]
    there: EntryStatus
    replies: tuple[EntryStatus, ...]

    @property
    def lost(self) -> int:
        """Packets that no NF dropped, and that did not come out."""
        return sum(w.lost + w.failed + w.lost_back + w.refused + w.missed for w in self.ways)

    @property
    def ways(self) -> tuple[EntryStatus, ...]:
        """All of its ways."""
        return (self.there, *self.replies)

    @property
    def accepting(self) -> list[EntryStatus]:
        """The ways that end here: the program hands their packets to the kernel's routing."""
        return [way for way in self.ways if not way.back]


def read_step(folder: Path, step: UserStep) -> StepStatus:
    """Read a step's counters, those nearest to the end first."""
    there, *replies = (_entry(folder, step, entry) for entry in step.entries)
    return StepStatus(
        label=step.label,
        nfs=tuple(stage.label for stage in step.stages),
        there=there,
        replies=tuple(replies),
    )


def _total(path: Path, key: int) -> dict[str, int]:
    pinned = Map.from_pin(path)
    try:
        found: dict[str, int] = pinned.total(key)
        return found
    finally:
        pinned.close()


def _answered(path: Path, step: UserStep, entry: Entry) -> Mapping[str, int]:
    """The program's counts, one row a thread."""
    pinned = Map.from_pin(path)
    try:
        rows: list[Any] = [
            pinned.get(thread * MARK_ENTRIES + entry.number) for thread in range(len(step.queues))
        ]
    finally:
        pinned.close()
    return {name: sum(row[name] for row in rows) for name in rows[0]}


def _entry(folder: Path, step: UserStep, entry: Entry) -> EntryStatus:
    pins = folder / "user" / str(entry.number)
    resumed = _total(folder / "classifier" / "resumes", entry.number)
    answered = _answered(pins / "answered", step, entry)
    sent = _total(pins / "counters", 0)
    out, out_bytes = answered["accepted"], answered["accepted_bytes"]
    if entry.back:
        out, out_bytes = resumed["packets"], resumed["bytes"]
    return EntryStatus(
        reply_of=entry.stage.label if entry.stage else None,
        back=entry.back,
        sent=sent["sent"],
        lost=sent["sent"] - answered["arrived"],
        arrived=answered["arrived"],
        arrived_bytes=answered["arrived_bytes"],
        failed=answered["failed"],
        returned=out - resumed["missed"],
        returned_bytes=out_bytes,
        lost_back=answered["returned"] - resumed["packets"],
        refused=sent["refused"],
        passed_over=sent["passed_over"],
        passed_over_bytes=sent["passed_over_bytes"],
        missed=sent["missed"] + resumed["missed"],
        own=sent["own"],
    )
