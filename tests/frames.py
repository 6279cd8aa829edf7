# SPDX-License-Identifier: MIT
"""Packets that the tests put in and expect out, as bytes of whole Ethernet frames.

A *client* speaks to a *service* address, which DNAT turns into a *server*. Everything that scapy
is not told it fills in rightly, checksums among it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

__all__ = [
    "CLIENT",
    "CPORT",
    "IP_OPTIONS",
    "NODE_MAC",
    "PEER_MAC",
    "SERVER",
    "SERVICE",
    "TCP_OPTIONS",
    "bytes_of",
    "carry_error",
    "fragments",
    "icmp_error",
    "ip_cut",
    "quote",
    "shown",
    "tcp",
    "udp",
]

NODE_MAC = "00:00:00:00:00:00"  # the loopback's, which BPF_PROG_TEST_RUN takes for the device
PEER_MAC = "02:00:00:00:00:01"
CLIENT, SERVICE, SERVER = "10.0.0.1", "10.0.0.2", "10.0.9.9"
CPORT = 1000
# Record route with room for two, and an end-of-options.
IP_OPTIONS = b"\x07\x0b\x04" + bytes(8) + b"\x00"
TCP_OPTIONS = [("NOP", None), ("NOP", None), ("Timestamp", (1, 0))]


def _packet(src: str, dst: str, transport: Packet, payload: bytes, ip: dict[str, Any]) -> Packet:
    return IP(src=src, dst=dst, **ip) / transport / Raw(payload)


def udp(
    *,
    src: str = CLIENT,
    sport: int = CPORT,
    dst: str = SERVICE,
    dport: int = 53,
    payload: bytes = b"question",
    ip: dict[str, Any] | None = None,
    **header: Any,
) -> Packet:
    """A UDP packet, from the IP header on; ``ip`` and ``header`` hold other fields."""
    return _packet(src, dst, UDP(sport=sport, dport=dport, **header), payload, ip or {})


def tcp(
    *,
    src: str = CLIENT,
    sport: int = CPORT,
    dst: str = SERVICE,
    dport: int = 53,
    payload: bytes = b"question",
    ip: dict[str, Any] | None = None,
    **header: Any,
) -> Packet:
    """A TCP segment, from the IP header on; ``ip`` and ``header`` hold other fields."""
    return _packet(src, dst, TCP(sport=sport, dport=dport, **header), payload, ip or {})


def bytes_of(packet: Packet, *, dst: str = NODE_MAC, src: str = PEER_MAC) -> bytes:
    """Give the whole frame, every field filled in."""
    return bytes(Ether(dst=dst, src=src, type=0x0800) / packet)


def shown(frame: bytes) -> str:
    """Give a frame in scapy's words, for the message of a failed comparison."""
    lines = str(Ether(frame).show(dump=True)).splitlines()
    return "\n".join(line if len(line) < 100 else f"{line[:100]}…" for line in lines)


def quote(packet: Packet, *, length: int | None = None) -> bytes:
    """Give what an ICMP error quotes of a packet; ``length``: bytes behind its IP header."""
    data = bytes(packet)
    return data if length is None else data[: (data[0] & 15) * 4 + length]


def icmp_error(
    quoted: bytes, *, src: str, dst: str, kind: int = 3, code: int = 3, **fields: Any
) -> Packet:
    """An ICMP error that quotes these bytes."""
    return IP(src=src, dst=dst, **fields) / ICMP(type=kind, code=code) / Raw(quoted)


def fragments(packet: Packet, *, size: int = 16) -> list[Packet]:
    """Cut a packet into IP fragments of ``size`` bytes, its checksums filled in before."""
    whole = IP(bytes(packet))
    del whole.chksum
    pieces: list[Packet] = fragment(whole, fragsize=size)
    return pieces


def ip_cut(packet: Packet) -> Iterator[tuple[int, Packet]]:
    """Cut a packet behind each byte of its IP payload, the IP header telling the truth."""
    data = bytes(packet)
    header = (data[0] & 15) * 4
    for length in range(len(data) - header):
        head = IP(data[:header])
        del head.len, head.chksum
        yield length, head / Raw(data[header : header + length])


def carry_error(wrong: int, *, right: int, new_right: int) -> int:
    """What a wrong checksum becomes when a change to the packet is added to it (RFC 1624).

    :param right: what it should have been, and ``new_right`` what it should be afterwards.
    """
    error = (wrong - right) % 0xFFFF
    return (new_right + error) % 0xFFFF


def checksum_at(frame: bytes, offset: int) -> int:
    """Read a 16-bit field of a frame."""
    (value,) = struct.unpack_from("!H", frame, offset)
    return int(value)
