# SPDX-License-Identifier: MIT
"""DoS Attack Denial (thesis 6.1.5) in Python: as in dad.h, for reading and for comparing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from testbed.user import ACCEPT, Packet

__all__ = ["make"]

_STATE = struct.Struct("=??6xqq")  # present and next verdict is DROP; window's start, counted


def make(params: Mapping[str, Any]) -> Callable[[Packet], int]:
    """Give the NF."""
    in_bytes = "threshold_mbps" in params
    window_ns = int(params["window_s"] * 10**9)
    a_second = params["threshold_mbps"] * 125_000 if in_bytes else params["threshold_pps"]
    threshold = int(a_second * params["window_s"])

    def untracked(packet: Packet) -> int:
        packet.count("untracked")
        return packet.drop("table_full") if params["on_full"] == "drop" else ACCEPT

    def dad(packet: Packet) -> int:
        state, now_ns = packet.state, packet.now_ns()
        if state is None:
            return untracked(packet)
        if packet.fresh:
            _STATE.pack_into(state, 0, False, False, now_ns, 0)
            return ACCEPT
        present, following, start_ns, counted = _STATE.unpack_from(state)
        if now_ns - start_ns >= window_ns:  # this packet opens a window, and is not counted in it
            present, start_ns, counted = following, now_ns, 0
        else:
            counted += packet.wire_bytes if in_bytes else packet.wire_packets
            following = counted > threshold
        _STATE.pack_into(state, 0, present, following, start_ns, counted)
        return packet.drop("over_threshold") if present else ACCEPT

    return dad
