# SPDX-License-Identifier: MIT
"""Histograms of on-CPU time, and how they are compared with Figure 7.3. Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from testbed.experiment import checks
from testbed.experiment.cpudist import Bin
from testbed.experiment.procstat import CpuTicks
from testbed.results import Check, Compared, Series

__all__ = ["busy_share", "compared", "cpu_series", "fullest", "judge"]

PUBLISHED_FULLEST_US = 2048.0
"""Lower end of the fullest bin, 2,048 to 4,095 µs, in both states."""
PUBLISHED_RATIO = 2.0
"""Processing has about so many times the stretches of idle."""


def total(bins: Sequence[Bin]) -> int:
    """All stretches of a histogram."""
    return sum(b.count for b in bins)


def fullest(bins: Sequence[Bin]) -> Bin:
    """The bin with the most stretches; the shortest of equals. One without any is (0, 0, 0)."""
    return max(bins, key=lambda b: (b.count, -b.low_us), default=Bin(0, 0, 0))


def in_published_bin(bins: Sequence[Bin]) -> int:
    """Stretches in the bin that was the fullest in the thesis."""
    return sum(b.count for b in bins if b.low_us == PUBLISHED_FULLEST_US)


def compared(found: Mapping[str, Sequence[Bin]]) -> list[Compared]:
    """What Figure 7.3 says, beside ours; of the states that there are so far."""
    rows = []
    for name, bins in found.items():
        rows += [
            Compared(
                name=f"{name}: fullest bin, from",
                unit="µs",
                value=fullest(bins).low_us,
                published=PUBLISHED_FULLEST_US,
            ),
            Compared(name=f"{name}: stretches on a CPU", value=total(bins)),
            Compared(name=f"{name}: stretches of 2,048–4,095 µs", value=in_published_bin(bins)),
        ]
    if {"idle", "processing"} <= set(found):
        idle, busy = found["idle"], found["processing"]
        for text, count in (("stretches", total), ("of 2,048–4,095 µs", in_published_bin)):
            less = count(idle)
            rows.append(
                Compared(
                    name=f"processing / idle: {text}",
                    value=round(count(busy) / less, 4) if less else None,
                    published=PUBLISHED_RATIO,
                )
            )
    return rows


def judge(found: Mapping[str, Sequence[Bin]]) -> list[Check]:
    """That both states were seen, and that processing shows in the histogram."""
    counts = {name: total(bins) for name, bins in found.items()}
    return [
        checks.above("idle: stretches on a CPU", counts["idle"], limit=0, unit=""),
        checks.above(
            "processing: stretches on a CPU", counts["processing"], limit=counts["idle"], unit=""
        ),
    ]


def busy_share(samples: Sequence[tuple[int, CpuTicks]]) -> float:
    """Share of all CPUs that was in use from the first sample to the last."""
    (_, first), (_, last) = samples[0], samples[-1]
    return (last.busy - first.busy) / max(1, last.total - first.total)


def cpu_series(found: Mapping[str, Sequence[tuple[int, CpuTicks]]], zero_ns: int) -> list[Series]:
    """CPU in use over time, by ``/proc/stat``: how idle the idle state was."""
    series = []
    for name, samples in found.items():
        if len(samples) < 2:
            continue
        times = [round((t_ns - zero_ns) / 1e9, 6) for t_ns, _ in samples]
        shares = [100 * busy_share(pair) for pair in pairwise(samples)]
        series.append(
            Series(
                quantity="busy",
                unit="% of all CPUs",
                node=name,
                begin_s=times[0],
                t_s=tuple(times[1:]),
                values=tuple(round(share, 3) for share in shares),
            )
        )
    return series
