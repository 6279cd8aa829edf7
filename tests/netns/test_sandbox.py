# SPDX-License-Identifier: MIT
"""The sandbox: what it isolates, what comes out of it, and when it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from testbed import runs
from testbed.errors import NfcbedError, PolicyError, UnsupportedError, UserError
from testbed.sandbox import Sandbox, current, list_runs, run_in_sandbox

pytestmark = pytest.mark.needs("namespaces", "bpffs")

DROP = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]


def namespace(kind: str) -> str:
    """Name of this process's namespace of that kind."""
    return str(Path(f"/proc/self/ns/{kind}").readlink())


def test_result_is_the_functions() -> None:
    """The exit code of the run is what the function returns."""
    assert run_in_sandbox(lambda _: 7, command="test") == 7
    assert run_in_sandbox(lambda _: 0, command="test") == 0


def test_function_sees_only_its_own_namespaces() -> None:
    """Inside there is one interface, ``lo``, up; no process of the host; a bpffs of its own."""
    host = {kind: namespace(kind) for kind in ("net", "mnt", "pid")}

    def main(sandbox: Sandbox) -> int:
        assert current() is sandbox
        for kind, inode in host.items():
            assert namespace(kind) != inode
        links = json.loads(subprocess.check_output(["ip", "-j", "link"]))
        assert [(link["ifname"], "UP" in link["flags"]) for link in links] == [("lo", True)]
        assert {path.name for path in Path("/proc").glob("[0-9]*")} == {"1", str(os.getpid())}
        mounts = Path("/proc/self/mountinfo").read_text()
        assert f" {sandbox.bpffs} " in mounts
        assert "shared:" not in mounts
        assert sandbox.bpffs.stat().st_dev != sandbox.folder.stat().st_dev
        assert sandbox.folder.stat().st_mode & 0o777 == 0o700
        assert sandbox.folder.parent == runs.RUNS
        return 0

    assert run_in_sandbox(main, command="test") == 0
    assert current() is None
    assert {kind: namespace(kind) for kind in host} == host
    pid_of_next_child = namespace("pid_for_children")
    assert pid_of_next_child == host["pid"]


@pytest.mark.parametrize(
    "error",
    [
        UserError("wrong option"),
        UnsupportedError("no such thing"),
        PolicyError("must be more", path=Path("policy.yaml"), line=3, field="chains[0]"),
        ZeroDivisionError("division by zero"),
        AssertionError("assert 1 == 2"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_out_as_they_were(error: Exception) -> None:
    """What the function raises is raised to the caller: same type, text and fields."""

    def main(_: Sandbox) -> int:
        raise error

    with pytest.raises(type(error)) as caught:
        run_in_sandbox(main, command="test")
    assert str(caught.value) == str(error)
    assert getattr(caught.value, "line", None) == getattr(error, "line", None)
    # A fault of the user's has no traceback; an unexpected one has the sandbox's.
    notes = "".join(getattr(caught.value, "__notes__", []))
    assert ("in main" in notes) == (not isinstance(error, NfcbedError))


class AwkwardError(UnsupportedError):
    """An error that cannot be made again from its arguments."""

    def __init__(self, what: str, *, where: str) -> None:
        super().__init__(f"{what} at {where}")


def test_error_that_does_not_travel_keeps_text_and_exit_code() -> None:
    """An error that pickle cannot carry arrives as its base class, with the same words."""

    def main(_: Sandbox) -> int:
        raise AwkwardError("refused", where="step 3")

    with pytest.raises(UnsupportedError, match=r"^refused at step 3$"):
        run_in_sandbox(main, command="test")


def test_output_is_written_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Text that waited to be written before the fork, or at its end, comes out exactly once."""
    sys.stdout.write("before ")

    def main(_: Sandbox) -> int:
        sys.stdout.write("inside ")
        raise SystemExit(3)

    assert run_in_sandbox(main, command="test") == 3
    sys.stdout.write("after")
    sys.stdout.flush()
    assert capfd.readouterr().out == "before inside after"


def test_record_tells_who_runs_and_what() -> None:
    """``run.json`` has the run's facts, merged; ``list_runs`` gives it, alive."""

    def main(sandbox: Sandbox) -> int:
        sandbox.describe(topology="thesis", nodes=4)
        sandbox.describe(nodes=5)
        (mine,) = [run for run in list_runs() if run.run_id == sandbox.run_id]
        assert mine.alive
        assert (mine.command, mine.facts) == ("shell thesis", {"topology": "thesis", "nodes": 5})
        return 0

    assert run_in_sandbox(main, command="shell thesis") == 0
    assert [run for run in list_runs() if run.pid == os.getpid()] == []


def test_without_root_it_says_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without root gets one sentence that says what to do, exit code 2."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="needs root: run it with sudo"):
        run_in_sandbox(lambda _: 0, command="test")


def test_refused_namespaces_are_unsupported() -> None:
    """Where the kernel refuses namespaces the error is exit code 3, and no folder is left."""
    code = (
        "from testbed.sandbox import run_in_sandbox\n"
        "try:\n"
        "    run_in_sandbox(lambda _: 0, command='refused')\n"
        "except Exception as error:\n"
        "    print(error.exit_code, error)\n"
    )
    done = subprocess.run(
        [*DROP, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("3 the kernel refuses a pid namespace: "), done.stdout
    assert [run for run in list_runs() if run.command == "refused"] == []


def test_only_the_main_thread_may() -> None:
    """Called from another thread it refuses: the kernel ties the run's life to the thread."""
    caught: list[BaseException] = []

    def call() -> None:
        try:
            run_in_sandbox(lambda _: 0, command="test")
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert not isinstance(caught[0], NfcbedError)
    assert "main thread" in str(caught[0])
