# SPDX-License-Identifier: MIT
"""DNAT: packet in, verdict and exact packet out, in both modes of keeping its state.

ICMP errors stand in test_nf_dnat_icmp.py, what is kept of connections in test_nf_dnat_state.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.packet import Packet, Raw

from tests.bpf.dnat import BOTH_MODES, OTHER_SERVICE, TO_PORT, TO_SERVER, answer, dnat, is_dropped
from tests.bpf.harness import NEEDS, Verdict, loaded
from tests.frames import (
    CLIENT,
    CPORT,
    IP_OPTIONS,
    SERVER,
    SERVICE,
    TCP_OPTIONS,
    bytes_of,
    carry_error,
    fragments,
    ip_cut,
    tcp,
    udp,
)
from tests.sandboxed import in_sandbox

pytestmark = pytest.mark.needs(*NEEDS)


def with_wrong_checksum(make: Any, **fields: Any) -> Packet:
    """The translated packet for one that came with checksum 0x1234."""
    kind = UDP if make is udp else TCP
    right, new = IP(bytes(make())), IP(bytes(make(**fields)))
    carried = carry_error(0x1234, right=right[kind].chksum, new_right=new[kind].chksum)
    return make(**fields, chksum=carried)


def payload_for_zero(make: Any, **fields: Any) -> bytes:
    """Two bytes with which the packet's checksum comes out as zero."""
    checksum = IP(bytes(make(payload=b"\0\0", **fields)))[UDP if make is udp else TCP].chksum
    return int(checksum).to_bytes(2, "big")


HEADER = {"tos": 0xB8, "id": 4711, "flags": "DF", "ttl": 7}
THERE: dict[str, tuple[Mapping[str, Any], Packet, Packet]] = {
    "udp": (TO_SERVER, udp(), udp(dst=SERVER)),
    "udp to another port": (TO_PORT, udp(), udp(dst=SERVER, dport=5353)),
    "udp, empty": (TO_PORT, udp(payload=b""), udp(dst=SERVER, dport=5353, payload=b"")),
    "udp, odd length": (TO_PORT, udp(payload=b"odd"), udp(dst=SERVER, dport=5353, payload=b"odd")),
    "udp, no checksum": (TO_PORT, udp(chksum=0), udp(dst=SERVER, dport=5353, chksum=0)),
    "udp, wrong checksum": (
        TO_PORT,
        udp(chksum=0x1234),
        with_wrong_checksum(udp, dst=SERVER, dport=5353),
    ),
    "udp, length lies": (TO_SERVER, udp(len=4), udp(dst=SERVER, len=4)),
    "tcp": (TO_SERVER, tcp(), tcp(dst=SERVER)),
    "tcp to another port": (TO_PORT, tcp(), tcp(dst=SERVER, dport=5353)),
    "tcp, wrong checksum": (
        TO_PORT,
        tcp(chksum=0x1234),
        with_wrong_checksum(tcp, dst=SERVER, dport=5353),
    ),
    "tcp, options": (
        TO_PORT,
        tcp(options=TCP_OPTIONS),
        tcp(dst=SERVER, dport=5353, options=TCP_OPTIONS),
    ),
    "tcp, data offset lies": (TO_SERVER, tcp(dataofs=15), tcp(dst=SERVER, dataofs=15)),
    "ip options": (
        TO_PORT,
        udp(ip={"options": IPOption(IP_OPTIONS)}),
        udp(dst=SERVER, dport=5353, ip={"options": IPOption(IP_OPTIONS)}),
    ),
    "ip header fields": (TO_SERVER, tcp(ip=HEADER), tcp(dst=SERVER, ip=HEADER)),
    "to where it goes already": ({"dport": 53, "to": SERVICE}, udp(), udp()),
}


