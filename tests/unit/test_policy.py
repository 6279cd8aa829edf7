# SPDX-License-Identifier: MIT
"""Policy files: read, written, and one clear message for a wrong one."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.chain import NF, Chain, FiveTuple, FlowRule, Policy
from testbed.errors import PolicyError
from testbed.paths import ROOT
from testbed.policy import check_policy, dump_policy, load_policy, parse_policy
from tests.unit.strategies import policies

THESIS = ROOT / "experiments" / "policies" / "thesis.yaml"
DAD = "{nf: dad, params: {threshold_mbps: 1}}"
DNAT = "{nf: dnat, params: {rules: [{to: 10.0.0.1}]}}"


def chain(text: str) -> str:
    return f"version: 1\nchains:\n  - {{id: 1, {text}}}\n"


def rule(text: str) -> str:
    return chain(f"rules: [{{{text}}}]")


def nfs(*lines: str) -> str:
    return "version: 1\nchains:\n  - id: 1\n    nfs:\n" + "".join(f"      - {n}\n" for n in lines)


@given(policies())
def test_round_trip(policy: Policy) -> None:
    """What is written reads back as an equal policy, whatever its names look like."""
    assert parse_policy(dump_policy(policy)) == policy


def test_the_thesis_policy() -> None:
    """Experiment 1's file holds DAD then DNAT, and takes the flows and their control connection."""
    policy = load_policy(THESIS)
    (only,) = policy.chains
    assert [nf.name for nf in only.nfs] == ["dad", "dnat"]
    assert only.nfs[0].params == {"threshold_mbps": 100, "window_s": 10}
    assert parse_policy(dump_policy(policy)) == policy
    for port, proto, matched in [(53, "udp", True), (123, "tcp", True), (80, "udp", False)]:
        packet = FiveTuple(src="10.10.9.1", dst="10.10.9.5", dport=port, proto=proto)
        assert (policy.match(packet) is not None) is matched


def test_defaults() -> None:
    """What a file leaves out has the defaults of the values."""
    policy = parse_policy(chain("rules: [{}], nfs: [{nf: pass}]"))
    assert policy == Policy(chains=[Chain(id=1, rules=[FlowRule()], nfs=[NF(name="pass")])])
    assert parse_policy("version: 1\nchains: []\n") == Policy()


def test_nfs_are_sorted_by_priority() -> None:
    """The order in the file does not matter where priorities differ."""
    policy = parse_policy(nfs("{nf: pass, priority: 30}", DAD.replace("}}", "}, priority: 2}")))
    assert [nf.name for nf in policy.chains[0].nfs] == ["dad", "pass"]


def test_numbers_as_they_look() -> None:
    """An exponent makes a number, as people expect, though YAML 1.1 wants a point in it."""
    policy = parse_policy(nfs("{nf: dad, params: {threshold_pps: 1e3}}"))
    assert policy.chains[0].nfs[0].params["threshold_pps"] == 1000


