# SPDX-License-Identifier: MIT
"""The last step: ``stack`` hands on untouched, ``direct`` does what the kernel's routing would."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, IPOption
from scapy.packet import Packet

from testbed.datapath.linked import WAY_PEER, WAY_QUEUE
from tests.bpf.harness import NEEDS, LoadedNode, Outcome, Verdict, loaded
from tests.frames import IP_OPTIONS, SERVER, TCP_OPTIONS, bytes_of, shown, tcp, udp
from tests.sandboxed import in_sandbox

pytestmark = pytest.mark.needs(*NEEDS, "veth", "fib_lookup", "redirect_peer")

IN_MAC, OUT_MAC, OTHER_MAC = "02:00:00:00:00:fe", "02:00:00:00:09:01", "02:00:00:00:08:01"
NEXT_MAC = "02:00:00:00:09:09"
MTU = 1000
NETWORK = f"""
link add in0 address {IN_MAC} type veth peer name in0-peer
link add out0 address {OUT_MAC} mtu {MTU} type veth peer name out0-peer
link add out1 address {OTHER_MAC} type veth peer name out1-peer
address add 10.0.0.254/24 dev in0
address add 10.0.9.1/24 dev out0
address add 10.0.8.1/24 dev out1
link set in0 up
link set in0-peer up
link set out0 up
link set out0-peer up
link set out1 up
link set out1-peer up
neigh add {SERVER} lladdr {NEXT_MAC} dev out0
neigh add 10.0.8.8 lladdr {NEXT_MAC} dev out1
route add 10.2.0.0/16 via {SERVER}
route add unreachable 10.3.0.0/16
route add blackhole 10.4.0.0/16
route add prohibit 10.5.0.0/16
"""


def ip(commands: str) -> None:
    """Run ``ip`` commands, one a line, in the namespace of the test."""
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)


@contextmanager
def forwarding(way: int = WAY_QUEUE) -> Iterator[LoadedNode]:
    """A node with two ways out and one chain, for every packet, with ``forward: direct``."""
    ip(NETWORK)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    ways = {socket.if_nametoindex(name): way for name in ("out0", "out1")}
    with loaded({"rules": [{}], "forward": "direct"}, ways=ways) as node:
        yield node


def arrive(node: LoadedNode, packet: Packet, *, dst: str = IN_MAC, **skb: int) -> Outcome:
    """Let a packet arrive at ``in0``."""
    return node.run(bytes_of(packet, dst=dst), ifindex=socket.if_nametoindex("in0"), **skb)


def leaves_as(node: LoadedNode, sent: Packet, wanted: Packet, *, src: str = OUT_MAC) -> None:
    """Assert that the packet is sent on by the interface of this address, as this packet."""
    outcome, frame = arrive(node, sent), bytes_of(wanted, dst=NEXT_MAC, src=src)
    assert outcome.verdict is Verdict.REDIRECT
    assert outcome.frame == frame, f"got {shown(outcome.frame)}\nnot {shown(frame)}"


def is_handed_over(node: LoadedNode, packet: Packet, reason: str, **options: Any) -> None:
    """Assert that the kernel gets the packet, untouched and counted, for this reason."""
    before = node.status.forwarded()[1]
    outcome = arrive(node, packet, **options)
    outcome.is_accepted_as(bytes_of(packet, dst=options.get("dst", IN_MAC)))
    assert node.status.forwarded()[1] == {**before, reason: before[reason] + 1}


@pytest.mark.parametrize("way", [WAY_QUEUE, WAY_PEER])
@in_sandbox
def test_sends_on(way: int) -> None:
    """A packet leaves with a smaller TTL, a right checksum and its next hop's address.

    Directly or by a gateway, and whether the outgoing queue may be skipped or not.
    """
    with forwarding(way) as node:
        for make in (udp, tcp):
            sent, wanted = make(dst=SERVER), make(dst=SERVER, ip={"ttl": 63})
            leaves_as(node, sent, wanted)
            leaves_as(node, make(dst="10.2.3.4"), make(dst="10.2.3.4", ip={"ttl": 63}))
            leaves_as(
                node, make(dst="10.0.8.8"), make(dst="10.0.8.8", ip={"ttl": 63}), src=OTHER_MAC
            )
        count, handed = node.status.forwarded()
        assert (count.packets, count.bytes) == (6, 3 * 36 + 3 * 48)
        assert set(handed.values()) == {0}


@in_sandbox
def test_checksum_of_every_header() -> None:
    """The header's checksum is right whatever the header says, also at the carry's edges."""
    headers = st.fixed_dictionaries(
        {"ttl": st.integers(2, 255), "id": st.integers(0, 65535), "tos": st.integers(0, 255)}
    )

    @settings(max_examples=300)
    @given(header=headers)
    def check(header: dict[str, int]) -> None:
        smaller = {**header, "ttl": header["ttl"] - 1}
        leaves_as(node, udp(dst=SERVER, ip=header), udp(dst=SERVER, ip=smaller))

    with forwarding() as node:
        check()
        plain = IP(bytes(udp(dst=SERVER, ip={"ttl": 2, "id": 0}))).chksum
        for checksum in (0xFEFD, 0xFEFE, 0xFEFF, 0x0000, 0x0001):  # about where it goes round
            header = {"ttl": 2, "id": (plain - checksum) % 0xFFFF}
            sent = udp(dst=SERVER, ip=header)
            assert IP(bytes(sent)).chksum == checksum
            leaves_as(node, sent, udp(dst=SERVER, ip={**header, "ttl": 1}))


@pytest.mark.parametrize("ttl", [0, 1])
@in_sandbox
def test_ttl_runs_out(ttl: int) -> None:
    """A packet whose TTL ends here goes to the kernel, which says so to its sender."""
    with forwarding() as node:
        is_handed_over(node, udp(dst=SERVER, ip={"ttl": ttl}), "ttl")


KERNELS = {
    "ip options": (udp(dst=SERVER, ip={"options": IPOption(IP_OPTIONS)}), "options"),
    "no neighbour": (udp(dst="10.0.9.10"), "neighbour"),
    "no route": (udp(dst="192.0.2.1"), "route"),
    "unreachable": (udp(dst="10.3.0.1"), "route"),
    "blackhole": (udp(dst="10.4.0.1"), "route"),
    "prohibited": (udp(dst="10.5.0.1"), "route"),
    "for this host": (udp(dst="10.0.0.254"), "route"),
    "for another address of this host": (udp(dst="10.0.9.1"), "route"),
    "to all in a subnet": (udp(dst="10.0.9.255"), "route"),
    "one byte too long": (udp(dst=SERVER, payload=bytes(MTU - 27)), "too_long"),
}


@pytest.mark.parametrize(("packet", "reason"), KERNELS.values(), ids=KERNELS)
@in_sandbox
def test_kernel_has_to_help(packet: Packet, reason: str) -> None:
    """What needs more than an address and a smaller TTL goes to the kernel, untouched."""
    with forwarding() as node:
        for _ in range(2):
            is_handed_over(node, packet, reason)


@in_sandbox
def test_frames_to_many_go_to_the_kernel() -> None:
    """A frame that was sent to all is not sent on from here."""
    with forwarding() as node:
        is_handed_over(node, udp(dst=SERVER), "route", dst="ff:ff:ff:ff:ff:ff")


@in_sandbox
def test_length_is_judged_for_each_packet() -> None:
    """A short packet that went before does not let a long one through, nor the other way round."""
    fits, long = udp(dst=SERVER, payload=bytes(MTU - 28)), udp(dst=SERVER, payload=bytes(MTU))
    short = udp(dst=SERVER)
    with forwarding() as node:
        for _ in range(3):
            assert arrive(node, short).verdict is Verdict.REDIRECT
            is_handed_over(node, long, "too_long")
            assert arrive(node, fits).verdict is Verdict.REDIRECT
            is_handed_over(node, long, "too_long")


MERGED = {
    "udp": (udp(dst=SERVER, payload=bytes(3000)), MTU - 28),
    "tcp": (tcp(dst=SERVER, payload=bytes(3000)), MTU - 40),
    "tcp, options": (tcp(dst=SERVER, payload=bytes(3000), options=TCP_OPTIONS), MTU - 52),
}


@pytest.mark.parametrize(("packet", "fits"), MERGED.values(), ids=MERGED)
@in_sandbox
def test_merged_packet_is_as_long_as_its_packets(packet: Packet, fits: int) -> None:
    """A GSO packet is held against the MTU by what it becomes on the wire."""
    with forwarding() as node:
        assert arrive(node, packet, gso_size=fits, gso_segs=4).verdict is Verdict.REDIRECT
        is_handed_over(node, packet, "too_long", gso_size=fits + 1, gso_segs=4)
        assert node.status.forwarded()[0].packets == 8


@in_sandbox
def test_routes_by_tos() -> None:
    """A rule that looks at the TOS field holds, packet by packet."""
    with forwarding() as node:
        ip("rule add tos 0x10 table 100\nroute add 10.0.9.0/24 via 10.0.8.8 table 100")
        for _ in range(2):
            sent, wanted = udp(dst=SERVER), udp(dst=SERVER, ip={"ttl": 63})
            leaves_as(node, sent, wanted)
            sent.tos = wanted.tos = 0x10
            leaves_as(node, sent, wanted, src=OTHER_MAC)


@in_sandbox
def test_change_of_route_is_seen() -> None:
    """A route or neighbour that changes holds one tick of the clock later, at the latest."""
    with forwarding() as node:
        sent, wanted = udp(dst="10.2.3.4"), udp(dst="10.2.3.4", ip={"ttl": 63})
        leaves_as(node, sent, wanted)
        ip("route replace 10.2.0.0/16 via 10.0.8.8")
        time.sleep(0.03)
        leaves_as(node, sent, wanted, src=OTHER_MAC)
        ip("neigh flush dev out1 nud permanent")
        time.sleep(0.03)
        is_handed_over(node, sent, "neighbour")


@in_sandbox
def test_every_destination_has_its_own_hop() -> None:
    """150 destinations in turn, each by its own neighbour: none gets another one's address."""
    hops = {f"10.0.{8 + i % 2}.{i}": f"02:00:00:01:{i % 2:02x}:{i:02x}" for i in range(20, 170)}
    with forwarding() as node:
        for address, mac in hops.items():
            ip(f"neigh add {address} lladdr {mac} dev out{int(address.split('.')[2] == '8')}")
        frames = []
        for address, mac in hops.items():
            out = OTHER_MAC if address.split(".")[2] == "8" else OUT_MAC
            wanted = bytes_of(udp(dst=address, ip={"ttl": 63}), dst=mac, src=out)
            frames.append((bytes_of(udp(dst=address), dst=IN_MAC), wanted))
        ifindex = socket.if_nametoindex("in0")
        for _ in range(20):
            got = [node.run(sent, ifindex=ifindex).frame for sent, _ in frames]
            assert got == [wanted for _, wanted in frames]
