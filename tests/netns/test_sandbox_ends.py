# SPDX-License-Identifier: MIT
"""How a sandbox ends: by signals, by a terminal, by SIGKILL of any of its processes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from testbed import runs
from testbed.sandbox import clean, list_runs

pytestmark = pytest.mark.needs("namespaces", "bpffs")

# Run as a program of its own, because it is sent signals. It writes what happens to the file
# that its first argument names; the second says how it behaves, the third where its folder is.
PROGRAM = """
import signal, sys, time
from pathlib import Path
from testbed import inside, runs
from testbed.sandbox import run_in_sandbox

notes, how, runs.RUNS = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

def note(text):
    with notes.open("a") as file:
        file.write(text + "\\n")

def wait():
    while True:
        time.sleep(0.05)

def main(sandbox):
    try:
        if how == "prompt":
            with sandbox.prompt():
                note("ready")
                while True:
                    try:
                        wait()
                    except KeyboardInterrupt:
                        note("interrupt")
        note("ready")
        wait()
    except KeyboardInterrupt:
        note("cleaning")
        time.sleep(60 if how == "stuck" else 0.5)
        note("cleaned")
        if how == "swallow":
            return 0
        raise
    finally:
        note("left")

inside.CLEAN_UP_S = 1.0 if how == "stuck" else 10.0
try:
    code = run_in_sandbox(main, command="test")
except Exception as error:
    note(f"{type(error).__name__}: {error}")
    code = 99
