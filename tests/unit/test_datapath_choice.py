# SPDX-License-Identifier: MIT
"""Which datapath carries which NF, and what a policy may not ask for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from testbed.chain import Policy
from testbed.datapath.carriers import carrier_of
from testbed.datapath.choice import on_datapath
from testbed.datapath.plan import make_plan
from testbed.errors import PolicyError
from testbed.nf import NFDescription

DESCRIPTION = NFDescription.model_validate(
    {
        "name": "some",
        "title": "Some",
        "summary": "Some NF.",
        "source": "here",
        "datapaths": ["tc", "xdp", "nfqueue"],
        "translates": False,
        "fragment": "As any.",
        "params": {
            "mode": {
                "type": "choice",
                "help": "How.",
                "choices": ["plain", "deep"],
                "default": "plain",
                "only_at": {"deep": ["tc"]},
            }
        },
    }
)


def policy(datapath: str, **nf: Any) -> Policy:
    chains = [{"id": 1, "rules": [{}], "nfs": [{"nf": "some", **nf}]}]
    return Policy.model_validate({"datapath": datapath, "chains": chains})


def carrier(datapath: str, **nf: Any) -> str:
    asked = policy(datapath, **nf)
    return carrier_of(asked, asked.chains[0].nfs[0], DESCRIPTION, field="nf")


@pytest.mark.parametrize(
    ("datapath", "place", "wanted"),
    [
        ("tc", None, "tc"),
        ("tc", "kernel", "tc"),
        ("tc", "user", "nfqueue"),
        ("nfqueue", None, "nfqueue"),
        ("nfqueue", "kernel", "tc"),
        ("nfqueue", "user", "nfqueue"),
        ("xdp", None, "xdp"),
        ("xdp", "kernel", "xdp"),
        ("auto", None, "tc"),
        ("auto", "user", "nfqueue"),
    ],
)
def test_carrier(datapath: str, place: str | None, wanted: str) -> None:
    """The policy's datapath carries an NF, unless its place is elsewhere."""
    assert carrier(datapath, place=place) == wanted


@pytest.mark.parametrize(
    ("datapath", "nf", "message"),
    [
        ("xdp", {"place": "user"}, "nf.place: datapath xdp leads to no user space"),
        ("netfilter", {}, "nf: some cannot run at netfilter; it runs at: tc, xdp, nfqueue"),
        ("xdp", {"params": {"mode": "deep"}}, "nf.params.mode: mode: deep is not possible at xdp"),
    ],
)
def test_what_cannot_be_carried(datapath: str, nf: dict[str, Any], message: str) -> None:
    """An NF that its datapath cannot carry is refused, by its place in the policy."""
    with pytest.raises(PolicyError, match=f"^{re.escape(message)}"):
        carrier(datapath, **nf)


def test_hybrid_has_an_nf_in_user_space_behind_the_first() -> None:
    """``--datapath hybrid`` leaves the chain's NFs where they are and puts one between them."""
    dad = {"nf": "dad", "priority": 10, "params": {"threshold_pps": 1}}
    last = {"nf": "pass", "priority": 20}
    chains = [{"id": 1, "rules": [{}], "nfs": [last, dad]}, {"id": 2}]
    hybrid = on_datapath(Policy.model_validate({"chains": chains}), "hybrid")
    assert [(nf.name, nf.place) for nf in hybrid.chains[0].nfs] == [
        ("dad", None),
        ("pass", "user"),
        ("pass", None),
    ]
    assert hybrid.chains[1].nfs == ()
    plan = make_plan(hybrid)
    assert plan.datapath == "nfqueue"
    assert [stage.carrier for stage in plan.stages()] == ["tc", "nfqueue", "tc"]


@pytest.mark.parametrize("name", ["tc", "nfqueue", "auto"])
def test_another_datapath_changes_nothing_else(name: Any) -> None:
    """The chains and the settings stay as they were."""
    before = policy("tc")
    after = on_datapath(before, name)
    assert after.datapath == name
    assert (after.chains, after.nfqueue) == (before.chains, before.nfqueue)