WRONG = [
    ("", "p.yaml: is empty"),
    ("# only a comment\n", "p.yaml: is empty"),
    ("text", "p.yaml:1: must be a mapping, got 'text'"),
    ("- 1", "p.yaml:1: must be a mapping, got a list"),
    ("version: 2\nchains: []", "p.yaml:1: version: must be 1, the only version there is, got 2"),
    ("version: true\nchains: []", "p.yaml:1: version: must be 1, the only version there is"),
    ("chains: []", "p.yaml:1: version: is missing"),
    ("version: 1", "p.yaml:1: chains: is missing"),
    ("version: 1\nchains:", "p.yaml:2: chains: has no value"),
    ("version: 1\nchains: 3", "p.yaml:2: chains: must be a list, got 3"),
    ("version: 1\nchians: []", "p.yaml:2: chians: unknown key 'chians': did you mean chains?"),
    ("version: 1\nversion: 1", "p.yaml:2: version: is there twice, first in line 1"),
    (
        nfs("{nf: pass}", "{nf: dda}"),
        "p.yaml:6: chains[0].nfs[1].nf: there is no NF 'dda': did you",
    ),
    (nfs("{nf: dda}"), "(there are: dad, dnat, pass, waf)"),
    (nfs("{name: pass}"), "p.yaml:5: chains[0].nfs[0].name: unknown key 'name': did you mean nf?"),
    (
        nfs("nf: dad\n        params:\n          threshold_mbps: -5"),
        "p.yaml:7: chains[0].nfs[0].params.threshold_mbps: must be ≥ 0.001, got -5 (allowed: 0.001",
    ),
    (nfs("{nf: dad}"), "chains[0].nfs[0].params: one of threshold_mbps and threshold_pps must be"),
    (nfs("{nf: dad, params: {threshold_mbps: 1, threshold_pps: 1}}"), "only one of threshold_mbps"),
    (nfs("{nf: dad, params: 3}"), "chains[0].nfs[0].params: must map parameters to values, got 3"),
    (nfs(DNAT, DNAT), "p.yaml:6: chains[0].nfs[1].nf: a chain holds at most one NF that transl"),
    (nfs(*["{nf: pass}"] * 33), "p.yaml:37: chains[0].nfs[32]: a chain holds at most 32 NFs, got"),
    (nfs(*["{nf: pass}"] * 34), "got 34: the kernel follows at most 33 tail calls in a row"),
    (
        "version: 1\nchains:\n  - id: 1\n  - id: 2\n  - name: b\n    id: 1\n",
        "p.yaml:6: chains[2].id: id 1 is taken by chains[0] (chain-1)",
    ),
    ("version: 1\nchains: [{id: 0}]", "p.yaml:2: chains[0].id: must be ≥ 1, got 0"),
    ("version: 1\nchains: [{id: 16777216}]", "chains[0].id: must be ≤ 16777215, got 16777216"),
    ("version: 1\nchains: [{id: 1.0}]", "chains[0].id: must be a whole number, got 1.0"),
    ("version: 1\nchains: [{id: yes}]", "chains[0].id: must be a whole number, got True"),
    ("version: 1\nchains: [{name: a}]", "chains[0].id: is missing"),
    (chain("name: 7"), "chains[0].name: must be text, got 7"),
    (chain("name: a b"), "chains[0].name: must be 1 to 64 letters, digits"),
    (chain("forward: up"), "chains[0].forward: must be stack or direct, got up"),
    (chain("rules: [3]"), "chains[0].rules[0]: must be a mapping, got 3"),
    (rule("src: 10.0.0.1/8"), "chains[0].rules[0].src: 10.0.0.1/8 has bits set beyond its prefix"),
    (rule("src: 10.0.0.0/33"), "chains[0].rules[0].src: prefix length must be 0 to 32"),
    (rule("dst: 10.10"), "chains[0].rules[0].dst: must be an IPv4 address or prefix such as"),
    (rule("dport: 70000"), "chains[0].rules[0].dport: must be a port from 0 to 65535, or any"),
    (rule("dport: 053"), "chains[0].rules[0].dport: write the number plainly in decimal"),
    (rule("dport: 1:30"), "chains[0].rules[0].dport: write the number plainly in decimal"),
    (rule("dport: '53'"), "chains[0].rules[0].dport: must be a port from 0 to 65535, or any, got"),
    (rule("dport: 53, dport: 54"), "p.yaml:3: chains[0].rules[0].dport: is there twice"),
    (rule("dport: "), "chains[0].rules[0].dport: has no value"),
    (
        rule("dst_port: 53"),
        "chains[0].rules[0].dst_port: unknown key 'dst_port': did you mean dport",
    ),
    (
        rule("protocol: udp"),
        "did you mean proto? (allowed: src, dst, sport, dport, proto, priority)",
    ),
    (rule("proto: upd"), "chains[0].rules[0].proto: must be icmp, tcp, udp"),
    (rule("proto: icmp, dport: 8"), "chains[0].rules[0].dport: protocol icmp has no ports"),
    (rule("priority: -1"), "chains[0].rules[0].priority: must be ≥ 0, got -1"),
    (rule("src: x, dst: y, sport: z"), "chains[0].rules[0].src: must be an IPv4 address or prefix"),
    (rule("src: x, dst: y, sport: z"), "(and 2 more problems)"),
    (rule("src: x, dst: y") + "what: 1\n", "(and 2 more problems)"),
    ("a: &a [1]\nb: *a", "p.yaml:1: b: aliases (*name) are not allowed"),
    ("a: &a [*a]", "aliases (*name) are not allowed"),
    ("<<: {a: 1}", "p.yaml:1: a key must be a word, got '<<'"),
    ("1: 2", "p.yaml:1: a key must be a word, got '1'"),
    ("? [1]\n: 2", "p.yaml:1: a key must be a word"),
    ("a: 1\nb: [1", "not valid YAML: while parsing a flow sequence"),
    ("a: b: c", "p.yaml:1: not valid YAML: mapping values are not allowed"),
    ("\ta: 1", "p.yaml:1: not valid YAML: "),
    ("a: 1\n---\nb: 1", "not valid YAML: expected a single document"),
    ("a: !!python/object:os.system x", "p.yaml:1: a: the tag 'tag:yaml.org,2002:python/object"),
    ("a: !!binary aGk=", "p.yaml:1: a: the tag"),
    ("a: .nan", "p.yaml:1: a: write the number plainly"),
    ("a: " + "9" * 5000, "p.yaml:1: a: write the number plainly"),
    ("a: 1\nb: \x07", "p.yaml:2: the character '\\x07' is not allowed"),
    ("[" * 100_000, "p.yaml:1: "),
    ("- " * 100_000, "p.yaml:1: "),
    ("[" * 20 + "]" * 20, "nested more than 16 deep"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_files(text: str, message: str) -> None:
    """A wrong file gives one message: file, line, field, and what is allowed."""
    with pytest.raises(PolicyError, match=re.escape(message)) as caught:
        parse_policy(text, Path("p.yaml"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=60) | st.text("{}[]:-,&*!|>'\"%@ \n#a1.", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text is, it is a policy or a PolicyError, and nothing else is raised."""
    for whole in (text, f"version: 1\nchains: {text}", rule(text), nfs(text)):
        with contextlib.suppress(PolicyError):
            parse_policy(whole)


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_words = st.sampled_from(["id", "nf", "nfs", "rules", "params", "to", "name", "dport", "x"])
_trees = st.recursive(
    _scalars | st.sampled_from(["dad", "dnat", "pass"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=12,
)


@given(_trees)
def test_any_shape_is_read_or_refused(tree: object) -> None:
    """Values of the wrong shape at any place of a file are a PolicyError, and nothing else."""
    shaped = (tree, [{"id": 1, "nfs": tree}], [{"id": 1, "nfs": [{"nf": "dnat", "params": tree}]}])
    for chains in shaped:
        with contextlib.suppress(PolicyError):
            parse_policy("version: 1\nchains: " + json.dumps(chains))


def test_unreadable_files(tmp_path: Path) -> None:
    """A folder, a missing file, bytes that are no text: a PolicyError that says which it is."""
    binary, latin, wide = tmp_path / "binary", tmp_path / "latin", tmp_path / "wide"
    binary.write_bytes(b"\x7fELF\0\1")
    latin.write_bytes("version: 1\nname: ä\n".encode("latin-1"))
    wide.write_bytes("version: 1\n".encode("utf-16"))
    for path, message in [
        (tmp_path, "this is a folder, not a file"),
        (tmp_path / "none", "cannot be read: No such file"),
        (binary / "x", "cannot be read: Not a directory"),
        (binary, "is not a text file"),
        (latin, ":2: is not UTF-8 text"),
        (wide, "is not a text file"),
        (Path("/dev/zero"), "is longer than 16 MiB"),
        (Path("a\0b"), "cannot be read"),
    ]:
        with pytest.raises(PolicyError, match=message):
            load_policy(path)


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    """A file that an editor began with a byte order mark reads like any other."""
    path = tmp_path / "bom.yaml"
    path.write_text("version: 1\nchains: []\n", encoding="utf-8-sig")
    assert load_policy(path) == Policy()


def test_aliases_do_not_expand() -> None:
    """A few lines that would expand to a billion values are refused at once."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    start = time.monotonic()
    with pytest.raises(PolicyError, match="aliases"):
        parse_policy("\n".join(lines))
    assert time.monotonic() - start < 1


def test_many_rules_read_in_reasonable_time() -> None:
    """20,000 rules (1.3 MB) read in seconds."""
    rows = "".join(f"      - {{src: 10.1.{i >> 8}.{i & 255}, dport: 53}}\n" for i in range(20_000))
    text = f"version: 1\nchains:\n  - id: 1\n    rules:\n{rows}"
    start = time.monotonic()
    policy = parse_policy(text)
    assert time.monotonic() - start < 20
    assert len(policy.chains[0].rules) == 20_000


def test_a_policy_made_by_a_program_is_checked() -> None:
    """check_policy() finds in values what reading finds in a file."""
    check_policy(load_policy(THESIS))
    for nf, message in [
        (NF(name="dda"), r"chains\[0\]\.nfs\[0\]\.nf: there is no NF 'dda'"),
        (NF(name="dad"), r"chains\[0\]\.nfs\[0\]\.params: one of"),
        (
            NF(name="dnat", params={"rules": [{"dport": 1}]}),
            r"params\.rules\[0\]\.to: is missing",
        ),
    ]:
        with pytest.raises(PolicyError, match=message):
            check_policy(Policy(chains=[Chain(id=1, nfs=[nf])]))
