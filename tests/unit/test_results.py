# SPDX-License-Identifier: MIT
"""Result files: written, read back, refused; the folder they lie in; checks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import RunError, UserError
from testbed.experiment import checks
from testbed.experiment.folder import ResultFolder, default_folder
from testbed.results import Check, Mean, Phase, Result, Series, dump_result, read_result


def a_result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "experiment": "fig7_2",
        "title": "A title",
        "state": "complete",
        "started": "2026-01-01T00:00:00+00:00",
        "clock_start_ns": 5,
        "parameters": {"window_s": 2.0},
        "phases": [Phase(name="phase 1", begin_s=0, end_s=1, offered_mbps={"flow 1": 50})],
        "series": [
            Series(
                quantity="throughput",
                unit="Mbit/s",
                flow="flow 1",
                node="vm2",
                t_s=(1, 2),
                values=(3, 4),
            )
        ],
        "means": [
            Mean(
                phase="phase 1",
                flow="flow 1",
                node="vm2",
                unit="Mbit/s",
                steady=None,
                steady_s=None,
                whole=1.5,
            )
        ],
        "checks": [checks.within("a", 1.0, target=1, by=0.1, unit="Mbit/s")],
    }
    return Result(**(fields | changes))


def written(path: Path, data: dict[str, Any]) -> Path:
    (path / "result.json").write_text(json.dumps(data))
    return path


def test_result_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Writing and reading changes nothing."""
    result = a_result()
    (tmp_path / "result.json").write_text(dump_result(result))
    assert read_result(tmp_path) == result


def test_file_says_what_it_is() -> None:
    """Format and version come first, and a check's outcome is called pass."""
    data = json.loads(dump_result(a_result()))
    assert list(data)[:3] == ["format", "version", "experiment"]
    assert (data["format"], data["version"]) == ("nfcbed-result", 2)
    assert data["checks"][0]["pass"] is True


def test_newer_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """A file of a later version is not half understood, even if it has other fields."""
    data = json.loads(dump_result(a_result())) | {"version": 3, "tables": []}
    with pytest.raises(
        UserError, match=r"version 3 .* reads up to 2: use the nfcbed that wrote it"
    ):
        read_result(written(tmp_path, data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "flent"}, "is not a result of nfcbed"),
        ({"version": 0}, "version"),
        ({"version": "1"}, "version"),
        ({"state": "done"}, "state"),
        ({"surprise": 1}, "surprise"),
        ({"phases": [{"name": "phase 1"}]}, r"phases\.0\.begin_s"),
        ({"series": 3}, "series"),
    ],
)
def test_wrong_file_is_refused_by_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """One message with the file and the field that is wrong."""
    data = json.loads(dump_result(a_result())) | change
    with pytest.raises(UserError, match=message) as caught:
        read_result(written(tmp_path, data))
    assert str(tmp_path / "result.json") in str(caught.value)


def test_folder_without_a_result_or_with_another_file(tmp_path: Path) -> None:
    """No file, and a file that is not JSON, give a message each."""
    with pytest.raises(UserError, match="holds no result"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_result(tmp_path)


def test_series_is_found_by_what_it_is_of() -> None:
    """Quantity, flow and node together name one series."""
    result = a_result()
    assert result.find("throughput", flow="flow 1", node="vm2") == result.series[0]
    assert result.find("throughput", flow="flow 1", node="vm3") is None


# The folder ------------------------------------------------------------------------------------


def test_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    """A path of several new folders can be named."""
    ResultFolder.prepare(tmp_path / "a" / "b").write("x", "text")
    assert (tmp_path / "a" / "b" / "x").read_text() == "text"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["x"]


def test_folder_with_a_result_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """A result is not lost by naming its folder again."""
    (tmp_path / "result.json").write_text("mine")
    with pytest.raises(UserError, match="holds another result; take another folder with --out"):
        ResultFolder.prepare(tmp_path)
    assert (tmp_path / "result.json").read_text() == "mine"


def test_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    """Nor does a result go among somebody's files."""
    (tmp_path / "thesis.pdf").touch()
    with pytest.raises(UserError, match=r"other files \(thesis.pdf …\)"):
        ResultFolder.prepare(tmp_path)


def test_force_lets_go_of_the_earlier_result_only(tmp_path: Path) -> None:
    """The old figure and raw files do not stay beside new data; a person's own file does."""
    (tmp_path / "raw").mkdir()
    for name in ("result.json", "policy.yaml", "fig7_2.png", "raw/flow1-server.json", "notes.txt"):
        (tmp_path / name).touch()
    ResultFolder.prepare(tmp_path, force=True)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["notes.txt", "raw"]


def test_force_removes_nothing_where_no_result_was(tmp_path: Path) -> None:
    """A policy.yaml that did not come with a result is somebody's own."""
    (tmp_path / "policy.yaml").write_text("mine")
    ResultFolder.prepare(tmp_path, force=True)
    assert (tmp_path / "policy.yaml").read_text() == "mine"


@pytest.mark.parametrize("below", ["", "below"])
def test_file_in_the_way_is_said(tmp_path: Path, below: str) -> None:
    """A file is no folder, nor can one be made in it."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        ResultFolder.prepare(tmp_path / "file" / below)


def test_files_belong_to_who_called_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and folder made is given to the caller."""
    given: dict[str, tuple[int, int]] = {}

    def chown(path: Path, uid: int, gid: int, **_: Any) -> None:
        given[Path(path).name] = (uid, gid)

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "2345")
    target = ResultFolder.prepare(tmp_path / "new")
    target.write("raw/x.json", "{}")
    assert given == dict.fromkeys(["new", "raw", ".x.json.new"], (1234, 2345))


def test_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the file that was there, and says so."""
    target = ResultFolder.prepare(tmp_path)
    target.write("x", "old")

    def full(self: Path, *_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match="No space left"):
        target.write("x", "new")
    monkeypatch.undo()
    assert (tmp_path / "x").read_text() == "old"


def test_default_folder_is_named_by_experiment_and_time() -> None:
    """Two runs of a day do not share one."""
    assert default_folder("fig7_2").match("results/fig7_2-20[0-9][0-9]*T*Z")


# Checks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (checks.within("a", 51.0, target=50, by=1, unit=""), True),
        (checks.within("a", 51.01, target=50, by=1, unit=""), False),
        (checks.within("a", 48.99, target=50, by=1, unit=""), False),
        (checks.within("a", None, target=0, by=1, unit=""), False),
        (checks.below("a", 0.09, limit=0.1, unit=""), True),
        (checks.below("a", 0.1, limit=0.1, unit=""), False),
        (checks.below("a", None, limit=0.1, unit=""), False),
        (checks.above("a", 1, limit=0, unit=""), True),
        (checks.above("a", 0, limit=0, unit=""), False),
        (checks.above("a", None, limit=0, unit=""), False),
        (checks.equal("a", "ACCEPT, DROP", to="ACCEPT, DROP"), True),
        (checks.equal("a", 2, to=1), False),
    ],
)
def test_check(check: Check, passed: bool) -> None:
    """Limits are as they are written, and what was not measured never passes."""
    assert check.passed is passed
