# SPDX-License-Identifier: MIT
"""A packet, as an NF in Python sees it: a view of the C structures of ``nfs/include/user.h``."""

from __future__ import annotations

import ctypes
import socket
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["ACCEPT", "DROP", "STATE_BYTES", "Packet", "PacketStruct", "UserPacketStruct"]

ACCEPT, DROP = 0, 1
"""What an NF answers. DROP has a reason: answer :meth:`Packet.drop` instead."""

STATE_BYTES = 60
_LONGEST = 65_535
_NO_PORTS, _FRAGMENT, _HEADER_WORDS = 1 << 4, 1 << 5, 15  # enum packet_flags
_HEADERS = {socket.IPPROTO_TCP: 20, socket.IPPROTO_UDP: 8}
_NF_REASONS, _NF_EXTRA = 8, 6  # nfs/include/counters.h


class _Counters(ctypes.Structure):
    _fields_ = [
        ("missed", ctypes.c_uint64),
        ("dropped_bytes", ctypes.c_uint64),
        ("dropped", ctypes.c_uint64 * _NF_REASONS),
        ("replies_missed", ctypes.c_uint64),
        ("replies_dropped_bytes", ctypes.c_uint64),
        ("replies_dropped", ctypes.c_uint64 * _NF_REASONS),
        ("extra", ctypes.c_uint64 * _NF_EXTRA),
    ]


class UserPacketStruct(ctypes.Structure):
    """``struct user_packet`` (nfs/include/user.h)."""

    counters_type = _Counters
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_uint32),
        ("mark", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
        ("gso_size", ctypes.c_uint16),
        ("partial", ctypes.c_uint8),
        ("changed", ctypes.c_uint8),
        ("fresh", ctypes.c_uint8),
        ("failed", ctypes.c_uint8),
        ("state", ctypes.c_void_p),
        ("counters", ctypes.POINTER(_Counters)),
    ]


class PacketStruct(ctypes.Structure):
    """``struct packet`` (nfs/include/packet.h)."""

    _fields_ = [
        ("hook", ctypes.POINTER(UserPacketStruct)),
        ("src", ctypes.c_uint8 * 4),
        ("dst", ctypes.c_uint8 * 4),
        ("sport", ctypes.c_uint16),
        ("dport", ctypes.c_uint16),
        ("proto", ctypes.c_uint8),
        ("info", ctypes.c_uint8),
        ("generation", ctypes.c_uint16),
        ("flow", ctypes.c_uint32),
        ("reason", ctypes.c_uint32),
    ]


