# SPDX-License-Identifier: MIT
"""vmstat's command lines and what it writes, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.errors import RunError

__all__ = ["MEMORY_COMMAND", "CpuLine", "cpu_command", "parse_cpu", "parse_memory"]

MEMORY_COMMAND = ("vmstat", "-s")
"""Prints counters of memory, in KB."""


@dataclass(frozen=True, kw_only=True)
class CpuLine:
    """One line: shares of the time of all CPUs, in percent, and free memory."""

    free_kb: int
    user: int
    system: int
    idle: int
    io_wait: int
    stolen: int

    @property
    def used(self) -> int:
        """Share that was neither idle nor waiting for a disk."""
        return 100 - self.idle - self.io_wait


def cpu_command(lines: int) -> list[str]:
    """A line a second; the first one, about the time since the machine's start, not counted."""
    return ["vmstat", "-n", "1", str(lines + 1)]


def parse_cpu(text: str) -> list[CpuLine]:
    """The lines of :func:`cpu_command`, without that of the time since the start.

    :raises RunError: it is not understood.
    """
    try:
        _, heads, *rows = (line.split() for line in text.splitlines())
        found = [dict(zip(heads, map(int, row), strict=True)) for row in rows]
        return [
            CpuLine(
                free_kb=row["free"],
                user=row["us"],
                system=row["sy"],
                idle=row["id"],
                io_wait=row["wa"],
                stolen=row["st"] + row.get("gu", 0),
            )
            for row in found[1:]
        ]
    except (KeyError, ValueError) as error:
        raise RunError(f"vmstat's lines are not understood: {error}") from None


def parse_memory(text: str) -> int:
    """Memory in use in KB, as ``vmstat -s`` says it.

    :raises RunError: it is not understood.
    """
    for line in text.splitlines():
        words = line.split()
        if words[1:] == ["K", "used", "memory"] and words[0].isdecimal():
            return int(words[0])
    raise RunError("vmstat -s says nothing of used memory")
