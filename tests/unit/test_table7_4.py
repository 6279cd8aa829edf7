# SPDX-License-Identifier: MIT
"""Table 7.4 as values: the ledger, the ratio, what limits a run, and what is asked of a policy."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from experiments._carried import (
    AIM,
    PUBLISHED_MBPS,
    PUBLISHED_RATIO,
    RATE_MBPS,
    SIDES,
    Carried,
    Ledger,
    Side,
    compared,
    judge,
    limits,
    means,
    order,
    ratio_of,
    total,
    validity,
)
from experiments._way import flows_of
from experiments.table7_4 import EXPERIMENT, MTUS, prepare
from testbed.errors import UserError
from testbed.experiment.catalogue import load_experiment
from testbed.experiment.iperf import BLOCK_BYTES, Sent
from testbed.experiment.runner import Options
from testbed.policy import load_policy, parse_policy
from topologies import load_topologies

assert EXPERIMENT.policy is not None
POLICY_FILE = EXPERIMENT.policy
COUNTING = load_policy(POLICY_FILE)
PACKETS = 139_696  # of 8,948 bytes: 1 Gbit/s for 10 s
FLOWS = flows_of("nfc", 9000)


def run(side: Side = "routing", repeat: int = 1, **changes: Any) -> Carried:
    """A run in which nothing was lost, with changes."""
    seconds = PACKETS * FLOWS[0].block_bytes * 8e-6 / RATE_MBPS
    report = Sent(
        port=1, seconds=seconds, payload_bytes=PACKETS * FLOWS[0].block_bytes, packets=PACKETS
    )
    each = {flow.name: PACKETS + 1 for flow in FLOWS}
    fields: dict[str, Any] = {
        "side": side,
        "repeat": repeat,
        "begin_s": 0.0,
        "end_s": 10.0,
        "flows": FLOWS,
        "sent": {flow.name: report for flow in FLOWS},
        "received": each,
        "arrived": each,
        "strayed": dict.fromkeys(each, 0),
        "entered": each if side == "nfc" else {},
        "dropped": {"c1-0-dad: over_threshold": 0} if side == "nfc" else {},
        "lost": {"vm2: no room in the socket's buffer": 0},
        "unread": {"vm2": 0, "vm3": 0},
        "idle_share": 0.3,
    }
    return Carried(**(fields | changes))


def losing(n: int, side: Side = "nfc", repeat: int = 1) -> Carried:
    """A run in which flow 1 lost packets in its receiver's socket."""
    received = {"flow 1": PACKETS + 1 - n, "flow 2": PACKETS + 1}
    lost = {"vm2: no room in the socket's buffer": n}
    return run(side, repeat, received=received, lost=lost)


def good(repeats: int = 5) -> list[Carried]:
    return [run(side, repeat) for repeat, side in order(repeats, seed=1)]


# The ledger -------------------------------------------------------------------------------------


def test_ledger_balances_and_shows_what_it_cannot_explain() -> None:
    """Sent = received + dropped by NFs + lost elsewhere + the unexplained rest, of either sign."""
    books = Ledger(sent=100, received=80, dropped={"dad: over": 11}, lost={"vm2: full": 9})
    assert books.unexplained == 0
    assert replace(books, received=79).unexplained == 1
    assert replace(books, received=82).unexplained == -2
    assert books.plain() == {
        "sent": 100,
        "received": 80,
        "dropped": {"dad: over": 11},
        "lost": {"vm2: full": 9},
        "unexplained": 0,
    }


def test_ledger_of_a_run_holds_both_flows_and_their_handshakes() -> None:
    """A handshake's datagram is sent and received; what lay unread is lost, and said where."""
    books = losing(7).ledger
    assert (books.sent, books.received) == (2 * PACKETS + 2, 2 * PACKETS + 2 - 7)
    assert books.unexplained == 0
    received = {"flow 1": PACKETS + 1, "flow 2": PACKETS - 3}
    unread = run(unread={"vm2": 0, "vm3": 4}, received=received).ledger
    assert unread.plain()["lost"] == {"vm3: unread when iperf3 closed": 4}
    assert unread.unexplained == 0


def test_ledgers_add_up() -> None:
    """The total of several runs has their places side by side."""
    both = total([losing(7).ledger, losing(5).ledger, run().ledger])
    assert both.sent == 3 * (2 * PACKETS + 2)
    assert both.plain()["lost"] == {"vm2: no room in the socket's buffer": 12}
    assert both.unexplained == 0


# Throughput and ratio ---------------------------------------------------------------------------


