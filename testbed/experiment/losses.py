# SPDX-License-Identifier: MIT
"""Where the kernels of a network's nodes dropped packets, read from what they count themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from testbed.netnode import NetNode
from testbed.network import Network

__all__ = ["SOCKET_PLACES", "lost_so_far"]

SOCKET_PLACES = {
    "RcvbufErrors": "no room in the socket's buffer",
    "MemErrors": "no memory for sockets",
    "InCsumErrors": "wrong UDP checksum",
    "NoPorts": "no socket at the port",
}
"""UDP counters of packets that had arrived at a node and did not reach a program, and in words."""

_ROUTING_PLACES = {
    "InHdrErrors": "broken IP header, or TTL ran out",
    "InAddrErrors": "no way for the address",
    "InUnknownProtos": "unknown protocol",
    "InDiscards": "discarded by IP on arrival",
    "OutDiscards": "discarded by IP on departure",
    "OutNoRoutes": "no route",
    "FragFails": "too long for the link",
}
_MORE_ROUTING_PLACES = {
    "InNoRoutes": "no route on arrival",
    "InTruncatedPkts": "cut short",
}
_LAYERS = (
    ("snmp", "Ip", _ROUTING_PLACES),
    ("netstat", "IpExt", _MORE_ROUTING_PLACES),
    ("snmp", "Udp", SOCKET_PLACES),
)
_NOT_OUTGOING = ("clsact", "ingress")  # what a chain drops is the chain's to tell


def lost_so_far(network: Network) -> dict[str, int]:
    """Packets that the nodes dropped since they were made, by place in words; of all flows.

    A packet that found no room in a core's backlog is counted at both ends of its link, as one
    that was not sent and one that was not taken: here it is one.
    """
    found: dict[str, int] = {}
    devices = {name: _devices(node) for name, node in network.nodes.items()}
    for name, node in network.nodes.items():
        for file, layer, places in _LAYERS:
            counts = _counts(node, file, layer)
            found |= {f"{name}: {text}": counts.get(key, 0) for key, text in places.items()}
        found[f"{name}: queue full"] = _queue_drops(node)
        for interface in node.interfaces:
            peer, end = interface.peer
            sent_off, taken = devices[name][interface.name][1], devices[peer][end][0]
            found[f"{interface.name} to {end}"] = max(sent_off, taken)
    return found


def _counts(node: NetNode, file: str, layer: str) -> Mapping[str, int]:
    lines = Path(f"/proc/{node.pid}/net/{file}").read_text().splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith(f"{layer}:"))
    return dict(zip(names, map(int, values), strict=True))


def _devices(node: NetNode) -> dict[str, tuple[int, int]]:
    """Packets that each interface dropped on arrival and on departure."""
    found = {}
    for line in Path(f"/proc/{node.pid}/net/dev").read_text().splitlines()[2:]:
        name, counts = line.split(":")
        columns = counts.split()
        found[name.strip()] = int(columns[3]), int(columns[11])
    return found


def _queue_drops(node: NetNode) -> int:
    queues = json.loads(node.run(["tc", "-s", "-j", "qdisc", "show"]).stdout)
    return sum(q.get("drops", 0) for q in queues if q["kind"] not in _NOT_OUTGOING)
