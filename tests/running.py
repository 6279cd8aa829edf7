# SPDX-License-Identifier: MIT
"""Runs of nfcbed in a process of their own: what they have started, and what disturbs them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["NFCBED", "busy_cores", "descendants", "find_one", "kill_one", "start"]

NFCBED = Path(sys.executable).with_name("nfcbed")
_POLL_S = 0.05


def start(words: Sequence[str], *, until: str) -> subprocess.Popen[str]:
    """Start ``nfcbed run`` and return when its progress says a text."""
    process = subprocess.Popen(
        [NFCBED, "run", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while until not in process.stderr.readline():
        assert process.poll() is None, f"ended before it said {until!r}"
    return process


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Process numbers and command lines of all that a process has started."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it may have ended
            yield int(child), Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            yield from descendants(int(child))


def find_one(process: subprocess.Popen[str], words: str) -> int:
    """The number of a process that a run has started, by how its command line begins; waits."""
    while True:
        for pid, line in descendants(process.pid):
            if line.startswith(words):
                return pid
        assert process.poll() is None, f"ended before there was {words!r}"
        time.sleep(_POLL_S)


def kill_one(process: subprocess.Popen[str], words: str) -> None:
    """Kill such a process."""
    os.kill(find_one(process, words), signal.SIGKILL)


@contextlib.contextmanager
def busy_cores() -> Iterator[None]:
    """A busy loop for every core, meanwhile."""
    loops: list[subprocess.Popen[bytes]] = []
    try:
        for _ in os.sched_getaffinity(0):
            loops.append(subprocess.Popen(["sh", "-c", "while :; do :; done"]))  # noqa: PERF401
        yield
    finally:
        for process in loops:
            process.kill()
            process.wait()