def test_received_throughput_is_payload_read_over_the_time_of_sending() -> None:
    """All read: the offered rate. Half read: half of it. The handshake is no throughput."""
    assert run().received_mbps("flow 1") == pytest.approx(RATE_MBPS)
    assert losing(PACKETS // 2).received_mbps("flow 1") == pytest.approx(RATE_MBPS / 2)
    assert losing(PACKETS // 2).received_mbps("flow 2") == pytest.approx(RATE_MBPS)


def test_ratio_is_nfc_by_routing_and_not_the_other_way_round() -> None:
    """NFC that loses 1 % of flow 1 has a ratio of 0.99 there and of 1 for flow 2."""
    runs = [*(run("routing", n) for n in (1, 2, 3)), *(losing(1397, "nfc", n) for n in (1, 2, 3))]
    first, second = ratio_of(runs, "flow 1"), ratio_of(runs, "flow 2")
    assert first is not None
    assert second is not None
    assert first.value == pytest.approx(0.99, abs=1e-5)
    assert first.low == pytest.approx(0.99, abs=1e-5)
    assert second.value == 1.0


def test_interval_has_the_spread_of_the_repeats() -> None:
    """Repeats that differ give an interval, within the least and the most of them."""
    lost = (0, 100, 200, 300, 400)
    runs = [
        *(run("routing", n) for n in range(5)),
        *(losing(m, "nfc", n) for n, m in enumerate(lost)),
    ]
    found = ratio_of(runs, "flow 1")
    assert found is not None
    assert 1 - 400 / PACKETS - 1e-5 <= found.low < found.value < found.high <= 1


def test_half_a_repeat_is_left_out() -> None:
    """A run that was cut short has as many values of both ways; with no pair there is no ratio."""
    runs = [run("routing", 1), run("nfc", 1), losing(50_000, "nfc", 2)]
    found = ratio_of(runs, "flow 1")
    assert found is not None
    assert found.value == 1.0
    assert ratio_of(runs[:1], "flow 1") is None
    assert compared(runs[:1], FLOWS) == []


def test_table_has_the_published_rows() -> None:
    """Each flow by routing, by NFC, and the ratio with its aim; ours beside the published."""
    rows = compared(good(), FLOWS)
    assert [row.published for row in rows] == [801.6, 797.0, 0.9943, 804.0, 800.0, 0.995]
    assert [row.aim for row in rows] == [None, None, AIM, None, None, AIM]
    assert [row.value for row in rows] == pytest.approx([1000, 1000, 1] * 2)
    for flow, published in PUBLISHED_RATIO.items():
        sides = PUBLISHED_MBPS[flow]
        assert sides["nfc"] / sides["routing"] == pytest.approx(published, abs=1e-4)


def test_both_ways_take_turns() -> None:
    """Every repeat has both; who goes first alternates, so a drift favours neither."""
    turns = order(5, seed=3)
    assert [repeat for repeat, _ in turns] == [n for n in range(1, 6) for _ in SIDES]
    firsts = [side for _, side in turns[::2]]
    assert all({a, b} == set(SIDES) for a, b in pairwise(firsts))
    assert order(5, seed=3) == turns
    assert {order(1, seed=seed)[0][1] for seed in range(20)} == set(SIDES)


def test_phases_and_means_say_what_each_run_received() -> None:
    """One phase a run with the offered rate, one mean a flow at its receiver."""
    phases, received = means(good(2))
    assert {phase.name for phase in phases} == {"routing 1", "nfc 1", "routing 2", "nfc 2"}
    assert phases[0].offered_mbps == {"flow 1": 1000.0, "flow 2": 1000.0}
    assert {(m.flow, m.node) for m in received} == {("flow 1", "vm2"), ("flow 2", "vm3")}
    assert all(m.whole == pytest.approx(1000) for m in received)


# The guard --------------------------------------------------------------------------------------


def slow_client(seconds: float) -> dict[str, Sent]:
    report = run().sent["flow 1"]
    return {flow.name: replace(report, seconds=report.seconds + seconds) for flow in FLOWS}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sent": slow_client(0.02)}, "iperf3 sent 998.0 of 1000 Mbit/s of flow 1"),
        ({"lost": {"vm2: no room": 200}}, r"200 of 279394 packets lost \(vm2: no room\)"),
        ({"unread": {"vm3": 100}}, "vm3 had not read 100 of 279394 packets"),
        ({"idle_share": 0.01}, "1.0% of CPU time was left"),
    ],
)
def test_what_the_machine_could_not_carry_is_said(changes: dict[str, Any], reason: str) -> None:
    """Too slow a sender, full buffers, a reader behind, no CPU time: host-limited, with numbers."""
    runs = [*good(), run("nfc", 6, **changes)]
    found = validity(run(repeat=0), runs)
    assert found.state == "host-limited"
    assert any(text.startswith("nfc 6: ") for text in found.reasons)
    assert any(re.search(reason, text) for text in found.reasons)
    before = validity(run(repeat=0, **changes), good())
    assert before.state == "host-limited"
    assert all(text.startswith("calibration: ") for text in before.reasons)


