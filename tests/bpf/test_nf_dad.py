# SPDX-License-Identifier: MIT
"""DAD: packet in, verdict and exact packet out, held against the pure model.

Time is moved, not waited for: the start of a flow's window is put back in the NF's own state.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, IPOption
from scapy.packet import Packet

from testbed.models.dad import Dad
from testbed.models.dad import Verdict as Judged
from tests.bpf.harness import NEEDS, LoadedNode, Verdict, loaded
from tests.frames import (
    CLIENT,
    IP_OPTIONS,
    SERVICE,
    TCP_OPTIONS,
    bytes_of,
    fragments,
    ip_cut,
    tcp,
    udp,
)
from tests.sandboxed import in_sandbox

pytestmark = pytest.mark.needs(*NEEDS)

SECOND_NS = 10**9
CLOCK_MONOTONIC_COARSE = 6  # the clock of bpf_ktime_get_coarse_ns()
UDP_BYTES = len(udp())  # of IP, as the threshold counts
ACCEPT, DROP = Verdict.ACCEPT, Verdict.DROP


def dad(**params: Any) -> Mapping[str, Any]:
    """A chain with DAD alone, for every packet. The window is 10 s."""
    return {"rules": [{}], "nfs": [{"nf": "dad", "params": params}]}


def states(node: LoadedNode) -> dict[int, dict[str, int]]:
    """What DAD keeps, by the flow's number."""
    stage = node.stage("dad")
    numbers = {entry["number"] for _key, entry in node.status.flows()}
    return {number: node.status.state(stage, number) or {} for number in numbers}


def advance(node: LoadedNode, seconds: float) -> None:
    """Let time pass for every flow."""
    table = node.datapath.map(node.stage("dad").label, "states")
    for number, state in states(node).items():
        state["window_start_ns"] -= int(seconds * SECOND_NS)
        table.set(number, state)


def verdicts(node: LoadedNode, packet: Packet, count: int, **skb: int) -> list[Verdict]:
    """Run the packet ``count`` times; it must come out as it was."""
    outcomes = [node.run(packet, **skb) for _ in range(count)]
    assert {outcome.frame for outcome in outcomes} <= {bytes_of(packet)}
    return [outcome.verdict for outcome in outcomes]


@in_sandbox
def test_thesis_course() -> None:
    """A window over the threshold denies the whole next one; a quiet window makes good.

    The packet that opens a window is not counted in it, and the verdict is a window late.
    """
    with loaded(dad(threshold_pps=0.3, window_s=10)) as node:  # 3 packets a window
        assert verdicts(node, udp(), 5) == [ACCEPT] * 5  # one opens, four are counted
        advance(node, 10)
        assert verdicts(node, udp(), 4) == [DROP] * 4  # one opens, three are not too many
        advance(node, 10)
        assert verdicts(node, udp(), 5) == [ACCEPT] * 5
        advance(node, 10)
        assert verdicts(node, udp(), 5) == [DROP] * 5  # denied packets are counted as well
        advance(node, 10)
        assert verdicts(node, udp(), 2) == [DROP] * 2
        advance(node, 10)
        assert verdicts(node, udp(), 1) == [ACCEPT]
        counts = node.counts("dad")
        assert counts.dropped == {"over_threshold": 11, "table_full": 0}
        assert (counts.seen.packets, counts.accepted) == (22, 11)
        assert counts.seen.bytes == 22 * UDP_BYTES
        assert node.status.forwarded()[0].bytes == 11 * UDP_BYTES


@pytest.mark.parametrize(("counted", "then"), [(100, ACCEPT), (101, DROP)])
@in_sandbox
def test_threshold_in_packets(counted: int, then: Verdict) -> None:
    """A flow is denied above the threshold, not at it."""
    with loaded(dad(threshold_pps=10)) as node:
        verdicts(node, udp(), 1 + counted)
        advance(node, 10)
        assert verdicts(node, udp(), 1) == [then]


