# SPDX-License-Identifier: MIT
"""Two lines side by side, one with our DNAT and one with nftables', and packets for both."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scapy.layers.inet import IPOption
from scapy.packet import Packet

from testbed.chain import Policy
from testbed.network import Network
from tests.bpf.harness import policy_of
from tests.frames import CPORT, IP_OPTIONS, TCP_OPTIONS, icmp_error, quote, tcp, udp
from tests.netns.wire import TwinLines, Wire
from topologies.line import LEFT, NODE_LEFT, RIGHT

NEEDS = (
    *("root", "namespaces", "veth", "bpffs", "objects", "tc_ingress", "bpf_timer", "fib_lookup"),
    *("conntrack_kfuncs", "nft_nat", "nft", "conntrack", "ethtool"),
)
Sent = tuple[str, Packet | bytes]

SERVICE, FAR = NODE_LEFT, "203.0.113.5"
ROWS: list[dict[str, Any]] = [
    {"dport": 53, "to": RIGHT},
    {"dport": 54, "to": RIGHT, "to_port": 5454},
    {"dst": FAR, "to": RIGHT},
]
MODES = list(itertools.product(["table", "conntrack"], ["stack", "direct"]))
ROUTER = "10.10.7.7"


def chain_of(state: str, forward: str) -> Policy:
    """DNAT by the rows, for every packet."""
    nf = {"nf": "dnat", "params": {"rules": ROWS, "state": state}}
    return policy_of({"rules": [{}], "forward": forward, "nfs": [nf]})


def ruleset() -> str:
    """The same rows for nftables, whose NAT takes every protocol."""
    lines = []
    for row in ROWS:
        address = f"ip daddr {row['dst']} " if "dst" in row else ""
        to = f"dnat to {row['to']}" + (f":{row['to_port']}" if "to_port" in row else "")
        ports = [f"{p} dport {row['dport']} " for p in ("udp", "tcp")] if "dport" in row else [""]
        lines += [f"{address}{port}{to}" for port in ports]
    rules = "\n".join(lines)
    return (
        f"table ip nat {{\nchain pre {{\ntype nat hook prerouting priority dstnat\n{rules}\n}}\n}}"
    )


@contextmanager
def twins(*, offloads: bool = True, mtu: int = 1500) -> Iterator[tuple[Wire, Wire]]:
    """Our line (without a chain yet) and that of nftables.

    :param offloads: False: what the nodes send on they have to finish themselves.
    """
    with Network(TwinLines(mtu=mtu)) as net:
        ours, theirs = (Wire(*(net.node(side + n) for side in "lnr")) for n in "12")
        theirs.node.run(["nft", "-f", "-"], stdin=ruleset())
        for wire in (ours, theirs):
            for interface in wire.node.interfaces if not offloads else ():
                wire.node.offload(interface.name, tx=False, tso=False, gso=False, sg=False)
        yield ours, theirs


def there(make: Any, **fields: Any) -> Sent:
    """A packet from the client to the service."""
    return "left", make(**{"src": LEFT, "dst": SERVICE, **fields})


def back(make: Any, **fields: Any) -> Sent:
    """A packet from the server to the client."""
    return "right", make(**{"src": RIGHT, "sport": 53, "dst": LEFT, "dport": CPORT, **fields})


def handshake(**back_fields: Any) -> list[Sent]:
    """A TCP connection's first three segments."""
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    return [
        there(tcp, flags="S", seq=100, payload=b"", options=options),
        back(tcp, flags="SA", seq=500, ack=101, payload=b"", options=options, **back_fields),
        there(tcp, flags="A", seq=101, ack=501, payload=b"", options=TCP_OPTIONS),
    ]


def from_server(
    quoted: Packet, *, src: str = RIGHT, length: int | None = None, **kind: int
) -> Sent:
    """An error about a packet that was sent on to the server."""
    return "right", icmp_error(quote(quoted, length=length), src=src, dst=LEFT, **kind)


def from_client(quoted: Packet, *, src: str = LEFT, length: int | None = None, **kind: int) -> Sent:
    """An error about an answer that was sent back to the client."""
    return "left", icmp_error(quote(quoted, length=length), src=src, dst=SERVICE, **kind)


UDP_OPEN = [there(udp), back(udp)]
AT_SERVER: dict[str, Any] = {"src": LEFT, "dst": RIGHT}
AT_CLIENT: dict[str, Any] = {"src": SERVICE, "sport": 53, "dst": LEFT, "dport": CPORT}
OPTIONS = {"options": IPOption(IP_OPTIONS)}
HEADER = {"tos": 0xB8, "id": 4711, "flags": "DF", "ttl": 2}
