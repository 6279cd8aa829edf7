# SPDX-License-Identifier: MIT
"""What a packet costs where 1 to 1,000,000 flows go through DAD and DNAT, beside nftables.

Flows take turns, so each packet is of another flow than the one before it. All flows are known
before anything is timed. In nftables the same policy is a limit per flow in a set and DNAT in
connection tracking, which holds no more connections than the host allows (nf_conntrack_max); the
stateless rules beside it, one limit for all and a rewrite, know no flow.
"""

from __future__ import annotations

from pathlib import Path

from experiments._swept import swept
from experiments._swept_plan import Asked, Plan, Way, chain_text, flat
from testbed.bench.rig import RIGHT, VIRTUAL
from testbed.bench.variant import On, Variant, chain, nftables, nothing
from testbed.bench.variants import (
    NFTABLES_STATELESS,
    VARIANTS,
    dad_dnat,
    nftables_dad_dnat,
)

__all__ = ["EXPERIMENT"]

FLOWS = (1, 10, 100, 1_000, 10_000, 65_536, 100_000, 1_000_000)
QUICK_FLOWS = (1, 1_000, 100_000)
_LEAST_SET = 65_536
_ROOM = Path("/proc/sys/net/netfilter/nf_conntrack_max")


def plan(quick: bool) -> Plan:
    """Say what is measured."""
    xs = QUICK_FLOWS if quick else FLOWS
    most = xs[-1]
    return Plan(
        x_quantity="flows",
        x_unit="",
        xs=xs,
        ways=_ways(xs, room=_conntrack_room()),
        rounds=3 if quick else 8,
        packets=20_000 if quick else 100_000,
        lasts_s=10 if quick else 160,
        asked=tuple(
            Asked(
                name=f"{x:,} flows, forward: {way.removeprefix('chain-')} / {reference}",
                x=x,
                way=way,
                reference=reference,
            )
            for x in (1, 65_536, most)
            for way in ("chain-direct", "chain-stack")
            for reference in ("routing", "nftables")
        ),
        facts={"nf_conntrack_max": _conntrack_room()},
    )


def _conntrack_room() -> int | None:
    """Connections that the host's connection tracking holds; None where that cannot be seen."""
    try:
        return int(_ROOM.read_text())
    except (OSError, ValueError):
        return None


def _ways(xs: tuple[int, ...], *, room: int | None) -> tuple[Way, ...]:
    names = ("routing", "nftables", "nftables-stateless")
    against = {name: name for name in names}
    chains = [
        Way(
            name=f"chain-{forward}",
            text=chain_text("DAD and DNAT", forward),
            at={x: _chain(x, forward) for x in xs},
            against=against,
        )
        for forward in ("direct", "stack")
    ]
    held = [x for x in xs if room is None or x <= room]
    full = {
        x: f"connection tracking holds {room:,} (nf_conntrack_max)" for x in xs if x not in held
    }
    return (
        *chains,
        Way(
            name="routing",
            text=VARIANTS["routing"].text,
            at={x: _flows("routing", x, nothing, to=RIGHT) for x in xs},
            loaded=False,
        ),
        flat(VARIANTS["generator"], xs),
        Way(
            name="nftables",
            text="nftables, a limit per flow in a set and DNAT in connection tracking",
            at={x: _stateful(x) for x in held},
            notes=full,
        ),
        Way(
            name="nftables-stateless",
            text="nftables, one limit for all flows and a rewrite without connections",
            at={x: _flows("nftables-stateless", x, nftables(NFTABLES_STATELESS)) for x in xs},
        ),
    )


def _flows(
    name: str, flows: int, on: On, *, to: str = VIRTUAL, tools: tuple[str, ...] = ()
) -> Variant:
    text = f"{name}, {flows:,} flows in turn"
    return Variant(name=f"{name}-{flows}", text=text, to=to, flows=flows, on=on, tools=tools)


def _chain(flows: int, forward: str) -> Variant:
    policy = dad_dnat(forward=forward, max_flows=flows)
    return _flows(f"chain-{forward}", flows, chain(policy))


def _stateful(flows: int) -> Variant:
    rules = nftables_dad_dnat(max_flows=max(_LEAST_SET, flows))
    on = nftables(rules, conntrack=True)
    return _flows("nftables", flows, on, tools=("nft", "conntrack"))


EXPERIMENT = swept(
    "sweep_flows", "Sweep: time per packet with 1 to 1,000,000 flows through DAD and DNAT", plan
)