@pytest.mark.parametrize(
    "changes",
    [
        {"sent": slow_client(0.005)},
        {"lost": {"vm2: no room": 100}},
        {"unread": {"vm3": 60}},
        {"idle_share": 0.05},
        {"dropped": {"c1-0-dad: over_threshold": 100_000}},
    ],
)
def test_small_losses_and_what_the_chain_drops_are_not_the_machines_fault(
    changes: dict[str, Any],
) -> None:
    """The end of a stream may lie unread; what an NF drops is a matter of checks."""
    assert limits(run("nfc", **changes)) == []
    assert validity(run(repeat=0), [run("nfc", **changes)]).state == "valid"


# Checks -----------------------------------------------------------------------------------------


def failed(runs: list[Carried]) -> list[str]:
    return [check.name for check in judge(runs, FLOWS, least=AIM) if not check.passed]


def test_good_runs_pass() -> None:
    """Nothing lost: every check passes."""
    assert failed(good()) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"strayed": {"flow 1": 1}}, "nfc 6: at the other node"),
        ({"dropped": {"c1-0-dad: over_threshold": 1}}, "nfc 6: dropped by the chain"),
        ({"entered": {"flow 1": 5, "flow 2": PACKETS + 1}}, "nfc 6: through the chain"),
        ({"received": {"flow 1": PACKETS, "flow 2": PACKETS + 1}}, "nfc 6: unexplained"),
        ({"sent": slow_client(0.02)}, "nfc 6: flow 1 offered"),
    ],
)
def test_fault_fails_its_check(changes: dict[str, Any], name: str) -> None:
    """One packet is enough: astray, dropped, past the chain, or gone."""
    assert name in failed([*good(), run("nfc", 6, **changes)])


def test_ratio_is_judged_by_the_lower_end_of_its_interval() -> None:
    """A median of 1 does not help where the interval goes below the aim."""
    runs = good()
    assert failed(runs) == []
    spoiled = [
        losing(300, "nfc", r.repeat) if r.side == "nfc" and r.repeat > 3 else r for r in runs
    ]
    first = ratio_of(spoiled, "flow 1")
    assert first is not None
    assert first.value == 1.0
    assert failed(spoiled) == ["flow 1: NFC / routing, lower end"]


def test_no_runs_pass_nothing() -> None:
    """What was not measured never passes."""
    assert not any(check.passed for check in judge([], FLOWS, least=AIM))


# What is asked of policy and options ------------------------------------------------------------


def test_experiment_is_found_and_its_chain_only_counts() -> None:
    """The policy of the experiment itself fits, and the whole lasts less than two minutes."""
    assert load_experiment("table7_4") is EXPERIMENT
    prepared = prepare(COUNTING, Options())
    assert prepared.policy == COUNTING
    assert prepared.lasts_s < 120
    assert prepare(COUNTING, Options(quick=True)).lasts_s < 15


def test_chain_that_would_deny_is_refused() -> None:
    """The thesis's own threshold of 100 Mbit/s would make this another experiment."""
    text = POLICY_FILE.read_text()
    for low in ("threshold_mbps: 1100", "threshold_pps: 60000"):
        with pytest.raises(UserError, match="dad would deny flow 1: it allows"):
            prepare(parse_policy(text.replace("threshold_mbps: 100000", low)), Options())
    high = text.replace("threshold_mbps: 100000", "threshold_pps: 300000")
    prepare(parse_policy(high), Options())


def test_policy_without_a_rule_for_a_flow_is_refused() -> None:
    """Else the flow would end at VM1, and iperf3's complaint would not say why."""
    text = POLICY_FILE.read_text().replace("proto: udp, dst: 10.10.9.5, dport: 123", "dport: 7")
    with pytest.raises(UserError, match="no rule for flow 2"):
        prepare(parse_policy(text), Options())


def test_mtu_can_be_asked_for() -> None:
    """--mtu leaves nothing to choose; without it the smaller packets are tried first."""
    assert prepare(COUNTING, Options(mtu=4000)).parameters["mtus"] == [4000]
    assert prepare(COUNTING, Options()).parameters["mtus"] == list(MTUS) == sorted(MTUS)
    assert EXPERIMENT.takes_mtu


def test_ways_differ_in_destination_only() -> None:
    """To VM1 by NFC, to the receivers by routing; same ports, sizes and receivers."""
    for nfc, routed in zip(flows_of("nfc", 9000), flows_of("routing", 9000), strict=True):
        assert nfc.dst == "10.10.9.5"
        assert replace(routed, dst=nfc.dst) == nfc
        assert nfc.block_bytes == 8948
    assert [flow.dst for flow in flows_of("routing", 1500)] == ["10.10.9.4", "10.10.9.6"]
    assert flows_of("nfc", 1500)[0].block_bytes == BLOCK_BYTES
    assert {"thesis", "thesis-routing"} <= set(load_topologies())
