# SPDX-License-Identifier: MIT
"""The pass-through NF: packet in, verdict and exact packet out."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, IPOption
from scapy.packet import Packet

from tests.bpf.harness import NEEDS, loaded
from tests.frames import CLIENT, IP_OPTIONS, SERVICE, TCP_OPTIONS, fragments, ip_cut, tcp, udp
from tests.sandboxed import in_sandbox

pytestmark = pytest.mark.needs(*NEEDS)

ANYTHING = {"rules": [{}], "nfs": [{"nf": "pass"}]}
PACKETS = {
    "udp": udp(),
    "udp, no checksum": udp(chksum=0),
    "udp, wrong checksum": udp(chksum=0x1234),
    "udp, empty": udp(payload=b""),
    "tcp": tcp(),
    "tcp, options": tcp(options=TCP_OPTIONS),
    "ip options": udp(ip={"options": IPOption(IP_OPTIONS)}),
    "icmp": IP(src=CLIENT, dst=SERVICE) / ICMP(),
    "other protocol": IP(src=CLIENT, dst=SERVICE, proto=253),
    "first fragment": fragments(udp(payload=bytes(40)))[0],
    "middle fragment": fragments(udp(payload=bytes(40)))[1],
    "last fragment": fragments(udp(payload=bytes(40)))[-1],
}


@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS)
@in_sandbox
def test_accepts_unchanged(packet: Packet) -> None:
    """Every packet is accepted, byte for byte what it was, and counted at both ends."""
    with loaded(ANYTHING) as node:
        node.run(packet).is_accepted_as(packet)
        assert (node.counts("pass").seen.packets, node.counts("pass").accepted) == (1, 1)
        assert node.status.forwarded()[0] == node.counts("pass").seen
        assert node.status.forwarded()[0].bytes == len(packet)


@in_sandbox
def test_packet_cut_anywhere() -> None:
    """A packet that ends behind any byte of its IP payload is accepted as it is."""
    with loaded(ANYTHING) as node:
        for _length, cut in ip_cut(tcp(options=TCP_OPTIONS)):
            node.run(cut).is_accepted_as(cut)


@in_sandbox
def test_longest_chain() -> None:
    """A packet walks 32 NFs and the last step: the most that the kernel follows."""
    with loaded({"rules": [{}], "nfs": [{"nf": "pass"}] * 32}) as node:
        node.run(udp()).is_accepted_as(udp())
        assert [stage.accepted for stage in node.status.stages()] == [1] * 32
        assert node.status.forwarded()[0].packets == 1
        assert node.special("missed") == 0
