# SPDX-License-Identifier: MIT
"""One line of the bench's table: what is aimed at, what was found, and the verdict. Pure values.

A figure is judged on the unfavourable end of its interval, and not at all where the machine was
the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from testbed.bench.stats import Interval

__all__ = ["Finding", "Found", "Row", "Target", "found_of", "not_measured", "rows_of"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Target(_Value):
    """An aim.

    :ivar part: the part of the bench that measures it.
    :ivar at_least: whether more is better; otherwise less is.
    """

    key: str
    part: str
    text: str
    unit: str = ""
    bound: float
    at_least: bool = True


class Finding(_Value):
    """What came of an aim.

    :ivar value: None where it was not measured; ``note`` says why.
    :ivar low: lower end of the bootstrap 95 % interval; None where the value is counted exactly.
    :ivar limited: whether the machine was the limit; ``note`` says how.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str | None = None
    limited: bool = False


class Row(_Value):
    """An aim and what came of it."""

    target: Target
    finding: Finding

    @property
    def judged(self) -> float | None:
        """The end of the interval that counts; the value itself where there is no interval."""
        end = self.finding.low if self.target.at_least else self.finding.high
        return self.finding.value if end is None else end

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached; None where that cannot be told."""
        if self.judged is None or self.finding.limited:
            return None
        if self.target.at_least:
            return self.judged >= self.target.bound
        return self.judged <= self.target.bound

    @property
    def verdict(self) -> str:
        """``reached``, ``missed by …``, ``not measured: …`` or ``not judged: …``."""
        if self.judged is None:
            return f"not measured: {self.finding.note or 'no value'}"
        if self.finding.limited:
            return f"not judged: host-limited: {self.finding.note or 'no reason given'}"
        if self.reached:
            return "reached"
        away = 100 * abs(self.judged - self.target.bound) / self.target.bound
        return f"missed by {away:.0f} %" if away >= 10 else f"missed by {away:.2g} %"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one part of the bench gave.

    :ivar findings: by the target's key.
    :ivar faults: packets lost or not accounted for, and the like: the bench ends with 1.
    """

    findings: Mapping[str, Finding]
    faults: tuple[str, ...] = ()


def found_of(interval: Interval, *, note: str | None = None, limited: bool = False) -> Finding:
    """A finding with an interval."""
    return Finding(
        value=interval.value, low=interval.low, high=interval.high, note=note, limited=limited
    )


def not_measured(why: str) -> Finding:
    """A finding that is none."""
    return Finding(value=None, note=why)


def rows_of(targets: Sequence[Target], findings: Mapping[str, Finding]) -> Iterable[Row]:
    """One row a target, in their order."""
    missing = not_measured("the part gave no value")
    return (Row(target=t, finding=findings.get(t.key, missing)) for t in targets)
