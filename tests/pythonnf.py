# SPDX-License-Identifier: MIT
"""NFs in Python, called as their program calls them, packet by packet, with no kernel."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scapy.layers.inet import IP
from scapy.packet import Packet as ScapyPacket

from testbed.nf import load_descriptions
from testbed.user.__main__ import load_nf
from testbed.user.packet import DROP, STATE_BYTES, Packet, PacketStruct, UserPacketStruct

__all__ = ["Outcome", "PythonNF"]

NO_PORTS, FRAGMENT = 1 << 4, 1 << 5  # enum packet_flags


@dataclass(frozen=True)
class Outcome:
    """The reason for DROP, None for ACCEPT; and the packet."""

    dropped: str | None
    packet: bytes


@dataclass
class PythonNF:
    """An NF with its parameters; each flow is known by its number."""

    name: str
    params: Mapping[str, Any]
    states: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        description = load_descriptions()[self.name]
        self._call = load_nf(self.name)(description.check(self.params))
        self._reasons = [reason.name for reason in description.drop_reasons]
        self._counters = [counter.name for counter in description.counters]
        self._counted = UserPacketStruct.counters_type()

    def run(self, packet: ScapyPacket | bytes, *, flow: int = 1, gso_size: int = 0) -> Outcome:
        """Give the outcome for a packet, from the IPv4 header on; flow 0 has no state."""
        data = bytes(packet)
        buffer = ctypes.create_string_buffer(data, len(data))
        user = UserPacketStruct(data=ctypes.addressof(buffer), length=len(data), gso_size=gso_size)
        user.fresh = flow not in self.states
        if flow:
            state = self.states.setdefault(flow, (ctypes.c_uint8 * STATE_BYTES)())
            user.state = ctypes.addressof(state)
        user.counters = ctypes.pointer(self._counted)
        struct = _findings(data, user)
        struct.flow = flow
        seen = Packet(struct, reasons=_places(self._reasons), counters=_places(self._counters))
        verdict = self._call(seen)
        reason = self._reasons[verdict >> 8] if verdict & DROP else None
        return Outcome(reason, ctypes.string_at(user.data, user.length))

    def counted(self, name: str) -> int:
        """Give the packets counted under a name."""
        return int(self._counted.extra[self._counters.index(name)])


def _places(names: list[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _findings(data: bytes, user: UserPacketStruct) -> PacketStruct:
    whole = IP(data)
    struct = PacketStruct(hook=ctypes.pointer(user), proto=whole.proto)
    struct.src[:] = socket.inet_aton(whole.src)
    struct.dst[:] = socket.inet_aton(whole.dst)
    fragment = bool(whole.flags.MF or whole.frag)
    struct.info = whole.ihl | (FRAGMENT | NO_PORTS if fragment else 0)
    if not fragment and whole.proto in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        ports = data[whole.ihl * 4 :][:4]
        struct.sport = int.from_bytes(ports[:2], "little")
        struct.dport = int.from_bytes(ports[2:], "little")
    return struct