note("ended")
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the folders of these runs apart: any other run that starts removes dead ones."""
    monkeypatch.setattr(runs, "RUNS", tmp_path / "nfcbed")


class Started:
    """The program above, running."""

    def __init__(self, folder: Path, how: str = "", *, hup: Any = signal.SIG_DFL) -> None:
        self.notes_file = folder / "notes"

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, hup)

        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.notes_file), how, str(runs.RUNS)],
            start_new_session=True,
            preexec_fn=prepare,
            stdin=subprocess.DEVNULL,
        )
        self.wait_for("ready")
        (self.run,) = [run for run in list_runs() if run.pid == self.process.pid]
        record = json.loads((self.run.folder / "run.json").read_text())
        self.init, self.worker = record["init_pid"], record["worker_pid"]

    def notes(self) -> list[str]:
        return self.notes_file.read_text().splitlines() if self.notes_file.exists() else []

    def wait_for(self, text: str, *, times: int = 1) -> None:
        deadline = time.monotonic() + 20
        while self.notes().count(text) < times:
            assert time.monotonic() < deadline, f"no {text!r} in {self.notes()}"
            time.sleep(0.01)

    def end(self) -> int:
        return self.process.wait(timeout=20)

    def exists(self) -> bool:
        """Whether init or worker still run, or the folder is there."""
        return any(Path(f"/proc/{pid}").exists() for pid in (self.init, self.worker)) or (
            self.run.folder.exists()
        )


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("to", ["outer", "group", "worker"])
@pytest.mark.parametrize("how", ["", "swallow"])
def test_signal_ends_the_run_in_order(
    tmp_path: Path, signum: signal.Signals, code: int, to: str, how: str
) -> None:
    """INT, TERM and HUP let the function clean up, once; the exit code says which it was.

    This holds for a signal to the outer process alone, to the whole group, as a terminal or
    ``timeout`` sends it, and to the worker alone; and for a function that hides it.
    """
    run = Started(tmp_path, how)
    if to == "group":
        os.killpg(run.process.pid, signum)
    else:
        os.kill(run.process.pid if to == "outer" else run.worker, signum)
    assert run.end() == code
    assert run.notes() == ["ready", "cleaning", "cleaned", "left", "ended"]
    assert not run.exists()


def test_later_signals_do_not_disturb_the_cleaning(tmp_path: Path) -> None:
    """A second and third Ctrl-C while it cleans up change nothing; the first one counts."""
    run = Started(tmp_path)
    os.killpg(run.process.pid, signal.SIGINT)
    run.wait_for("cleaning")
    os.killpg(run.process.pid, signal.SIGINT)
    os.kill(run.process.pid, signal.SIGTERM)
    os.killpg(run.process.pid, signal.SIGHUP)
    assert run.end() == 130
    assert run.notes() == ["ready", "cleaning", "cleaned", "left", "ended"]


def test_stuck_cleaning_is_cut_short(tmp_path: Path) -> None:
    """A function that does not end in time after a signal is killed, and the error says so."""
    run = Started(tmp_path, "stuck")
    begin = time.monotonic()
    os.kill(run.process.pid, signal.SIGTERM)
    assert run.end() == 99
    assert 0.9 <= time.monotonic() - begin <= 5
    assert run.notes()[-2] == "RunError: cleaning up took more than 1 s and was cut short"
    assert not run.exists()


def test_nohup_is_respected(tmp_path: Path) -> None:
    """A hang-up that was ignored when the run started (``nohup``) stays ignored."""
    run = Started(tmp_path, hup=signal.SIG_IGN)
    os.killpg(run.process.pid, signal.SIGHUP)
    time.sleep(0.3)
    assert run.notes() == ["ready"]
    os.kill(run.process.pid, signal.SIGTERM)
    assert run.end() == 143


def test_prompt_survives_ctrl_c_but_not_sigterm(tmp_path: Path) -> None:
    """Where a person types each Ctrl-C is an interrupt, for as long as they like; TERM ends it."""
    run = Started(tmp_path, "prompt")
    for times in (1, 2, 3):
        os.kill(run.process.pid, signal.SIGINT)
        run.wait_for("interrupt", times=times)
    os.kill(run.process.pid, signal.SIGTERM)
    assert run.end() == 143
    assert run.notes()[-2:] == ["left", "ended"]


@pytest.mark.parametrize("victim", ["init", "worker"])
def test_killed_inside_is_a_failed_run(tmp_path: Path, victim: str) -> None:
    """SIGKILL of init or worker ends everything, and the caller is told that it was killed."""
    run = Started(tmp_path)
    os.kill(getattr(run, victim), signal.SIGKILL)
    assert run.end() == 99
    assert run.notes()[-2].startswith("RunError: the run was killed (SIGKILL)")
    assert not run.exists()


def test_killed_outer_leaves_a_folder_that_clean_removes(tmp_path: Path) -> None:
    """SIGKILL of the outer process takes all others; its folder goes at the next clean-up."""
    run = Started(tmp_path)
    run.process.kill()
    run.end()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in (run.init, run.worker)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (dead,) = [other for other in list_runs() if other.run_id == run.run.run_id]
    assert not dead.alive
    assert any(str(dead.folder) in line and "test" in line for line in clean())
    assert not dead.folder.exists()


def test_two_at_the_same_time(tmp_path: Path) -> None:
    """Two runs have folders of their own, and the end of one leaves the other alone."""
    runs_now = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        runs_now.append(Started(tmp_path / name))
    first, second = runs_now
    assert first.run.folder != second.run.folder
    first.process.kill()
    first.end()
    clean()
    assert not first.run.folder.exists()
    assert second.exists()
    assert second.process.poll() is None
    os.kill(second.process.pid, signal.SIGINT)
    assert second.end() == 130


def test_ctrl_c_at_a_terminal_counts_once(tmp_path: Path) -> None:
    """The terminal sends Ctrl-C to the whole group: at the prompt it is one interrupt, not two."""
    pid, terminal = pty.fork()
    notes = tmp_path / "notes"
    if pid == 0:
        os.execv(
            sys.executable, [sys.executable, "-c", PROGRAM, str(notes), "prompt", str(runs.RUNS)]
        )

    def wait_for(text: str, times: int = 1) -> None:
        deadline = time.monotonic() + 20
        while not notes.exists() or notes.read_text().split().count(text) < times:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    code = None
    try:
        wait_for("ready")
        for times in (1, 2):
            os.write(terminal, b"\x03")
            wait_for("interrupt", times)
            time.sleep(0.2)
            assert notes.read_text().split().count("interrupt") == times
        os.close(terminal)  # the person closes the window: a hang-up
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        if code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert code == 129


def test_terminal_is_put_back_after_a_kill(tmp_path: Path) -> None:
    """A prompt that is killed after it has changed the terminal leaves it as it was."""
    pid, terminal = pty.fork()
    if pid == 0:
        code = (
            "import os, signal, subprocess\n"
            "from testbed.sandbox import run_in_sandbox\n"
            "def main(_):\n"
            "    subprocess.run(['stty', '-echo', '-icanon', 'min', '1'])\n"
            "    print('changed', flush=True)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "try:\n"
            "    run_in_sandbox(main, command='test')\n"
            "except Exception:\n"
            "    print('back', flush=True); input()\n"
        )
        os.execv(sys.executable, [sys.executable, "-c", code])
    before, text = termios.tcgetattr(terminal), b""
    while b"back" not in text:
        assert select.select([terminal], [], [], 20)[0]
        text += os.read(terminal, 1024)
    assert b"changed" in text
    assert termios.tcgetattr(terminal) == before
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