@BOTH_MODES
@pytest.mark.parametrize(("row", "there", "translated"), THERE.values(), ids=THERE)
@in_sandbox
def test_way_there(row: Mapping[str, Any], there: Packet, translated: Packet, state: str) -> None:
    """First and later packets get the row's address and port; nothing else of them changes."""
    with loaded(dnat(row, state=state)) as node:
        for _ in range(3):
            node.run(there).is_accepted_as(translated)
        assert node.counts("dnat").counters == {
            "created": 1,
            "untranslated": 0,
            "replies": 0,
            "icmp_errors": 0,
        }


@BOTH_MODES
@pytest.mark.parametrize("make", [udp, tcp])
@in_sandbox
def test_way_back(make: Any, state: str) -> None:
    """Replies get the address and port that the client knows, whatever rule they would match.

    They do not walk the chain, and count in what they are on the wire.
    """
    with loaded(dnat(TO_PORT, state=state)) as node:
        node.run(make()).is_accepted_as(make(dst=SERVER, dport=5353))
        for options in ({}, {"ip": {"options": IPOption(IP_OPTIONS)}}, {"payload": b""}):
            reply = answer(make, sport=5353, **options)
            node.run(reply).is_accepted_as(answer(make, src=SERVICE, **options))
        node.run(answer(make, sport=5353), gso_size=4, gso_segs=2)
        node.run(make()).is_accepted_as(make(dst=SERVER, dport=5353))
        counts = node.counts("dnat")
        assert (counts.seen.packets, counts.counters["replies"]) == (2, 5)
        assert node.special("replies") == 5
        assert node.status.forwarded()[0].packets == 7


@BOTH_MODES
@in_sandbox
def test_what_is_no_reply(state: str) -> None:
    """Packets that differ from the replies in one part of the 5-tuple are not taken for them."""
    strangers = [
        answer(udp, src="10.0.9.8"),
        answer(udp, sport=54),
        answer(udp, dst="10.0.0.8"),
        answer(udp, dport=CPORT + 1),
        answer(tcp),
    ]
    with loaded(dnat(TO_SERVER, state=state)) as node:
        node.run(udp()).is_accepted_as(udp(dst=SERVER))
        for stranger in strangers:
            node.run(stranger).is_accepted_as(stranger)
        assert node.counts("dnat").counters["untranslated"] == len(strangers)


@BOTH_MODES
@in_sandbox
def test_udp_checksum_that_becomes_zero(state: str) -> None:
    """A UDP checksum that comes out as 0 is written 0xffff: 0 would say that there is none."""
    there = udp(payload=payload_for_zero(udp, dst=SERVER, dport=5353))
    back = answer(
        udp,
        sport=5353,
        payload=payload_for_zero(udp, src=SERVICE, sport=53, dst=CLIENT, dport=CPORT),
    )
    with loaded(dnat(TO_PORT, state=state)) as node:
        out = IP(node.run(there).frame[14:])
        assert (out.dst, out[UDP].chksum) == (SERVER, 0xFFFF)
        out = IP(node.run(back).frame[14:])
        assert (out.src, out[UDP].chksum) == (SERVICE, 0xFFFF)


@BOTH_MODES
@in_sandbox
def test_rows_match_in_order(state: str) -> None:
    """The first row that matches counts; what it does not name matches anything."""
    rows: list[dict[str, Any]] = [
        {"proto": "tcp", "dport": 53, "to": "10.1.0.1"},
        {"dst": OTHER_SERVICE, "to": "10.1.0.2"},
        {"dport": 53, "to": "10.1.0.3"},
        {"proto": "udp", "dst": SERVICE, "dport": 123, "to": "10.1.0.4", "to_port": 124},
    ]
    courses = [
        (tcp(), tcp(dst="10.1.0.1")),
        (udp(), udp(dst="10.1.0.3")),
        (tcp(dst=OTHER_SERVICE), tcp(dst="10.1.0.1")),
        (udp(dst=OTHER_SERVICE), udp(dst="10.1.0.2")),
        (udp(dst=OTHER_SERVICE, dport=9), udp(dst="10.1.0.2", dport=9)),
        (udp(dport=123), udp(dst="10.1.0.4", dport=124)),
        (tcp(dport=123), tcp(dport=123)),
        (udp(dst="10.0.0.3", dport=123), udp(dst="10.0.0.3", dport=123)),
    ]
    with loaded(dnat(*rows, state=state)) as node:
        for sport, (there, translated) in enumerate(courses, 2000):
            for _ in range(2):
                there.sport = translated.sport = sport
                node.run(there).is_accepted_as(translated)
        assert node.counts("dnat").counters["created"] == 6
        assert node.counts("dnat").counters["untranslated"] == 4


