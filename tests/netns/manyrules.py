# SPDX-License-Identifier: MIT
"""A policy with many kinds of rules, and packets that show by their port what way they went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from scapy.layers.inet import ICMP, IP

from testbed.network import Network
from tests.bpf.harness import policy_of
from tests.frames import tcp, udp
from tests.netns.twins import Sent, back, from_server, there
from tests.netns.wire import TwinLines, Wire
from topologies.line import LEFT, NODE_LEFT, RIGHT

__all__ = ["COURSE", "MANY_RULES", "assert_all_arrived", "two_wires"]

FAR = "203.0.113.5"


def _to_port(port: int, **row: Any) -> Mapping[str, Any]:
    """DNAT to the server at a port, which shows what way a packet went."""
    return {
        "nf": "dnat",
        "priority": 20,
        "params": {"rules": [{"to": RIGHT, "to_port": port, **row}]},
    }


MANY_RULES = policy_of(
    {"rules": [{"dst": "203.0.113.0/24"}, {"proto": "tcp", "dport": 80}], "nfs": [_to_port(5001)]},
    {
        "rules": [{"dport": 53, "priority": 50}, {"src": LEFT, "dst": FAR, "priority": 60}],
        "nfs": [{"nf": "pass", "priority": 10}, _to_port(5002, dport=53), {"nf": "pass"}],
    },
    {"rules": [{"dst": FAR, "dport": 99, "proto": "udp", "priority": 1}], "nfs": [{"nf": "pass"}]},
    {
        "rules": [{"sport": 7, "dst": NODE_LEFT}],
        "nfs": [_to_port(5004, proto="udp"), {"nf": "pass"}],
    },
)
COURSE: list[Sent] = [
    there(udp),
    back(udp, sport=5002),
    there(tcp, flags="S", payload=b""),
    there(tcp, dport=80, flags="S", payload=b""),
    there(udp, dst="203.0.113.77", dport=1),
    there(udp, dst=FAR, dport=1),
    there(udp, dst=FAR, dport=99),
    there(udp, dst=RIGHT, dport=80),
    there(udp, sport=7, dport=1),
    back(udp, sport=5004, dport=7),
    there(udp, sport=7, dst=RIGHT, dport=1),
    from_server(udp(src=LEFT, dst=RIGHT, dport=5002)),
    ("left", IP(src=LEFT, dst=RIGHT) / ICMP(id=7)),
]


def assert_all_arrived(frames: Mapping[str, list[bytes]]) -> None:
    """Assert that each packet went the way that the policy says."""
    right = [IP(frame[14:]) for frame in frames["right"]]
    ports = [packet.dport for packet in right if packet.proto != 1]
    assert ports == [5002, 5002, 5001, 5001, 1, 99, 80, 5004, 1]
    assert len(frames["left"]) == 3


@contextmanager
def two_wires() -> Iterator[tuple[Wire, Wire]]:
    """Two lines side by side, in which the node knows a way for all packets of the course."""
    with Network(TwinLines()) as net:
        one, other = (Wire(*(net.node(side + n) for side in "lnr")) for n in "12")
        for wire in (one, other):
            wire.node.run(["ip", "route", "add", "203.0.113.0/24", "via", RIGHT])
        yield one, other
