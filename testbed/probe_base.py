# SPDX-License-Identifier: MIT
"""What probes are made of: their answers, the errors they end with, and raw system calls.

Nothing here or in the probes needs a library beyond libc, so that a probe tells about the
kernel and not about the libraries of the day.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = [
    "Absent",
    "CouldNotTell",
    "Probe",
    "ProbeSpec",
    "State",
    "attribute",
    "bpf_call",
    "is_privileged",
    "libc_call",
    "mount",
    "netlink_request",
    "unshare",
]

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18

NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
_NLMSG_ERROR = 2

_libc = ctypes.CDLL(None, use_errno=True)


class State(StrEnum):
    """Answer of a probe."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe's answer, and in ``detail`` what was seen or why it could not be told."""

    state: State
    detail: str = ""


class Absent(Exception):  # noqa: N818 - an answer, no fault
    """Ends a probe with the answer no; the message says what was seen."""


class CouldNotTell(Exception):  # noqa: N818 - an answer, no fault
    """Ends a probe without an answer; the message says why."""


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """How one thing is probed.

    :param run: returns what it saw, for yes; raises :class:`Absent`, :class:`CouldNotTell` or
        OSError (which means no) otherwise.
    :param isolated: it needs root, and a network and mount namespace of its own.
    :param since: first Linux release in which it works whatever the kernel's configuration, or
        None where the configuration decides. Tells a surprising absence from a plain one; the
        answer itself never comes from a version.
    """

    run: Callable[[], str]
    isolated: bool = True
    since: tuple[int, int] | None = None


def libc_call(name: str, *args: object) -> int:
    """Call a function of libc that returns -1 and sets errno on failure.

    :raises OSError: it failed.
    """
    result = int(getattr(_libc, name)(*args))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def unshare(flags: int) -> None:
    """Leave namespaces for new ones (os.unshare comes with Python 3.12 only)."""
    libc_call("unshare", ctypes.c_int(flags))


def is_privileged() -> bool:
    """Tell whether this process is root or holds CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_BPF."""
    if os.geteuid() == 0:
        return True
    needed = 1 << 12 | 1 << 21 | 1 << 39
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return effective & needed == needed


def mount(source: str, target: str, kind: str | None, flags: int = 0) -> None:
    """Mount a file system, without options of its own."""
    kind_bytes = None if kind is None else kind.encode()
    libc_call("mount", source.encode(), target.encode(), kind_bytes, ctypes.c_ulong(flags), None)


def attribute(kind: int, payload: bytes | int | str) -> bytes:
    """Pack one netlink attribute; an int is 32 bits wide, a str ends with a zero byte."""
    if isinstance(payload, int):
        payload = struct.pack("=I", payload)
    elif isinstance(payload, str):
        payload = payload.encode() + b"\0"
    padding = -len(payload) % 4
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * padding


_BPF_CALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_BPF_ATTRIBUTES = 152  # bytes of union bpf_attr, as far as this project fills it


def bpf_call(command: int, attributes: bytes) -> tuple[int, bytes]:
    """bpf(2); returns its result, and the attributes as they are afterwards.

    :param attributes: the start of ``union bpf_attr``; the rest is zero.
    :raises KeyError: its number on this machine is not known here.
    :raises OSError: the kernel refused.
    """
    number, size = _BPF_CALL[platform.machine()], _BPF_ATTRIBUTES
    buffer = ctypes.create_string_buffer(attributes.ljust(size, b"\0"), size)
    arguments = (ctypes.c_long(number), ctypes.c_int(command), buffer, ctypes.c_uint(size))
    return libc_call("syscall", *arguments), buffer.raw


def netlink_request(kind: int, payload: bytes, *, family: int = 0, flags: int = 0) -> None:
    """Send one request to the kernel and wait for its acknowledgement.

    :param family: netlink family; 0 is routing (links, qdiscs, filters).
    :raises OSError: the kernel's answer was an error.
    """
    header = struct.pack("=IHHII", 16 + len(payload), kind, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family) as sock:
        sock.settimeout(2)
        sock.send(header + payload)
        reply = sock.recv(65536)
    _, reply_kind, _, _, _, code = struct.unpack_from("=IHHIIi", reply)
    if reply_kind != _NLMSG_ERROR:
        raise OSError(errno.EPROTO, "no acknowledgement from netlink")
    if code:
        raise OSError(-code, os.strerror(-code))