UNTOUCHED = {
    "echo request": IP(src=CLIENT, dst=SERVICE) / ICMP() / Raw(b"ping"),
    "echo, fragment": fragments(IP(src=CLIENT, dst=SERVICE) / ICMP() / Raw(bytes(40)))[1],
    "sctp": IP(src=CLIENT, dst=SERVICE, proto=132) / Raw(bytes.fromhex("03e80035") + bytes(8)),
    "no row": udp(dport=54),
}


@BOTH_MODES
@pytest.mark.parametrize("packet", UNTOUCHED.values(), ids=UNTOUCHED)
@in_sandbox
def test_untranslated(packet: Packet, state: str) -> None:
    """What no row is for goes on, byte for byte, and is counted."""
    with loaded(dnat(TO_SERVER, state=state)) as node:
        for _ in range(2):
            node.run(packet).is_accepted_as(packet)
        assert node.counts("dnat").counters["untranslated"] == 2


@BOTH_MODES
@pytest.mark.parametrize("make", [udp, tcp])
@in_sandbox
def test_fragments_are_dropped(make: Any, state: str) -> None:
    """Every piece of a fragmented packet is dropped and counted, whether the flow is known or not.

    On the way back a fragment is no reply: it goes on untouched where no rule takes it.
    """
    chain = {**dnat(TO_SERVER, state=state), "rules": [{"dst": SERVICE}]}
    with loaded(chain) as node:
        for _ in range(2):
            for piece in fragments(make(payload=bytes(40))):
                is_dropped(node, piece, "fragment")
            node.run(make()).is_accepted_as(make(dst=SERVER))
        for piece in fragments(answer(make, payload=bytes(40))):
            node.run(piece).is_accepted_as(piece)


@BOTH_MODES
@pytest.mark.parametrize(("make", "header"), [(udp, 8), (tcp, 20)])
@in_sandbox
def test_packet_cut_anywhere(make: Any, header: int, state: str) -> None:
    """Without its whole transport header a packet is dropped and makes no connection.

    With it, what is left of the packet is translated. On the way back the same holds.
    """
    with loaded(dnat(TO_SERVER, state=state)) as node:
        wholes = ip_cut(make(dst=SERVER))
        for (length, there), (_, translated) in zip(ip_cut(make()), wholes, strict=True):
            if length < header:
                is_dropped(node, there, "malformed")
                assert node.counts("dnat").counters["created"] == 0
            else:
                node.run(there).is_accepted_as(translated)
    with loaded({**dnat(TO_SERVER, state=state), "rules": [{"dport": 53}]}) as node:
        node.run(make())
        wholes = ip_cut(answer(make, src=SERVICE))
        for (length, back), (_, translated) in zip(ip_cut(answer(make)), wholes, strict=True):
            if length < 4:
                node.run(back).is_accepted_as(back)  # shows no ports: nobody's reply
            elif length < header:
                is_dropped(node, back, "malformed")
            else:
                node.run(back).is_accepted_as(translated)


@BOTH_MODES
@in_sandbox
def test_padding_is_no_header(state: str) -> None:
    """Padding behind a short packet is cut off, and never taken for a part of it."""
    cut = dict(ip_cut(tcp()))
    with loaded(dnat(TO_SERVER, state=state)) as node:
        padded = bytes_of(cut[12]) + bytes(18)
        assert node.run(padded).verdict is Verdict.DROP
        assert node.counts("dnat").dropped["malformed"] == 1
        node.run(bytes_of(udp()) + b"padding").is_accepted_as(udp(dst=SERVER))
