# SPDX-License-Identifier: MIT
"""The other ends of a node's veths, set up for what XDP asks of them.

- A veth takes frames that are *redirected* to it only where its other end polls (NAPI), which GRO
  switches on there. Else every frame is lost, without an error.
- What the other end *sends* must be whole: a checksum or a VLAN tag that it leaves to an offload
  is not in the frame that XDP sees.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from testbed.errors import RunError
from testbed.ethtool import Offload, offload, set_offload
from testbed.namespaces import entered

__all__ = ["Peer", "peers_of", "prepared"]

_WANTED = {Offload.GENERIC_RECEIVE: True, Offload.TX_CHECKSUM: False, Offload.TX_VLAN: False}


@dataclass(frozen=True)
class Peer:
    """The other end of a veth.

    :ivar of: name of the end that is the node's.
    :ivar namespace: descriptor of its network namespace.
    """

    of: str
    name: str
    index: int
    namespace: int

    def received(self) -> int:
        """Packets that came in here so far."""
        with entered(self.namespace), IPRoute() as ipr:
            (link,) = ipr.get_links(self.index)
            return int(link.get_attr("IFLA_STATS64")["rx_packets"])


def peers_of(interfaces: Iterable[str], stack: contextlib.ExitStack) -> Iterator[Peer]:
    """The other ends of those of the interfaces that are veths.

    Called in the node's namespace; the descriptors close with ``stack``.

    :raises RunError: no process that can be seen from here is in one's namespace.
    """
    with IPRoute() as ipr:
        links = [link for link in ipr.get_links() if link.get_attr("IFLA_IFNAME") in interfaces]
        for link in links:
            info, name = link.get_attr("IFLA_LINKINFO"), link.get_attr("IFLA_IFNAME")
            if info is None or info.get_attr("IFLA_INFO_KIND") != "veth":
                continue
            namespace = _namespace(ipr, link.get_attr("IFLA_LINK_NETNSID"))
            if namespace is None:
                raise RunError(
                    f"the other end of {name} lies in a network namespace that no process here is"
                    " in: what XDP needs of it cannot be set up"
                )
            stack.callback(os.close, namespace)
            index = link.get_attr("IFLA_LINK")
            with entered(namespace), IPRoute() as there:
                (peer,) = there.get_links(index)
            yield Peer(of=name, name=peer.get_attr("IFLA_IFNAME"), index=index, namespace=namespace)


def _namespace(ipr: IPRoute, number: int | None) -> int | None:
    """Open the namespace that has this number in ours, or None; ours where there is no number."""
    if number is None:
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, NetlinkError):  # one that ends meanwhile
            descriptor = os.open(process / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
            if ipr.get_netnsid(fd=descriptor)["nsid"] == number:
                return descriptor
            os.close(descriptor)
    return None


def prepared(peer: Peer, stack: contextlib.ExitStack) -> None:
    """Set it up; ``stack`` puts back what was there.

    :raises RunError: it does not take a setting.
    """
    for which, on in _WANTED.items():
        try:
            with entered(peer.namespace):
                before = offload(peer.name, which)
                if before == on:
                    continue
                set_offload(peer.name, which, on=on)
        except OSError as error:
            raise RunError(
                f"XDP at {peer.of}: {which.name} of its other end {peer.name} cannot be switched"
                f" {'on' if on else 'off'}: {error.strerror}"
            ) from None
        stack.callback(_put_back, peer, which, before)


def _put_back(peer: Peer, which: Offload, before: bool) -> None:
    with contextlib.suppress(OSError), entered(peer.namespace):  # it may be gone by now
        set_offload(peer.name, which, on=before)
