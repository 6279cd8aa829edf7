# SPDX-License-Identifier: MIT
"""cpudist of libbpf-tools: how long tasks stay on a CPU, as its histogram says it.

A stretch counts when the task leaves its CPU; bins are powers of two of microseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from testbed.errors import RunError

__all__ = ["Bin", "command", "parse"]

_ROW = re.compile(r"\s*(\d+) -> (\d+)\s*: (\d+)\s*\|.*")


@dataclass(frozen=True)
class Bin:
    """Stretches of ``low_us`` to ``high_us``, both included."""

    low_us: int
    high_us: int
    count: int


def command(duration_s: int) -> list[str]:
    """One histogram of so many seconds, of the whole machine."""
    return ["cpudist", str(duration_s), "1"]


def parse(text: str) -> list[Bin]:
    """The histogram in cpudist's output, without the empty bins behind the last full one.

    :raises RunError: there is none, or more than one.
    """
    heads = [line for line in text.splitlines() if line.split()[:1] == ["usecs"]]
    if len(heads) != 1:
        raise RunError(f"cpudist wrote {len(heads)} histograms of microseconds, not one")
    rows = (_ROW.fullmatch(line) for line in text.splitlines())
    return [Bin(*map(int, row.groups())) for row in rows if row]
