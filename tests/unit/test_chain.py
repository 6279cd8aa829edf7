# SPDX-License-Identifier: MIT
"""Rules, chains and policies as values."""

from __future__ import annotations

import copy
import pickle
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from testbed.chain import (
    MAX_CHAIN_LENGTH,
    NF,
    Chain,
    FiveTuple,
    FlowRule,
    Policy,
    shadowed_rules,
)
from testbed.fields import PORT_PROTOCOLS, Params
from testbed.tuplespace import Key, Mask, TupleSpace, group_by_mask
from tests.unit.strategies import packets, policies, rules, rules_around

DNS = FiveTuple(src="10.10.9.1", dst="10.10.9.5", sport=40000, dport=53, proto="udp")


def plainly_matches(rule: FlowRule, packet: FiveTuple) -> bool:
    """First-match semantics written out bit by bit, without the code under test."""
    shows_ports = packet.proto in PORT_PROTOCOLS and not packet.fragment
    for prefix, address in ((rule.src, packet.src), (rule.dst, packet.dst)):
        shift = 32 - prefix.prefixlen
        if int(prefix.network_address) >> shift != int(address) >> shift:
            return False
    for wanted, port in ((rule.sport, packet.sport), (rule.dport, packet.dport)):
        if wanted is not None and (not shows_ports or wanted != port):
            return False
    return rule.proto is None or rule.proto == packet.proto


def first_match(ordered: list[FlowRule], packet: FiveTuple) -> int | None:
    return next((i for i, rule in enumerate(ordered) if plainly_matches(rule, packet)), None)


@given(st.lists(rules(), max_size=40), st.lists(packets, min_size=1, max_size=20))
def test_search_agrees_with_first_match(some: list[FlowRule], seen: list[FiveTuple]) -> None:
    """Tuple space search finds what going through the rules one by one finds."""
    ordered = sorted(some, key=lambda rule: rule.priority)
    space = TupleSpace(ordered)
    for packet in seen:
        assert space.find(packet) == first_match(ordered, packet)


@given(st.data(), packets)
def test_search_agrees_where_many_rules_match(data: st.DataObject, packet: FiveTuple) -> None:
    """The search neither stops too early nor takes a later rule where many masks hold a match."""
    ordered = data.draw(st.lists(rules_around(packet), min_size=2, max_size=20))
    ordered.sort(key=lambda rule: rule.priority)
    assert TupleSpace(ordered).find(packet) == first_match(ordered, packet)


def test_search_goes_on_to_a_mask_that_may_hold_better() -> None:
    """A match in the mask of the first rule does not hide a better one in a later mask."""
    by_address = FlowRule(dst="10.10.9.5")
    ordered = [FlowRule(dport=123), by_address, FlowRule(dport=53)]
    assert TupleSpace(ordered).find(DNS) == 1
    assert TupleSpace([by_address, *ordered]).find(DNS) == 0


def test_search_keeps_the_better_of_two_matches() -> None:
    """A later mask's match does not replace a better one, though the mask has to be asked."""
    ordered = [FlowRule(dport=1), FlowRule(sport=1), FlowRule(dport=53), FlowRule(sport=40000)]
    assert TupleSpace(ordered).find(DNS) == 2


@given(policies(), packets)
def test_policy_matches_first_by_priority(policy: Policy, packet: FiveTuple) -> None:
    """A policy's match is the first rule by priority, then by place in the file."""
    written = [(chain, rule) for chain in policy.chains for rule in chain.rules]
    ranked = sorted(range(len(written)), key=lambda i: (written[i][1].priority, i))
    ordered = [written[i] for i in ranked]
    expected = first_match([rule for _, rule in ordered], packet)
    match = policy.match(packet)
    if expected is None:
        assert match is None
    else:
        assert match is not None
        assert match.order == expected
        assert (match.chain, match.rule) == ordered[expected]


@given(st.lists(rules(), max_size=30))
def test_groups_hold_all_rules_once(some: list[FlowRule]) -> None:
    """Each mask stands once, by its best order, and of equal keys the first rule stays."""
    groups = group_by_mask(some)
    assert [g.first_order for g in groups] == sorted(g.first_order for g in groups)
    assert len({g.mask for g in groups}) == len(groups)
    for group in groups:
        assert group.first_order == min(group.orders.values())
        assert all(group.mask.apply(key) == key for key in group.orders)
    found = {(g.mask, key): order for g in groups for key, order in g.orders.items()}
    first: dict[tuple[Mask, Key], int] = {}
    for order, rule in enumerate(some):
        first.setdefault((rule.mask(), rule.key()), order)
    assert found == first


