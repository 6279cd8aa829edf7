# SPDX-License-Identifier: MIT
"""What else the machine did while something was measured on one of its cores."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Noise", "Watch", "cpu_ticks"]

_MOST_WAITED = 0.01
_MOST_OTHERS_BUSY = 0.75
_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What disturbed one measurement.

    :ivar wall_s: how long it took, set-up included.
    :ivar steal_ticks: time that the hypervisor took from the measuring core (USER_HZ).
    :ivar waited_s: time that the measuring thread could have run and another one did.
    :ivar preempted: how often another thread took the core.
    :ivar others_busy: busy share of the other cores, 0 to 1; 0 where there are none.
    """

    wall_s: float
    steal_ticks: int
    waited_s: float
    preempted: int
    others_busy: float

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the measurement may be off; empty if the machine was quiet."""
        found = []
        if self.steal_ticks:
            found.append("the hypervisor took time from the core")
        if self.waited_s > _MOST_WAITED * self.wall_s:
            found.append("others ran on the core")
        if self.others_busy > _MOST_OTHERS_BUSY:
            found.append("the other cores were busy")
        return tuple(found)


def cpu_ticks(text: str) -> dict[int, dict[str, int]]:
    """Ticks by CPU and kind, from the text of /proc/stat."""
    found = {}
    for line in text.splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name != "cpu":
            found[int(name[3:])] = dict(zip(_FIELDS, map(int, numbers), strict=False))
    return found


def _idle(ticks: dict[str, int]) -> int:
    return ticks["idle"] + ticks["iowait"]


class Watch:
    """Notes what the machine does while its ``with`` block runs, on this thread's core ``cpu``."""

    noise: Noise

    def __init__(self, cpu: int) -> None:
        self._cpu = cpu

    def __enter__(self) -> Self:
        self._before = self._look()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.noise = self._difference(self._before, self._look())

    def _look(self) -> tuple[float, dict[int, dict[str, int]], float, int]:
        ticks = cpu_ticks(Path("/proc/stat").read_text())
        try:
            waited_s = int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
        except OSError:  # a kernel without CONFIG_SCHED_INFO
            waited_s = 0.0
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
        return time.monotonic(), ticks, waited_s, switches

    def _difference(
        self,
        before: tuple[float, dict[int, dict[str, int]], float, int],
        after: tuple[float, dict[int, dict[str, int]], float, int],
    ) -> Noise:
        wall_s = after[0] - before[0]
        idle = [
            _idle(after[1][cpu]) - _idle(ticks)
            for cpu, ticks in before[1].items()
            if cpu != self._cpu and cpu in after[1]
        ]
        whole = wall_s * os.sysconf("SC_CLK_TCK")
        busy = 1 - sum(idle) / (len(idle) * whole) if idle and whole else 0.0
        steal = after[1][self._cpu].get("steal", 0) - before[1][self._cpu].get("steal", 0)
        return Noise(
            wall_s=round(wall_s, 6),
            steal_ticks=steal,
            waited_s=round(after[2] - before[2], 6),
            preempted=after[3] - before[3],
            others_busy=round(min(1.0, max(0.0, busy)), 2),
        )