@pytest.mark.parametrize(("too_much", "then"), [(0, ACCEPT), (1, DROP)])
@in_sandbox
def test_threshold_in_bytes(too_much: int, then: Verdict) -> None:
    """What is counted in Mbit/s are IP bytes: headers included, Ethernet's and padding left out."""
    allowed = 10 * UDP_BYTES - too_much
    with loaded(dad(threshold_mbps=0.01, window_s=allowed / 1250)) as node:
        verdicts(node, udp(), 1)
        for _ in range(5):
            node.run(udp())
            node.run(bytes_of(udp()) + bytes(18))  # padding, as behind short frames on a wire
        advance(node, 10)
        assert verdicts(node, udp(), 1) == [then]


@pytest.mark.parametrize(("late_ns", "then"), [(-1, ACCEPT), (0, DROP)])
@in_sandbox
def test_window_ends_on_time(late_ns: int, then: Verdict) -> None:
    """A window lasts exactly as long as it should, by the kernel's clock."""
    with loaded(dad(threshold_pps=0.1)) as node:
        verdicts(node, udp(), 5)
        table = node.datapath.map(node.stage("dad").label, "states")
        ((number, state),) = states(node).items()
        frame = bytes_of(udp())
        for _attempt in range(500):  # until no tick came in between
            now_ns = time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)
            table.set(number, {**state, "window_start_ns": now_ns - 10 * SECOND_NS - late_ns})
            verdict = node.run(frame).verdict
            if time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE) == now_ns:
                break
        else:
            pytest.fail("no attempt fits between two ticks of this machine's clock")
        assert verdict is then


GSO = {
    "udp": (udp(payload=bytes(3000)), 1000, 3, 2 * 28),
    "udp, last one shorter": (udp(payload=bytes(2001)), 1000, 3, 2 * 28),
    "tcp": (tcp(payload=bytes(3000)), 1000, 3, 2 * 40),
    "tcp, options": (tcp(payload=bytes(3000), options=TCP_OPTIONS), 1000, 3, 2 * 52),
    "ip options": (tcp(payload=bytes(2000), ip={"options": IPOption(IP_OPTIONS)}), 1000, 2, 52),
}


@pytest.mark.parametrize(("packet", "gso_size", "segments", "headers"), GSO.values(), ids=GSO)
@in_sandbox
def test_merged_packet_counts_as_on_the_wire(
    packet: Packet, gso_size: int, segments: int, headers: int
) -> None:
    """A GSO packet counts as the packets it becomes, each with headers of its own."""
    with loaded(dad(threshold_pps=1000)) as by_packets:
        verdicts(by_packets, packet, 3, gso_size=gso_size, gso_segs=segments)
        assert states(by_packets)[1]["counter"] == 2 * segments
        assert by_packets.counts("dad").seen.packets == 3 * segments
    with loaded(dad(threshold_mbps=1000)) as by_bytes:
        verdicts(by_bytes, packet, 3, gso_size=gso_size, gso_segs=segments)
        assert states(by_bytes)[1]["counter"] == 2 * (len(packet) + headers)
        assert by_bytes.status.forwarded()[0].bytes == 3 * (len(packet) + headers)


@in_sandbox
def test_merged_packet_of_unknown_number() -> None:
    """A GSO packet that does not say how many it is (from a TAP) counts all the same."""
    with loaded(dad(threshold_mbps=1000)) as node:
        verdicts(node, tcp(payload=bytes(2001)), 2, gso_size=1000)
        assert states(node)[1]["counter"] == len(tcp(payload=bytes(2001))) + 2 * 40
        assert node.counts("dad").seen.packets == 6


FULL = {"accept": (ACCEPT, 0), "drop": (DROP, 3)}


