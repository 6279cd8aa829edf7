# SPDX-License-Identifier: MIT
"""Keeps a node's ways out right while somebody may change its queues by hand.

``forward: direct`` skips the queue of a veth only where there is none. A queue that is added
later (``tc qdisc add …`` at the prompt) must hold at once, so the kernel's announcements are
listened to.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
from collections.abc import Iterator

from testbed.datapath.node import NfcNode
from testbed.errors import NfcbedError

__all__ = ["watch_queues"]

_RTMGRP_LINK, _RTMGRP_TC = 0x1, 0x8  # <linux/rtnetlink.h>: about interfaces, about qdiscs


@contextlib.contextmanager
def watch_queues(node: NfcNode) -> Iterator[None]:
    """Refresh the node's ways whenever a qdisc of its namespace changes, meanwhile."""
    with node.node.netns():
        # Only a wake-up is wanted: what has changed is read anew by refresh_ways().
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        netlink.bind((0, _RTMGRP_LINK | _RTMGRP_TC))
    wake_read, wake_write = os.pipe()

    def listen() -> None:
        while True:
            ready, _, _ = select.select([netlink.fileno(), wake_read], [], [])
            if wake_read in ready:
                return
            with contextlib.suppress(OSError):  # an overflow (ENOBUFS) is news as well
                netlink.recv(1 << 16)
            try:
                node.refresh_ways()
            except (NfcbedError, OSError) as error:  # such as an interface that goes meanwhile
                sys.stderr.write(f"nfcbed: queues of {node.node.name}: {error}\n")

    thread = threading.Thread(target=listen, name=f"queues of {node.node.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(wake_write, b"x")
        thread.join()
        netlink.close()
        os.close(wake_read)
        os.close(wake_write)