@given(policies(), packets)
def test_a_shadowed_rule_never_matches(policy: Policy, packet: FiveTuple) -> None:
    """No packet is taken by a rule that is reported as shadowed, and its cover comes before it."""
    ordered = list(policy.ordered_rules())
    shadowed = shadowed_rules(policy)
    match = policy.match(packet)
    for one in shadowed:
        assert ordered.index((one.by_chain, one.by_rule)) <= ordered.index((one.chain, one.rule))
        if plainly_matches(one.rule, packet):
            assert plainly_matches(one.by_rule, packet)
    if match is not None:
        taken = ordered.index((match.chain, match.rule))
        assert taken == match.order


def test_shadowed_rules_are_found() -> None:
    """A rule behind a wider one is reported with it, a narrower one before a wider one is not."""
    wide, narrow = FlowRule(dst="10.0.0.0/8"), FlowRule(dst="10.1.0.0/16", dport=53)
    chain = Chain(id=1, rules=[narrow, wide, FlowRule(dst="10.1.0.0/16", proto="tcp")])
    (only,) = shadowed_rules(Policy(chains=[chain]))
    assert only == (chain, chain.rules[2], chain, wide)
    zero_port = Chain(id=1, rules=[FlowRule(dport=0), FlowRule()])
    assert shadowed_rules(Policy(chains=[zero_port])) == ()
    first = FlowRule(dst="10.0.0.0/8", priority=1)
    chain = Chain(id=1, rules=[narrow, first])
    assert [s.rule for s in shadowed_rules(Policy(chains=[chain]))] == [narrow]


def test_a_port_rule_ignores_what_shows_no_ports() -> None:
    """A fragment and a protocol without ports match only rules that name no port."""
    rule, any_port = FlowRule(dport=53), FlowRule(proto=17)
    assert rule.matches(DNS)
    fragment = DNS.model_copy(update={"fragment": True})
    assert not rule.matches(fragment)
    assert any_port.matches(fragment)
    ping = FiveTuple(src="10.0.0.1", dst="10.0.0.2", proto="icmp")
    assert not FlowRule(dport=0).matches(ping)
    assert FlowRule().matches(ping)
    assert DNS.key() == Key(0x0A0A0901, 0x0A0A0905, 40000, 53, 17)
    assert fragment.key()[2:4] == (0, 0)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10.10.9.5", "10.10.9.5/32"),
        ("10.10.9.0/24", "10.10.9.0/24"),
        ("any", "0.0.0.0/0"),
        ("0.0.0.0", "0.0.0.0/0"),
        ("0.0.0.0/32", "0.0.0.0/32"),
        (IPv4Address("10.10.9.5"), "10.10.9.5/32"),
        (IPv4Network("10.0.0.0/8"), "10.0.0.0/8"),
    ],
)
def test_addresses(written: Any, meant: str) -> None:
    """An address alone is /32, and 0.0.0.0 alone means any (thesis, chapter 6)."""
    assert FlowRule(src=written).src == IPv4Network(meant)


@pytest.mark.parametrize("name", ["UDP", "udp", 17])
def test_protocol_by_name_or_number(name: Any) -> None:
    """A protocol may be written as its name, in any case, or its number."""
    assert FlowRule(proto=name) == FlowRule(proto=17)
    assert FlowRule(proto="any").proto is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("src", "10.0.0.1/8", "write 10.0.0.0/8"),
        ("src", "10.0.0.0/33", "0 to 32"),
        ("src", "10.0.0.0/-1", "0 to 32"),
        ("src", "10.0.0.0/255.0.0.0", "0 to 32"),
        ("src", "10.0.0.0/", "0 to 32"),
        ("src", "10.0.0", "such as"),
        ("src", "10.0.0.256", "such as"),
        ("src", "010.0.0.1", "such as"),
        ("src", "::1", "such as"),
        ("src", 10, "such as"),
        ("src", None, "such as"),
        ("dport", 65536, "0 to 65535"),
        ("dport", -1, "0 to 65535"),
        ("dport", "53", "0 to 65535"),
        ("dport", True, "0 to 65535"),
        ("dport", 53.0, "0 to 65535"),
        ("proto", "upd", "udp"),
        ("proto", 256, "0 to 255"),
        ("proto", True, "0 to 255"),
        ("priority", -1, "greater than or equal to 0"),
        ("priority", True, "valid integer"),
        ("port", 53, "not permitted"),
    ],
)
def test_bad_rules_are_refused(field: str, value: Any, message: str) -> None:
    """A wrong field raises, and the message says what is allowed."""
    with pytest.raises(ValidationError, match=message):
        FlowRule(**{field: value})


