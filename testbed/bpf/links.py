# SPDX-License-Identifier: MIT
"""Attaching programs to an interface, at tcx, clsact or XDP, and to netfilter's PRE_ROUTING."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from testbed.bpf.library import BpfError, check, libbpf
from testbed.bpf.object import Program
from testbed.probe_base import bpf_call

__all__ = [
    "FILTER_PRIORITY",
    "Link",
    "TcFilter",
    "attach_netfilter",
    "attach_tc",
    "attach_xdp",
    "tcx_egress_programs",
]

_TCX_INGRESS, _TCX_EGRESS = 46, 47  # enum bpf_attach_type
_TC_INGRESS, _TC_EGRESS = 1, 2  # enum bpf_tc_attach_point
FILTER_PRIORITY = 0x4E46
"""``NF``: ours alone in the clsact hook."""


class Link:
    """A tcx, XDP or netfilter link: the program runs while the link is open or pinned."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def create(cls, program: Program, ifindex: int, *, egress: bool = False) -> Link:
        """Attach to ingress, or egress, of the interface in this thread's namespace."""
        hook = _TCX_EGRESS if egress else _TCX_INGRESS
        fd = libbpf().bpf_link_create(program.fd, ifindex, hook, None)
        where = "egress" if egress else "ingress"
        return cls(check(fd, f"attach {program.name} at tcx {where}"))

    def pin(self, path: Path) -> None:
        """Keep the link beyond this process."""
        check(libbpf().bpf_obj_pin(self.fd, os.fsencode(path)), f"pin the link at {path}")

    def close(self) -> None:
        """Detach, unless it is pinned."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


_LINK_CREATE, _NETFILTER, _IPV4, _PRE_ROUTING = 28, 45, 2, 0


def attach_netfilter(program: Program, *, priority: int) -> Link:
    """Run a program at PRE_ROUTING of this thread's network namespace, for IPv4.

    :param priority: the smaller runs earlier (enum nf_ip_hook_priorities). One program each.
    :raises BpfError: the kernel refused, such as EBUSY where the priority is taken.
    """
    attributes = struct.pack(
        "=IIIIIIiI", program.fd, 0, _NETFILTER, 0, _IPV4, _PRE_ROUTING, priority, 0
    )
    try:
        return Link(bpf_call(_LINK_CREATE, attributes)[0])  # libbpf can do it from 1.3 on
    except OSError as error:
        where = f"netfilter PRE_ROUTING, priority {priority}"
        raise BpfError(f"attach {program.name} at {where}", error.errno or 0) from None


_XDP, _XDP_DRIVER_MODE = 37, 1 << 2  # BPF_XDP; native: not after an skb was made


def attach_xdp(program: Program, ifindex: int) -> Link:
    """Run a program in the driver of an interface of this thread's network namespace.

    :raises BpfError: the kernel refused, such as EBUSY where another program runs.
    """
    attributes = struct.pack("=IIII", program.fd, ifindex, _XDP, _XDP_DRIVER_MODE)
    try:
        return Link(bpf_call(_LINK_CREATE, attributes)[0])
    except OSError as error:
        raise BpfError(f"attach {program.name} at XDP", error.errno or 0) from None


def tcx_egress_programs(ifindex: int) -> int:
    """How many programs run at an interface's tcx egress; 0 also where the kernel has no tcx."""
    count = ctypes.c_uint32()
    result = libbpf().bpf_prog_query(ifindex, _TCX_EGRESS, 0, None, None, ctypes.byref(count))
    return count.value if result == 0 else 0


class _Hook(ctypes.Structure):
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    ]


class _Options(ctypes.Structure):
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
    ]


class TcFilter:
    """A clsact filter, for kernels before tcx (Linux 6.6)."""

    def __init__(self, ifindex: int, program: Program, *, egress: bool = False) -> None:
        point = _TC_EGRESS if egress else _TC_INGRESS
        self._hook = _Hook(ctypes.sizeof(_Hook), ifindex, point, 0)
        result = libbpf().bpf_tc_hook_create(ctypes.byref(self._hook))
        if result != -17:  # EEXIST: somebody's clsact is there already; it stays theirs
            check(result, "create the clsact hook")
        self._attach(program)

    def _attach(self, program: Program) -> None:
        options = _Options(
            sz=ctypes.sizeof(_Options),
            prog_fd=program.fd,
            handle=1,
            priority=FILTER_PRIORITY,
        )
        check(
            libbpf().bpf_tc_attach(ctypes.byref(self._hook), ctypes.byref(options)),
            f"attach {program.name} at clsact",
        )

    def pin(self, path: Path) -> None:
        """Nothing to do: a filter lives as long as its interface."""

    def close(self) -> None:
        """Detach the filter; the clsact hook goes with its interface."""
        options = _Options(sz=ctypes.sizeof(_Options), handle=1, priority=FILTER_PRIORITY)
        libbpf().bpf_tc_detach(ctypes.byref(self._hook), ctypes.byref(options))


def attach_tc(
    program: Program, ifindex: int, *, tcx: bool, egress: bool = False
) -> Link | TcFilter:
    """Attach to an interface's ingress, or egress, in this thread's namespace.

    :param tcx: whether this kernel has tcx links (``testbed.probe``).
    """
    if tcx:
        return Link.create(program, ifindex, egress=egress)
    return TcFilter(ifindex, program, egress=egress)
