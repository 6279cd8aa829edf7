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
import signal
import socket
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator

from testbed import namespaces, runs
from testbed.errors import RunError, UserError
from testbed.inside import Plan, Sandbox, current, how_it_ended, refused, run_init
from testbed.runs import RunInfo, clean, list_runs

__all__ = ["RunInfo", "Sandbox", "clean", "current", "list_runs", "run_in_sandbox"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SI_KERNEL = 0x80  # si_code of a signal that the kernel sent, the terminal for example


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
            return _run_outer(Plan(main, run_id, folder, held, report))
    finally:
        runs.remove_run(folder)


def _run_outer(plan: Plan) -> int:
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
        raise RunError(f"the run was killed ({how_it_ended(status)}); nothing of it is left")
    return outcome


def _fork_init(plan: Plan, ours: socket.socket, theirs: socket.socket) -> int:
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
                run_init(plan, theirs)
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWPID)
    except OSError as error:
        raise refused("pid namespace", error) from None
    finally:
        os.close(home)
    return init


def _hand_over(plan: Plan, ours: socket.socket, init: int) -> int | None:
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


def _wait(plan: Plan, init: int, worker: int | None) -> int:
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
            elif info.si_signo in plan.held and worker is not None and not _worker_got(info):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(worker, info.si_signo)
    finally:
        if worker is not None:
            os.close(worker)


def _worker_got(info: signal.struct_siginfo) -> bool:
    """Tell whether the worker has had this signal too: Ctrl-C, which goes to the whole group.

    A hang-up goes to the session's leader alone, and who calls kill may mean only us.
    """
    return info.si_signo == signal.SIGINT and info.si_code == _SI_KERNEL


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