def test_ports_of_a_protocol_without_ports_are_refused() -> None:
    """A rule that could never match is an error, not a silence."""
    with pytest.raises(ValidationError, match="icmp has no ports"):
        FlowRule(proto="icmp", dport=8)


@given(rules())
def test_trusted_equals_checked(rule: FlowRule) -> None:
    """The fast way to a rule gives the same value, which behaves like any other."""
    made = FlowRule.trusted(**{name: getattr(rule, name) for name in FlowRule.model_fields})
    assert made == rule
    assert hash(made) == hash(rule)
    assert made.key() == rule.key()
    assert Chain(id=1, rules=[made]) == Chain(id=1, rules=[rule])
    assert pickle.loads(pickle.dumps(made)) == rule
    with pytest.raises(ValidationError, match="frozen"):
        made.priority = 1  # type: ignore[misc]


@given(st.lists(st.integers(0, 5), max_size=20))
def test_insert_as_the_thesis_does(priorities: list[int]) -> None:
    """An NF goes before the first one of a higher priority value, so behind its equals."""
    chain = Chain(id=1)
    expected: list[NF] = []
    for number, priority in enumerate(priorities):
        nf = NF(name=f"nf{number}", priority=priority)
        chain = chain.insert(nf)
        place = next((i for i, n in enumerate(expected) if n.priority > priority), len(expected))
        expected.insert(place, nf)
    assert list(chain.nfs) == expected


def test_register_makes_or_extends_a_chain() -> None:
    """A new number makes a new chain, a known one takes the NF by priority (thesis, 6.1)."""
    policy = Policy().register(7, NF(name="dnat", priority=20)).register(8, NF(name="dad"))
    policy = policy.register(7, NF(name="dad", priority=10))
    assert [chain.id for chain in policy.chains] == [7, 8]
    assert [nf.name for nf in policy.chains[0].nfs] == ["dad", "dnat"]
    assert policy.chains[0].name == "chain-7"
    assert policy.chain(8) is policy.chains[1]
    assert policy.chain(9) is None


def test_a_chain_holds_32_nfs() -> None:
    """The kernel's 33 tail calls allow 32 NFs; one more is refused with the reason."""
    chain = Chain(id=1, nfs=[NF(name="pass")] * MAX_CHAIN_LENGTH)
    with pytest.raises(ValidationError, match=r"at most 32 NFs, got 33: .* 33 tail calls"):
        chain.insert(NF(name="pass"))


@pytest.mark.parametrize("chain_id", [0, -1, 2**24, True, "1", 1.0])
def test_bad_ids_are_refused(chain_id: Any) -> None:
    """A chain's id is a whole number of 24 bits, and not zero."""
    with pytest.raises(ValidationError):
        Chain(id=chain_id)


def test_ids_are_unique() -> None:
    """Two chains of one id are refused, naming both."""
    with pytest.raises(ValidationError, match=r"id 3 is taken by chains\[0\] \(chain-3\)"):
        Policy(chains=[Chain(id=3), Chain(id=4), Chain(id=3)])


def test_values_cannot_change() -> None:
    """Values are frozen to the depth of an NF's parameters, and can be hashed and copied."""
    params = {"rules": [{"to": "10.0.0.1"}]}
    nf = NF(name="dnat", params=params)
    policy = Policy(chains=[Chain(id=1, nfs=[nf])])
    params["rules"].append({"to": "10.0.0.2"})
    assert nf.params == {"rules": ({"to": "10.0.0.1"},)}
    assert nf.params.plain() == {"rules": [{"to": "10.0.0.1"}]}
    with pytest.raises(TypeError):
        nf.params["rules"] = ()  # type: ignore[index]
    with pytest.raises(ValidationError, match="frozen"):
        nf.priority = 3  # type: ignore[misc]
    for same in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert same == policy
        assert hash(same) == hash(policy)
    assert hash(Params({"a": 1, "b": 2})) == hash(Params({"b": 2, "a": 1}))


def test_rules_by_the_hundred_thousand() -> None:
    """Making, grouping and searching many rules takes seconds a million, not minutes."""
    dst = IPv4Network("10.10.9.5")
    many = [
        FlowRule.trusted(src=IPv4Network((i, 32)), dst=dst, dport=53, proto=17)
        for i in range(100_000)
    ]
    chain = Chain(id=1, rules=many)
    (group,) = group_by_mask(rule for _, rule in Policy(chains=[chain]).ordered_rules())
    assert group.mask == Mask(32, 32, False, True, True)
    assert len(group.orders) == 100_000
    packet = FiveTuple(src=IPv4Address(77_777), dst="10.10.9.5", dport=53, proto="udp")
    assert group.orders[group.mask.apply(packet.key())] == 77_777
