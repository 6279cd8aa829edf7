# SPDX-License-Identifier: MIT
"""A policy as nftables rules: one table ``ip nfcbed``.

::

    prerouting, mangle   classify: the flow rules in first-match order, each to its chain_<id>
    prerouting, dstnat   translate: the same rules, each to its nat_<id>, for new connections
    prerouting, -90      behind: by the packet's mark, the NFs that follow a translation
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import partial

from testbed.chain import FlowRule, Policy
from testbed.fields import ANY, PORT_PROTOCOLS, protocol_name
from testbed.rulesets.steps import ChainSteps, Limit, Row, chain_steps, step_lines, translates

__all__ = ["TABLE", "nftables_rules", "translation_rules"]

TABLE = "nfcbed"
_PORTED = (
    "meta l4proto { " + ", ".join(str(protocol_name(n)) for n in sorted(PORT_PROTOCOLS)) + " }"
)
_WHOLE = "ip frag-off & 0x3fff == 0"
_TUPLE = "ip saddr . th sport . ip daddr . th dport . meta l4proto"
_PAIR = "ip saddr . ip daddr . meta l4proto"
_TUPLE_TYPE = "ipv4_addr . inet_service . ipv4_addr . inet_service . inet_proto"
_PAIR_TYPE = "ipv4_addr . ipv4_addr . inet_proto"
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_MOST_BURST = 2**32 - 1
_MOST_TOKENS = 2**64 // 10**9  # rate and burst together: the kernel counts them in ns


def _match(rule: FlowRule) -> str:
    """What a flow rule asks of a packet; nothing at all for one that matches everything."""
    parts = []
    if rule.proto is not None:
        parts.append(f"meta l4proto {rule.proto}")
    elif rule.sport is not None or rule.dport is not None:
        parts.append(_PORTED)
    parts += [
        f"ip {end} {prefix}"
        for end, prefix in (("saddr", rule.src), ("daddr", rule.dst))
        if prefix != ANY
    ]
    parts += [
        f"th {end} {port}"
        for end, port in (("sport", rule.sport), ("dport", rule.dport))
        if port is not None
    ]
    return " ".join(parts)


def _line(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _chain(name: str, lines: Iterable[str], hook: str = "") -> Iterator[str]:
    yield f"\tchain {name} {{"
    if hook:
        yield f"\t\ttype {hook}; policy accept;"
    for line in lines:
        yield f"\t\t{line}"
    yield "\t}"


def _rate(limit: Limit) -> str | None:
    """Rate and burst, or None where the kernel cannot count so far.

    A rate is a whole number in some unit of time. A bucket of bytes is as deep as what fills it
    in one such unit and the burst together.
    """
    unit = next(
        (name for name, s in _UNITS.items() if (limit.per_second * s).denominator == 1), "day"
    )
    rate = max(1, round(limit.per_second * _UNITS[unit]))
    if limit.unit == "packets":
        if rate > 10**9:
            return None
        burst = min(max(1, round(limit.burst)), _MOST_BURST, _MOST_TOKENS * rate // _UNITS[unit])
        return f"limit rate over {rate}/{unit} burst {burst} packets"
    room = _MOST_TOKENS // _UNITS[unit] - rate
    burst = min(max(0, round(limit.burst - Fraction(rate))), _MOST_BURST, room)
    return f"limit rate over {rate} bytes/{unit} burst {burst} bytes" if room > 0 else None


def _limit_cases(limit: Limit, chain: ChainSteps) -> Iterator[tuple[str, str, str, str]]:
    """Name of the set, its type, the key and the guard: packets that show ports, and others."""
    ported = "" if chain.shows_ports else f"{_WHOLE} {_PORTED}"
    yield f"flows_{limit.label}", _TUPLE_TYPE, _TUPLE, ported
    if not chain.shows_ports:
        others = "meta l4proto != { " + _PORTED.split("{ ")[1]
        yield f"pairs_{limit.label}", _PAIR_TYPE, _PAIR, others
        yield f"pairs_{limit.label}", "", _PAIR, "ip frag-off & 0x3fff != 0"


def _sets(chain: ChainSteps) -> Iterator[str]:
    for step in (*chain.before, *chain.after):
        if not isinstance(step, Limit) or _rate(step) is None:
            continue
        for name, kind, _, _ in _limit_cases(step, chain):
            if kind:
                yield (
                    f"\tset {name} {{ type {kind}; flags dynamic,timeout; size {step.size};"
                    f" timeout {step.idle_s}s; }}"
                )


def _limit_lines(chain: ChainSteps, limit: Limit) -> Iterator[str]:
    rate = _rate(limit)
    if rate is None:
        yield "# More than nftables can count: no limit."
        return
    for name, _, key, guard in _limit_cases(limit, chain):
        yield _line(guard, f"update @{name} {{ {key} {rate} }} drop")
        if limit.drop_when_full:
            yield _line(guard, f"{key} != @{name} drop")


def _row(row: Row) -> str:
    proto = f"meta l4proto {row.proto or '{ tcp, udp }'}"
    dst = f"ip daddr {row.dst}" if row.dst else ""
    dport = f"th dport {row.dport}" if row.dport else ""
    port = f":{row.to_port}" if row.to_port else ""
    return _line(proto, dst, dport, f"dnat to {row.to}{port}")


def _translation(policy: Policy, chains: tuple[ChainSteps, ...]) -> Iterator[str]:
    """The hook of NAT and its chains: it sees the first packet of a connection only."""
    known = {chain.chain.id: chain for chain in chains}
    rules = []
    for owner, rule in policy.ordered_rules():
        to = f"goto nat_{owner.id}" if known[owner.id].translate else "accept"
        rules.append(_line(_match(rule), to))
    while rules and rules[-1].endswith("accept"):
        rules.pop()
    for chain in chains:
        if chain.translate:
            lines = [f"# {note}" for note in chain.translate.notes]
            yield from _chain(f"nat_{chain.chain.id}", [*lines, *map(_row, chain.translate.rows)])
    yield from _chain("translate", rules, "nat hook prerouting priority dstnat")


def translation_rules(policy: Policy, *, table: str) -> str:
    """The translations alone, in a table of this name; empty where no chain translates."""
    chains = chain_steps(policy)
    if not translates(chains):
        return ""
    return "\n".join([f"table ip {table} {{", *_translation(policy, chains), "}", ""])


def _classify(policy: Policy, chains: tuple[ChainSteps, ...]) -> Iterator[str]:
    rules = [(owner, rule) for owner, rule in policy.ordered_rules()]
    ported = [rule.sport is not None or rule.dport is not None for _, rule in rules]
    lines = []
    if translates(chains):
        lines += [
            "# The way back of a translated connection, and errors about it, skip the chains.",
            "ct status dnat ct direction reply accept",
            "ct status dnat ct state related accept",
        ]
    elif any(ported):
        lines += [
            "# A fragment shows no ports, the first one included.",
            f"{_WHOLE.replace('==', '!=')} goto fragments",
        ]
        without = [pair for pair, names in zip(rules, ported, strict=True) if not names]
        yield from _chain("fragments", [_goto(owner.id, rule) for owner, rule in without])
    lines += [_goto(owner.id, rule) for owner, rule in rules]
    yield from _chain("classify", lines, "filter hook prerouting priority mangle")


def _goto(chain_id: int, rule: FlowRule) -> str:
    return _line(_match(rule), f"goto chain_{chain_id}")


def _behind(chains: tuple[ChainSteps, ...]) -> Iterator[str]:
    marked = [chain for chain in chains if chain.translate and chain.after]
    for chain in marked:
        lines = ["meta mark set 0", *step_lines(chain.after, partial(_limit_lines, chain))]
        yield from _chain(f"behind_{chain.chain.id}", lines)
    if marked:
        ways = ", ".join(f"{c.chain.id} : goto behind_{c.chain.id}" for c in marked)
        yield from _chain(
            "behind", [f"meta mark vmap {{ {ways} }}"], "filter hook prerouting priority -90"
        )


def nftables_rules(policy: Policy) -> str:
    """Give the policy as a file for ``nft -f``. Raises PolicyError."""
    chains = chain_steps(policy)
    lines = ["#!/usr/sbin/nft -f", f"table ip {TABLE} {{"]
    for chain in chains:
        lines += _sets(chain)
    for chain in chains:
        own = [f"# {chain.chain.name}; forward: {chain.chain.forward}, here the kernel's routing"]
        own += step_lines(chain.before, partial(_limit_lines, chain))
        if chain.translate and chain.after:
            own.append(f"meta mark set {chain.chain.id}")
        lines += _chain(f"chain_{chain.chain.id}", own)
    lines += _classify(policy, chains)
    if translates(chains):
        lines += _translation(policy, chains)
    lines += _behind(chains)
    return "\n".join([*lines, "}", ""])
