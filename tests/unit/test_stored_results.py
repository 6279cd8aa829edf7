# SPDX-License-Identifier: MIT
"""``nfcbed results``: what is found and shown, of recorded results with changes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from testbed.cli import main
from testbed.results import read_result
from testbed.stored.listing import find_results, headline
from tests.stored import LIMITED, RECORDED, Store, environment, store

__all__ = ["store"]  # a fixture

LEDGER = {
    "sent": 1000,
    "received": 900,
    "dropped": {"dad: over_threshold": 90, "dnat: clash": 3},
    "lost": {"vm2: queue full": 5},
    "unexplained": 2,
}


# list ------------------------------------------------------------------------------------------


def test_list_has_a_line_a_result_newest_first(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folder, experiment, when, state, validity, checks and the main value, however deep."""
    old = store("old", started="2026-01-01T10:00:00+00:00")
    new = store("below/new", "fig7_2", started="2026-01-02T01:00:00+02:00", quick=False)
    third = store("third", started="2026-01-01T23:30:00+00:00", validity=LIMITED, state="failed")
    assert main(["results", "list", str(old.parent)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == "result experiment when (UTC) state validity checks main value".split()
    assert [line.split()[0] for line in lines] == [str(third), str(new), str(old)]
    assert lines[0].split()[2:8] == "2026-01-01 23:30 failed, quick host-limited 24/24".split()
    assert lines[1].split()[1:6] == ["fig7_2", "2026-01-01", "23:00", "complete", "valid"]
    assert lines[2].endswith("flow 1, NFC / routing: 1.0001 [1, 1.0001] (published 0.9943)")


def test_list_tells_what_is_no_result_and_goes_on(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One line each on stderr with the reason; the results stand on stdout alone; exit code 0."""
    good = store("good")
    store("newer", version=9)
    (good.parent / "empty/deep").mkdir(parents=True)
    for name, text in {"text": "{", "deep": "[" * 100_000, "other": '{"format": "x"}'}.items():
        (good.parent / name).mkdir()
        (good.parent / name / "result.json").write_text(text)
    (good.parent / "pipe").mkdir()
    os.mkfifo(good.parent / "pipe/result.json")
    (good.parent / "loop").symlink_to(tmp_path)
    assert main(["results", "list", str(good.parent)]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["result", str(good)]
    told = {line.split(": ")[1]: line for line in printed.err.splitlines()}
    names = {name.removeprefix(f"{good.parent}/") for name in told}
    assert names == {"newer", "empty", "text", "deep", "other", "pipe"}
    assert "version 9 of the format" in told[f"{good.parent}/newer"]
    assert "holds no result" in told[f"{good.parent}/empty"]
    assert "is no file" in told[f"{good.parent}/pipe"]


def test_list_as_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """All that the lines say, and why a result must not be used as it is."""
    folder = store("one", validity=LIMITED)
    assert main(["results", "list", str(folder.parent), "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    (row,) = listing["results"]
    assert (listing["format"], listing["version"], listing["others"]) == ("nfcbed-results", 1, [])
    assert (row["folder"], row["experiment"], row["quick"]) == (str(folder), "table7_4", True)
    assert row["checks"] == {"passed": 24, "all": 24}
    assert row["main"]["name"] == "flow 1, NFC / routing"
    assert [caution.split(":")[0] for caution in row["cautions"]] == ["host-limited", "quick"]


def test_list_of_no_folder_and_of_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there is for the user to mend; an empty one is no fault."""
    assert main(["results", "list", str(tmp_path / "no")]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert main(["results", "list", str(tmp_path)]) == 0
    assert "no results" in capsys.readouterr().err


@pytest.mark.parametrize("started", ["yesterday", "", "2026-01-01T10:00:00"])
def test_odd_time_is_no_reason_to_fail(store: Store, started: str) -> None:
    """A result from elsewhere may say anything where the format has a text."""
    folder = store("odd", started=started)
    assert len(find_results(folder).results) == 1


def test_main_value_is_what_the_result_has() -> None:
    """A ratio before other rows, a mean where nothing is compared, a curve's value after that."""
    result = read_result(RECORDED / "fig7_3")
    best = headline(result)
    assert best is not None
    assert best.name == "processing / idle: stretches"
    best = headline(read_result(RECORDED / "fig7_2"))
    assert str(best).startswith("phase 1, flow 1 at vm2: 49.9")
    point = {"x": 64, "value": 2.5, "low": 2.4, "high": 2.6}
    curve = {
        "way": "chain",
        "text": "c",
        "quantity": "time",
        "unit": "ns",
        "x_quantity": "size",
        "x_unit": "byte",
        "points": [{"x": 1, "value": None}, point],
    }
    changed = result.model_dump() | {"compared": [], "means": [], "curves": [curve]}
    best = headline(type(result).model_validate(changed, by_name=True))
    assert str(best) == "chain, time at 64 byte: 2.5 [2.4, 2.6] ns"
    nothing = headline(result.model_copy(update={"compared": (), "means": ()}))
    assert nothing is None


# show ------------------------------------------------------------------------------------------


def test_show_has_the_whole_ledger(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Each NF and reason and each place has a line, of the run and of each part of it."""
    folder = store("one", facts={"ledger": LEDGER, "ledgers": {"nfc 1": LEDGER}})
    assert main(["results", "show", str(folder)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    at = lines.index("nfc 1")
    assert lines[at + 1 : at + 7] == [
        *("1,000 sent", "900 = received", "90 + dropped by dad: over_threshold"),
        *("3 + dropped by dnat: clash", "5 + lost at vm2: queue full", "2 + unexplained"),
    ]
    assert "all" in lines


def test_show_says_settings_machine_and_files(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parameters by name, validity with reasons, the machine in short, every file."""
    folder = store("one", validity=LIMITED, options={"quick": True, "mtu": 9000})
    (folder / "environment.json").write_text(json.dumps(environment()))
    (folder / "raw").mkdir()
    (folder / "raw/x.json").write_text("{}")
    assert main(["results", "show", str(folder)]) == 0
    text = capsys.readouterr().out
    for wanted in (
        *("host-limited: the machine was the limit", "quick: a short run", "seed", "mtu    9000"),
        *("flow 1: sent 141 of 150 Mbit/s", "6.1.0 (x86_64)", "Fast, 2 of 2 CPUs", "raw/x.json"),
        *("commit abc, with changes", "HZ=250", "mtu 1500 (2 interfaces)", "flow 1, NFC / routing"),
    ):
        assert wanted in text
    assert "✓" not in text


def test_show_has_all_checks_when_asked(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that passed are listed with --checks only; those that did not, always."""
    check = {"name": "a", "value": 1, "expected": "2", "pass": False}
    folder = store("one", checks=[check, check | {"name": "b", "pass": True}])
    assert main(["results", "show", str(folder)]) == 0
    assert "✗ a: 1, expected 2" in (text := capsys.readouterr().out)
    assert "1 of 2 checks did not pass" in text
    assert "✓ b" not in text
    assert main(["results", "show", str(folder), "--checks"]) == 0
    assert "✓ b: 1, expected 2" in capsys.readouterr().out


def test_show_as_json_is_the_checked_file(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is what can be read back; a wrong file is refused by field instead."""
    folder = store("one")
    assert main(["results", "show", str(folder), "--json"]) == 0
    again = folder.parent / "again"
    again.mkdir()
    (again / "result.json").write_text(capsys.readouterr().out)
    assert read_result(again) == read_result(folder)
    assert main(["results", "show", str(store("bad", checks=3)), "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "bad/result.json: checks" in printed.err


@pytest.mark.parametrize(
    "facts", [{"ledger": 3}, {"ledger": {"sent": "x"}}, {"ledgers": []}, {"packets": {"a": []}}]
)
def test_facts_may_hold_anything(store: Store, facts: Any) -> None:
    """What an experiment keeps as facts has no fixed form: other facts are no ledgers."""
    assert main(["results", "show", str(store("one", facts=facts))]) == 0


def test_stored_text_moves_no_cursor(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of a file from elsewhere are spelled out, never printed."""
    evil = "x\x1b[2J\x9b31m\u202ey\r"
    folder = store(
        *("one", "table7_3"),
        title=evil,
        reason=evil,
        state="failed",
        parameters={evil: evil},
        validity={"state": "host-limited", "reasons": [evil]},
    )
    (folder / "policy.yaml").write_text(f"a: {evil}\n")
    (folder / "environment.json").write_text(json.dumps(environment(hook=evil)))
    other = store("two", "table7_3", title=evil)
    for words in (["list"], ["show", str(folder)], ["compare", str(folder), str(other)]):
        words = [*words, str(folder.parent)] if words == ["list"] else words
        assert main(["results", *words]) == 0
        printed = capsys.readouterr()
        assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(printed.out + printed.err)


@pytest.mark.parametrize("field", ["experiment", "x\x1b[2J"])
@pytest.mark.parametrize("words", [["plot"], ["rerun"], ["results", "compare"]])
def test_message_moves_no_cursor(
    store: Store, capsys: pytest.CaptureFixture[str], field: str, words: list[str]
) -> None:
    """Nor does a message about such a file: the name of an experiment or a field stands in it."""
    folder, other = store("one"), store("two")
    data = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(data | {field: "y\x1b[2J"}))
    more = [str(other)] if "compare" in words else []
    assert main([*words, str(folder), *more]) == 2
    message = capsys.readouterr().err
    assert "\x1b[2J" not in message.removeprefix("nfcbed: ")
    assert "\\x1b[2J" in message


@pytest.mark.parametrize("name", ["result.json", "environment.json"])
@pytest.mark.parametrize("deep", [100, 100_000])
def test_file_nested_without_end_is_refused(
    store: Store, capsys: pytest.CaptureFixture[str], name: str, deep: int
) -> None:
    """One message, whether JSON's own reader gives up or what comes after it would have to."""
    folder = store("one")
    text = (folder / "result.json").read_text() if name == "result.json" else '{"facts": {}}'
    nested = text.replace('"facts": {', '"facts": {"x": ' + "[" * deep + "]" * deep + ', "y": 1, ')
    (folder / name).write_text(nested.replace('"y": 1, }', '"y": 1}'))
    assert main(["results", "show", str(folder)]) == 2
    assert f"{name}: is n" in capsys.readouterr().err


def test_file_that_is_no_environment_is_named(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """One message with the file; exit code 2."""
    folder = store("one")
    (folder / "environment.json").write_text("[]")
    assert main(["results", "show", str(folder)]) == 2
    assert "environment.json: is not an environment of nfcbed" in capsys.readouterr().err
