# SPDX-License-Identifier: MIT
"""Offloads of an interface, by the ethtool ioctls; in this thread's network namespace."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from enum import Enum

__all__ = ["Offload", "offload", "set_offload"]

_SIOCETHTOOL = 0x8946
_GFLAGS, _SFLAGS = 0x25, 0x26


class Offload(Enum):
    """One that can be read and set: ETHTOOL_G…, ETHTOOL_S… and, of flags, the bit."""

    TX_CHECKSUM = (0x16, 0x17, 0)
    TCP_SEGMENTATION = (0x1E, 0x1F, 0)
    GENERIC_SEGMENTATION = (0x23, 0x24, 0)
    GENERIC_RECEIVE = (0x2B, 0x2C, 0)
    TX_VLAN = (_GFLAGS, _SFLAGS, 1 << 7)


def _call(interface: str, command: int, value: int = 0) -> int:
    answer = ctypes.create_string_buffer(struct.pack("=II", command, value))
    request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(answer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    return int(struct.unpack("=II", answer.raw[:8])[1])


def offload(interface: str, which: Offload) -> bool:
    """Whether it is on. Raises OSError, such as for an interface that does not know it."""
    get, _, bit = which.value
    value = _call(interface, get)
    return bool(value & bit if bit else value)


def set_offload(interface: str, which: Offload, *, on: bool) -> None:
    """Switch it. Raises OSError where it cannot be."""
    get, put, bit = which.value
    if not bit:
        _call(interface, put, int(on))
        return
    before = _call(interface, get)
    _call(interface, put, before | bit if on else before & ~bit)
