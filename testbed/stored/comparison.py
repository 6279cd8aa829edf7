# SPDX-License-Identifier: MIT
"""Two results of the same experiment side by side. Pure values."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from testbed.errors import UserError
from testbed.results import Compared, Mean, Point, Result
from testbed.stored.caution import cautions
from testbed.stored.surroundings import environment_differences, flat

__all__ = ["Comparison", "Difference", "Side", "Value", "Verdict", "compare"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two.

    :ivar folder: as it was named.
    :ivar policy: text of ``policy.yaml``; None if there is none.
    :ivar environment: of ``environment.json``; None if there is none.
    """

    folder: str
    result: Result
    policy: str | None
    environment: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A setting that is not the same.

    :ivar a: None where A does not have it; ``b`` likewise.
    :ivar times: in how many places.
    """

    what: str
    a: Any
    b: Any
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value of both.

    :ivar x: where on a curve; None elsewhere.
    :ivar a_interval: its 95 % interval; None where there is none, or A has not this value.
    """

    group: str
    name: str
    unit: str
    a: float | None
    b: float | None
    x: float | None = None
    a_interval: tuple[float, float] | None = None
    b_interval: tuple[float, float] | None = None

    @property
    def ratio(self) -> float | None:
        """B / A; None where there is none."""
        return None if self.a is None or self.b is None or self.a == 0 else self.b / self.a

    @property
    def overlap(self) -> bool | None:
        """Whether the intervals have a value in common; None where one of them is missing."""
        if self.a_interval is None or self.b_interval is None:
            return None
        (a_low, a_high), (b_low, b_high) = self.a_interval, self.b_interval
        return a_low <= b_high and b_low <= a_high

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "ratio": self.ratio, "overlap": self.overlap}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A check that passed in one of the two only, or is in one only.

    :ivar a: whether it passed; None where A has not this check.
    """

    name: str
    expected: str
    a: bool | None
    b: bool | None
    a_value: float | int | str | None = None
    b_value: float | int | str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that is to be said of two results.

    :ivar cautions: of A and of B: why it must not be used as it is.
    :ivar policy: differing lines of the policies, as a unified diff.
    """

    a: Side
    b: Side
    cautions: tuple[list[str], list[str]]
    settings: tuple[Difference, ...]
    machine: tuple[Difference, ...]
    policy: tuple[str, ...]
    values: tuple[Value, ...]
    checks: tuple[Verdict, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        sides = zip((self.a, self.b), self.cautions, strict=True)
        one, other = (
            {"folder": s.folder, "started": s.result.started, "cautions": c} for s, c in sides
        )
        return {
            "format": "nfcbed-comparison",
            "version": 1,
            "experiment": self.a.result.experiment,
            "a": one,
            "b": other,
            "settings": [asdict(difference) for difference in self.settings],
            "machine": [asdict(difference) for difference in self.machine],
            "policy": list(self.policy),
            "values": [value.plain() for value in self.values],
            "checks": [asdict(verdict) for verdict in self.checks],
        }


def compare(a: Side, b: Side) -> Comparison:
    """Compare two results.

    :raises UserError: they are not of the same experiment.
    """
    names = [side.result.experiment for side in (a, b)]
    if names[0] != names[1]:
        raise UserError(
            f"{a.folder} is of {names[0]}, {b.folder} of {names[1]}:"
            " only results of the same experiment can be compared"
        )
    return Comparison(
        a=a,
        b=b,
        cautions=(cautions(a.result), cautions(b.result)),
        settings=tuple(_settings(a.result, b.result)),
        machine=tuple(_machine(a, b)),
        policy=tuple(_policy(a, b)),
        values=tuple(_values(a.result, b.result)),
        checks=tuple(_checks(a.result, b.result)),
    )


def _settings(a: Result, b: Result) -> Iterator[Difference]:
    if a.quick != b.quick:
        yield Difference(what="quick", a=a.quick, b=b.quick)
    for part in ("options", "parameters"):
        one, other = (dict(flat(getattr(result, part))) for result in (a, b))
        for keys in dict.fromkeys([*one, *other]):
            if one.get(keys) != other.get(keys) and keys not in ((), ("quick",)):
                what = ".".join((part[:-1], *keys))
                yield Difference(what=what, a=one.get(keys), b=other.get(keys))


def _machine(a: Side, b: Side) -> Iterator[Difference]:
    if a.environment is not None and b.environment is not None:
        for found in environment_differences(a.environment, b.environment):
            yield Difference(**found)
    elif (a.environment is None) != (b.environment is None):
        there = (None if side.environment is None else "(there)" for side in (a, b))
        yield Difference(what="environment.json", a=next(there), b=next(there))


def _policy(a: Side, b: Side) -> Iterator[str]:
    one, other = ((side.policy or "").splitlines() for side in (a, b))
    lines = difflib.unified_diff(one, other, n=1, lineterm="")
    yield from (line for line in lines if not line.startswith(("--- ", "+++ ")))


def _values(a: Result, b: Result) -> Iterator[Value]:
    one, other = (_found(result) for result in (a, b))
    for key in dict.fromkeys([*one, *other]):
        first, second = one.get(key, _NONE), other.get(key, _NONE)
        group, name, unit, x = key
        yield Value(
            group=group,
            name=name,
            unit=unit,
            x=x,
            a=first.value,
            b=second.value,
            a_interval=first.interval,
            b_interval=second.interval,
        )


@dataclass(frozen=True)
class _One:
    value: float | None
    interval: tuple[float, float] | None = None

    @classmethod
    def of(cls, found: Compared | Point) -> _One:
        """A value with its interval, if it has one."""
        low, high = found.low, found.high
        return cls(found.value, None if low is None or high is None else (low, high))


_NONE = _One(None)


def _found(result: Result) -> dict[tuple[str, str, str, float | None], _One]:
    """Every value of a result that two of them can be compared by."""
    found: dict[tuple[str, str, str, float | None], _One] = {}
    for row in result.compared:
        found["table", row.name, row.unit, None] = _One.of(row)
    for mean in result.means:
        name = f"{mean.phase}, {mean.flow} at {mean.node}"
        found["means", name, mean.unit, None] = _One(_best(mean))
    for curve in result.curves:
        by = f"{curve.quantity} by {curve.x_quantity}"
        by += f" ({curve.x_unit})" if curve.x_unit else ""
        for point in curve.points:
            found[by, curve.way, curve.unit, point.x] = _One.of(point)
    return found


def _best(mean: Mean) -> float | None:
    return mean.whole if mean.steady is None else mean.steady


def _checks(a: Result, b: Result) -> Iterator[Verdict]:
    one, other = ({check.name: check for check in result.checks} for result in (a, b))
    for name in dict.fromkeys([*one, *other]):
        first, second = one.get(name), other.get(name)
        passed = [None if check is None else check.passed for check in (first, second)]
        if passed[0] is not passed[1]:
            known = second or first
            assert known is not None
            yield Verdict(
                name=name,
                expected=known.expected,
                a=passed[0],
                b=passed[1],
                a_value=None if first is None else first.value,
                b_value=None if second is None else second.value,
            )
