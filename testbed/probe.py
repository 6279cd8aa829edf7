# SPDX-License-Identifier: MIT
"""Ask the kernel what it can do: by trying, in a throw-away namespace, never by its version.

:func:`probe` answers for one name and remembers the answer for this process. A probe that
changes anything runs in a forked child with network and mount namespaces of its own; what it
made goes with the child. (What a probe cannot give back is a kernel module that the kernel
loaded for it, as it would for the run itself.)
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
from collections.abc import Iterable, Mapping

from testbed import probe_bpf, probe_net
from testbed.probe_base import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    MS_PRIVATE,
    MS_REC,
    Absent,
    CouldNotTell,
    Probe,
    ProbeSpec,
    State,
    is_privileged,
    mount,
    unshare,
)

__all__ = ["NEEDS_ROOT", "PROBES", "Probe", "State", "needs_root", "probe", "probe_all"]

PROBES: Mapping[str, ProbeSpec] = {**probe_bpf.PROBES, **probe_net.PROBES}

NEEDS_ROOT = "needs root"  # detail of a probe that was not tried

_TIMEOUT_S = 5.0
_cache: dict[str, Probe] = {}


def probe(name: str) -> Probe:
    """Tell whether the kernel can do ``name``, one of :data:`PROBES`.

    :raises KeyError: there is no such probe.
    """
    return probe_all([name])[name]


def probe_all(names: Iterable[str] = PROBES) -> dict[str, Probe]:
    """Answer for several names in one go, in their order; cheaper than one by one.

    :raises KeyError: there is no such probe.
    """
    wanted = {name: PROBES[name] for name in names}
    new = {name: spec for name, spec in wanted.items() if name not in _cache}
    plain = [name for name, spec in new.items() if not spec.isolated]
    isolated = [name for name, spec in new.items() if spec.isolated]
    _cache.update((name, _try(name, new[name])) for name in plain)
    if needs_root():
        _cache.update((name, Probe(State.UNKNOWN, NEEDS_ROOT)) for name in isolated)
        isolated = []
    while isolated:
        _cache.update(_answers_of_child(isolated))
        isolated = [name for name in isolated if name not in _cache]
    return {name: _cache[name] for name in wanted}


def needs_root() -> bool:
    """Tell whether this process is too weak for the probes that need a namespace."""
    return not is_privileged()


def _answers_of_child(names: list[str]) -> dict[str, Probe]:
    """Fork a child that runs the probes in turn; at least the first gets an answer."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            _child(names, write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    try:
        answers, why = _collect(read_end)
    finally:
        os.close(read_end)
        # The child leads a process group, so that a tool which hangs goes with it.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError):
                kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    first_unanswered = next((name for name in names if name not in answers), None)
    if first_unanswered is not None:
        answers[first_unanswered] = Probe(State.UNKNOWN, why)
    return answers


def _collect(read_end: int) -> tuple[dict[str, Probe], str]:
    """Read answers until the child ends or takes too long; say which of the two it was."""
    answers: dict[str, Probe] = {}
    rest = b""
    while True:
        if not select.select([read_end], [], [], _TIMEOUT_S)[0]:
            return answers, f"no answer within {_TIMEOUT_S:g} s"
        chunk = os.read(read_end, 65536)
        if not chunk:
            return answers, "the probe's process died"
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            name, state, detail = json.loads(line)
            answers[name] = Probe(State(state), detail)


def _child(names: list[str], write_end: int) -> None:
    os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    # Linux before 5.11 counts BPF memory against this limit.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    for name in names:
        answer = _try(name, PROBES[name])
        line = json.dumps([name, answer.state, answer.detail]) + "\n"
        os.write(write_end, line.encode())


def _try(name: str, spec: ProbeSpec) -> Probe:
    """Run one probe and turn its end into an answer."""
    try:
        if spec.isolated:
            _isolate(name)
        return Probe(State.YES, spec.run())
    except Absent as absent:
        return Probe(State.NO, str(absent))
    except CouldNotTell as reason:
        return Probe(State.UNKNOWN, str(reason))
    except OSError as error:
        return Probe(State.NO, error.strerror or str(error))


def _isolate(name: str) -> None:
    """Go into namespaces of this probe's own, from which nothing gets out.

    That it cannot be done is an answer to one probe only, the one that asks for namespaces.
    """
    try:
        unshare(CLONE_NEWNET | CLONE_NEWNS)
        mount("none", "/", None, MS_REC | MS_PRIVATE)
    except OSError as error:
        if name != "namespaces":
            raise CouldNotTell("no namespace to try it in") from error
        if error.errno == errno.EINVAL:
            raise Absent("/ is no mount point, as in a chroot: bind it to itself") from error
        raise
