# SPDX-License-Identifier: MIT
"""What ``nfcbed clean`` removes and what it leaves, with a stand-in for ``/run/nfcbed``."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from testbed import runs
from testbed.errors import UserError
from testbed.runs import RunInfo, clean, list_runs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a stand-in for ``/run/nfcbed``."""
    place = tmp_path / "nfcbed"
    monkeypatch.setattr(runs, "RUNS", place)
    return place


def dead_run(**changes: Any) -> RunInfo:
    """Make a run folder and change the process in its record, by default to one that is gone."""
    run_id, place = runs.make_run("gone")
    (place / "bpf").mkdir()
    (place / "left.log").write_text("left")
    record = json.loads((place / "run.json").read_text())
    record["process"] |= changes or {"pid": 2**22 + 1}
    (place / "run.json").write_text(json.dumps(record))
    (run,) = [run for run in list_runs() if run.run_id == run_id]
    return run


def test_clean_removes_dead_runs_and_says_so(folder: Path) -> None:
    """The whole folder of a dead run goes, and the empty parent with the last one."""
    run = dead_run()
    assert not run.alive
    assert clean() == [f"removed {run.folder}, left by gone (process {run.pid}, gone)"]
    assert not folder.exists()
    assert clean() == []


def test_live_run_is_left_alone(folder: Path) -> None:
    """A run whose process exists keeps its folder, whoever cleans up and how often."""
    _, live = runs.make_run("live")
    dead = dead_run()
    assert [run.alive for run in list_runs()] == [True, False]
    assert clean() == [f"removed {dead.folder}, left by gone (process {dead.pid}, gone)"]
    assert clean() == []
    assert (live / "run.json").exists()


@pytest.mark.parametrize("changes", [{"start_ticks": 1}, {"boot": "another"}])
def test_reused_process_number_is_not_taken_for_the_run(
    folder: Path, changes: dict[str, Any]
) -> None:
    """A process with the number, but another start or boot, is not the run's: it is dead."""
    run = dead_run(**changes)
    assert not run.alive
    clean()
    assert not run.folder.exists()


def test_run_of_another_pid_namespace_is_left_alone(folder: Path) -> None:
    """Whether a process of another container lives cannot be told, so its folder stays."""
    run = dead_run(pid_namespace="pid:[1]", pid=2**22 + 1)
    assert run.alive
    assert clean() == []
    assert run.folder.exists()


@pytest.mark.parametrize("record", [None, "", "{}", "[1]", '{"format": "other/1"}'])
def test_folder_without_our_record_is_not_touched(folder: Path, record: str | None) -> None:
    """A name like a run's is no reason to remove a folder: there must be a record of ours."""
    foreign = dead_run().folder
    if record is None:
        (foreign / "run.json").unlink()
    else:
        (foreign / "run.json").write_text(record)
    assert list_runs() == []
    assert clean() == []
    assert (foreign / "left.log").exists()


def test_record_of_another_folder_is_not_believed(folder: Path) -> None:
    """A run's record that was copied elsewhere, or linked to, does not make that a run."""
    run = dead_run()
    copy = folder / "copy"
    shutil.copytree(run.folder, copy)
    outside = folder.parent / "outside"
    run.folder.rename(outside)
    run.folder.symlink_to(outside)
    assert clean() == []
    assert (copy / "left.log").exists()
    assert (outside / "left.log").exists()


def test_links_in_a_dead_run_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """Clean-up removes a symbolic link, not what it points to."""
    run, precious = dead_run(), tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    (run.folder / "link").symlink_to(precious)
    clean()
    assert not run.folder.exists()
    assert (precious / "file").exists()


@pytest.mark.parametrize("moment", ["_new_record", "_write_json"])
def test_run_killed_as_it_begins_is_cleaned_by_the_next(folder: Path, moment: str) -> None:
    """SIGKILL between folder and record leaves a folder that says nobody's name: it goes too."""
    program = (
        "import os, signal, sys; from pathlib import Path; from testbed import runs;"
        "runs.RUNS = Path(sys.argv[1]);"
        f"runs.{moment} = lambda path, *_: ("
        "    [(path.with_suffix('.json.new')).touch()] if isinstance(path, Path) else 0,"
        "    os.kill(os.getpid(), signal.SIGKILL));"
        "runs.make_run('test')"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)])
    assert done.returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert list_runs() == []
    assert clean() == [f"removed {left}, left empty by a run that was killed"]
    assert not folder.exists()


def test_run_that_is_beginning_is_not_taken_for_a_dead_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clean-up while a record is being written leaves the folder to its run."""
    cleaned: list[str] = []
    write = runs._write_json

    def slow(path: Path, value: Any) -> None:
        cleaned.extend(clean())
        write(path, value)

    monkeypatch.setattr(runs, "_write_json", slow)
    _, live = runs.make_run("live")
    assert cleaned == []
    assert (live / "run.json").exists()


def test_run_whose_folder_was_cleaned_before_its_lock_takes_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between folder and lock costs a run its first name, nothing else."""
    locked = runs._locked
    names: list[str] = []

    def late(path: Path, **words: bool) -> AbstractContextManager[None]:
        if not names and not words:
            names.append(path.name)
            assert clean() == [f"removed {path}, left empty by a run that was killed"]
        return locked(path, **words)

    monkeypatch.setattr(runs, "_locked", late)
    run_id, live = runs.make_run("live")
    assert run_id != names[0]
    assert (live / "run.json").exists()


def test_runs_and_clean_ups_at_once_do_not_disturb_each_other(folder: Path) -> None:
    """Four processes make and remove runs while each also cleans: none loses its folder."""
    program = (
        "import sys; from pathlib import Path; from testbed import runs;"
        "runs.RUNS = Path(sys.argv[1])\n"
        "for _ in range(60):\n"
        "    _, mine = runs.make_run('test'); runs.clean()\n"
        "    assert (mine / 'run.json').exists(); runs.remove_run(mine)\n"
    )
    command = [sys.executable, "-c", program, str(folder)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [b""] * 4
    assert [process.returncode for process in processes] == [0] * 4
    assert not folder.exists()


def test_foreign_parent_is_refused(folder: Path) -> None:
    """A ``/run/nfcbed`` that others can write is not used: the error says what to do."""
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UserError, match="remove it by hand"):
        runs.make_run("test")
    folder.rmdir()
    folder.write_text("a file")
    with pytest.raises(UserError):
        runs.make_run("test")
