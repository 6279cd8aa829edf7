# SPDX-License-Identifier: MIT
"""The two processes inside a sandbox: init, process 1 of its pid namespace, and the worker.

:mod:`testbed.sandbox` forks init and says how the whole hangs together.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from testbed import namespaces, runs
from testbed.errors import NfcbedError, RunError, UnsupportedError, UserError
from testbed.tool_path import tool_path

__all__ = ["CLEAN_UP_S", "Plan", "Sandbox", "current", "how_it_ended", "refused", "run_init"]

CLEAN_UP_S = 10.0
"""A worker that is still there this long after it was told to end is killed."""

_PROMPT_BEGINS, _PROMPT_ENDS = b"\xf0", b"\xf1"  # beside signal numbers on the wake-up pipe

_current: Sandbox | None = None


@dataclass
class Sandbox:
    """What the function in the sandbox knows of it.

    :param folder: ``/run/nfcbed/<run id>``, mode 0700, removed at the end.
    :param bpffs: a BPF file system of this run's own, for its pins.
    """

    run_id: str
    folder: Path
    bpffs: Path
    _wake: int = field(repr=False)
    _signum: int | None = field(default=None, repr=False)
    _at_prompt: bool = field(default=False, repr=False)

    def describe(self, **facts: Any) -> None:
        """Merge facts (plain JSON values) into the run's ``run.json``, atomically."""
        runs.update_record(self.folder, facts=facts)

    @contextlib.contextmanager
    def prompt(self) -> Iterator[None]:
        """Let a person type meanwhile: each Ctrl-C raises KeyboardInterrupt and ends nothing.

        SIGTERM and SIGHUP raise SystemExit instead, which a prompt does not catch.
        """
        os.write(self._wake, _PROMPT_BEGINS)
        self._at_prompt = True
        try:
            yield
        finally:
            self._at_prompt = False
            os.write(self._wake, _PROMPT_ENDS)

    @property
    def ending(self) -> bool:
        """Whether a signal told the run to end: what catches KeyboardInterrupt can ask."""
        return self._signum is not None

    def _on_signal(self, signum: int, _frame: object) -> None:
        if self._signum is not None:
            return  # cleaning up already
        if self._at_prompt and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._signum = signum
        if self._at_prompt:
            raise SystemExit(128 + signum)
        raise KeyboardInterrupt


def current() -> Sandbox | None:
    """Return the sandbox that this process runs in, or None outside of one."""
    return _current


@dataclass(frozen=True)
class Plan:
    """What the three processes share; made before the first fork.

    :param held: the ending signals that this run handles; ignored ones (nohup) stay ignored.
    :param report: memory file in which worker or init leaves how it ended.
    """

    main: Callable[[Sandbox], int]
    run_id: str
    folder: Path
    held: tuple[signal.Signals, ...]
    report: int

    def leave(self, outcome: int | BaseException) -> None:
        """Write how it ended, for the outer process to read once init is gone."""
        os.truncate(self.report, 0)
        os.pwrite(self.report, pickle.dumps(outcome), 0)

    def read(self) -> int | BaseException | None:
        """How it ended, or None if nobody could say."""
        data = os.pread(self.report, os.fstat(self.report).st_size, 0)
        outcome: int | BaseException | None = pickle.loads(data) if data else None
        return outcome


def how_it_ended(status: int) -> str:
    """Put a wait status into words."""
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def refused(what: str, error: OSError) -> UnsupportedError:
    """Make the error for a namespace or mount that the kernel does not give."""
    return UnsupportedError(f"the kernel refuses a {what}: {error.strerror} (see nfcbed doctor)")


# --- init -------------------------------------------------------------------------------------


def run_init(plan: Plan, theirs: socket.socket) -> NoReturn:
    """Be process 1 of the new pid namespace, which the caller has just forked."""
    code = 1
    try:
        namespaces.die_with_parent(signal.SIGKILL)
        theirs.send(b"!")
        if theirs.recv(1):
            _enter_namespaces(plan)
            code = _tend(plan, theirs)
    except BaseException as error:
        plan.leave(error)
    finally:
        os._exit(code)


