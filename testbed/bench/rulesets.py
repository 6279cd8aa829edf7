# SPDX-License-Identifier: MIT
"""The same list of rules as a policy, as nftables rules, as nftables maps, and as iptables rules.

Rule *i* matches flow *i* of the generator, counted from the last: the last rule is that of flow 0,
so one flow alone is matched by it, and as many flows as there are rules use every rule in turn.
Each rule is one of four kinds (:data:`KINDS`), which name more or fewer parts of the 5-tuple: so
four masks to a classifier, however many rules there are.

In nftables and iptables what no rule takes is dropped, so what arrives was matched. The rules
differ in the source port; a list in iptables, which compares addresses first, would be cheaper by
a third if they differed in those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Network
from typing import Any

from testbed.bench.rig import DPORT, FIRST_PORT, PORTS
from testbed.bench.variant import On, Variant, chain, iptables, nftables
from testbed.chain import NF, Chain, FlowRule, Policy
from topologies.line import LEFT, RIGHT

__all__ = [
    "KINDS",
    "MOST_RULES",
    "chain_of_rules",
    "iptables_rules",
    "nftables_map",
    "nftables_rules",
    "rule_policy",
    "ruleset_variants",
]

KINDS = (
    ("src", "dst", "sport", "dport"),
    ("src", "dst", "sport"),
    ("dst", "sport", "dport"),
    ("src", "sport"),
)
"""Parts of the 5-tuple that a rule names beside the protocol, in turn."""

MOST_RULES = PORTS
"""Rules differ in the source port."""

_NFT = {"src": "ip saddr", "dst": "ip daddr", "sport": "udp sport", "dport": "udp dport"}
_NFT_TYPES = {"src": "ipv4_addr", "dst": "ipv4_addr"}
_IPTABLES = {"src": "-s", "dst": "-d", "sport": "--sport", "dport": "--dport"}
_SLOW_NS = 5.0  # a rule of a list that a packet passes, about
_MOST_NS = 100e6  # of one measurement of a slow way


@dataclass(frozen=True)
class _Rule:
    kind: int
    parts: Mapping[str, int | str]


def _rules(count: int) -> Iterator[_Rule]:
    if not 1 <= count <= MOST_RULES:
        raise ValueError(f"1 to {MOST_RULES} rules are possible, got {count}")
    for index in range(count):
        kind = index % len(KINDS)
        sport = FIRST_PORT + count - 1 - index
        whole: dict[str, int | str] = {"src": LEFT, "dst": RIGHT, "sport": sport, "dport": DPORT}
        yield _Rule(kind, {name: whole[name] for name in KINDS[kind]})


def rule_policy(count: int, *, forward: str) -> Policy:
    """A policy with so many flow rules to one chain, which has one pass-through NF."""
    known: dict[Any, Any] = {address: IPv4Network(address) for address in (LEFT, RIGHT)}
    rules = tuple(
        FlowRule.trusted(proto=17, **{name: known.get(v, v) for name, v in rule.parts.items()})
        for rule in _rules(count)
    )
    settings = {"id": 1, "name": "rules", "forward": forward, "nfs": (NF(name="pass"),)}
    return Policy(chains=(Chain.model_validate({**settings, "rules": rules}),))


def nftables_rules(count: int) -> str:
    """One rule behind the other; what tells the rules apart comes first, which is the cheapest."""
    lines = []
    for rule in _rules(count):
        first_sport = sorted(rule.parts, key=lambda name: name != "sport")
        lines.append(" ".join(f"{_NFT[n]} {rule.parts[n]}" for n in first_sport) + " accept")
    return _nft_table("", lines)


def nftables_map(count: int) -> str:
    """One verdict map per kind of rule, each looked up once: what nftables does best."""
    elements: list[list[str]] = [[] for _ in KINDS]
    for rule in _rules(count):
        elements[rule.kind].append(" . ".join(map(str, rule.parts.values())) + " : accept")
    maps, lookups = [], []
    for number, (kind, found) in enumerate(zip(KINDS, elements, strict=True)):
        if not found:
            continue
        types = " . ".join(_NFT_TYPES.get(name, "inet_service") for name in kind)
        maps.append(
            f"map kind{number} {{ type {types} : verdict; elements = {{ {', '.join(found)} }}; }}"
        )
        lookups.append(f"{' . '.join(_NFT[name] for name in kind)} vmap @kind{number}")
    return _nft_table("\n".join(maps), lookups)


def _nft_table(maps: str, rules: list[str]) -> str:
    hook = "type filter hook prerouting priority mangle"
    lines = "\n".join(rules)
    return (
        f"table ip bench {{\n{maps}\nchain c {{ {hook}\n{lines}\nudp dport {DPORT} drop\n}}\n}}\n"
    )


def iptables_rules(count: int) -> str:
    """One rule behind the other, for ``iptables-restore``."""
    lines = (
        "-A PREROUTING -p udp "
        + " ".join(f"{_IPTABLES[name]} {value}" for name, value in rule.parts.items())
        + " -j ACCEPT"
        for rule in _rules(count)
    )
    last = f"-A PREROUTING -p udp --dport {DPORT} -j DROP"
    return "\n".join(["*mangle", *lines, last, "COMMIT", ""])


_policy = cache(rule_policy)


def _switch(rules: Callable[[int], str], count: int) -> On:
    if rules is iptables_rules:
        return lambda rig: iptables(_text(rules, count), table="mangle")(rig)
    return lambda rig: nftables(_text(rules, count))(rig)


@cache
def _text(rules: Callable[[int], str], count: int) -> str:
    return rules(count)


def chain_of_rules(count: int, *, forward: str, all_rules: bool = False) -> Variant:
    """A policy of so many rules.

    :param all_rules: whether the packets use all rules in turn; else they match the last one.
    """
    which = "packets of all rules in turn" if all_rules else "packets of the last rule"
    return Variant(
        name=f"rules-{count}-{forward}" + ("-all" if all_rules else ""),
        text=f"{count:,} flow rules, one pass-through NF, forward: {forward}; {which}",
        flows=count if all_rules else 1,
        on=lambda rig: chain(_policy(count, forward=forward))(rig),
    )


def ruleset_variants(count: int) -> dict[str, Variant]:
    """The same rules in the references; packets of the last rule, or of all of them in turn.

    :returns: by ``nftables-rules``, ``iptables-rules``, ``nftables-map`` and ``nftables-map-all``.
    """
    slow = max(100, int(_MOST_NS / (500 + _SLOW_NS * count)))
    lists: dict[str, tuple[str, Callable[[int], str]]] = {
        "nftables-rules": ("nftables rules in a line", nftables_rules),
        "iptables-rules": ("iptables rules in a line", iptables_rules),
    }
    found = {
        name: Variant(
            name=f"{name}-{count}",
            text=f"{count:,} {text}; packets of the last rule",
            most_packets=slow,
            on=_switch(rules, count),
            tools=("iptables-restore",) if "iptables" in name else ("nft",),
        )
        for name, (text, rules) in lists.items()
    }
    for name, flows in (("nftables-map", 1), ("nftables-map-all", count)):
        found[name] = Variant(
            name=f"{name}-{count}",
            text=f"{count:,} rules as nftables verdict maps",
            flows=flows,
            on=_switch(nftables_map, count),
            tools=("nft",),
        )
    return found
