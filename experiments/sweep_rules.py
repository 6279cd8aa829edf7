# SPDX-License-Identifier: MIT
"""What a packet costs with 1 to 10,000 flow rules, beside the same rules in nftables and iptables.

The rules are those of :mod:`testbed.bench.rulesets`: four masks, distinct 5-tuples. Packets of one
flow match the last rule; in the curves ``…-all`` as many flows as rules take turns, so that every
rule is used and the classifier's cache of busy flows does not help. nftables does it twice: as a
list, and as verdict maps, one look-up a mask, which is the best that it can do.
"""

from __future__ import annotations

from experiments._swept import swept
from experiments._swept_plan import Asked, Plan, Way, chain_text, flat
from testbed.bench.rulesets import chain_of_rules, ruleset_variants
from testbed.bench.variants import VARIANTS

__all__ = ["EXPERIMENT"]

RULES, QUICK_RULES = (1, 10, 100, 1_000, 10_000), (1, 1_000)
AIM_RULES, AIM = 1_000, 6.0

_AGAINST = {name: name for name in ("routing", "nftables-map", "iptables")}
_ALL_AGAINST = {"routing": "routing", "nftables-map": "nftables-map-all"}


def plan(quick: bool) -> Plan:
    """Say what is measured."""
    xs = QUICK_RULES if quick else RULES
    aim = f"{AIM_RULES:,} flow rules"
    return Plan(
        x_quantity="rules",
        x_unit="",
        xs=xs,
        ways=_ways(xs),
        rounds=3 if quick else 14,
        packets=20_000 if quick else 100_000,
        lasts_s=10 if quick else 130,
        asked=(
            Asked(
                name=f"{aim}, forward: direct / the same as iptables rules",
                x=AIM_RULES,
                way="chain-direct",
                reference="iptables",
                aim=AIM,
            ),
            *(
                Asked(name=f"{aim}, {name} / {text}", x=AIM_RULES, way=way, reference=reference)
                for way, name, reference, text in _also_asked()
            ),
        ),
    )


def _also_asked() -> list[tuple[str, str, str, str]]:
    both = {"chain-direct": "forward: direct", "chain-stack": "forward: stack"}
    return [
        ("chain-stack", both["chain-stack"], "iptables", "the same as iptables rules"),
        *((w, n, "nftables-rules", "the same as nftables rules") for w, n in both.items()),
        *((w, n, "nftables-map", "the same as nftables maps") for w, n in both.items()),
        ("chain-direct-all", "all used, direct", "nftables-map-all", "the same as nftables maps"),
        ("chain-stack-all", "all used, stack", "nftables-map-all", "the same as nftables maps"),
    ]


def _ways(xs: tuple[int, ...]) -> tuple[Way, ...]:
    chains = [
        Way(
            name=f"chain-{forward}" + ("-all" if all_rules else ""),
            text=chain_text("one pass-through NF", forward)
            + ("; packets of all rules" if all_rules else "; packets of the last rule"),
            at={x: chain_of_rules(x, forward=forward, all_rules=all_rules) for x in xs},
            against=_ALL_AGAINST if all_rules else _AGAINST,
        )
        for forward in ("direct", "stack")
        for all_rules in (False, True)
    ]
    references = {x: ruleset_variants(x) for x in xs}
    peers = [
        Way(name=name, text=text, at={x: references[x][key] for x in xs})
        for name, key, text in (
            ("nftables-rules", "nftables-rules", "nftables, one rule behind the other"),
            ("nftables-map", "nftables-map", "nftables, a verdict map for each mask"),
            ("nftables-map-all", "nftables-map-all", "as nftables-map; packets of all rules"),
            ("iptables", "iptables-rules", "iptables, one rule behind the other"),
        )
    ]
    still = (flat(VARIANTS[name], xs) for name in ("routing", "generator"))
    return (*chains, *still, *peers)


EXPERIMENT = swept("sweep_rules", "Sweep: time per packet with 1 to 10,000 flow rules", plan)
