# SPDX-License-Identifier: MIT
"""Kernel memory charged to the memory cgroup that this process runs in.

It is only read: a cgroup of the run's own would have to be made in the host's hierarchy. So what
else runs in the same cgroup shows as well, and a difference is worth most over a short time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["kernel_memory", "kernel_memory_of", "parse_kernel_memory", "places"]

_ROOT = Path("/sys/fs/cgroup")
_REPEATS = 3
_FREED_S = 1.0  # what BPF objects held is given back after an RCU grace period


def places(groups: str) -> list[Path]:
    """Where the figure may be, by the text of ``/proc/self/cgroup``; cgroup v1 first."""
    rows = [line.split(":", 2) for line in groups.splitlines() if line.count(":") >= 2]
    first = [
        _ROOT / "memory" / path.lstrip("/") / "memory.kmem.usage_in_bytes"
        for _, controllers, path in rows
        if "memory" in controllers.split(",")
    ]
    second = [_ROOT / path.lstrip("/") / "memory.stat" for number, _, path in rows if number == "0"]
    return first + second


def parse_kernel_memory(text: str) -> int | None:
    """Bytes, from the one number of cgroup v1 or the line ``kernel`` of v2; None without."""
    if text.strip().isdecimal():
        return int(text)
    found = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    return int(found["kernel"]) if "kernel" in found else None


def kernel_memory() -> int | None:
    """Bytes charged now; None where this kernel does not say."""
    with contextlib.suppress(OSError):
        for path in places(Path("/proc/self/cgroup").read_text()):
            if path.exists():
                return parse_kernel_memory(path.read_text())
    return None


def kernel_memory_of(build: Callable[[], AbstractContextManager[Any]]) -> int | None:
    """How many bytes more are charged while something is built: the median of a few times.

    :param build: a ``with`` block over what it gives has the thing built.
    """
    found = []
    for _ in range(_REPEATS):
        time.sleep(_FREED_S)
        before = kernel_memory()
        with build():
            after = kernel_memory()
        if before is None or after is None:
            return None
        found.append(after - before)
    time.sleep(_FREED_S)
    return int(median(found))