def _enter_namespaces(plan: Plan) -> None:
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS)
    except OSError as error:
        raise refused("network and mount namespace", error) from None
    bpffs = plan.folder / "bpf"
    bpffs.mkdir(mode=0o700)
    try:
        namespaces.make_mounts_private()
        namespaces.mount("proc", Path("/proc"))
        namespaces.mount("bpf", bpffs, options="mode=0700")
    except OSError as error:
        raise refused("mount", error) from None
    namespaces.loopback_up()


def _tend(plan: Plan, theirs: socket.socket) -> int:
    """Fork the worker, reap what it orphans, and return when it has ended (or must)."""
    hear, wake = os.pipe()
    os.set_blocking(hear, False)
    os.set_blocking(wake, False)
    worker = os.fork()
    if worker == 0:
        os.close(hear)
        _run_worker(plan, theirs, wake)
    theirs.close()
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    at_prompt, deadline = False, None
    while True:
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([hear], [], [], patience)[0]:
            plan.leave(RunError(f"cleaning up took more than {CLEAN_UP_S:g} s and was cut short"))
            return 1
        # The worker's C-level handler writes each signal here, even while its Python is stuck.
        for byte in os.read(hear, 4096):
            if bytes([byte]) in (_PROMPT_BEGINS, _PROMPT_ENDS):
                at_prompt = bytes([byte]) == _PROMPT_BEGINS
            elif at_prompt and byte == signal.SIGINT:
                pass
            elif byte in plan.held and deadline is None:
                deadline = time.monotonic() + CLEAN_UP_S
        status = _reap(worker)
        if status is not None:
            if os.WIFSIGNALED(status):
                plan.leave(
                    RunError(f"the run was killed ({how_it_ended(status)}); nothing of it is left")
                )
            return 0


def _reap(worker: int) -> int | None:
    """Reap all that has ended; returns the worker's wait status if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == worker:
            return status
        if pid == 0:
            return None


# --- worker -----------------------------------------------------------------------------------


def _run_worker(plan: Plan, theirs: socket.socket, wake: int) -> NoReturn:
    global _current
    try:
        sandbox = Sandbox(plan.run_id, plan.folder, plan.folder / "bpf", wake)
        _current = sandbox
        os.environ["PATH"] = tool_path()
        for number in plan.held:
            signal.signal(number, sandbox._on_signal)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        theirs.send(b"!")
        if theirs.recv(1):
            theirs.close()
            plan.leave(_portable(_outcome(plan, sandbox)))
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    except BaseException as error:
        plan.leave(_portable(error))
    finally:
        os._exit(0)


def _outcome(plan: Plan, sandbox: Sandbox) -> int | BaseException:
    watched = {signal.SIGCHLD, signal.SIGQUIT, *plan.held}
    outcome: int | BaseException
    try:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
            outcome = plan.main(sandbox)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    except KeyboardInterrupt:
        outcome = 128 + signal.SIGINT
    except SystemExit as end:
        outcome = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        outcome = error
    # A run that was told to end is never taken for a finished one, however it unwound.
    return outcome if sandbox._signum is None else 128 + sandbox._signum


def _portable(outcome: int | BaseException) -> int | BaseException:
    """Make an exception fit to be raised again in the outer process."""
    if not isinstance(outcome, BaseException):
        return outcome
    if not isinstance(outcome, NfcbedError):
        lines = traceback.format_exception(outcome)
        outcome.add_note("In the sandbox:\n" + "".join(lines).rstrip())
    try:
        if str(pickle.loads(pickle.dumps(outcome))) == str(outcome):
            return outcome
    except Exception:
        pass  # not made for pickling: what it says and its exit code matter
    for base in (UserError, UnsupportedError, RunError):
        if isinstance(outcome, base):
            return base(str(outcome))
    return RunError(f"unexpected {type(outcome).__name__}: {outcome}")
