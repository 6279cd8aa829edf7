# SPDX-License-Identifier: MIT
"""The `xdp` datapath: linked programs in the driver of a node's interfaces, before there is an skb.

The node's own packets do not pass XDP. Where a chain translates, they are seen at tc egress, as on
the `tc` datapath (:mod:`testbed.datapath.ownpackets`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pyroute2 import IPRoute

from testbed.bpf import BpfError, BpfObject, Link, attach_xdp
from testbed.datapath.linked import LinkedDatapath, make_folder, pin
from testbed.datapath.ownpackets import OwnPackets
from testbed.datapath.peers import Peer, peers_of, prepared
from testbed.datapath.plan import NodePlan
from testbed.datapath.ways import ways_out
from testbed.errors import RunError, UnsupportedError

__all__ = ["XdpDatapath"]

_KNOCKS = 64
_KNOCK_WAIT_S = 1.0
# To the link-local group that no switch passes on, with a type for experiments (IEEE 802).
_KNOCK = bytes.fromhex("0180c200000e 020000000001 88b5").ljust(60, b"\0")


class XdpDatapath(LinkedDatapath):
    """Chains of one node at XDP; see :class:`LinkedDatapath`.

    :param macs: Ethernet address of each interface, by its index.
    """

    name = "xdp"
    shared = ("slots", "findings")

    def __init__(
        self, plan: NodePlan, *, folder: Path, ways: Mapping[int, int], macs: Mapping[int, bytes]
    ) -> None:
        self.links: dict[str, Link] = {}
        self._macs = macs
        self._own: OwnPackets | None = None
        super().__init__(plan, folder=folder, ways=ways)

    @classmethod
    def open(cls, plan: NodePlan, *, folder: Path) -> Self:
        """Build it for the node in whose namespace this is called."""
        return cls(plan, folder=folder, ways=ways_out(redirected=True), macs=_macs())

    @property
    def hook(self) -> str:
        """Where packets enter."""
        return "native XDP"

    def refresh(self) -> None:
        """Look again which interfaces have a queue, and at their addresses."""
        self.set_ways(ways_out(own=self.plan.translates, redirected=True))
        self._macs = _macs()
        self._fill_macs()

    def _prepare(self, classifier: BpfObject) -> None:
        classifier.resize("macs", max(self._macs, default=0) + 1)

    def _fill_classifier(self) -> None:
        super()._fill_classifier()
        self._fill_macs()

    def _fill_macs(self) -> None:
        table = self.classifier.map("macs")
        for ifindex, address in self._macs.items():
            if ifindex < table.max_entries:  # a later one is not attached to
                table.set(ifindex, {"bytes": list(address), "zero": [0, 0]})

    def attach(self, interfaces: Mapping[str, int]) -> None:
        """Set up the other ends, then let the interfaces' packets enter the chains."""
        for peer in peers_of(interfaces, self._undo):
            prepared(peer, self._undo)
            if any(chain.chain.forward == "direct" for chain in self.plan.chains):
                self._knock(peer, interfaces[peer.of])
        if self.plan.translates:
            self._own = OwnPackets(self)
            self._undo.callback(self._own.close)
            self._own.attach(interfaces.values())
        make_folder(self.folder / "links", self._undo)
        for name, ifindex in interfaces.items():
            self._attach(name, ifindex)
        self.interfaces = tuple(sorted(interfaces))

    def _attach(self, name: str, ifindex: int) -> None:
        try:
            link = attach_xdp(self.classifier.program("classify"), ifindex)
        except BpfError as error:
            raise UnsupportedError(
                f"{name} takes no XDP program for frames in pieces: {error} (see nfcbed doctor)"
            ) from None
        self._undo.callback(link.close)
        pin(link, self.folder / "links" / name, self._undo)
        self.links[name] = link

    def _knock(self, peer: Peer, ifindex: int) -> None:
        """See that frames redirected to an interface come out at its other end.

        :raises RunError: they do not.
        """
        before, deadline = peer.received(), time.monotonic() + _KNOCK_WAIT_S
        self.last.program("knock").send_frames(_KNOCK, count=_KNOCKS, ifindex=ifindex)
        while (arrived := peer.received() - before) < _KNOCKS:
            if time.monotonic() > deadline:
                raise RunError(
                    f"XDP: of {_KNOCKS} frames redirected to {peer.of} {max(0, arrived)} arrived at"
                    f" its other end {peer.name}: the chain would lose what it forwards. Take"
                    " forward: stack, or datapath: tc"
                )
            time.sleep(0.01)


def _macs() -> dict[int, bytes]:
    """Ethernet address of each interface of this thread's network namespace, by its index."""
    with IPRoute() as ipr:
        found = {link["index"]: link.get_attr("IFLA_ADDRESS") for link in ipr.get_links()}
    return {index: bytes.fromhex(mac.replace(":", "")) for index, mac in found.items() if mac}
