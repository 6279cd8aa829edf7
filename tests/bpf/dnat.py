# SPDX-License-Identifier: MIT
"""What the tests of DNAT share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from scapy.packet import Packet

from tests.bpf.harness import LoadedNode, Verdict
from tests.frames import CLIENT, CPORT, SERVER

__all__ = ["BOTH_MODES", "TO_PORT", "TO_SERVER", "answer", "dnat", "is_dropped"]

BOTH_MODES = pytest.mark.parametrize(
    "state", ["table", pytest.param("conntrack", marks=pytest.mark.needs("conntrack_kfuncs"))]
)
TO_SERVER = {"dport": 53, "to": SERVER}
TO_PORT = {"dport": 53, "to": SERVER, "to_port": 5353}

OTHER_SERVICE = "10.0.0.7"


def dnat(*rows: Mapping[str, Any], **params: Any) -> Mapping[str, Any]:
    """A chain with DNAT alone, for every packet."""
    return {"rules": [{}], "nfs": [{"nf": "dnat", "params": {"rules": rows, **params}}]}


def answer(make: Any, **fields: Any) -> Packet:
    """A packet from the server's port 53 back to the client."""
    return make(**{"src": SERVER, "sport": 53, "dst": CLIENT, "dport": CPORT, **fields})


def is_dropped(node: LoadedNode, packet: Packet, reason: str) -> None:
    """Assert that DNAT drops the packet, counted under this reason, in one of the directions."""

    def counted() -> int:
        counts = node.counts("dnat")
        return counts.dropped[reason] + counts.replies_dropped[reason]

    before = counted()
    assert node.run(packet).verdict is Verdict.DROP
    assert counted() == before + 1
