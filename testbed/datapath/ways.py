# SPDX-License-Identifier: MIT
"""How ``forward: direct`` may leave by an interface: through its queue, or past it."""

from __future__ import annotations

from pyroute2 import IPRoute

from testbed.bpf import FILTER_PRIORITY, tcx_egress_programs
from testbed.datapath.linked import WAY_PEER, WAY_QUEUE
from testbed.ethtool import Offload, offload

__all__ = ["ways_out"]

_OFFLOADS = (Offload.TX_CHECKSUM, Offload.TCP_SEGMENTATION, Offload.GENERIC_SEGMENTATION)
_CLSACT_EGRESS = 0xFFFFFFF3  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)


def ways_out(*, own: bool = False, redirected: bool = False) -> dict[int, int]:
    """How to leave by each interface of this thread's network namespace: index to way.

    :param own: whether a program of our own runs at the interfaces' egress. It has nothing to do
        with forwarded packets and may be skipped.
    :param redirected: for XDP: its frames have nothing left undone, and go to the other end
        wherever that lies.

    ``WAY_PEER`` for a veth that has no queue and no program at its egress to skip (so that a rate
    limit or a policer always holds), leaves checksums and cutting of merged packets to the other
    end, and whose other end lies in another namespace; ``WAY_QUEUE`` for the rest.
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
            peer = (
                kind == "veth"
                and queueless
                and not _egress_programs(ipr, link["index"], own=own)
                and (redirected or (elsewhere and _offloads(link.get("ifname"))))
            )
            found[link["index"]] = WAY_PEER if peer else WAY_QUEUE
    return found


def _egress_programs(ipr: IPRoute, ifindex: int, *, own: bool) -> bool:
    """Whether a tcx program or a filter (a policer, say) of others sees what leaves."""
    filters = ipr.get_filters(ifindex, parent=_CLSACT_EGRESS)
    foreign = [f for f in filters if not own or f["info"] >> 16 != FILTER_PRIORITY]
    programs = tcx_egress_programs(ifindex)
    return bool(foreign) or programs > (1 if own else 0)


def _offloads(interface: str) -> bool:
    """Whether an interface leaves checksums and segmentation undone: then it may be skipped."""
    return all(offload(interface, which) for which in _OFFLOADS)
