# SPDX-License-Identifier: MIT
"""DNAT and ICMP errors about packets that it translated: exact packet out, both directions."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, IPOption
from scapy.packet import Packet, Raw

from tests.bpf.dnat import BOTH_MODES, TO_PORT, answer, dnat
from tests.bpf.harness import NEEDS, LoadedNode, loaded
from tests.frames import (
    CLIENT,
    IP_OPTIONS,
    SERVER,
    SERVICE,
    TCP_OPTIONS,
    bytes_of,
    carry_error,
    fragments,
    icmp_error,
    ip_cut,
    quote,
    tcp,
    udp,
)
from tests.sandboxed import in_sandbox

pytestmark = pytest.mark.needs(*NEEDS)

ROUTER = "10.0.5.5"  # behind the node, or in front of it
ERRORS = {
    "port unreachable": {"kind": 3, "code": 3},
    "fragmentation needed": {"kind": 3, "code": 4},
    "source quench": {"kind": 4, "code": 0},
    "redirect": {"kind": 5, "code": 1},
    "time exceeded": {"kind": 11, "code": 0},
    "parameter problem": {"kind": 12, "code": 0},
}
QUOTED: dict[str, tuple[Any, dict[str, Any]]] = {
    "udp": (udp, {}),
    "udp, no checksum": (udp, {"chksum": 0}),
    "udp, ip options": (udp, {"ip": {"options": IPOption(IP_OPTIONS)}}),
    "tcp": (tcp, {}),
    "tcp, options": (tcp, {"options": TCP_OPTIONS}),
    "first fragment": (udp, {"ip": {"flags": "MF"}}),
}


def translating(state: str, **chain: Any) -> dict[str, Any]:
    """A chain with DNAT for port 53 alone, so that answers and errors match no rule."""
    return {**dnat(TO_PORT, state=state), "rules": [{"dport": 53}], **chain}


def connect(node: LoadedNode, make: Any) -> None:
    """Make the connection, with an answer."""
    node.run(make()).is_accepted_as(make(dst=SERVER, dport=5353))
    node.run(answer(make, sport=5353)).is_accepted_as(answer(make, src=SERVICE))


@BOTH_MODES
@pytest.mark.parametrize(("make", "fields"), QUOTED.values(), ids=QUOTED)
@in_sandbox
def test_about_packets_there(make: Any, fields: dict[str, Any], state: str) -> None:
    """An error about a packet that was sent on quotes what the client sent.

    It seems to come from the address that the client knows, whoever sent it, as with the kernel's
    own NAT.
    """
    sent_on, original = make(dst=SERVER, dport=5353, **fields), make(**fields)
    with loaded(translating(state)) as node:
        connect(node, make)
        for source in (SERVER, ROUTER):
            error = icmp_error(quote(sent_on), src=source, dst=CLIENT)
            wanted = icmp_error(quote(original), src=SERVICE, dst=CLIENT)
            node.run(error).is_accepted_as(wanted)
        assert node.counts("dnat").counters["icmp_errors"] == 2


@BOTH_MODES
@pytest.mark.parametrize(("make", "fields"), QUOTED.values(), ids=QUOTED)
@in_sandbox
def test_about_packets_back(make: Any, fields: dict[str, Any], state: str) -> None:
    """An error about an answer goes on to the server and quotes what the server sent."""
    sent_on, original = answer(make, src=SERVICE, **fields), answer(make, sport=5353, **fields)
    with loaded(translating(state)) as node:
        connect(node, make)
        for source in (CLIENT, ROUTER):
            error = icmp_error(quote(sent_on), src=source, dst=SERVICE)
            wanted = icmp_error(quote(original), src=source, dst=SERVER)
            node.run(error).is_accepted_as(wanted)
        assert node.counts("dnat").counters["icmp_errors"] == 2
        assert node.special("replies") == 3  # the answer of connect() is one


@BOTH_MODES
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@in_sandbox
def test_kinds_of_errors(error: dict[str, int], state: str) -> None:
    """All errors that quote a packet are translated; the rest of their header stays."""
    with loaded(translating(state)) as node:
        connect(node, tcp)
        there = icmp_error(quote(tcp(dst=SERVER, dport=5353)), src=SERVER, dst=CLIENT, **error)
        wanted = icmp_error(quote(tcp()), src=SERVICE, dst=CLIENT, **error)
        for packet in (there, wanted):
            packet[ICMP].nexthopmtu = 1400  # or whatever these bytes mean
        node.run(there).is_accepted_as(wanted)


@BOTH_MODES
@pytest.mark.parametrize("make", [udp, tcp])
@in_sandbox
def test_cut_anywhere(make: Any, state: str) -> None:
    """8 bytes of the quoted transport header are enough, as RFC 792 has it.

    With less the error belongs to nobody and is left as it is. A checksum that is not quoted is
    not touched, nor is anything in its place.
    """
    sent_on = IP(bytes(make(dst=SERVER, dport=5353)))
    original = {True: make(), False: make(chksum=sent_on.payload.chksum)}
    header, length = len(sent_on) - 20 - len(b"question"), len(sent_on) - 20
    with loaded(translating(state)) as node:
        connect(node, make)
        for cut in range(length + 1):
            error = icmp_error(quote(sent_on, length=cut), src=SERVER, dst=CLIENT)
            quoted = quote(original[cut >= header], length=cut)
            wanted = icmp_error(quoted, src=SERVICE, dst=CLIENT)
            node.run(error).is_accepted_as(error if cut < 8 else wanted)
        assert node.counts("dnat").counters["icmp_errors"] == length - 7
        # Cut in the ICMP header or in the quoted IP header: nobody's, whatever it says.
        error = icmp_error(quote(sent_on), src=SERVER, dst=CLIENT)
        for cut, packet in ip_cut(error):
            if cut < 8 + 20 + 8:
                node.run(packet).is_accepted_as(packet)


@BOTH_MODES
@in_sandbox
def test_quote_in_the_padding(state: str) -> None:
    """What stands behind the end of the IP packet is no quote."""
    error = icmp_error(quote(udp(dst=SERVER, dport=5353)), src=SERVER, dst=CLIENT)
    cut = dict(ip_cut(error))[20]
    with loaded(translating(state)) as node:
        connect(node, udp)
        padded = bytes_of(cut) + bytes(error)[40:]
        node.run(padded).is_accepted_as(padded)


@BOTH_MODES
@in_sandbox
def test_wrong_checksum(state: str) -> None:
    """A wrong ICMP checksum stays as wrong as it was."""
    error = icmp_error(quote(udp(dst=SERVER, dport=5353)), src=SERVER, dst=CLIENT)
    wanted = icmp_error(quote(udp()), src=SERVICE, dst=CLIENT)
    right, new_right = (IP(bytes(packet))[ICMP].chksum for packet in (error, wanted))
    error[ICMP].chksum = 0x1234
    wanted[ICMP].chksum = carry_error(0x1234, right=right, new_right=new_right)
    with loaded(translating(state)) as node:
        connect(node, udp)
        node.run(error).is_accepted_as(wanted)


def nobodys() -> dict[str, Packet]:
    """ICMP packets that have to do with no translated flow."""
    sent_on = quote(udp(dst=SERVER, dport=5353))
    error = icmp_error(sent_on, src=SERVER, dst=CLIENT)
    other_proto = quote(IP(src=CLIENT, dst=SERVER) / ICMP() / Raw(bytes(8)))
    late_piece = fragments(udp(dst=SERVER, dport=5353, payload=bytes(40)))[1]
    return {
        "echo": IP(src=SERVER, dst=CLIENT) / ICMP() / Raw(sent_on),
        "another flow": icmp_error(quote(udp(dst=SERVER, dport=5354)), src=SERVER, dst=CLIENT),
        "another protocol": icmp_error(quote(tcp(dst=SERVER, dport=5353)), src=SERVER, dst=CLIENT),
        "about ICMP": icmp_error(other_proto, src=SERVER, dst=CLIENT),
        "about a later fragment": icmp_error(quote(late_piece), src=SERVER, dst=CLIENT),
        "not IPv4 inside": icmp_error(b"\x65" + sent_on[1:], src=SERVER, dst=CLIENT),
        "short header inside": icmp_error(b"\x44" + sent_on[1:], src=SERVER, dst=CLIENT),
        "a fragment itself": fragments(error, size=40)[0],
        "for somebody else": icmp_error(sent_on, src=SERVER, dst="192.0.2.77"),
    }


@BOTH_MODES
@pytest.mark.parametrize("name", nobodys())
@in_sandbox
def test_nobodys_errors(name: str, state: str) -> None:
    """What is no error about a packet of a translated flow goes its own way, untouched."""
    packet = nobodys()[name]
    with loaded(translating(state)) as node:
        connect(node, udp)
        node.run(packet).is_accepted_as(packet)
        assert node.counts("dnat").counters["icmp_errors"] == 0
        assert node.special("unmatched") == 1


@BOTH_MODES
@in_sandbox
def test_error_that_matches_a_rule(state: str) -> None:
    """An error about a translated flow belongs to it, also where a rule would take it."""
    error = icmp_error(quote(udp(dst=SERVER, dport=5353)), src=SERVER, dst=CLIENT)
    wanted = icmp_error(quote(udp()), src=SERVICE, dst=CLIENT)
    with loaded(translating(state, rules=[{}])) as node:
        connect(node, udp)
        node.run(icmp_error(quote(udp(dst=ROUTER)), src=SERVER, dst=CLIENT))  # a flow of its own
        for _ in range(3):
            node.run(error).is_accepted_as(wanted)
        assert node.counts("dnat").counters["icmp_errors"] == 3


@pytest.mark.needs("conntrack_kfuncs")
@in_sandbox
def test_error_keeps_no_connection_alive() -> None:
    """An error about a connection does not count as an answer to it."""
    error = icmp_error(quote(udp(dst=SERVER, dport=5353)), src=SERVER, dst=CLIENT)
    with loaded(translating("table")) as node:
        node.run(udp())
        seen = {key["dst"]: entry["seen_s"] for key, entry in node.status.flows()}
        node.run(error)
        assert {key["dst"]: entry["seen_s"] for key, entry in node.status.flows()} == seen
