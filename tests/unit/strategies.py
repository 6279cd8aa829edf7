# SPDX-License-Identifier: MIT
"""Generated rules, packets and policies: few distinct values, so that they often meet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from hypothesis import strategies as st

from testbed.chain import NF, Chain, FiveTuple, FlowRule, Nfqueue, Policy
from testbed.fields import PORT_PROTOCOLS

ADDRESSES = ["0.0.0.0", "10.0.0.0", "10.0.0.1", "10.0.0.5", "10.0.1.5", "192.0.2.1"]
BITS = [0, 1, 8, 24, 30, 31, 32]
PORTS = [0, 53, 123, 65535]
PROTOCOLS = [0, 1, 6, 17, 132, 255]


@st.composite
def prefixes(draw: st.DrawFn) -> IPv4Network:
    address, bits = draw(st.sampled_from(ADDRESSES)), draw(st.sampled_from(BITS))
    return IPv4Network((address, bits), strict=False)


@st.composite
def rules(draw: st.DrawFn) -> FlowRule:
    proto = draw(st.none() | st.sampled_from(PROTOCOLS))
    with_ports = proto is None or proto in PORT_PROTOCOLS
    ports = st.none() | st.sampled_from(PORTS) if with_ports else st.none()
    return FlowRule(
        src=draw(prefixes()),
        dst=draw(prefixes()),
        sport=draw(ports),
        dport=draw(ports),
        proto=proto,
        priority=draw(st.sampled_from([0, 50, 100])),
    )


packets = st.builds(
    FiveTuple,
    src=st.sampled_from(ADDRESSES).map(IPv4Address),
    dst=st.sampled_from(ADDRESSES).map(IPv4Address),
    sport=st.sampled_from(PORTS),
    dport=st.sampled_from(PORTS),
    proto=st.sampled_from(PROTOCOLS),
    fragment=st.booleans(),
)


@st.composite
def rules_around(draw: st.DrawFn, packet: FiveTuple) -> FlowRule:
    """Give a rule that often matches the packet: each part is left out, its own, or another's."""

    def part(own: int | None, others: list[int]) -> int | None:
        return draw(st.sampled_from([None, own, own, draw(st.sampled_from(others))]))

    def prefix(own: IPv4Address) -> IPv4Network:
        address = draw(st.sampled_from([own, own, own, IPv4Address("10.0.0.1")]))
        return IPv4Network((address, draw(st.sampled_from([0, 8, 24, 32]))), strict=False)

    proto = part(packet.proto, PROTOCOLS)
    with_ports = proto is None or proto in PORT_PROTOCOLS
    return FlowRule(
        src=prefix(packet.src),
        dst=prefix(packet.dst),
        sport=part(packet.sport, PORTS) if with_ports else None,
        dport=part(packet.dport, PORTS) if with_ports else None,
        proto=proto,
        priority=draw(st.sampled_from([0, 50, 100])),
    )


dad_params = st.fixed_dictionaries(
    {},
    optional={
        "window_s": st.floats(0.001, 86400) | st.integers(1, 86400),
        "max_flows": st.integers(1, 4194304),
        "on_full": st.sampled_from(["accept", "drop"]),
    },
).flatmap(
    lambda params: st.one_of(
        st.floats(0.001, 1e6).map(lambda rate: {"threshold_mbps": rate, **params}),
        st.integers(1, 10**9).map(lambda rate: {"threshold_pps": rate, **params}),
    )
)

_addresses = st.sampled_from(ADDRESSES[1:])
_rows = st.fixed_dictionaries(
    {"to": _addresses},
    optional={
        "dst": _addresses | st.just("any"),
        "dport": st.sampled_from([53, 123, 65535, "any"]),
        "to_port": st.integers(1, 65535),
        "proto": st.sampled_from(["tcp", "udp", 6, 17, "any"]),
    },
)
dnat_params = st.fixed_dictionaries(
    {"rules": st.lists(_rows, min_size=1, max_size=4)},
    optional={"state": st.sampled_from(["table", "conntrack"])},
)

_priorities = st.integers(0, 65535)


def _nf(name: str, priority: int, params: dict[str, Any]) -> NF:
    return NF(name=name, priority=priority, params=params)


_plain_nfs = st.one_of(
    st.builds(_nf, st.just("pass"), _priorities, st.just({})),
    st.builds(_nf, st.just("dad"), _priorities, dad_params),
)
_translating = st.builds(_nf, st.just("dnat"), _priorities, dnat_params)
_tricky_names = st.sampled_from(["1e6", "123", "053", "yes", "null", "1.5", "2024-01-01", "0x1F"])
_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True) | _tricky_names

_places = st.sampled_from([None, "kernel", "user"])
_nfqueues = st.builds(
    Nfqueue,
    queues=st.integers(1, 16),
    length=st.integers(1, 65535),
    batch=st.integers(1, 64),
    fail=st.sampled_from(["closed", "open"]),
    gso=st.booleans(),
)


@st.composite
def chains(draw: st.DrawFn, chain_id: int) -> Chain:
    nfs = draw(st.lists(_plain_nfs, max_size=4)) + draw(st.lists(_translating, max_size=1))
    nfs = [nf.model_copy(update={"place": draw(_places)}) for nf in nfs]
    return Chain(
        id=chain_id,
        name=draw(_names),
        forward=draw(st.sampled_from(["stack", "direct"])),
        rules=draw(st.lists(rules(), max_size=8)),
        nfs=draw(st.permutations(nfs)),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    ids = draw(st.lists(st.integers(1, 2**24 - 1), unique=True, max_size=3))
    return Policy(
        datapath=draw(st.sampled_from(["tc", "xdp", "netfilter", "nfqueue", "auto"])),
        nfqueue=draw(_nfqueues),
        chains=[draw(chains(chain_id)) for chain_id in ids],
    )
