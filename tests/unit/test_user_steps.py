# SPDX-License-Identifier: MIT
"""Steps into user space, as pure values, and the packet filter's rules that lead there."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.chain import Policy
from testbed.datapath.plan import make_plan
from testbed.datapath.queuerules import iptables_rules, nftables_rules
from testbed.datapath.steps import MARK_OURS, UserStep, user_steps
from testbed.errors import PolicyError

USER, KERNEL, PYTHON = "user", "kernel", "python"
DNAT = {"nf": "dnat", "params": {"rules": [{"to": "10.0.0.9"}]}}


def steps(*places: str, forward: str = "stack", chains: int = 1, **nfqueue: Any) -> list[UserStep]:
    """The steps of chains of pass-through NFs in these places; ``dnat`` is DNAT in user space."""
    nfs = [
        {**DNAT, "place": USER} if place == "dnat" else {"nf": "pass", "place": place}
        for place in places
    ]
    parts = [{"id": n, "forward": forward, "nfs": nfs} for n in range(1, chains + 1)]
    policy = Policy.model_validate({"nfqueue": nfqueue, "chains": parts})
    return list(user_steps(make_plan(policy)))


@pytest.mark.parametrize(
    ("places", "lengths"),
    [
        ((KERNEL, KERNEL), []),
        ((USER, USER, USER), [3]),
        ((USER, KERNEL, USER, USER), [1, 2]),
        ((KERNEL, USER, PYTHON, KERNEL), [2]),
    ],
)
def test_nfs_in_a_row_are_one_step(places: tuple[str, ...], lengths: list[int]) -> None:
    """A packet leaves the kernel once for all NFs in a row, whatever language they are in."""
    found = steps(*places)
    assert [len(step.stages) for step in found] == lengths
    assert [step.python for step in found] == [PYTHON in places for _ in found]


def test_packets_come_back_only_where_the_chain_goes_on() -> None:
    """The last step of a chain that forwards to the stack accepts its packets itself."""
    first, last = steps(USER, KERNEL, USER)
    assert (first.back, last.back) == (True, False)
    assert all(step.back for step in steps(USER, KERNEL, USER, forward="direct"))


def test_an_nf_that_translates_has_an_entry_for_replies() -> None:
    """Replies come to it alone, and go on where replies do."""
    (step,) = steps(USER, "dnat", USER)
    there, back = step.entries
    assert there.stage is None
    assert back.stage is step.stages[1]
    assert (back.slot, back.next_slot) == (back.stage.reply_slot, back.stage.reply_next_slot)
    assert there.next_slot == step.stages[-1].next_slot


def test_entries_and_queues_are_nobody_elses() -> None:
    """Each step of a node has numbers of its own."""
    found = steps("dnat", KERNEL, USER, chains=3, queues=4)
    entries = [entry.number for step in found for entry in step.entries]
    queues = [queue for step in found for queue in step.queues]
    assert entries == list(range(9))
    assert queues == list(range(24))


@pytest.mark.parametrize(
    ("places", "settings", "what"),
    [((USER,), {"chains": 65}, "65 entries"), ((USER,), {"chains": 9, "queues": 16}, "144 queues")],
)
def test_more_than_a_mark_can_tell_apart_is_refused(
    places: tuple[str, ...], settings: dict[str, Any], what: str
) -> None:
    """One message says how many there are and how many are possible."""
    with pytest.raises(PolicyError, match=what):
        steps(*places, **settings)


@pytest.mark.parametrize("write", [iptables_rules, nftables_rules])
def test_every_queue_has_a_rule_and_the_rest_is_dropped(write: Any) -> None:
    """A mark that is ours and names no queue must not let a packet by."""
    found = steps(USER, KERNEL, USER, queues=2)
    text = write(found).lower()
    for queue in range(4):
        mark = MARK_OURS | queue << 16
        assert any(f"{mark:#x}" in row and "queue" in row for row in text.splitlines())
    last_rule = [row for row in text.splitlines() if "drop" in row]
    assert len(last_rule) == 1
    assert text.index("drop") > text.rindex("queue")
