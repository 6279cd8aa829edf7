# SPDX-License-Identifier: MIT
"""Run a function in namespaces of its own, so that the host is left as it was found.

    outer      the process that called run_in_sandbox: forwards signals, waits, removes the folder
    └─ init    process 1 of a new pid namespace, with new network and mount namespaces: reaps
       └─ worker   runs the function; everything that it starts lives in these namespaces

The kernel does the clean-up: when *init* ends, it kills every process of the pid namespace, and
the last of them takes the network namespaces with their interfaces, queues and rules, and the
mount namespace with the private bpffs and its pins. Init ends with the worker, and it dies with
the outer process (``PR_SET_PDEATHSIG``), so this holds for SIGKILL of any of the three.

All three stay in the caller's process group, so that the worker owns the terminal where the
caller does: Mininet's prompt, Ctrl-C and Ctrl-Z work.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import struct
import sys
import termios
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from testbed import namespaces, runs
from testbed.errors import NfcbedError, RunError, UnsupportedError, UserError
from testbed.runs import RunInfo, clean, list_runs

__all__ = ["RunInfo", "Sandbox", "clean", "current", "list_runs", "run_in_sandbox"]

CLEAN_UP_S = 10.0
"""A worker that is still there this long after it was told to end is killed."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SI_KERNEL = 0x80  # si_code of a signal that the terminal sent to the whole foreground group
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


def run_in_sandbox(main: Callable[[Sandbox], int], *, command: str) -> int:
    """Run ``main`` in a forked child with new network, mount and pid namespaces.

    What dead runs left behind is removed first.

    :param command: what the run does, for ``nfcbed clean`` and ``run.json``.
    :return: what ``main`` returned; 128 + n when signal n (INT, TERM, HUP) ended the run.
    :raises UserError: not root.
    :raises UnsupportedError: the kernel refuses a namespace or a mount.
    :raises RunError: the run was killed.

    Whatever else ``main`` raises is raised here again, with the child's traceback as a note.
    Must be called from the main thread, since the kernel ties the child's life to it.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run_in_sandbox must be called from the main thread")
    if os.geteuid() != 0:
        raise UserError("needs root: run it with sudo")
    clean()
    run_id, folder = runs.make_run(command)
    try:
        with contextlib.ExitStack() as stack:
            report = os.memfd_create("nfcbed-report")
            stack.callback(os.close, report)
            held = stack.enter_context(_held_signals())
            stack.enter_context(_kept_terminal())
            return _run_outer(_Plan(main, run_id, folder, held, report))
    finally:
        runs.remove_run(folder)


# --- outer ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
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


def _run_outer(plan: _Plan) -> int:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            init = _fork_init(plan, ours, theirs)
        try:
            worker = _hand_over(plan, ours, init)
            status = _wait(plan, init, worker)
        except BaseException:
            os.kill(init, signal.SIGKILL)
            os.waitpid(init, 0)
            raise
    outcome = plan.read()
    if isinstance(outcome, BaseException):
        raise outcome
    if outcome is None:
        raise RunError(f"the run was killed ({_how(status)}); nothing of it is left")
    return outcome


def _fork_init(plan: _Plan, ours: socket.socket, theirs: socket.socket) -> int:
    """Fork process 1 of a new pid namespace; our later children are in our own again."""
    sys.stdout.flush()
    sys.stderr.flush()
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWPID)
        try:
            init = os.fork()
            if init == 0:
                ours.close()
                _run_init(plan, theirs)
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWPID)
    except OSError as error:
        raise _refused("pid namespace", error) from None
    finally:
        os.close(home)
    return init


def _hand_over(plan: _Plan, ours: socket.socket, init: int) -> int | None:
    """Shake hands with init, then with the worker; returns its pidfd, or None if it failed.

    Init speaks after it has asked to die with us: were we dead by then, it reads no answer.
    """
    if not ours.recv(1):
        return None
    ours.send(b"!")
    size = struct.calcsize("3i")
    # The kernel notes the sender's process number as *we* see it.
    message, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(size))
    if not message:
        return None
    worker: int = struct.unpack("3i", ancillary[0][2][:size])[0]
    runs.update_record(plan.folder, facts={}, init_pid=init, worker_pid=worker)
    pidfd = os.pidfd_open(worker)
    ours.send(b"!")
    return pidfd


def _wait(plan: _Plan, init: int, worker: int | None) -> int:
    """Wait for init, passing signals on to the worker; returns init's wait status."""
    watched = {signal.SIGCHLD, signal.SIGQUIT, *plan.held}
    try:
        while True:
            pid, status = os.waitpid(init, os.WNOHANG)
            if pid:
                return status
            info = signal.sigwaitinfo(watched)
            if info.si_signo == signal.SIGQUIT:
                os.kill(init, signal.SIGKILL)
            elif info.si_signo in plan.held and info.si_code != _SI_KERNEL and worker is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(worker, info.si_signo)
    finally:
        if worker is not None:
            os.close(worker)


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.waitstatus_to_exitcode(status)}"


def _refused(what: str, error: OSError) -> UnsupportedError:
    return UnsupportedError(f"the kernel refuses a {what}: {error.strerror} (see nfcbed doctor)")


@contextlib.contextmanager
def _held_signals() -> Iterator[tuple[signal.Signals, ...]]:
    """Keep the ending signals pending; yields those that were not ignored (as by nohup)."""
    held = tuple(number for number in _ENDING if signal.getsignal(number) != signal.SIG_IGN)
    watched = {signal.SIGCHLD, signal.SIGQUIT, *held}
    on_child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        yield held
    finally:
        # What came too late to be passed on has got what it wanted: the run is over.
        while signal.sigtimedwait(watched, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGCHLD, on_child)


@contextlib.contextmanager
def _kept_terminal() -> Iterator[None]:
    """Put the terminal's settings back at the end: a killed prompt leaves it without echo."""
    settings = None
    with contextlib.suppress(termios.error, OSError, ValueError, AttributeError):
        terminal = sys.stdin.fileno()
        settings = termios.tcgetattr(terminal)
    try:
        yield
    finally:
        if settings is not None:
            with contextlib.suppress(OSError, termios.error):
                if os.tcgetpgrp(terminal) == os.getpgrp():
                    termios.tcsetattr(terminal, termios.TCSADRAIN, settings)


# --- init -------------------------------------------------------------------------------------


def _run_init(plan: _Plan, theirs: socket.socket) -> NoReturn:
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


def _enter_namespaces(plan: _Plan) -> None:
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS)
    except OSError as error:
        raise _refused("network and mount namespace", error) from None
    bpffs = plan.folder / "bpf"
    bpffs.mkdir(mode=0o700)
    try:
        namespaces.make_mounts_private()
        namespaces.mount("proc", Path("/proc"))
        namespaces.mount("bpf", bpffs, options="mode=0700")
    except OSError as error:
        raise _refused("mount", error) from None
    namespaces.loopback_up()


def _tend(plan: _Plan, theirs: socket.socket) -> int:
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
                plan.leave(RunError(f"the run was killed ({_how(status)}); nothing of it is left"))
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


def _run_worker(plan: _Plan, theirs: socket.socket, wake: int) -> NoReturn:
    global _current
    try:
        sandbox = Sandbox(plan.run_id, plan.folder, plan.folder / "bpf", wake)
        _current = sandbox
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


def _outcome(plan: _Plan, sandbox: Sandbox) -> int | BaseException:
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
        pickle.loads(pickle.dumps(outcome))
    except Exception:
        return RunError(f"unexpected {type(outcome).__name__}: {outcome}")
    return outcome
