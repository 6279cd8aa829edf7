# SPDX-License-Identifier: MIT
"""A policy as iptables rules, in the form that ``iptables-restore`` takes.

::

    mangle, PREROUTING        the flow rules in first-match order, each to its NFC_<id>
    nat, PREROUTING           the same rules, each to its NAT_<id>, for new connections
    mangle, FORWARD and INPUT by the packet's mark, the NFs that follow a translation: no table
                              comes behind nat in PREROUTING
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from testbed.chain import FlowRule, Policy
from testbed.fields import ANY, PORT_PROTOCOLS, PROTOCOLS, protocol_name
from testbed.rulesets.steps import ChainSteps, Limit, Row, chain_steps, step_lines, translates

__all__ = ["iptables_rules"]

_PLAIN = (PROTOCOLS["tcp"], PROTOCOLS["udp"])  # whose match comes with -p
_UNITS = {"sec": 1, "min": 60, "hour": 3600, "day": 86400}
_MOST_PACKETS = 10**6  # a second, and in a burst
_MOST_BYTES = 2**32 - 1


def _matches(rule: FlowRule) -> Iterator[str]:
    """What a flow rule asks of a packet; a port of any protocol takes one line a protocol."""
    addresses = [
        f"{option} {prefix}"
        for option, prefix in (("-s", rule.src), ("-d", rule.dst))
        if prefix != ANY
    ]
    ports = {"sport": rule.sport, "dport": rule.dport}
    named = {end: port for end, port in ports.items() if port is not None}
    protocols: Sequence[int | None] = [rule.proto]
    if named and rule.proto is None:
        protocols = sorted(PORT_PROTOCOLS)
    for proto in protocols:
        parts = [f"-p {protocol_name(proto)}"] if proto is not None else []
        if proto in _PLAIN:
            parts += [f"--{end} {port}" for end, port in named.items()]
        else:
            parts += [f"-m multiport --{end}s {port}" for end, port in named.items()]
        yield " ".join([*parts[:1], *addresses, *parts[1:]])


def _append(chain: str, *parts: str) -> str:
    return " ".join(part for part in ("-A", chain, *parts) if part)


def _rate(limit: Limit) -> str | None:
    """Rate and burst, or None where iptables cannot count so far."""
    if limit.unit == "bytes":
        rate = max(1, round(limit.per_second))
        if rate > _MOST_BYTES:
            return None
        burst = min(max(rate + 65_536, round(limit.burst)), _MOST_BYTES)
        return f"--hashlimit-above {rate}b/s --hashlimit-burst {burst}b"
    if limit.per_second > _MOST_PACKETS:
        return None
    unit = next(
        (name for name, s in _UNITS.items() if (limit.per_second * s).denominator == 1), "day"
    )
    rate = max(1, round(limit.per_second * _UNITS[unit]))
    burst = min(max(1, round(limit.burst)), _MOST_PACKETS)
    return f"--hashlimit-above {rate}/{unit} --hashlimit-burst {burst}"


def _limit_lines(chain: str, limit: Limit) -> Iterator[str]:
    rate = _rate(limit)
    if rate is None:
        yield "# More than iptables can count: no limit."
        return
    room = ""
    if limit.drop_when_full:
        room = f" --hashlimit-htable-size {limit.size} --hashlimit-htable-max {limit.size}"
    else:
        yield f"# Not bounded at {limit.size} flows: iptables drops what finds no room."
    yield _append(
        chain,
        f"-m hashlimit {rate} --hashlimit-mode srcip,srcport,dstip,dstport"
        f" --hashlimit-name {limit.label}{room} --hashlimit-htable-expire {limit.idle_s * 1000}",
        "-j DROP",
    )


def _rows(row: Row, chain: str) -> Iterator[str]:
    port = f":{row.to_port}" if row.to_port else ""
    dst = f"-d {row.dst}" if row.dst else ""
    dport = f"--dport {row.dport}" if row.dport else ""
    for proto in [row.proto] if row.proto else _PLAIN:
        name = f"-p {protocol_name(proto)}"
        yield _append(chain, name, dst, dport, f"-j DNAT --to-destination {row.to}{port}")


def _mangle(policy: Policy, chains: tuple[ChainSteps, ...]) -> Iterator[str]:
    marked = [chain for chain in chains if chain.translate and chain.after]
    for chain in chains:
        yield f":NFC_{chain.chain.id} - [0:0]"
    for chain in marked:
        yield f":BEHIND_{chain.chain.id} - [0:0]"
    if translates(chains):
        yield "# The way back of a translated connection, and errors about it, skip the chains."
        yield _append("PREROUTING", "-m conntrack --ctstate DNAT --ctdir REPLY -j ACCEPT")
        related = "-m conntrack --ctstate RELATED -m conntrack --ctstate DNAT"
        yield _append("PREROUTING", related, "-j ACCEPT")
    else:
        yield "# The first fragment of a packet shows its ports here."
    for owner, rule in policy.ordered_rules():
        yield from (_append("PREROUTING", m, f"-g NFC_{owner.id}") for m in _matches(rule))
    for hook in ("INPUT", "FORWARD") if marked else ():
        for chain in marked:
            mark = f"-m mark --mark {chain.chain.id}"
            yield _append(hook, mark, f"-g BEHIND_{chain.chain.id}")
    for chain in chains:
        name = f"NFC_{chain.chain.id}"
        yield f"# {chain.chain.name}; forward: {chain.chain.forward}, here the kernel's routing"
        yield from step_lines(chain.before, partial(_limit_lines, name))
        if chain in marked:
            yield _append(name, f"-j MARK --set-mark {chain.chain.id}")
    for chain in marked:
        yield from step_lines(chain.after, partial(_limit_lines, f"BEHIND_{chain.chain.id}"))


def _nat(policy: Policy, chains: tuple[ChainSteps, ...]) -> Iterator[str]:
    known = {chain.chain.id: chain for chain in chains}
    for chain in chains:
        if chain.translate:
            yield f":NAT_{chain.chain.id} - [0:0]"
    for owner, rule in policy.ordered_rules():
        to = f"-g NAT_{owner.id}" if known[owner.id].translate else "-j ACCEPT"
        yield from (_append("PREROUTING", match, to) for match in _matches(rule))
    for chain in chains:
        if chain.translate:
            yield from (f"# {note}" for note in chain.translate.notes)
            for row in chain.translate.rows:
                yield from _rows(row, f"NAT_{chain.chain.id}")


def iptables_rules(policy: Policy) -> str:
    """Give the policy as a file for ``iptables-restore``. Raises PolicyError."""
    chains = chain_steps(policy)
    lines = ["*mangle", *_mangle(policy, chains), "COMMIT"]
    if translates(chains):
        lines += ["*nat", *_nat(policy, chains), "COMMIT"]
    return "\n".join([*lines, ""])
