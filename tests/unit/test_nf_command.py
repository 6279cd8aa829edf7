# SPDX-License-Identifier: MIT
"""`nfcbed nf list` and `nfcbed nf show`: what the descriptions say, for people and as JSON."""

from __future__ import annotations

import json

import pytest

from testbed.cli import main
from testbed.nf import load_descriptions


def test_list_names_every_nf(capsys: pytest.CaptureFixture[str]) -> None:
    """Every folder of nfs/ is listed, with its datapaths."""
    assert main(["nf", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == list(load_descriptions())
    assert main(["nf", "list"]) == 0
    assert "runs on tc" in capsys.readouterr().out


@pytest.mark.parametrize("name", load_descriptions())
def test_show_says_all(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All parameters, drop reasons and counters are shown, on lines that fit 100 columns."""
    assert main(["nf", "show", name]) == 0
    text = capsys.readouterr().out
    description = load_descriptions()[name]
    for word in (
        *description.params,
        *(item.name for item in (*description.drop_reasons, *description.counters)),
    ):
        assert f"\n  {word}" in text
    assert max(map(len, text.splitlines())) <= 100
    assert main(["nf", "show", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == name


@pytest.mark.parametrize("command", ["show", "build"])
def test_unknown_nf(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is none gets one message with those there are."""
    assert main(["nf", command, "nat"]) == 2
    assert "there is no NF nat (there are: dad," in capsys.readouterr().err
