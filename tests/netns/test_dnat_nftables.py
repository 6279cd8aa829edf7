# SPDX-License-Identifier: MIT
"""DNAT against nftables: the same packets through two lines, compared byte for byte.

One line has our chain, the other an nftables table with the same rows; the addresses, Ethernet's
among them, are the same. Each course is gone through by both modes of DNAT and both last steps.
Where the two differ on purpose stands in test_dnat_differences.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from scapy.layers.inet import IP, IPOption
from scapy.layers.l2 import Dot1Q, Ether

from tests.frames import TCP_OPTIONS, shown, tcp, udp
from tests.netns.twins import (
    AT_CLIENT,
    AT_SERVER,
    FAR,
    HEADER,
    MODES,
    NEEDS,
    OPTIONS,
    ROUTER,
    SERVICE,
    UDP_OPEN,
    Sent,
    back,
    chain_of,
    from_client,
    from_server,
    handshake,
    there,
    twins,
)
from tests.netns.wire import Offload, Wire
from tests.sandboxed import in_sandbox
from topologies.line import LEFT, RIGHT

pytestmark = pytest.mark.needs(*NEEDS)


def compare(
    ours: Wire, theirs: Wire, course: Sequence[Sent], offload: Offload | None = None
) -> dict[str, list[bytes]]:
    """Assert that both lines give the same frames; returns them, by side."""
    wanted = theirs.exchange(course, offload)
    for state, forward in MODES:
        with ours.chains(chain_of(state, forward)):
            got = ours.exchange(course, offload)
        ours.node.run(["conntrack", "-F"])
        for side, frames in wanted.items():
            assert len(got[side]) == len(frames), (state, forward, side)
            for mine, other in zip(got[side], frames, strict=True):
                assert mine == other, f"{state}, {forward}: {shown(mine)}\nnot {shown(other)}"
    return wanted


COURSES: dict[str, list[Sent]] = {
    "udp": [*UDP_OPEN, there(udp, payload=b"odd"), back(udp, payload=b"")],
    "udp, other port": [there(udp, dport=54), back(udp, sport=5454), there(udp, dport=54)],
    "udp, address alone": [there(udp, dst=FAR, dport=7), back(udp, sport=7)],
    "udp, no checksum": [there(udp, chksum=0), back(udp, chksum=0)],
    "udp, no checksum, other port": [
        there(udp, dport=54, chksum=0),
        back(udp, sport=5454, chksum=0),
    ],
    "udp, every last byte": [there(udp, payload=bytes((i,)) * 2) for i in range(0, 256, 5)],
    "tcp": [
        *handshake(),
        there(tcp, flags="PA", seq=101, ack=501, options=TCP_OPTIONS),
        back(tcp, flags="PA", seq=501, ack=109, options=TCP_OPTIONS),
        there(tcp, flags="FA", seq=109, ack=509, payload=b""),
        back(tcp, flags="FA", seq=509, ack=110, payload=b""),
        there(tcp, flags="A", seq=110, ack=510, payload=b""),
    ],
    "tcp, reset": [*handshake(), back(tcp, flags="RA", seq=501, ack=101, payload=b"")],
    "tcp, urgent": [*handshake(), there(tcp, flags="PAU", seq=101, ack=501, urgptr=3)],
    "tcp, other port": [
        there(tcp, dport=54, flags="S", seq=100, payload=b""),
        back(tcp, sport=5454, flags="SA", seq=500, ack=101, payload=b""),
    ],
    "ip options": [there(udp, ip=OPTIONS), back(udp, ip=OPTIONS)],
    "ip header fields": [there(udp, ip=HEADER), back(udp, ip=HEADER)],
    "many connections": [there(udp, sport=2000 + i, ip={"id": i}) for i in range(40)]
    + [back(udp, dport=2000 + i, ip={"id": i}) for i in range(40)],
    "nobody's": [there(udp, dst=RIGHT, dport=99), back(udp, sport=99)],
    "error about a packet there": [*UDP_OPEN, from_server(udp(**AT_SERVER))],
    "error from behind": [*UDP_OPEN, from_server(udp(**AT_SERVER), src=ROUTER, kind=11, code=0)],
    "error, other port": [
        there(udp, dport=54),
        back(udp, sport=5454),
        from_server(udp(**AT_SERVER, dport=5454)),
    ],
    "error, 8 bytes": [*UDP_OPEN, from_server(udp(**AT_SERVER), length=8)],
    "error, tcp": [*handshake(), from_server(tcp(**AT_SERVER, seq=101), kind=3, code=4)],
    "error, tcp, 8 bytes": [*handshake(), from_server(tcp(**AT_SERVER, seq=101), length=8)],
    "error, no checksum": [*UDP_OPEN, from_server(udp(**AT_SERVER, chksum=0))],
    "error, ip options": [*UDP_OPEN, from_server(udp(**AT_SERVER, ip=OPTIONS))],
    "error about an answer": [*UDP_OPEN, from_client(udp(**AT_CLIENT))],
    "error about an answer, tcp, 8 bytes": [
        *handshake(),
        from_client(tcp(**AT_CLIENT, seq=501), length=8),
    ],
    "error about nobody": [*UDP_OPEN, from_server(udp(**AT_SERVER, dport=9))],
}


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
@in_sandbox
def test_same_as_nftables(course: list[Sent]) -> None:
    """What comes out at either end is what comes out with nftables, in the same order."""
    with twins() as (ours, theirs):
        frames = compare(ours, theirs, course)
        assert len(frames["left"]) + len(frames["right"]) == len(course)


@in_sandbox
def test_padding() -> None:
    """Padding behind short packets does not come out, with either."""
    with twins() as (ours, theirs):
        packets = [udp(src=LEFT, dst=SERVICE, payload=b""), udp(src=LEFT, dst=SERVICE)]
        course: list[Sent] = [("left", ours.left.frame(p) + bytes(20)) for p in packets]
        frames = compare(ours, theirs, course)["right"]
        assert [len(frame) for frame in frames] == [14 + len(packet) for packet in packets]


@in_sandbox
def test_tags() -> None:
    """A tag of VLAN 0 is no VLAN: the packet is translated and comes out untagged.

    Packets of another VLAN are not for this interface.
    """
    packet = udp(src=LEFT, dst=SERVICE)
    with twins() as (ours, theirs):
        ether = Ether(dst=ours.node.interfaces[0].mac, src=ours.left.mac)
        tagged = [bytes(ether / Dot1Q(vlan=vlan, prio=5) / packet) for vlan in (0, 5, 4095)]
        (frame,) = compare(ours, theirs, [("left", frame) for frame in tagged])["right"]
        assert frame[14:] == bytes(udp(src=LEFT, dst=RIGHT, ip={"ttl": 63}))


@pytest.mark.parametrize("offloads", [True, False], ids=["offloads on", "offloads off"])
@pytest.mark.parametrize("make", [udp, tcp])
@in_sandbox
def test_checksum_left_to_be_done(make: Any, offloads: bool) -> None:
    """A packet whose checksum its sender left to the hardware comes out the same.

    Where the node finishes it, it is right.
    """
    course = [there(make), there(make, dport=54), there(make, ip=OPTIONS), back(make)]
    with twins(offloads=offloads) as (ours, theirs):
        frames = compare(ours, theirs, course, Offload(checksum=True))
        if not offloads:
            wanted = make(**AT_SERVER, ip={"ttl": 63})
            assert frames["right"][0][14:] == bytes(wanted)


@pytest.mark.parametrize("offloads", [True, False], ids=["offloads on", "offloads off"])
@pytest.mark.parametrize("make", [udp, tcp])
@in_sandbox
def test_merged_packet(make: Any, offloads: bool) -> None:
    """A packet that is still to be cut (GSO) comes out the same, and each piece of it is right."""
    course = [there(make, dport=54, payload=bytes(range(250)) * 12)]
    with twins(offloads=offloads) as (ours, theirs):
        frames = compare(ours, theirs, course, Offload(checksum=True, segment=1000))["right"]
        assert len(frames) == (1 if offloads else 3)
        if not offloads:
            for frame in frames:
                again = IP(frame[14:])
                del again.chksum, again.payload.chksum
                assert bytes(again) == frame[14:]


@pytest.mark.parametrize("linear", [0, 34, 54, 74])
@in_sandbox
def test_headers_that_do_not_lie_together(linear: int) -> None:
    """A packet whose headers lie in several pieces of its buffer is translated all the same."""
    options = {"options": IPOption(b"\x07\x27\x04" + bytes(36) + b"\x00")}  # 40 bytes
    big = b"x" * 5000
    course = [
        there(udp, payload=big),
        there(udp, payload=big, ip=options),
        there(tcp, payload=big, ip=options),
        *UDP_OPEN,
        from_server(udp(**AT_SERVER, payload=big)),
    ]
    with twins(mtu=9000) as (ours, theirs):
        frames = compare(ours, theirs, course, Offload(linear=linear))
        assert (len(frames["left"]), len(frames["right"])) == (2, 4)


def without_id(frame: bytes) -> bytes:
    """The frame with the IP id, which the kernel draws, and its checksum taken out."""
    return frame[:18] + bytes(2) + frame[20:24] + bytes(2) + frame[26:]


@pytest.mark.parametrize("make", [udp, tcp])
@in_sandbox
def test_errors_of_the_node_itself(make: Any) -> None:
    """What the node itself says about a packet that it has translated quotes what was sent."""
    course = [there(make, ip={"ttl": 1})]
    with twins() as (ours, theirs):
        wanted = [without_id(frame) for frame in theirs.exchange(course)["left"]]
        assert len(wanted) == 1
        for state, forward in MODES:
            with ours.chains(chain_of(state, forward)):
                got = ours.exchange(course)
            ours.node.run(["conntrack", "-F"])
            assert got["right"] == []
            assert [without_id(frame) for frame in got["left"]] == wanted, (state, forward)
