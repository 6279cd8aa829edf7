# SPDX-License-Identifier: MIT
"""`nfcbed explain` on policy files, and the packet's way in ARCHITECTURE.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testbed.chain import FiveTuple
from testbed.cli import main
from testbed.datapath.plan import make_plan
from testbed.errors import PolicyError
from testbed.explain import as_text, explain
from testbed.policy import load_policy, parse_policy

ROOT = Path(__file__).resolve().parents[2]
THESIS = ROOT / "experiments" / "policies" / "thesis.yaml"


def _ask(policy: str, **packet: object) -> str:
    defaults = {"src": "10.0.0.1", "dst": "10.0.0.2", "proto": "udp", "dport": 53}
    return as_text(explain(make_plan(parse_policy(policy)), FiveTuple(**(defaults | packet))))


def test_architecture_shows_what_explain_prints() -> None:
    """The way of a packet in ARCHITECTURE.md is what the command prints for the thesis's chain."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    shown = re.search(r"<!-- explain: begin -->\n```text\n(.*?)\n```", text, re.DOTALL)
    assert shown is not None
    packet = FiveTuple(src="10.10.9.1", dst="10.10.9.5", proto="udp", dport=53)
    assert shown[1] == as_text(explain(make_plan(load_policy(THESIS)), packet))


def test_nfs_stand_in_order_of_priority() -> None:
    """A policy that lists DNAT before DAD, by priority the other way, is explained in order."""
    text = _ask("""
version: 1
chains:
  - id: 7
    rules: [{proto: udp}]
    nfs:
      - {nf: dnat, priority: 20, params: {rules: [{to: 10.0.0.9}]}}
      - {nf: dad, priority: 10, params: {threshold_pps: 5}}
""")
    assert text.index("dad (priority 10)") < text.index("dnat (priority 20)")
    assert "1 of 1" in text
    assert "chain 7" in text


def test_a_packet_of_no_rule_is_accepted_untouched() -> None:
    """Where no rule matches, the way leads to the kernel's routing."""
    text = _ask("version: 1\nchains: [{id: 1, rules: [{proto: tcp}]}]\n")
    assert "none of 1 matches: ACCEPT, untouched" in text
    assert "routing" in text


def test_a_fragment_matches_no_rule_with_ports() -> None:
    """The same 5-tuple is chained whole and not chained as a fragment."""
    policy = "version: 1\nchains: [{id: 1, rules: [{proto: udp, dport: 53}]}]\n"
    assert "1 of 1" in _ask(policy)
    assert "none of 1 matches" in _ask(policy, fragment=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--src", "10.0.0.300", "--dst", "10.0.0.1", "--proto", "udp"], "--src"),
        (["--src", "10.0.0.1", "--dst", "10.0.0.1", "--proto", "carp?"], "--proto"),
        (["--src", "10.0.0.1", "--dst", "10.0.0.1", "--proto", "udp", "--dport", "70000"], "dport"),
    ],
)
def test_a_wrong_packet_is_one_message(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A field that is no address, protocol or port ends with exit code 2 and names the option."""
    assert main(["explain", *options, "--policy", str(THESIS)]) == 2
    assert says in capsys.readouterr().err


def test_netfilter_leaves_translating_to_the_kernel() -> None:
    """At netfilter the way shows who translates, and the last step is the kernel's routing."""
    text = _ask("""
version: 1
datapath: netfilter
chains:
  - id: 7
    rules: [{proto: udp}]
    nfs:
      - {nf: dad, priority: 10, params: {threshold_pps: 5}}
      - {nf: dnat, priority: 20, params: {rules: [{to: 10.0.0.9}]}}
""")
    assert "enters   netfilter's PRE_ROUTING hook" in text
    assert "classifier.netfilter.bpf.c" in text
    assert "the kernel's own NAT" in text
    assert "known to connection tracking" in text
    assert "may DROP: no_state" not in text


def test_netfilter_does_not_forward() -> None:
    """A chain that is to forward by itself is refused before anything is built."""
    policy = "version: 1\ndatapath: netfilter\nchains: [{id: 1, forward: direct}]\n"
    with pytest.raises(PolicyError, match=r"chains\[0\].forward: datapath netfilter hands"):
        _ask(policy)


def test_tells_where_a_packet_leaves_the_kernel() -> None:
    """Out of the kernel, the NFs there, back, and the rest; with auto, why each NF runs there."""
    text = _ask("""
version: 1
datapath: auto
chains:
  - id: 1
    forward: direct
    rules: [{proto: udp}]
    nfs:
      - {nf: dad, priority: 1, params: {threshold_pps: 5}}
      - {nf: waf, priority: 2, params: {signatures: [x]}}
      - {nf: pass, priority: 3, place: user}
      - {nf: dnat, priority: 4, params: {rules: [{to: 10.0.0.9}]}}
""")
    rows = [line.split()[0] for line in text.splitlines() if line[0] != " "]
    assert rows[3:] == ["NF", "out", "NF", "NF", "back", "NF", "then", "replies"]
    assert text.count("the cheapest place that can carry it") == 2
    assert "it has no form for the kernel" in text
    assert "place: user" in text
    assert "nfs/waf/waf.py: make()" in text