@pytest.mark.parametrize(("on_full", "verdict", "dropped"), [(k, *v) for k, v in FULL.items()])
@in_sandbox
def test_table_full(on_full: str, verdict: Verdict, dropped: int) -> None:
    """A new flow that finds no room is counted and let through or not; old flows go on."""
    flows = [udp(sport=port) for port in (1, 2, 3)]
    with loaded(dad(threshold_pps=0.2, max_flows=2, on_full=on_full)) as node:
        assert verdicts(node, flows[0], 4) == [ACCEPT] * 4  # over the threshold
        assert verdicts(node, flows[1], 2) == [ACCEPT] * 2
        assert verdicts(node, flows[2], 3) == [verdict] * 3
        assert node.special("table_full") == 3
        assert node.status.specials()["table_full"].bytes == 3 * UDP_BYTES
        advance(node, 10)
        assert verdicts(node, flows[2], 1, gso_size=4, gso_segs=2) == [verdict]
        assert verdicts(node, flows[0], 2) == [DROP] * 2
        assert verdicts(node, flows[1], 2) == [ACCEPT] * 2
        counts = node.counts("dad")
        assert counts.counters == {"untracked": 5}
        assert counts.dropped == {"over_threshold": 2, "table_full": dropped and 5}
        assert node.special("table_full") == 5


@in_sandbox
def test_idle_flow_is_forgotten() -> None:
    """A flow's number is free again after a window and idle_s without a packet.

    The next flow that gets it inherits nothing: no count, and no verdict.
    """
    with loaded(dad(threshold_pps=100, window_s=0.01, idle_s=1, max_flows=1)) as node:
        verdicts(node, udp(sport=1), 4)
        assert states(node)[1]["next"] == 1
        verdicts(node, udp(sport=2), 1)
        assert node.special("table_full") == 1
        deadline = time.monotonic() + 8
        while node.status.flows() and time.monotonic() < deadline:
            time.sleep(0.1)
        verdicts(node, udp(sport=2), 1)
        assert node.special("table_full") == 1
        ((key, entry),) = node.status.flows()
        assert (key["sport"], entry["number"], entry["generation"]) == (2, 1, 1)
        assert (states(node)[1]["counter"], states(node)[1]["next"]) == (0, 0)


@in_sandbox
def test_flows_are_measured_apart() -> None:
    """Each part of the 5-tuple makes another flow."""
    others = [
        udp(src="10.0.0.3"),
        udp(dst="10.0.0.4"),
        udp(sport=5),
        udp(dport=6),
        tcp(),
        IP(src=CLIENT, dst=SERVICE) / ICMP(),
    ]
    with loaded(dad(threshold_pps=0.3)) as node:
        verdicts(node, udp(), 5)
        for other in others:
            verdicts(node, other, 1)
        advance(node, 10)
        assert verdicts(node, udp(), 1) == [DROP]
        for other in others:
            assert verdicts(node, other, 1) == [ACCEPT]


@in_sandbox
def test_fragments_are_one_flow() -> None:
    """First, middle and last fragments of all flows between two addresses are one flow.

    They belong neither to the flow whose ports the first one shows, nor to one of ports 0.
    """
    pieces = fragments(udp(payload=bytes(40))) + fragments(udp(sport=7, payload=bytes(40)))
    zero = udp(sport=0, dport=0)
    with loaded(dad(threshold_pps=0.4)) as node:
        for packet in (udp(), zero, *pieces):
            assert verdicts(node, packet, 1) == [ACCEPT]
        assert sorted(s["counter"] for s in states(node).values()) == [0, 0, len(pieces) - 1]
        advance(node, 10)
        assert verdicts(node, pieces[1], 1) == [DROP]
        assert verdicts(node, udp(), 1) == [ACCEPT]
        assert verdicts(node, zero, 1) == [ACCEPT]


@in_sandbox
def test_packet_cut_anywhere() -> None:
    """A packet that ends behind any byte of its IP payload is measured, and stays as it is."""
    with loaded(dad(threshold_mbps=1)) as node:
        bytes_in = 0
        for _length, cut in ip_cut(tcp(options=TCP_OPTIONS)):
            node.run(cut).is_accepted_as(cut)
            bytes_in += len(cut)
        assert node.counts("dad").seen.bytes == bytes_in
        # Cut before the ports, or with them: two flows. Their first packets open windows.
        counted = sum(state["counter"] for state in states(node).values())
        assert counted == bytes_in - 20 - 24


ODD = {
    "ip options": udp(ip={"options": IPOption(IP_OPTIONS)}),
    "no checksum": udp(chksum=0),
    "wrong checksum": udp(chksum=0x1234),
    "udp length lies": udp(len=4),
    "tcp data offset lies": tcp(dataofs=15),
}