class Packet:
    """One IPv4 packet. It is good during the call only.

    :ivar flow: number of its flow; 0: it has none, and no state.
    :ivar reasons: the NF's drop reasons, name to place in nf.yaml.
    :ivar counters: its counters likewise.
    """

    __slots__ = ("_kept", "_struct", "_user", "counters", "reasons")

    def __init__(
        self, struct: PacketStruct, *, reasons: Mapping[str, int], counters: Mapping[str, int]
    ) -> None:
        self._struct = struct
        self._user = struct.hook.contents
        self._kept: Any = None
        self.reasons = reasons
        self.counters = counters

    # ------------------------------------------------------------ what it is

    @property
    def src(self) -> str:
        """Source address."""
        return socket.inet_ntoa(bytes(self._struct.src))

    @property
    def dst(self) -> str:
        """Destination address."""
        return socket.inet_ntoa(bytes(self._struct.dst))

    @property
    def proto(self) -> int:
        """Protocol number."""
        return int(self._struct.proto)

    @property
    def sport(self) -> int:
        """Source port; 0 where it shows none."""
        return socket.ntohs(self._struct.sport)

    @property
    def dport(self) -> int:
        """Destination port; 0 where it shows none."""
        return socket.ntohs(self._struct.dport)

    @property
    def has_ports(self) -> bool:
        """Whether it shows ports: a fragment shows none, nor does ICMP."""
        return not self._struct.info & _NO_PORTS

    @property
    def fragment(self) -> bool:
        """Whether it is, or was, a piece of a fragmented packet."""
        return bool(self._struct.info & _FRAGMENT)

    @property
    def flow(self) -> int:
        """Number of its flow."""
        return int(self._struct.flow)

    @property
    def length(self) -> int:
        """Bytes, from the IPv4 header on."""
        return int(self._user.length)

    def __bytes__(self) -> bytes:
        """The packet, from the IPv4 header on.

        With ``gso: true``, the transport checksum may be left for the kernel to finish.
        """
        return ctypes.string_at(self._user.data, self._user.length)

    def payload(self, most: int | None = None) -> bytes:
        """What TCP or UDP carries, its first ``most`` bytes; empty for a fragment and others."""
        start = (self._struct.info & _HEADER_WORDS) * 4
        header = 0 if self.fragment else _HEADERS.get(self._struct.proto, 0)
        if not header or self.length < start + header:
            return b""
        if header == _HEADERS[socket.IPPROTO_TCP]:
            (words,) = ctypes.string_at(self._user.data + start + 12, 1)
            header = max(header, (words >> 4) * 4)
        left = max(0, self.length - start - header)
        size = left if most is None else min(left, most)
        return ctypes.string_at(self._user.data + start + header, size)

    @property
    def wire_packets(self) -> int:
        """How many packets it is on the wire."""
        return self._on_wire()[0]

    @property
    def wire_bytes(self) -> int:
        """Their IP bytes, all together."""
        return self._on_wire()[1]

    def _on_wire(self) -> tuple[int, int]:
        size, length = int(self._user.gso_size), self.length
        if not size:
            return 1, length
        headers = length - len(self.payload())
        packets = max(1, -(-(length - headers) // size))
        return packets, length + (packets - 1) * headers

    @staticmethod
    def now_ns() -> int:
        """Give CLOCK_MONOTONIC, at the resolution that NFs in the kernel have (1 to 10 ms)."""
        return time.clock_gettime_ns(6)  # CLOCK_MONOTONIC_COARSE

    # ------------------------------------------------------------ what is kept of its flow

    @property
    def state(self) -> Any | None:
        """The 60 bytes that this NF keeps of the flow, to be read and written, or None.

        They live in a map of the node: they outlive the program. All are 0 where ``fresh``.
        """
        address = self._user.state
        return (ctypes.c_uint8 * STATE_BYTES).from_address(address) if address else None

    @property
    def fresh(self) -> bool:
        """Whether this is the first packet of the flow that the NF sees."""
        return bool(self._user.fresh)

    # ------------------------------------------------------------ what is done with it

    def drop(self, reason: str) -> int:
        """Give the verdict DROP for a reason that nf.yaml names: ``return packet.drop("…")``."""
        return DROP | self.reasons[reason] << 8

    def count(self, counter: str) -> None:
        """Count it under a name of nf.yaml."""
        self._user.counters.contents.extra[self.counters[counter]] += self.wire_packets

    def replace(self, packet: bytes) -> None:
        """Put another packet in its place, from the IPv4 header on, its checksums right.

        NFs behind this one see the new one; its flow stays the one it came with.

        :raises ValueError: it is longer than an IPv4 packet can be.
        """
        if len(packet) > _LONGEST:
            raise ValueError(f"an IPv4 packet has at most {_LONGEST} bytes, not {len(packet)}")
        self._kept = ctypes.create_string_buffer(packet, len(packet))
        self._user.data = ctypes.addressof(self._kept)
        self._user.length = len(packet)
        self._user.changed, self._user.partial = 1, 0

    def scapy(self) -> Any:
        """Give it as a Scapy packet; ``replace(bytes(changed))`` puts it back."""
        from scapy.layers.inet import IP

        return IP(bytes(self))
