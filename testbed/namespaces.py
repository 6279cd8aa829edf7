# SPDX-License-Identifier: MIT
"""The few Linux calls about namespaces and mounts that Python 3.11 does not have.

Each function raises OSError, with the kernel's errno, when the kernel refuses.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "die_with_parent",
    "entered",
    "in_netns",
    "loopback_up",
    "make_mounts_private",
    "mount",
    "setns",
    "unshare",
]

CLONE_NEWNS = 0x0002_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x4_0000
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
]
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Give this process new namespaces (``CLONE_NEW…``); NEWPID counts for its next children."""
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Put this thread into the namespace that an open ``/proc/<pid>/ns/…`` names."""
    _check(_libc.setns(descriptor, kind), "setns")


def die_with_parent(signum: int) -> None:
    """Have the kernel send us ``signum`` when the thread that forked us ends.

    A parent that was gone before the call goes unnoticed: shake hands with it afterwards.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def make_mounts_private() -> None:
    """Stop every mount of this mount namespace from passing changes on to another."""
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount --make-rprivate /")


def mount(fstype: str, target: Path, *, options: str = "") -> None:
    """Mount a new file system of that type, without device files, programs or set-uid."""
    result = _libc.mount(
        fstype.encode(),
        os.fsencode(target),
        fstype.encode(),
        _MS_NOSUID | _MS_NODEV | _MS_NOEXEC,
        options.encode(),
    )
    _check(result, f"mount -t {fstype} {target}")


def loopback_up() -> None:
    """Bring ``lo`` up in this thread's network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh22x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


@contextlib.contextmanager
def in_netns(pid: int) -> Iterator[None]:
    """Put this thread into the network namespace of process ``pid`` meanwhile.

    Only this thread moves. Sockets opened meanwhile stay in that namespace for good.
    """
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with entered(there):
            yield
    finally:
        os.close(there)


@contextlib.contextmanager
def entered(namespace: int) -> Iterator[None]:
    """Put this thread into the network namespace of this descriptor meanwhile."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)
