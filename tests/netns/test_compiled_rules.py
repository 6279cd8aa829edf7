# SPDX-License-Identifier: MIT
"""Compiled rules against the chains that they were compiled from, with real packets.

Two lines side by side get the same frames: one runs the policy's chains, the other the rules of
`nfcbed chain compile`. What comes out at either end is compared byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from testbed.chain import Policy
from testbed.network import Network
from testbed.rulesets import TARGETS, Target
from testbed.rulesets.load import load_policy_rules
from tests.bpf.harness import policy_of
from tests.frames import fragments, udp
from tests.netns.manyrules import COURSE, MANY_RULES, assert_all_arrived, two_wires
from tests.netns.twins import Sent, there
from tests.netns.wire import TwinLines, Wire
from tests.sandboxed import in_sandbox
from topologies.line import LEFT, NODE_LEFT, RIGHT

pytestmark = pytest.mark.needs(
    *("root", "namespaces", "veth", "bpffs", "objects", "tc_ingress", "bpf_timer"),
    *("nft_nat", "nft", "iptables"),
)
BOTH = pytest.mark.parametrize("to", TARGETS)


@contextmanager
def pair(policy: Policy, to: Target) -> Iterator[tuple[Wire, Wire]]:
    """A line with the policy's chains, and one with the compiled rules."""
    with two_wires() as (chains, rules):
        load_policy_rules(rules.node, policy, to=to)
        with chains.chains(policy):
            yield chains, rules


@BOTH
@in_sandbox
def test_same_way(to: Target) -> None:
    """Rules take packets to the same chain as the classifier, translate and answer alike."""
    with pair(MANY_RULES, to) as (chains, rules):
        wanted, got = chains.exchange(COURSE), rules.exchange(COURSE)
        assert got == wanted
        assert_all_arrived(got)


def limited(place: str, *, rules: Sequence[Mapping[str, Any]] = ({},), **params: Any) -> Policy:
    """DAD alone, or in front of DNAT, or behind it."""
    dad = {"nf": "dad", "priority": {"behind": 30}.get(place, 10), "params": params}
    dnat = {"nf": "dnat", "priority": 20, "params": {"rules": [{"to": RIGHT}]}}
    return policy_of({"rules": rules, "nfs": [dad, *([] if place == "alone" else [dnat])]})


@pytest.mark.parametrize("place", ["alone", "before", "behind"])
@BOTH
@in_sandbox
def test_limit(to: Target, place: str) -> None:
    """A window's worth of packets passes both; the rules drop the rest, DAD judges it later."""
    policy = limited(place, threshold_pps=0.5, window_s=20)
    dst = RIGHT if place == "alone" else NODE_LEFT
    flow = [there(udp, dst=dst, dport=7) for _ in range(10)]
    other = [there(udp, dst=dst, dport=8)]
    with pair(policy, to) as (chains, rules):
        fits = [*flow, *other]
        assert rules.exchange(fits)["right"] == chains.exchange(fits)["right"]
        assert len(chains.exchange(flow)["right"]) == 10
        assert len(rules.exchange([*flow, *other])["right"]) in (1, 2)


@BOTH
@in_sandbox
def test_limit_in_bytes(to: Target) -> None:
    """A limit in Mbit/s counts IP bytes: a window's worth passes, much more does not."""
    policy = limited("alone", threshold_mbps=0.1, window_s=10)  # 12,500 bytes a second
    big = [there(udp, dst=RIGHT, dport=7, payload=bytes(1222))]  # 1,250 bytes
    with pair(policy, to) as (chains, rules):
        assert rules.exchange(big * 95)["right"] == chains.exchange(big * 95)["right"]
        assert len(rules.exchange(big * 100)["right"]) < 60


@in_sandbox
def test_fragments_in_nftables() -> None:
    """Without a translation a fragment matches rules without ports only, as in the classifier."""
    pieces: list[Sent] = [
        ("left", piece) for piece in fragments(udp(src=LEFT, dst=RIGHT, payload=bytes(64)))
    ]
    counts = {}
    rule: Mapping[str, Any]
    for name, rule in (("port", {"dport": 53}), ("proto", {"proto": "udp"})):
        policy = limited("alone", rules=[rule], threshold_pps=0.1, window_s=10)
        with pair(policy, "nftables") as (_, rules):
            counts[name] = len(rules.exchange(pieces)["right"])
    assert counts == {"port": len(pieces), "proto": 1}


@BOTH
@in_sandbox
def test_no_more_flows(to: Target) -> None:
    """With on_full drop a flow that finds no room is dropped; with accept it passes."""
    flows = [there(udp, dst=RIGHT, sport=2000 + i) for i in range(40)]
    for on_full, passed in (("drop", 8), ("accept", 40)):
        policy = limited(
            "alone", rules=[{"dport": 53}], threshold_pps=1, max_flows=8, on_full=on_full
        )
        with pair(policy, to) as (_, rules):
            assert len(rules.exchange(flows)["right"]) == passed


EXTREMES: list[dict[str, Any]] = [
    {"threshold_mbps": 0.001, "window_s": 0.001},
    {"threshold_mbps": 1_000_000, "window_s": 86_400},
    {"threshold_pps": 0.001, "window_s": 86_400},
    {"threshold_pps": 1_000_000_000, "window_s": 10},
    {"threshold_pps": 1 / 3, "window_s": 0.5},
]


@pytest.mark.parametrize("params", EXTREMES, ids=str)
@in_sandbox
def test_any_limit_loads(params: Mapping[str, Any]) -> None:
    """Whatever DAD's parameters, the kernel takes the rules."""
    with Network(TwinLines()) as net:
        for to, node in zip(TARGETS, ("n1", "n2"), strict=True):
            load_policy_rules(net.node(node), limited("alone", **params), to=to)
