# SPDX-License-Identifier: MIT
"""The network of an experiment, by its topology's name, and what its nodes count themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed.netnode import NetNode
from testbed.network import Network
from topologies import load_topologies

__all__ = ["open_network", "udp_counter"]


@contextlib.contextmanager
def open_network(topology: str, **options: Any) -> Iterator[Network]:
    """Build a topology, meanwhile.

    :param options: of the topology: ``rate_mbps``, ``mtu``, ``queue_packets``.
    """
    with Network(load_topologies()[topology](**options)) as network:
        yield network


def udp_counter(node: NetNode, name: str) -> int:
    """One of the node's UDP counters since it was made, such as ``RcvbufErrors``."""
    lines = Path(f"/proc/{node.pid}/net/snmp").read_text().splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True))[name])
