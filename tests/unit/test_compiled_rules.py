# SPDX-License-Identifier: MIT
"""`nfcbed chain compile`: what the text says, without loading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.cli import main
from testbed.errors import PolicyError
from testbed.policy import load_policy, parse_policy
from testbed.rulesets import TARGETS, Target, compile_policy, translation_rules

THESIS = Path(__file__).resolve().parents[2] / "experiments" / "policies" / "thesis.yaml"
BOTH = pytest.mark.parametrize("to", TARGETS)


@BOTH
def test_thesis_policy(to: Target, capsys: pytest.CaptureFixture[str]) -> None:
    """The thesis's policy compiles from the command line, its differences said in comments."""
    assert main(["chain", "compile", str(THESIS), "--to", to]) == 0
    text = capsys.readouterr().out
    assert text == compile_policy(load_policy(THESIS), to=to)
    assert "DAD denies a flow for the whole window" in text
    assert text.count("10.10.9.4") == (1 if to == "nftables" else 2)


@BOTH
def test_rules_stand_in_first_match_order(to: Target) -> None:
    """Priorities are gone: the rules stand in the order in which the classifier asks them."""
    text = compile_policy(
        parse_policy(
            "version: 1\nchains:\n"
            "- {id: 1, rules: [{dport: 1, proto: udp}, {dport: 2, proto: udp, priority: 9}]}\n"
            "- {id: 7, rules: [{dport: 3, proto: udp, priority: 50}]}\n"
        ),
        to=to,
    )
    ports = [line.split("port ")[1][0] for line in text.splitlines() if "port " in line]
    assert ports == ["2", "3", "1"]


def test_translations_alone() -> None:
    """A policy that translates nothing has no rules of NAT; one that does has nothing else."""
    assert translation_rules(parse_policy("version: 1\nchains: []"), table="t") == ""
    text = translation_rules(load_policy(THESIS), table="t")
    assert "dnat to 10.10.9.4" in text
    assert "limit" not in text


def test_unknown_target(capsys: pytest.CaptureFixture[str]) -> None:
    """Another target gets one message that names those there are."""
    assert main(["chain", "compile", str(THESIS), "--to", "pf"]) == 2
    assert "nftables" in capsys.readouterr().err


def test_nf_without_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """An NF that the peers have nothing like is named, with its place."""
    monkeypatch.setattr("testbed.rulesets.steps._NFS", {})
    with pytest.raises(PolicyError, match=r"chains\[0\].nfs\[0\].nf: there are no rules for"):
        compile_policy(load_policy(THESIS), to="nftables")
