# SPDX-License-Identifier: MIT
"""An NFC node: a node of the network that runs a policy's chains."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyroute2 import IPRoute

from testbed.chain import Policy
from testbed.datapath.plan import NodePlan, make_plan
from testbed.datapath.tc import WAY_PEER, WAY_QUEUE, TcDatapath
from testbed.errors import UnsupportedError
from testbed.netnode import NetNode
from testbed.probe import probe

__all__ = ["NfcNode", "ways_out"]

_SIOCETHTOOL = 0x8946
_OFFLOADS = (0x16, 0x1E, 0x23)  # ETHTOOL_GTXCSUM, ETHTOOL_GTSO, ETHTOOL_GGSO

_ACCEPT_LOCAL = Path("/proc/sys/net/ipv4/conf/all/accept_local")


def ways_out() -> dict[int, int]:
    """How to leave by each interface of this thread's network namespace: index to way.

    ``WAY_PEER`` for a veth that has no queue to skip (so that a rate limit always holds), leaves
    checksums and cutting of merged packets to the other end, and whose other end lies in another
    namespace; ``WAY_QUEUE`` for the rest.
    """
    found: dict[int, int] = {}
    with IPRoute() as ipr:
        queues = {q["index"]: q for q in ipr.get_qdiscs() if q["parent"] == 0xFFFFFFFF}
        for link in ipr.get_links():
            info = link.get_attr("IFLA_LINKINFO")
            kind = info.get_attr("IFLA_INFO_KIND") if info else None
            queue = queues.get(link["index"])
            queueless = queue is None or queue.get_attr("TCA_KIND") == "noqueue"
            elsewhere = link.get_attr("IFLA_LINK_NETNSID") is not None
            peer = kind == "veth" and queueless and elsewhere and _offloads(link.get("ifname"))
            found[link["index"]] = WAY_PEER if peer else WAY_QUEUE
    return found


def _require(plan: NodePlan) -> None:
    """Ask for what the NFs need beyond the datapath, which also loads the modules that hold it.

    A function of a module that is not loaded would be found missing only by the verifier, whose
    message says nothing of it.
    """
    for stage in plan.stages():
        for name in stage.description.needs(stage.nf.params):
            answer = probe(name)
            if answer.state == "no":
                raise UnsupportedError(
                    f"{stage.label}: its parameters need {name}: {answer.detail}"
                    " (see nfcbed doctor)"
                )


def _offloads(interface: str) -> bool:
    """Whether an interface leaves checksums and segmentation undone: then it may be skipped."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in _OFFLOADS:
            answer = ctypes.create_string_buffer(struct.pack("=II", command, 0))
            request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(answer))
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
            if not struct.unpack("=II", answer.raw[:8])[1]:
                return False
    return True


class NfcNode:
    """A policy running on a node, on every interface of it, while the ``with`` block does.

    :param node: where.
    :param policy: which chains.
    :param bpffs: the run's bpffs; the node gets a folder of its own name there.
    :raises BpfError: the kernel refused a program or a map; nothing is left of it.
    :raises UnsupportedError: the kernel lacks what an NF's parameters ask for.

    While a chain translates, the node routes packets that bear an address of its own as their
    source: replies are translated before routing, so they seem to come from the node itself.
    """

    def __init__(self, node: NetNode, policy: Policy, *, bpffs: Path) -> None:
        self.node = node
        self.policy = policy
        self._folder = bpffs / node.name

    def start(self) -> Self:
        """Build the chains and let packets enter them."""
        plan = make_plan(self.policy)
        _require(plan)
        with self.node.netns():
            self._accept_local = _ACCEPT_LOCAL.read_text()
            self.datapath = TcDatapath(
                plan,
                folder=self._folder,
                ways=ways_out(),
                tcx=probe("tcx").state == "yes",
            )
            try:
                if any(stage.description.translates for stage in plan.stages()):
                    _ACCEPT_LOCAL.write_text("1")
                self.datapath.attach({i.name: i.index for i in self.node.interfaces})
            except BaseException:
                self._stop()
                raise
        return self

    def _stop(self) -> None:
        self.datapath.close()
        _ACCEPT_LOCAL.write_text(self._accept_local)

    def close(self) -> None:
        """Detach and unload; the node routes on without chains."""
        with self.node.netns():
            self._stop()

    def refresh_ways(self) -> None:
        """Look again which interfaces have a queue; call it after a queue was added or removed."""
        with self.node.netns():
            self.datapath.set_ways(ways_out())

    def describe(self) -> dict[str, Any]:
        """What runs here, as plain JSON values."""
        return self.datapath.describe()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
