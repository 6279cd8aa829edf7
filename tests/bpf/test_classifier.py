# SPDX-License-Identifier: MIT
"""The classifier: which rule takes a packet, and what it leaves alone."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, IPOption
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from testbed.chain import FiveTuple, FlowRule
from testbed.datapath.plan import MAX_MASKS
from tests.bpf.harness import NEEDS, LoadedNode, Verdict, loaded
from tests.frames import (
    CLIENT,
    IP_OPTIONS,
    NODE_MAC,
    PEER_MAC,
    SERVER,
    SERVICE,
    TCP_OPTIONS,
    bytes_of,
    fragments,
    ip_cut,
    tcp,
    udp,
)
from tests.sandboxed import in_sandbox
from tests.unit.strategies import packets, rules, rules_around

pytestmark = pytest.mark.needs(*NEEDS)

SPECIALS = ("unmatched", "left_alone", "replies", "table_full", "missed")
PASS = {"nf": "pass"}
MEASURE = {"nf": "dad", "params": {"threshold_pps": 1e9}}  # keeps state per flow


def frame_of(packet: FiveTuple, *, offset: int) -> bytes:
    """A frame with this 5-tuple; a first fragment shows ports as well, which must not count."""
    header = IP(src=str(packet.src), dst=str(packet.dst), proto=packet.proto)
    if packet.fragment:
        header.flags, header.frag = ("MF", 0) if offset == 0 else ("", offset)
    return bytes_of(header / Raw(struct.pack("!HH", packet.sport, packet.dport) + bytes(16)))


def counted(node: LoadedNode) -> dict[int | str, int]:
    """Packets by the rule that took them (its order), or by special."""
    table = node.datapath.classifier.map("rule_counters")
    n_rules = node.datapath.plan.n_rules
    totals = [table.total(index)["packets"] for index in range(n_rules + len(SPECIALS))]
    names: Iterable[int | str] = (*range(n_rules), *SPECIALS)
    return {name: total for name, total in zip(names, totals, strict=True) if total}


@st.composite
def chains(draw: st.DrawFn, around: list[FiveTuple]) -> list[dict[str, Any]]:
    """Chains with rules about these packets, with and without state per flow."""
    near = st.sampled_from(around).flatmap(rules_around)
    return [
        {
            "rules": draw(st.lists(near | near | near | rules(), max_size=8)),
            "nfs": draw(st.lists(st.sampled_from([PASS, MEASURE]), max_size=2)),
        }
        for _ in range(draw(st.integers(1, 3)))
    ]


@in_sandbox
@settings(max_examples=120)
@given(data=st.data(), sent=st.lists(packets, min_size=1, max_size=12))
def test_first_match(data: st.DataObject, sent: list[FiveTuple]) -> None:
    """Whatever the rules and packets, the rule that takes a packet is the one of Policy.match.

    So it is for the first packet of a flow, for later ones, and for those that the classifier
    remembers from a moment ago.
    """
    wanted: dict[int | str, int] = {}
    with loaded(*data.draw(chains(sent))) as node:
        for packet in [*sent, *sent]:
            frame = frame_of(packet, offset=data.draw(st.sampled_from([0, 1, 100])))
            node.run(frame, repeat=2).is_accepted_as(frame)
            match = node.datapath.plan.policy.match(packet)
            name = match.order if match else "unmatched"
            wanted[name] = wanted.get(name, 0) + 2
            assert counted(node) == wanted, (packet, match)


@in_sandbox
def test_priorities() -> None:
    """The smallest priority wins, in whatever chain it stands; among equals the first written."""
    chains: list[dict[str, Any]] = [
        {"rules": [{"priority": 100}, {"dport": 53, "priority": 20}]},
        {"rules": [{"dst": SERVICE, "priority": 20}, {"dst": "10.0.0.0/8", "priority": 10}]},
    ]
    with loaded(*chains) as node:
        ordered = node.datapath.plan.policy.ordered_rules()
        assert [rule.priority for _, rule in ordered] == [10, 20, 20, 100]
        node.run(udp())
        assert counted(node) == {0: 1}
        node.run(udp(dst="192.0.2.1"))
        assert counted(node) == {0: 1, 1: 1}
        node.run(udp(dst="192.0.2.1", dport=54))
        assert counted(node) == {0: 1, 1: 1, 3: 1}


@in_sandbox
def test_mask_that_is_searched_later_can_be_better() -> None:
    """A rule is found although another mask, whose first rule comes before it, has a match too."""
    rules = [{"dport": 99}, {"src": CLIENT}, {"dport": 53}]
    with loaded({"rules": rules, "nfs": [PASS]}) as node:
        assert [list(g.orders.values()) for g in node.datapath.plan.groups] == [[0, 2], [1]]
        node.run(udp())
        assert counted(node) == {1: 1}


@in_sandbox
def test_many_rules_of_many_masks() -> None:
    """1,024 rules of 64 masks: each packet finds the right one, whichever mask it stands in."""
    rules = [
        FlowRule(
            src=IPv4Network((i * 0x00FF_FB71 & 0xFFFF_FFFF, 1 + i % 32), strict=False),
            proto="udp" if i // 32 % 2 else None,
            dport=i // 64,
        )
        for i in range(1024)
    ]
    with loaded({"rules": rules}) as node:
        policy, table = node.datapath.plan.policy, node.datapath.classifier.map("rule_counters")
        assert len(node.datapath.plan.groups) == MAX_MASKS
        for rule in rules[::5]:
            src, port = rule.src.network_address, rule.dport or 0
            five = FiveTuple(src=src, dst=SERVICE, sport=1000, dport=port, proto=17)
            match = policy.match(five)
            assert match is not None
            before = table.total(match.order)["packets"]
            node.run(udp(src=str(src), dport=port))
            assert table.total(match.order)["packets"] == before + 1


@pytest.mark.parametrize("count", [3, 20])
@in_sandbox
def test_each_rule_leads_to_its_own_chain(count: int) -> None:
    """However many chains there are, a packet walks its own, and so do its replies."""
    chains = [
        {
            "rules": [{"dport": 100 + i}],
            "nfs": [{"nf": "dnat", "params": {"rules": [{"to": f"10.1.0.{i}"}]}}],
        }
        for i in range(count)
    ]
    with loaded(*chains) as node:
        for _ in range(2):
            for i in range(count):
                there = udp(dport=100 + i)
                node.run(there).is_accepted_as(udp(dport=100 + i, dst=f"10.1.0.{i}"))
                back = udp(src=f"10.1.0.{i}", sport=100 + i, dst=CLIENT, dport=1000)
                node.run(back).is_accepted_as(
                    udp(src=SERVICE, sport=100 + i, dst=CLIENT, dport=1000)
                )


UNMATCHED = {
    "udp": udp(),
    "udp, no checksum": udp(chksum=0),
    "udp, wrong checksum": udp(chksum=0x1234),
    "tcp, options": tcp(options=TCP_OPTIONS),
    "ip options": udp(ip={"options": IPOption(IP_OPTIONS)}),
    "ttl 0": udp(ip={"ttl": 0}),
    "icmp": IP(src=CLIENT, dst=SERVICE) / ICMP(),
    "fragment": fragments(udp(payload=bytes(40)))[1],
    "no transport header": IP(src=CLIENT, dst=SERVICE, proto=17),
}


@pytest.mark.parametrize("packet", UNMATCHED.values(), ids=UNMATCHED)
@in_sandbox
def test_default_is_accept_untouched(packet: Packet) -> None:
    """A packet that no rule matches is accepted as it is, padding behind it included."""
    with loaded({"rules": [{"dst": "192.0.2.1"}], "nfs": [MEASURE]}) as node:
        for frame in (bytes_of(packet), bytes_of(packet) + b"padding"):
            node.run(frame).is_accepted_as(frame)
        assert counted(node) == {"unmatched": 2}


def ether(packet: Packet, *, dst: str = NODE_MAC, kind: int | None = None) -> bytes:
    return bytes(Ether(dst=dst, src=PEER_MAC, **({} if kind is None else {"type": kind})) / packet)


def with_options_changed() -> bytes:
    """A packet whose IP header is right but for a bit in its options."""
    frame = bytearray(bytes_of(udp(ip={"options": IPOption(IP_OPTIONS)})))
    frame[14 + 25] ^= 1
    return bytes(frame)


LEFT_ALONE = {
    "arp": ether(ARP(psrc=CLIENT, pdst=SERVICE)),
    "ipv6": ether(udp(payload=bytes(40)), kind=0x86DD),
    "vlan": ether(Dot1Q(vlan=5) / udp()),
    "another host's": bytes_of(udp(), dst="02:00:00:00:00:09"),
    "version 6": bytes_of(udp(ip={"version": 6})),
    "header of 16 bytes": bytes_of(udp(ip={"ihl": 4})),
    "header longer than the packet": bytes_of(IP(src=CLIENT, dst=SERVICE, proto=17, ihl=6)),
    "wrong header checksum": bytes_of(udp(ip={"chksum": 0x1234})),
    "wrong checksum of options": with_options_changed(),
    "longer than the frame": bytes_of(udp(ip={"len": 37})),
    "shorter than its header": bytes_of(udp(ip={"len": 19})),
    "length 0": bytes_of(udp(ip={"len": 0})),
}


@pytest.mark.parametrize("frame", LEFT_ALONE.values(), ids=LEFT_ALONE)
@in_sandbox
def test_left_alone(frame: bytes) -> None:
    """What PRE_ROUTING would not see as IPv4 for this interface passes untouched, unseen."""
    with loaded({"rules": [{}], "nfs": [PASS]}) as node:
        node.leaves_alone(frame)


@pytest.mark.parametrize("options", [[], [IPOption(IP_OPTIONS)]], ids=["plain", "options"])
@in_sandbox
def test_frame_cut_anywhere(options: list[Any]) -> None:
    """A frame that ends before its IP packet does is left alone, wherever it ends.

    BPF_PROG_TEST_RUN takes no frame without a whole IP header; tests/netns sends those.
    """
    frame = bytes_of(tcp(ip={"options": options}))
    with loaded({"rules": [{}], "nfs": [PASS]}) as node:
        for length in range(34, len(frame)):
            node.leaves_alone(frame[:length])


@in_sandbox
def test_packet_cut_anywhere() -> None:
    """A packet that ends before its ports matches only rules that name none."""
    with loaded({"rules": [{"dport": 53}, {"proto": "tcp"}]}) as node:
        for length, cut in ip_cut(tcp()):
            node.run(cut).is_accepted_as(cut)
            assert counted(node).get(1, 0) == min(length + 1, 4)
        assert counted(node)[0] == len(bytes(tcp())) - 24


@pytest.mark.parametrize("dst", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"])
@in_sandbox
def test_broadcast_and_multicast_are_for_us(dst: str) -> None:
    """Frames to all or many hosts walk the chain, as PRE_ROUTING sees them."""
    with loaded({"rules": [{"dport": 53}], "nfs": [PASS]}) as node:
        frame = bytes_of(udp(), dst=dst)
        node.run(frame).is_accepted_as(frame)
        assert counted(node) == {0: 1}


@in_sandbox
def test_counters_of_rules() -> None:
    """A rule counts packets as on the wire and their IP bytes, without padding."""
    with loaded({"rules": [{"dport": 53}, {"dport": 54}], "nfs": [PASS]}) as node:
        node.run(udp())
        node.run(bytes_of(udp()) + bytes(18))
        node.run(tcp(dport=54, payload=bytes(300)), gso_size=100, gso_segs=3)
        node.run(udp(dport=55))
        first, second = node.status.rules()
        assert (first.packets, first.bytes) == (2, 2 * 36)
        assert (second.packets, second.bytes) == (3, 3 * 140)
        unmatched = node.status.specials()["unmatched"]
        assert (unmatched.packets, unmatched.bytes) == (1, 36)


@in_sandbox
def test_missing_program_drops() -> None:
    """A pointer that leads nowhere drops the packet, counted: it has not walked its chain."""
    with loaded({"rules": [{}], "nfs": [PASS]}) as node:
        (chain,) = node.datapath.plan.chains
        node.datapath.slots.delete(chain.stages[0].next_slot)
        assert node.run(udp()).verdict is Verdict.DROP
        assert node.counts("pass").missed == 1
        node.datapath.slots.delete(chain.head)
        assert node.run(udp()).verdict is Verdict.DROP
        assert node.special("missed") == 1


@in_sandbox
def test_change_of_a_pointer_takes_effect_at_once() -> None:
    """A slot that is written anew leads the next packet elsewhere, also one of a busy flow."""
    row = {"to": SERVER}
    with loaded({"rules": [{}], "nfs": [PASS, {"nf": "dnat", "params": {"rules": [row]}}]}) as node:
        (chain,) = node.datapath.plan.chains
        node.run(udp()).is_accepted_as(udp(dst=SERVER))
        last = node.datapath.last.program("to_stack")
        node.datapath.slots.set_program(chain.stages[0].next_slot, last.fd)
        node.run(udp()).is_accepted_as(udp())
