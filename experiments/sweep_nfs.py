# SPDX-License-Identifier: MIT
"""What a packet costs with 0 to 32 NFs in its chain, beside as many chains in nftables.

Each NF is the pass-through one, so what is seen is the way from one NF to the next. In nftables a
rule like the flow rule sends the packet to as many chains, one behind the other: it is called and
returns, which is the least that a chain there can do.
"""

from __future__ import annotations

from experiments._swept import swept
from experiments._swept_plan import Asked, Plan, Slope, Way, chain_text, flat
from testbed.bench.rig import DPORT, RIGHT
from testbed.bench.variant import Variant, chain, nftables, one_chain
from testbed.bench.variants import VARIANTS
from testbed.chain import NF

__all__ = ["EXPERIMENT", "nftables_chains"]

_NAMES = {
    "chain-direct": "forward: direct",
    "chain-stack": "forward: stack",
    "nftables": "nftables",
}
NFS, QUICK_NFS = (0, 1, 2, 4, 8, 16, 24, 32), (0, 8, 32)


def plan(quick: bool) -> Plan:
    """Say what is measured."""
    xs = QUICK_NFS if quick else NFS
    both = {name: name for name in ("routing", "nftables")}
    chains = [
        Way(
            name=f"chain-{forward}",
            text=chain_text("as many pass-through NFs", forward),
            at={x: _passes(x, forward) for x in xs},
            against=both,
        )
        for forward in ("direct", "stack")
    ]
    peer = Way(
        name="nftables",
        text="nftables, a rule that sends packets to as many chains, each called in turn",
        at={x: _chains(x) for x in xs},
    )
    still = (flat(VARIANTS[name], xs) for name in ("routing", "generator"))
    return Plan(
        x_quantity="NFs in the chain",
        x_unit="",
        xs=xs,
        ways=(*chains, *still, peer),
        rounds=3 if quick else 25,
        packets=20_000 if quick else 100_000,
        lasts_s=5 if quick else 110,
        slopes=tuple(
            Slope(name=f"one more NF, up to {most}, {name}", way=way, most=most)
            for way, name in _NAMES.items()
            for most in (8, 32)
        ),
        asked=tuple(
            Asked(name=f"32 NFs, {_NAMES[way]} / {reference}", x=32, way=way, reference=reference)
            for way in ("chain-direct", "chain-stack")
            for reference in both
        ),
    )


def _passes(count: int, forward: str) -> Variant:
    policy = one_chain(RIGHT, forward=forward, nfs=(NF(name="pass"),) * count)
    return Variant(
        name=f"nfs-{count}-{forward}",
        text=f"{count} pass-through NFs, forward: {forward}",
        on=chain(policy),
    )


def nftables_chains(count: int) -> str:
    """A rule for the generator's packets, and so many chains that they are sent to."""
    chains = "\n".join(f"chain nf{n} {{ return; }}" for n in range(count))
    jumps = "\n".join(f"jump nf{n}" for n in range(count))
    rule = f"ip daddr {RIGHT} udp dport {DPORT} counter jump walk"
    hook = "type filter hook prerouting priority mangle"
    return (
        f"table ip bench {{\n{chains}\nchain walk {{\n{jumps}\n}}\n"
        f"chain c {{ {hook};\n{rule}\n}}\n}}\n"
    )


def _chains(count: int) -> Variant:
    return Variant(
        name=f"nftables-chains-{count}",
        text=f"nftables, {count} chains",
        on=nftables(nftables_chains(count)),
        tools=("nft",),
    )


EXPERIMENT = swept("sweep_nfs", "Sweep: time per packet with 0 to 32 NFs in a chain", plan)
