# SPDX-License-Identifier: MIT
"""``nfcbed rerun``: what is taken from a folder, and that nothing else can come of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.cli import main
from testbed.commands import run as command
from testbed.errors import UserError
from testbed.experiment.folder import ResultFolder
from testbed.experiment.runner import Options
from testbed.results import Result, read_result
from testbed.stored.repeating import how_to_repeat

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests/figures/recorded/fig7_2/result.json"
POLICY = (ROOT / "experiments/policies/thesis.yaml").read_text()
Store = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Store a result with what its run was given."""

    def put(name: str = "first", **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        data = json.loads(RECORDED.read_text()) | {"version": 2}
        data |= {"options": asdict(Options(quick=True))} | changes
        (folder / "result.json").write_text(json.dumps(data))
        (folder / "policy-given.yaml").write_text(POLICY)
        (folder / "policy.yaml").write_text(POLICY.replace("window_s: 10", "window_s: 2"))
        return folder

    return put


Ran = list[dict[str, Any]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Replace the run by one that says what it was asked for and writes the recorded result."""
    found: Ran = []

    def run_experiment(experiment: Any, _: Any, *, folder: ResultFolder, **asked: Any) -> int:
        found.append({"name": experiment.name, **asked})
        folder.write("result.json", RECORDED.read_text())
        return 0

    monkeypatch.setattr(command, "run_experiment", run_experiment)
    monkeypatch.setattr(command, "require", lambda *_: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return found


def test_run_is_repeated_as_it_was_and_compared(
    store: Store, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Experiment, options and the policy as it was given – not the one scaled for a quick run."""
    folder = store(options={"quick": True, "forward": "direct", "mtu": None})
    assert main(["rerun", str(folder), "--out", str(tmp_path / "again")]) == 0
    (asked,) = ran
    assert (asked["name"], asked["options"]) == ("fig7_2", Options(quick=True, forward="direct"))
    dad = asked["given"].chains[0].nfs[0]
    assert dad.params["window_s"] == 10
    assert asked["command"] == "nfcbed rerun first"
    text = capsys.readouterr().out
    assert f"A  {folder}" in text
    assert f"B  {tmp_path / 'again'}" in text
    assert "1.0000" in text


@given(
    quick=st.booleans(),
    forward=st.sampled_from([None, "stack", "direct"]),
    mtu=st.none() | st.integers(576, 65_535),
)
def test_options_come_back_as_they_went_into_the_file(
    quick: bool, forward: Any, mtu: int | None
) -> None:
    """Every option that a user can give survives the file, whatever options there are."""
    options = Options(quick=quick, forward=forward, mtu=mtu)
    data = json.loads(RECORDED.read_text()) | {"version": 2, "options": asdict(options)}
    result = Result.model_validate(json.loads(json.dumps(data)))
    folder = ROOT / "experiments/policies/none"
    assert set(result.options) == {field.name for field in fields(Options)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("testbed.stored.repeating._policy", lambda *_: None)
        assert how_to_repeat(result, folder).options == options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": "os"}, "there is no experiment os"),
        ({"experiment": "../../evil"}, "there is no experiment ../../evil"),
        ({"experiment": "_scene"}, "there is no experiment _scene"),
        ({"options": {"quick": True, "shell": "rm"}}, "options.shell: this nfcbed has no such"),
        ({"options": {"quick": "yes"}}, "options.quick: "),
        ({"options": {"quick": 1}}, "options.quick: "),
        ({"options": {"mtu": 100}}, "options.mtu"),
        ({"options": {"mtu": "9000"}}, "options.mtu"),
        ({"options": {"mtu": 9000}}, "fig7_2 runs with an MTU of its own"),
        ({"options": {"forward": "$(reboot)"}}, "options.forward"),
    ],
)
def test_what_is_not_known_here_is_refused(
    store: Store, ran: Ran, capsys: pytest.CaptureFixture[str], changes: Any, message: str
) -> None:
    """Names of experiments and options, and their values, are checked before anything runs."""
    folder = store(**changes)
    assert main(["rerun", str(folder), "--out", str(folder.parent / "again")]) == 2
    assert message in capsys.readouterr().err
    assert ran == []
    assert not (folder.parent / "again").exists()


def test_policy_is_checked_like_any_other(
    store: Store, ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stored policy that is wrong gets the message of a policy file, with line and field."""
    folder = store()
    (folder / "policy-given.yaml").write_text(POLICY.replace("nf: dad", "nf: rootkit", 1))
    assert main(["rerun", str(folder), "--out", str(folder.parent / "again")]) == 2
    assert "policy-given.yaml:" in (text := capsys.readouterr().err)
    assert "rootkit" in text
    assert ran == []


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "nothing"])
def test_policy_has_to_be_a_plain_file(
    store: Store, ran: Ran, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A link could make root read another file, and a pipe would be waited for."""
    folder = store()
    path = folder / "policy-given.yaml"
    path.unlink()
    if kind == "link":
        path.symlink_to(ROOT / "experiments/policies/thesis.yaml")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    assert main(["rerun", str(folder), "--out", str(folder.parent / "again")]) == 2
    assert "cannot be repeated: policy-given.yaml is not there" in capsys.readouterr().err
    assert ran == []


def test_experiment_that_makes_its_own_policies_takes_none(store: Store) -> None:
    """A sweep is repeated by its name and options; a policy in its folder is not looked at."""
    folder = store(experiment="sweep_nfs")
    again = how_to_repeat(read_result(folder), folder)
    assert (again.name, again.policy, again.options) == ("sweep_nfs", None, Options(quick=True))


def test_result_is_not_replaced_by_its_own_repeat(
    store: Store, ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original stays, also with --force and by another way to its folder."""
    folder = store()
    out = f"{folder}/../{folder.name}"
    assert main(["rerun", str(folder), "--out", out, "--force"]) == 2
    assert "is the result to be repeated" in capsys.readouterr().err
    assert read_result(folder).quick
    assert ran == []


def old(folder: Path, words: str | None) -> None:
    """Make of a folder what nfcbed wrote before results had options."""
    (folder / "policy-given.yaml").unlink()
    data = json.loads((folder / "result.json").read_text())
    del data["options"]
    (folder / "result.json").write_text(json.dumps(data | {"version": 1}))
    if words is not None:
        environment = {"format": "nfcbed-environment", "version": 1, "command": words}
        (folder / "environment.json").write_text(json.dumps(environment))


def test_older_result_is_repeated_by_its_command(store: Store, ran: Ran, tmp_path: Path) -> None:
    """Without options in the file, those of the command line that it keeps are taken."""
    folder = store(quick=False)
    old(folder, "nfcbed run fig7_2 --policy mine.yaml --forward direct")
    assert main(["rerun", str(folder), "--out", str(tmp_path / "again")]) == 0
    (asked,) = ran
    assert asked["options"] == Options(forward="direct")
    assert asked["given"].chains[0].nfs[0].params["window_s"] == 2


@pytest.mark.parametrize(
    ("quick", "words", "message"),
    [
        (False, None, "does not say what it was run with"),
        (False, "nfcbed run table7_4", "does not say what it was run with"),
        (False, "nfcbed run fig7_2 --forward $(reboot)", "options.forward"),
        (True, "nfcbed run fig7_2 --quick", "a quick run changes it"),
    ],
)
def test_older_result_that_cannot_be_repeated_says_why(
    store: Store, quick: bool, words: str | None, message: str
) -> None:
    """Nothing is guessed: a policy that was scaled once would be scaled again."""
    folder = store(quick=quick)
    old(folder, words)
    with pytest.raises(UserError, match=message.replace("$", r"\$").replace("(", r"\(")):
        how_to_repeat(read_result(folder), folder)
