# SPDX-License-Identifier: MIT
"""CPU time as the kernel accounts it in ``/proc/stat``; on many kernels by ticks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import RunError

__all__ = [
    "PROC_STAT_FILE",
    "CpuTicks",
    "idle_share",
    "parse_stat",
    "plain_stat",
    "read_stat",
    "tick_s",
]

PROC_STAT_FILE = "proc-stat.json"
"""Of ``raw/``: what :func:`plain_stat` gives."""

_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True)
class CpuTicks:
    """Time of one CPU since the machine's start, in ticks of :func:`tick_s`."""

    user: int
    nice: int
    system: int
    idle: int
    iowait: int
    irq: int
    softirq: int
    steal: int

    @property
    def total(self) -> int:
        """All of its time."""
        return sum(getattr(self, name) for name in _FIELDS)

    @property
    def busy(self) -> int:
        """What was neither idle nor waiting for a disk."""
        return self.total - self.idle - self.iowait


def parse_stat(text: str) -> dict[str, CpuTicks]:
    """The lines of the CPUs, by name; ``cpu`` is all of them together.

    :raises RunError: there are none.
    """
    rows = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    found = {
        row[0]: CpuTicks(*map(int, row[1 : len(_FIELDS) + 1]))
        for row in rows
        if len(row) > len(_FIELDS)
    }
    if "cpu" not in found:
        raise RunError("/proc/stat says nothing of the CPUs")
    return found


def idle_share(before: CpuTicks, after: CpuTicks) -> float:
    """Share of the time between two readings in which nothing ran, 0 to 1."""
    passed = after.total - before.total
    return 1 - (after.busy - before.busy) / passed if passed else 0.0


def read_stat() -> dict[str, CpuTicks]:
    """The machine's counters now."""
    return parse_stat(Path("/proc/stat").read_text())


def tick_s() -> float:
    """Seconds in a tick of these counters."""
    return 1.0 / os.sysconf("SC_CLK_TCK")


def plain_stat(samples: Mapping[str, Sequence[tuple[int, CpuTicks]]]) -> dict[str, Any]:
    """Readings of all CPUs together, by state, as JSON values: the time in ns, then ticks."""
    return {
        "columns": ["t_ns", *_FIELDS],
        "tick_s": tick_s(),
        **{
            state: [[t_ns, *(getattr(ticks, name) for name in _FIELDS)] for t_ns, ticks in rows]
            for state, rows in samples.items()
        },
    }
