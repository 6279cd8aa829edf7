# SPDX-License-Identifier: MIT
"""The folders under ``/run/nfcbed`` that running and dead runs have.

A run's namespaces vanish with its processes. Its folder is the one thing that can outlive it
(after SIGKILL), so the folder says whose it is: ``run.json`` records the process as pid, start
time, pid namespace and boot, because pids are used again. Nothing is ever removed for its name.

A run holds its folder's lock until the record is there, so a folder that is empty and not locked
is one that was killed between the two.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import UserError

__all__ = ["RUNS", "RunInfo", "clean", "list_runs", "make_run", "remove_run", "update_record"]

RUNS = Path("/run/nfcbed")
_RECORD = "run.json"
_DRAFT = _RECORD + ".new"
_FORMAT = "nfcbed-run/1"


@dataclass(frozen=True)
class RunInfo:
    """One run as its ``run.json`` tells it.

    :param pid: process that started the run, as this pid namespace numbers it.
    :param alive: whether that very process still exists (not one that got its number later).
    :param init_pid: first process inside its namespaces, numbered as ``pid``; None before it is.
    :param facts: what the run said about itself, see ``Sandbox.describe``.
    """

    run_id: str
    folder: Path
    command: str
    started: str
    pid: int
    alive: bool
    facts: dict[str, Any]
    init_pid: int | None = None

    @property
    def root(self) -> Path:
        """The run's file system as seen from here, its private bpffs included."""
        return Path(f"/proc/{self.init_pid}/root")


def list_runs() -> list[RunInfo]:
    """All runs that have a folder, alive or dead, oldest first.

    Folders without a ``run.json`` of ours, or that we may not read, are left out.
    """
    try:
        folders = sorted(RUNS.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return [info for folder in folders if (info := _read_run(folder)) is not None]


def clean() -> list[str]:
    """Remove what dead runs left; returns one sentence for each thing removed."""
    done = []
    for run in list_runs():
        if run.alive:
            continue
        if remove_run(run.folder):
            done.append(f"removed {run.folder}, left by {run.command} (process {run.pid}, gone)")
    done += [f"removed {folder}, left empty by a run that was killed" for folder in _unbegun()]
    _remove_parent()
    return done


def make_run(command: str) -> tuple[str, Path]:
    """Make a folder (mode 0700) with its record for a run of this process; returns id and folder.

    :raises UserError: somebody else owns ``/run/nfcbed`` or it cannot be written.
    """
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    for attempt in range(1, 1000):
        run_id = stem if attempt == 1 else f"{stem}-{attempt}"
        folder = RUNS / run_id
        try:
            _make_parent()
            folder.mkdir(mode=0o700)
            with _locked(folder):
                _write_json(folder / _RECORD, _new_record(run_id, command))
        except (FileExistsError, FileNotFoundError):
            continue  # the name is taken, or a clean-up took the empty folder or its parent
        except OSError as error:
            raise UserError(f"cannot make {folder}: {error.strerror}") from None
        return run_id, folder
    raise UserError(f"cannot make a folder for this run in {RUNS}")


def _new_record(run_id: str, command: str) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "run_id": run_id,
        "command": command,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "process": _this_process(),
        "facts": {},
    }


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a run folder's lock; only root can, as only root can look into the folder.

    :raises OSError: there is no such folder, or (without ``wait``) somebody else holds the lock.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(opened)


def _unbegun() -> Iterator[Path]:
    """Remove the folders of runs that were killed before their record was written."""
    try:
        folders = sorted(RUNS.iterdir())
    except OSError:
        return
    for folder in folders:
        with contextlib.suppress(OSError), _locked(folder, wait=False):
            held = {path.name for path in folder.iterdir()}
            if held <= {_DRAFT} and folder.stat().st_uid == os.geteuid():
                for name in held:
                    (folder / name).unlink()
                folder.rmdir()
                yield folder


def update_record(folder: Path, *, facts: dict[str, Any], **fields: Any) -> None:
    """Merge ``fields`` into the record and ``facts`` into its facts, atomically."""
    path = folder / _RECORD
    record = json.loads(path.read_text())
    record.update(fields)
    record["facts"].update(facts)
    _write_json(path, record)


def remove_run(folder: Path) -> bool:
    """Remove a run's folder; False when something foreign is mounted in it, then it stays."""
    with contextlib.suppress(FileNotFoundError):
        if any(os.path.ismount(path) for path in (folder, *folder.iterdir())):
            return False
        # The record goes last: a removal that is cut short can be taken up again.
        for path in folder.iterdir():
            if path.name == _RECORD:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        (folder / _RECORD).unlink()
        folder.rmdir()
    _remove_parent()
    return True


def _read_run(folder: Path) -> RunInfo | None:
    try:
        record = json.loads((folder / _RECORD).read_text())
        if record["format"] != _FORMAT or record["run_id"] != folder.name or folder.is_symlink():
            return None
        return RunInfo(
            run_id=folder.name,
            folder=folder,
            command=str(record["command"]),
            started=str(record["started"]),
            pid=int(record["process"]["pid"]),
            alive=_is_alive(record["process"]),
            facts=dict(record["facts"]),
            init_pid=record.get("init_pid"),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "pid": pid,
        "start_ticks": _start_ticks(pid),
        "pid_namespace": _pid_namespace(),
        "boot": _boot_id(),
    }


def _is_alive(process: dict[str, Any]) -> bool:
    """Whether the recorded process exists; True where this cannot be told from here."""
    if process["boot"] != _boot_id():
        return False
    if process["pid_namespace"] != _pid_namespace():
        return True
    return _start_ticks(int(process["pid"])) == int(process["start_ticks"])


def _start_ticks(pid: int) -> int | None:
    """Start of process ``pid`` in clock ticks since boot; None if there is none or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _make_parent() -> None:
    with contextlib.suppress(FileExistsError):
        RUNS.mkdir(mode=0o755)
    found = RUNS.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise UserError(f"{RUNS} is not a folder that only root can write: remove it by hand")


def _remove_parent() -> None:
    with contextlib.suppress(OSError):
        RUNS.rmdir()  # only when no other run has a folder


def _write_json(path: Path, value: Any) -> None:
    draft = path.with_suffix(".json.new")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    draft.replace(path)
