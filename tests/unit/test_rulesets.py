# SPDX-License-Identifier: MIT
"""The same rules in all the words: a policy's, nftables' and iptables'."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

import pytest

from testbed.bench.rig import DPORT, FIRST_PORT
from testbed.bench.rulesets import (
    KINDS,
    iptables_rules,
    nftables_map,
    nftables_rules,
    rule_policy,
)
from testbed.chain import FiveTuple
from testbed.tuplespace import TupleSpace, group_by_mask
from topologies.line import LEFT, RIGHT


def flow(number: int) -> FiveTuple:
    """The generator's flow of this number."""
    return FiveTuple(
        src=IPv4Address(LEFT),
        dst=IPv4Address(RIGHT),
        sport=FIRST_PORT + number,
        dport=DPORT,
        proto=17,
    )


@pytest.mark.parametrize("count", [1, 2, 5, 1000])
def test_last_rule_is_that_of_flow_0_and_each_flow_has_its_own(count: int) -> None:
    """One flow alone is matched by the last rule; as many flows as rules use every rule once."""
    rules = [rule for _, rule in rule_policy(count, forward="direct").ordered_rules()]
    space = TupleSpace(rules)
    assert space.find(flow(0)) == count - 1
    assert sorted(space.find(flow(n)) or 0 for n in range(count)) == list(range(count))
    assert space.find(flow(count)) is None


def test_masks_stay_few() -> None:
    """However many rules there are, they are of the same kinds."""
    rules = [rule for _, rule in rule_policy(10_000, forward="direct").ordered_rules()]
    assert len(group_by_mask(rules)) == len(KINDS)


WORDS = {
    "nft": {"ip saddr": "src", "ip daddr": "dst", "udp sport": "sport", "udp dport": "dport"},
    "iptables": {"-s": "src", "-d": "dst", "--sport": "sport", "--dport": "dport"},
}


def parts(line: str, words: dict[str, str]) -> dict[str, str]:
    """What a rule of a list names."""
    found = {name: re.search(rf"(?<!\S){word} (\S+)", line) for word, name in words.items()}
    return {name: match[1] for name, match in found.items() if match}


def test_lists_say_what_the_policy_says() -> None:
    """Rule by rule the same parts of the 5-tuple, in the same order."""
    rules = [rule for _, rule in rule_policy(9, forward="direct").ordered_rules()]
    wanted = []
    for rule, kind in zip(rules, KINDS * 3, strict=False):
        whole = {"src": LEFT, "dst": RIGHT, "sport": str(rule.sport), "dport": str(DPORT)}
        wanted.append({name: whole[name] for name in kind})
    nft = [line for line in nftables_rules(9).splitlines() if line.endswith("accept")]
    ipt = [line for line in iptables_rules(9).splitlines() if line.endswith("ACCEPT")]
    assert [parts(line, WORDS["nft"]) for line in nft] == wanted
    assert [parts(line, WORDS["iptables"]) for line in ipt] == wanted


def test_maps_hold_every_rule_once() -> None:
    """One map a kind, with the port of each rule of that kind."""
    text = nftables_map(9)
    ports = [int(port) for port in re.findall(r"\b(100\d\d)\b", text)]
    assert sorted(ports) == list(range(FIRST_PORT, FIRST_PORT + 9))
    assert text.count("vmap @") == len(KINDS)
    assert nftables_map(2).count("vmap @") == 2


def test_what_no_rule_takes_is_dropped_in_the_references() -> None:
    """So that a packet that arrives was matched."""
    for text in (nftables_rules(3), nftables_map(3)):
        assert f"udp dport {DPORT} drop" in text
    assert f"--dport {DPORT} -j DROP\nCOMMIT" in iptables_rules(3)


@pytest.mark.parametrize("count", [0, 50_001])
def test_no_more_rules_than_ports(count: int) -> None:
    """Rules differ in the source port."""
    with pytest.raises(ValueError, match="1 to 50000 rules"):
        rule_policy(count, forward="direct")
