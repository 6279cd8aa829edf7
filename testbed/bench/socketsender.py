# SPDX-License-Identifier: MIT
"""A packet socket that sends one frame again and again, hundreds in a call (``sendmmsg``).

The kernel makes a packet buffer of each, copies the frame into it and takes it all the way to the
far end before the next one, on the sender's core. So the time per frame is that of making and
copying it plus that of the way, as with the XDP generator; but every frame comes alone, where the
generator's come in batches of 64, and other tasks can have the core in between, so each call is
timed for itself and the median counts.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from statistics import median

from testbed.errors import RunError

__all__ = ["SocketSender"]

_BATCH = 256
_FIRST_PORT = 10_000
_ETHERTYPE_IPV4 = 0x0800
_UDP = 17


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Mmsghdr(ctypes.Structure):
    """``struct mmsghdr``: a ``struct msghdr`` and what was sent of it."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint32),
    ]


_libc = ctypes.CDLL(None, use_errno=True)


class SocketSender:
    """Sends UDP frames of one flow out of an interface of this thread's network namespace.

    :param macs: destination, then source.
    :param frame_bytes: Ethernet header included.
    """

    def __init__(
        self,
        interface: str,
        *,
        macs: tuple[bytes, bytes],
        src: str,
        dst: str,
        dport: int,
        frame_bytes: int,
    ) -> None:
        frame = udp_frame(macs, src, dst, dport, frame_bytes)
        self._frame = ctypes.create_string_buffer(frame, len(frame))
        self._iovec = _Iovec(ctypes.addressof(self._frame), len(frame))
        self._messages = (_Mmsghdr * _BATCH)()
        for message in self._messages:
            message.iov, message.iov_length = ctypes.addressof(self._iovec), 1
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind((interface, 0))

    def send(self, *, count: int) -> int:
        """Send so many frames; returns ns per frame: the median of all calls.

        :raises RunError: the kernel refuses one.
        """
        left = count
        each_ns: list[float] = []
        while left:
            begin_ns = time.perf_counter_ns()
            sent = _libc.sendmmsg(self._socket.fileno(), self._messages, min(_BATCH, left), 0)
            if sent <= 0:
                raise RunError(f"cannot send a frame: {os.strerror(ctypes.get_errno())}")
            each_ns.append((time.perf_counter_ns() - begin_ns) / sent)
            left -= sent
        return round(median(each_ns))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def udp_frame(macs: tuple[bytes, bytes], src: str, dst: str, dport: int, frame_bytes: int) -> bytes:
    """An Ethernet frame with a UDP packet without a UDP checksum."""
    ip_bytes = frame_bytes - 14
    addresses = socket.inet_aton(src) + socket.inet_aton(dst)
    start = struct.pack("!BBHHHBBH", 0x45, 0, ip_bytes, 0, 0x4000, 64, _UDP, 0) + addresses
    total = sum(struct.unpack("!10H", start))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = start[:10] + struct.pack("!H", checksum) + start[12:]
    udp = struct.pack("!4H", _FIRST_PORT, dport, ip_bytes - 20, 0)
    return (b"".join(macs) + struct.pack("!H", _ETHERTYPE_IPV4) + header + udp).ljust(
        frame_bytes, b"\0"
    )
