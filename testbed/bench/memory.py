# SPDX-License-Identifier: MIT
"""Bytes that the maps and programs of a chain hold, as the kernel accounts them (memlock)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from testbed.bench.rig import VIRTUAL, Rig
from testbed.bench.targets import Finding, Found, Target, not_measured
from testbed.bench.variant import chain_on
from testbed.bench.variants import dad_dnat
from testbed.bpf.held import objects_in_use
from testbed.probe import probe

__all__ = ["TARGETS", "Held", "Memory", "full_tables_only", "measure_memory", "memory_found"]

TARGETS = (
    Target(
        key="bytes",
        part="memory",
        text="memory of a chain of 2 NFs with 2 flows (room for the thesis's 10)",
        unit="byte",
        bound=128 * 1024,
        at_least=False,
    ),
    Target(
        key="bytes_per_flow_per_nf",
        part="memory",
        text="memory of one more flow, per NF",
        unit="byte",
        bound=160,
        at_least=False,
    ),
)

_NFS = 2
_FLOWS = 2
_THESIS_BOUND = 10
_DEFAULT_BOUND = 1024
_MANY_FLOWS = 16_384


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes of a chain's objects.

    :ivar bound: how many flows its tables have room for.
    :ivar flows: how many are in them.
    :ivar maps: bytes of its maps; those without preallocation count what they hold.
    :ivar programs: bytes of its programs, without the pages of compiled code that they share
        with others.
    """

    bound: int
    flows: int
    maps: int
    programs: int

    @property
    def total(self) -> int:
        """Bytes of both."""
        return self.maps + self.programs


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What was found.

    :ivar exact: two flows, and room for no more.
    :ivar thesis: two flows, and room for ten, as in the thesis.
    :ivar usual: two flows, and the default bound.
    :ivar large: many flows, and room for no more.
    """

    exact: Held
    thesis: Held
    usual: Held
    large: Held

    @property
    def bytes_per_flow(self) -> float:
        """Growth per flow and NF, tables that are allocated beforehand included."""
        more = self.large.flows - self.exact.flows
        return (self.large.maps - self.exact.maps) / more / _NFS

    def plain(self, environment: Mapping[str, Any]) -> dict[str, Any]:
        """As JSON values, format nfcbed-bench-memory, version 1."""
        return {
            "format": "nfcbed-bench-memory",
            "version": 1,
            **asdict(self),
            "bytes_per_flow_per_nf": self.bytes_per_flow,
            "aims": {target.key: target.bound for target in TARGETS},
            "environment": dict(environment),
        }


def _hold(rig: Rig, *, bound: int, flows: int) -> Held:
    before = objects_in_use()
    with chain_on(rig, dad_dnat(forward="direct", max_flows=bound)):
        rig.send(2 * flows, to=VIRTUAL, flows=flows)
        new = [use for key, use in objects_in_use().items() if key not in before]
    maps, programs = (
        sum(use.held_bytes for use in new if use.kind == kind) for kind in ("map", "program")
    )
    return Held(bound=bound, flows=flows, maps=maps, programs=programs)


def measure_memory(rig: Rig) -> Memory:
    """Build the chain DAD, DNAT with few and with many flows and look at what it holds."""
    rig.send(_FLOWS, to=VIRTUAL, flows=_FLOWS)  # loads the generator, which is not the chain's
    return Memory(
        exact=_hold(rig, bound=_FLOWS, flows=_FLOWS),
        thesis=_hold(rig, bound=_THESIS_BOUND, flows=_FLOWS),
        usual=_hold(rig, bound=_DEFAULT_BOUND, flows=_FLOWS),
        large=_hold(rig, bound=_MANY_FLOWS, flows=_MANY_FLOWS),
    )


def full_tables_only() -> str | None:
    """Why what was found is not what the tables hold; None where it is."""
    if probe("map_memory").state != "no":
        return None
    return (
        "this kernel (before 6.4) tells what the tables' entries would need if they were full,"
        " not what they hold"
    )


def memory_found(plain: Mapping[str, Any]) -> Found:
    """What the table says of it.

    :param plain: what :meth:`Memory.plain` gave.
    """
    if (why := full_tables_only()) is not None:
        return Found(findings={target.key: not_measured(why) for target in TARGETS})
    thesis = plain["thesis"]
    values = {
        "bytes": thesis["maps"] + thesis["programs"],
        "bytes_per_flow_per_nf": plain["bytes_per_flow_per_nf"],
    }
    return Found(findings={key: Finding(value=value) for key, value in values.items()})
