# SPDX-License-Identifier: MIT
"""Steps into user space, as pure values: which NFs run in which program, and what marks lead there.

Consecutive NFs of a chain that run in user space form one *step*: the packet leaves the kernel
once for all of them. A step has a program of its own, so that its end is nobody else's. It has an
*entry* for the way there, and one more for each NF that translates, by which that NF gets the
replies; the entry's number stands in the packet's mark (testbed/bpf/tag.h).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from testbed.datapath.carriers import USER
from testbed.datapath.plan import ChainPlan, NodePlan, Stage
from testbed.errors import PolicyError

__all__ = ["FIRST_QUEUE", "MARK_ENTRIES", "MARK_OURS", "Entry", "UserStep", "user_steps"]

MARK_OURS = 0x8000_0000
"""In the mark of a packet that is on its way to user space or back (TAG_OURS)."""

MARK_ENTRIES, MARK_QUEUES, MARK_QUEUE_SHIFT = 64, 128, 16
FIRST_QUEUE = 0x4E46
"""NFQUEUE number of a node's first queue: ``NF``."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A way into a step.

    :ivar number: in the mark.
    :ivar stage: for replies: the NF that gets them; None: the way there, through all of them.
    :ivar slot: the slot of the program array that holds this entry's ``to_user``; of the way
        there None, since it is the slot of the pointer before.
    :ivar next_slot: where the chain goes on.
    :ivar back: whether the packet has to come back to the chain; else it is accepted.
    """

    number: int
    stage: Stage | None
    slot: int | None
    next_slot: int
    back: bool


@dataclass(frozen=True, kw_only=True)
class UserStep:
    """Consecutive NFs of a chain in user space.

    :ivar label: ``<chain id>/<position of the first NF>``; also its folder of pins.
    :ivar queues: the node's indices of its queues.
    :ivar python: whether its program is the one in Python, since one of its NFs is.
    """

    label: str
    stages: tuple[Stage, ...]
    entries: tuple[Entry, ...]
    queues: range
    python: bool

    @property
    def back(self) -> bool:
        """Whether packets come back to the chain."""
        return any(entry.back for entry in self.entries)

    @property
    def there(self) -> Entry:
        """The entry for the way there."""
        return self.entries[0]

    @property
    def replies(self) -> tuple[Entry, ...]:
        """The entries for replies."""
        return self.entries[1:]

    @property
    def next_slot(self) -> int:
        """The slot of the pointer behind it."""
        return self.stages[-1].next_slot

    def mark(self, queue: int) -> tuple[int, int]:
        """What the mark of packets for one of its queues is, and which of its bits say so."""
        return (
            MARK_OURS | queue << MARK_QUEUE_SHIFT,
            MARK_OURS | (MARK_QUEUES - 1) << MARK_QUEUE_SHIFT,
        )


def _groups(chain: ChainPlan) -> Iterator[tuple[int, tuple[Stage, ...]]]:
    """Runs of NFs in user space, with the position of the first."""
    run: list[Stage] = []
    for position, stage in enumerate(chain.stages):
        if stage.carrier == USER:
            run.append(stage)
        elif run:
            yield position - len(run), tuple(run)
            run = []
    if run:
        yield len(chain.stages) - len(run), tuple(run)


def _entries(chain: ChainPlan, stages: tuple[Stage, ...], first: int) -> Iterator[Entry]:
    direct = chain.chain.forward == "direct"
    yield Entry(
        number=first,
        stage=None,
        slot=None,
        next_slot=stages[-1].next_slot,
        back=direct or stages[-1] is not chain.stages[-1],
    )
    translating = [stage for stage in stages if stage.reply_slot]
    for number, stage in enumerate(translating, first + 1):
        yield Entry(
            number=number,
            stage=stage,
            slot=stage.reply_slot,
            next_slot=stage.reply_next_slot,
            back=direct,
        )


def user_steps(plan: NodePlan) -> tuple[UserStep, ...]:
    """Find the steps into user space of a node's chains.

    :raises PolicyError: there are more than a packet's mark can tell apart.
    """
    found: list[UserStep] = []
    entry = queue = 0
    for chain in plan.chains:
        for position, stages in _groups(chain):
            entries = tuple(_entries(chain, stages, entry))
            queues = range(queue, queue + plan.policy.nfqueue.queues)
            entry, queue = entry + len(entries), queues.stop
            found.append(
                UserStep(
                    label=f"{chain.chain.id}/{position}",
                    stages=stages,
                    entries=entries,
                    queues=queues,
                    python=any(stage.language == "python" for stage in stages),
                )
            )
    for what, used, most in (("entries", entry, MARK_ENTRIES), ("queues", queue, MARK_QUEUES)):
        if used > most:
            raise PolicyError(
                f"the chains' steps into user space need {used} {what}, at most {most} are possible"
            )
    return tuple(found)
