# SPDX-License-Identifier: MIT
"""CPU time per packet in Table 7.3's rounds, as values."""

from __future__ import annotations

from collections import Counter

import pytest

from experiments._perpacket import WAYS, Spent, Way, compared, order, plain
from testbed.experiment.cputime import VECTORS, CpuTime

COSTS: dict[Way, int] = {"routing": 1000, "in-stack": 1200, "forwarding": 700}  # ns


def spent(way: Way, number: int, *, machine: float = 1.0, packets: int = 1000) -> Spent:
    """One way in one round, on a machine that is slower by a factor at the time."""
    net_rx = round(COSTS[way] * packets * machine)
    softirq = {name: net_rx if name == "net_rx" else 10**9 for name in VECTORS}
    cpu = CpuTime(task_ns=3 * net_rx, idle_softirq_ns=0, softirq_ns=softirq, switches=0)
    return Spent(way=way, round=number, position=0, seconds=1.0, packets=packets, cpu=cpu)


def rounds(count: int) -> list[Spent]:
    return [spent(way, n, machine=1 + n / 3) for n in range(count) for way in WAYS]


def test_ratio_is_of_receiving_softirqs_of_the_same_rounds() -> None:
    """A machine that slows down from round to round does not move it, nor widen its interval."""
    rows = {row.name: row for row in compared(rounds(5))}
    for way, wanted, aim in (("in-stack", 1.2, 1.15), ("forwarding", 0.7, 0.75)):
        row = rows[f"CPU time per packet, {way} / routing"]
        assert (row.value, row.low, row.high) == pytest.approx((wanted, wanted, wanted), abs=1e-3)
        assert (row.aim, row.at_most) == (aim, True)
    assert rows["CPU time per packet, plain routing"].value == pytest.approx(1666.67, abs=0.01)


def test_round_without_packets_is_left_out() -> None:
    """What did not arrive has no cost per packet, and its partners have nothing to be held to."""
    silent = [*rounds(3), spent("routing", 9, packets=0), spent("in-stack", 9, machine=99)]
    assert compared(silent) == compared(rounds(3))
    assert plain(silent)[-2]["softirq_ns_per_packet"] is None


def test_no_whole_round_no_rows() -> None:
    """A run cut short in its first round says nothing rather than something of one way."""
    assert compared([]) == []
    assert compared(rounds(1)[:2]) == []


def test_every_round_has_every_way_in_its_own_order() -> None:
    """Interleaved: no way is always the first, and the same seed gives the same order."""
    found = order(8, seed=73)
    assert found == order(8, seed=73)
    for number in range(1, 9):
        assert {way for n, _, way in found if n == number} == set(WAYS)
    assert len(Counter(way for _, position, way in found if position == 0)) > 1
