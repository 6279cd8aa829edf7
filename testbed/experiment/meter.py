# SPDX-License-Identifier: MIT
"""Counts per 5-tuple what arrives at a node's interfaces (``testbed/bpf/meter.tc.bpf.c``)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from testbed.bpf import BpfObject, Map, attach_tc
from testbed.chain import FiveTuple
from testbed.netnode import NetNode
from testbed.paths import BUILD
from testbed.probe import probe

__all__ = ["Arrived", "Meter", "metered"]


@dataclass(frozen=True)
class Arrived:
    """What came of one flow: packets on the wire and bytes behind the UDP header."""

    packets: int = 0
    payload_bytes: int = 0


class Meter:
    """The counters of a node's meter."""

    def __init__(self, arrived: Map, untold: Map) -> None:
        self._arrived, self._untold = arrived, untold

    def read(self) -> dict[FiveTuple, Arrived]:
        """What has arrived so far, by flow."""
        return {_five_tuple(key): Arrived(**count) for key, count in self._arrived.items()}

    @property
    def untold(self) -> int:
        """Packets that found no room in the table: 0 unless there were very many flows."""
        return int(self._untold.get(0) or 0)


def _five_tuple(key: dict[str, int]) -> FiveTuple:
    return FiveTuple(
        src=IPv4Address(key["src"]),
        dst=IPv4Address(key["dst"]),
        sport=key["sport"],
        dport=key["dport"],
        proto=key["proto"],
    )


@contextlib.contextmanager
def metered(node: NetNode) -> Iterator[Meter]:
    """Count what arrives at the node's interfaces, meanwhile.

    :raises BpfError: the kernel refused the program.
    """
    with contextlib.ExitStack() as stack:
        bpf = stack.enter_context(BpfObject(BUILD / "testbed/meter.tc.bpf.o"))
        bpf.load()
        program, tcx = bpf.program("meter"), probe("tcx").state == "yes"
        with node.netns():
            links = [attach_tc(program, i.index, tcx=tcx) for i in node.interfaces]
        try:
            yield Meter(bpf.map("arrived"), bpf.map("untold"))
        finally:
            with node.netns():
                for link in links:
                    link.close()
