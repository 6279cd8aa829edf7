# SPDX-License-Identifier: MIT
"""The interface by which packets come back from user space to their chains."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from pyroute2 import IPRoute

from testbed.bpf import Program, attach_tc
from testbed.errors import UnsupportedError

__all__ = ["WAY_BACK", "WayBack"]

WAY_BACK = "nfcbed-user"

_TUN = "/dev/net/tun"
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_TAP, _MULTI_QUEUE, _NO_PI, _VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000


class WayBack:
    """A TAP interface in this thread's network namespace, there while this object is open.

    What the programs in user space write into it, ``from_user`` puts where it came in.

    :raises UnsupportedError: there are no TAP interfaces.
    """

    def __init__(self, from_user: Program, *, tcx: bool) -> None:
        try:
            _make()
        except OSError as error:
            raise UnsupportedError(
                "chains that go on in the kernel behind user space need TAP interfaces:"
                f" {_TUN}: {error.strerror}"
            ) from None
        # Nothing but our packets is to go this way, no neighbour discovery of the kernel's.
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/sys/net/ipv6/conf/{WAY_BACK}/disable_ipv6").write_text("1")
        with IPRoute() as ipr:
            (self._index,) = ipr.link_lookup(ifname=WAY_BACK)
            ipr.link("set", index=self._index, state="up")
        self._link = attach_tc(from_user, self._index, tcx=tcx)

    def close(self) -> None:
        """Remove the interface."""
        self._link.close()
        with IPRoute() as ipr:
            ipr.link("del", index=self._index)


def _make() -> None:
    descriptor = os.open(_TUN, os.O_RDWR)
    try:
        flags = _TAP | _MULTI_QUEUE | _NO_PI | _VNET_HDR
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", WAY_BACK.encode(), flags))
        fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
    finally:
        os.close(descriptor)
