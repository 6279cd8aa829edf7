# SPDX-License-Identifier: MIT
"""The model of DAD against the thesis's description and its Figure 7.2."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from testbed.models.dad import Dad, Verdict
from testbed.nf import load_descriptions

S = 1_000_000_000
A, D = Verdict.ACCEPT, Verdict.DROP
DAD = load_descriptions()["dad"]


def test_figure_7_2() -> None:
    """10 s at 50, 150 and 100 Mbit/s arrive as 50, 150 and 0 Mbit/s."""
    dad = Dad.of(DAD, {"threshold_mbps": 100})
    size, passed = 1500, [0, 0, 0]
    for phase, rate_mbps in enumerate((50, 150, 100)):
        gap_ns = size * 8 * 1000 // rate_mbps
        for i in range(10 * S // gap_ns):
            now_ns = phase * 10 * S + i * gap_ns
            passed[phase] += dad.packet("flow", now_ns=now_ns, ip_bytes=size) is A
    rates = [packets * size * 8 / 10e6 for packets in passed]
    assert abs(rates[0] - 50) < 0.1
    assert abs(rates[1] - 150) < 0.1
    assert rates[2] < 0.1


def test_a_window_opens_with_a_packet() -> None:
    """The packet that opens a window is not counted in it; the window runs from that packet."""
    dad = Dad(threshold=2, window_ns=10)
    verdicts = [dad.packet(1, now_ns=t) for t in (0, 1, 2, 9, 25, 26, 34, 35, 36)]
    # 3 packets counted in [0, 10) exceed 2, so the window from 25 is DROP; 2 counted in it do not.
    assert verdicts == [A, A, A, A, D, D, D, A, A]


def test_the_next_verdict_stays_where_nothing_is_counted() -> None:
    """Opening a window does not change the next verdict; a packet within it does."""
    dad = Dad(threshold=0, window_ns=10)
    assert [dad.packet(1, now_ns=t) for t in (0, 1, 10, 20, 30)] == [A, A, D, D, D]


def test_the_threshold_itself_is_allowed() -> None:
    """Exactly the threshold does not exceed it."""
    for counted, verdict in ((5, A), (6, D)):
        dad = Dad(threshold=5, window_ns=10)
        dad.packet(1, now_ns=0)
        dad.packet(1, now_ns=1, packets=counted)
        assert dad.packet(1, now_ns=10) is verdict


def test_flows_beyond_the_bound() -> None:
    """A full table tracks no new flow, counts its packets, and does with them what it is told."""
    for drop, verdict in ((False, A), (True, D)):
        dad = Dad(threshold=1, max_flows=1, drop_when_full=drop)
        assert dad.packet("a", now_ns=0) is A
        assert dad.packet("b", now_ns=0, packets=3) is verdict
        assert (dad.untracked, list(dad.flows)) == (3, ["a"])


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4)), max_size=60), st.integers(0, 10))
def test_merged_packets_count_as_many(course: list[tuple[int, int]], threshold: int) -> None:
    """Within a window a GSO packet of n leads to the same later verdicts as n packets at once."""
    merged, single = (Dad(threshold=threshold, window_ns=10) for _ in range(2))
    now_ns = 0
    for gap_ns, packets in course:
        now_ns += gap_ns
        opens = 1 not in merged.flows or now_ns - merged.flows[1].window_start_ns >= 10
        parts = 1 if opens else packets
        expected = [single.packet(1, now_ns=now_ns) for _ in range(parts)]
        assert merged.packet(1, now_ns=now_ns, packets=packets) is expected[0]
        assert merged.flows == single.flows
