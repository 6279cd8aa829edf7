# SPDX-License-Identifier: MIT
"""The ways through the node that are compared, each switched on for one measurement.

Every measurement loads its programs anew: where the kernel's compiler happens to place a program
can cost more than the program itself, so each round is another draw of that as well.
"""

from __future__ import annotations

from testbed.bench.rig import DPORT, VIRTUAL
from testbed.bench.rulesets import chain_of_rules, ruleset_variants
from testbed.bench.userspace import user_variants
from testbed.bench.variant import Variant, chain, nftables, nothing, one_chain
from testbed.chain import NF, Policy
from testbed.errors import UserError
from topologies.line import RIGHT

__all__ = [
    "NFTABLES_STATELESS",
    "RULES",
    "THRESHOLD_MBPS",
    "VARIANTS",
    "choose",
    "dad_dnat",
    "nftables_dad_dnat",
]

RULES = 1_000
THRESHOLD_MBPS = 80_000  # more than one core sends: everything is measured, nothing dropped
_NFT_BYTES = f"{THRESHOLD_MBPS // 8} mbytes/second burst 1 mbytes"
_TO_VIRTUAL = f"ip daddr {VIRTUAL} udp dport {DPORT}"

NFTABLES_STATELESS = f"""
table ip bench {{
    chain stateless {{
        type filter hook prerouting priority mangle
        {_TO_VIRTUAL} limit rate over {_NFT_BYTES} drop
        {_TO_VIRTUAL} ip daddr set {RIGHT}
    }}
}}
"""
"""The least that nftables can do: one limit for all flows, a rewrite that knows no connection."""


def dad_dnat(*, forward: str, state: str = "table", max_flows: int = 1024) -> Policy:
    """The chain DAD, then DNAT from the node's own address to `right`."""
    limit = {"threshold_mbps": THRESHOLD_MBPS, "max_flows": max_flows}
    row = {"proto": "udp", "dst": VIRTUAL, "dport": DPORT, "to": RIGHT}
    nat = {"rules": [row], "state": state, "max_flows": max_flows}
    nfs = (
        NF(name="dad", priority=10, params=limit),
        NF(name="dnat", priority=20, params=nat),
    )
    return one_chain(VIRTUAL, forward=forward, nfs=nfs)


def nftables_dad_dnat(*, max_flows: int = 65_536) -> str:
    """The same in nftables: a limit per flow in a set, then DNAT in connection tracking."""
    return f"""
table ip bench {{
    set flows {{
        type ipv4_addr . inet_service . ipv4_addr . inet_service
        flags dynamic
        size {max_flows}
    }}
    chain deny {{
        type filter hook prerouting priority mangle
        {_TO_VIRTUAL} update @flows {{ ip saddr . udp sport . ip daddr . udp dport \
limit rate over {_NFT_BYTES} }} drop
    }}
    chain translate {{
        type nat hook prerouting priority dstnat
        {_TO_VIRTUAL} dnat to {RIGHT}
    }}
}}
"""


def _chained(name: str, text: str, *, forward: str, state: str = "table") -> Variant:
    policy, conntrack = dad_dnat(forward=forward, state=state), state == "conntrack"
    return Variant(
        name=name,
        text=text,
        to=VIRTUAL,
        on=chain(policy, conntrack=conntrack),
        probes=("conntrack_kfuncs",) if conntrack else (),
        tools=("conntrack",) if conntrack else (),
    )


def _many_flows(flows: int) -> Variant:
    policy = dad_dnat(forward="direct", max_flows=flows)
    return Variant(
        name=f"chain-direct-{flows}",
        text=f"as chain-direct, {flows:,} flows in turn",
        to=VIRTUAL,
        flows=flows,
        on=chain(policy),
    )


def _passes(count: int) -> Variant:
    nfs = tuple(NF(name="pass", priority=10) for _ in range(count))
    policy = one_chain(RIGHT, forward="direct", nfs=nfs)
    return Variant(
        name=f"pass-{count}",
        text=f"{count} pass-through NFs, forward: direct",
        on=chain(policy),
    )


def _in_nftables(name: str, text: str, rules: str, *, conntrack: bool) -> Variant:
    return Variant(
        name=name,
        text=text,
        to=VIRTUAL,
        on=nftables(rules, conntrack=conntrack),
        probes=("nft_nat",),
        tools=("nft", "conntrack") if conntrack else ("nft",),
    )


_ALL = (
    Variant(name="generator", text="the generator alone: frames go nowhere", to=None, on=nothing),
    Variant(
        name="limit",
        text="an empty program with bpf_redirect_peer",
        on=lambda rig: rig.attached(rig.redirect_peer),
        probes=("redirect_peer",),
    ),
    Variant(name="routing", text="the kernel's routing alone", on=nothing),
    _chained("chain-direct", "DAD, DNAT, forward: direct", forward="direct"),
    _chained("chain-stack", "DAD, DNAT, forward: stack", forward="stack"),
    _chained(
        "chain-direct-conntrack",
        "as chain-direct, DNAT in conntrack",
        forward="direct",
        state="conntrack",
    ),
    _chained(
        "chain-stack-conntrack",
        "as chain-stack, DNAT in conntrack",
        forward="stack",
        state="conntrack",
    ),
    _in_nftables(
        "nftables", "limit per flow, DNAT by conntrack", nftables_dad_dnat(), conntrack=True
    ),
    _in_nftables("nftables-stateless", "two stateless rules", NFTABLES_STATELESS, conntrack=False),
    *(_many_flows(flows) for flows in (1_000, 65_536)),
    *(_passes(count) for count in range(9)),
    chain_of_rules(RULES, forward="direct"),
    ruleset_variants(RULES)["iptables-rules"],
    *user_variants(threshold_mbps=THRESHOLD_MBPS),
)

VARIANTS = {variant.name: variant for variant in _ALL}


def choose(names: str | None) -> list[Variant]:
    """Variants by their names, separated by commas; all where none are named.

    :raises UserError: there is none of that name.
    """
    if names is None:
        return list(VARIANTS.values())
    chosen = []
    for name in dict.fromkeys(part.strip() for part in names.split(",")):
        if name not in VARIANTS:
            raise UserError(f"--variants: there is no {name!r}; there are: {', '.join(VARIANTS)}")
        chosen.append(VARIANTS[name])
    return chosen