@pytest.mark.parametrize("packet", ODD.values(), ids=ODD)
@in_sandbox
def test_odd_packets_are_measured(packet: Packet) -> None:
    """What else is odd about a packet makes no difference to DAD."""
    with loaded(dad(threshold_pps=0.3)) as node:
        assert verdicts(node, packet, 5) == [ACCEPT] * 5
        advance(node, 10)
        assert verdicts(node, packet, 1) == [DROP]


steps = st.tuples(st.integers(0, 12), st.integers(0, 2), st.integers(1, 4))  # s, flow, segments


@in_sandbox
@settings(max_examples=100)
@given(
    course=st.lists(steps, max_size=40),
    threshold=st.sampled_from([{"threshold_pps": 0.4}, {"threshold_mbps": 0.001}]),
    on_full=st.sampled_from(["accept", "drop"]),
)
def test_agrees_with_the_model(
    course: list[tuple[int, int, int]], threshold: dict[str, float], on_full: str
) -> None:
    """Any course of packets of three flows, two of which find room, gets the model's verdicts."""
    with loaded(dad(**threshold, window_s=10.5, max_flows=2, on_full=on_full)) as node:
        model = Dad.of(node.stage("dad").description, node.stage("dad").nf.params)
        passed_s = 0
        for wait_s, flow, segments in course:
            # Whole seconds against windows of 10.5 s: what the test takes is far from an edge.
            passed_s += wait_s
            advance(node, wait_s)
            wanted = model.packet(
                flow,
                now_ns=time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE) + passed_s * SECOND_NS,
                packets=segments,
                ip_bytes=segments * 128,
            )
            packet = udp(sport=flow, payload=bytes(100 * segments))
            got = node.run(packet, gso_size=100, gso_segs=segments).verdict
            assert got is (ACCEPT if wanted is Judged.ACCEPT else DROP)
        assert node.counts("dad").counters["untracked"] == model.untracked


def on_many_cores(node: LoadedNode, packet: Packet, repeat: int) -> int:
    """Run a packet many times on each of up to four cores at once; returns how many times."""

    def work(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        start.wait()
        node.run(packet, repeat=repeat)

    cpus = sorted(os.sched_getaffinity(0))[:4]
    start = threading.Barrier(len(cpus))
    threads = [threading.Thread(target=work, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return repeat * len(cpus)


@pytest.mark.needs("cores")
@in_sandbox
def test_no_count_is_lost() -> None:
    """Several cores count into one flow; every packet is in its counter and in the node's."""
    with loaded(dad(threshold_pps=1e6)) as node:
        node.run(udp())
        sent = on_many_cores(node, udp(), 400_000)
        assert states(node)[1]["counter"] == sent
        assert node.counts("dad").seen.packets == sent + 1
        assert node.status.forwarded()[0].packets == sent + 1


@pytest.mark.needs("cores")
@in_sandbox
def test_one_core_opens_a_window() -> None:
    """Of a hundred windows that end while several cores count none is opened twice.

    Were one, the counter would be taken off twice, fall below zero, and deny the flow. (With two
    cores one of them keeps the clock, so that both hardly ever see a tick at once.)
    """
    with loaded(dad(threshold_pps=1e9, window_s=0.001)) as node:
        sent = on_many_cores(node, udp(), 3_000_000)
        assert node.counts("dad").dropped["over_threshold"] == 0
        assert states(node)[1]["counter"] < sent


@pytest.mark.needs("cores")
@in_sandbox
def test_new_flows_on_many_cores() -> None:
    """A flow whose first packets come on several cores at once is one flow with one number.

    The packets of that very moment may open its window together and so not be counted in it.
    """
    for sport in range(20):
        with loaded(dad(threshold_pps=1e6, max_flows=2)) as node:
            sent = on_many_cores(node, udp(sport=sport), 2_000)
            ((_key, entry),) = node.status.flows()
            assert sent - 16 <= states(node)[entry["number"]]["counter"] < sent
            node.run(udp(sport=sport + 100))
            assert len(node.status.flows()) == 2  # no number was lost
            assert node.special("table_full") == 0
