# SPDX-License-Identifier: MIT
"""What the measurements of a sweep come to: curves with intervals, and ratios that are asked for.

Pure values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experiments._swept_plan import Plan, Way
from testbed.bench.rounds import Measurement
from testbed.bench.stats import Interval, middle, ratio, slope
from testbed.results import Compared, Curve, Point

__all__ = [
    "LOADING",
    "NS",
    "THROUGHPUT",
    "WITHOUT",
    "Rounds",
    "compared_of",
    "curves_of",
    "over",
    "rate",
]

NS = "time per packet"
LOADING = "time to load"
THROUGHPUT = "throughput"
WITHOUT = ", without the generator's time"

Rounds = Mapping[str, Mapping[int, float]]
"""Variant to round to ns per packet, of what can be used."""


def rate(reference: str) -> str:
    """Name of the quantity: packets per second by those of a reference."""
    return f"packet rate / {reference}"


def _shared(rounds: Rounds, names: Sequence[str]) -> list[list[float]]:
    """Values of the rounds that all these variants have; nothing where there is none."""
    if any(name not in rounds for name in names):
        return []
    shared = sorted(set.intersection(*(set(rounds[name]) for name in names)))
    return [[rounds[name][number] for number in shared] for name in names] if shared else []


def over(rounds: Rounds, way: str, reference: str, *, off: str | None = None) -> Interval | None:
    """Packets per second of one variant by those of another; None where no round has both.

    :param off: variant whose time is taken off both; None too where nothing would be left.
    """
    columns = _shared(rounds, [reference, way, *([off] if off else [])])
    if not columns:
        return None
    # In a disturbed round the generator alone may take as long as with the way behind it.
    with np.errstate(all="ignore"):
        found = ratio(columns[0], columns[1], off=columns[2] if off else None)
    return found if 0 < found.low <= found.high < np.inf and found.value > 0 else None


def _point(x: int, found: Interval | None, note: str | None, digits: int) -> Point:
    if found is None:
        return Point(x=x, value=None, note=note)
    value, low, high = (round(v, digits) for v in (found.value, found.low, found.high))
    return Point(x=x, value=value, low=low, high=high, note=note)


def _note(way: Way, x: int, skipped: Mapping[str, str]) -> str:
    """Why a way has no value at ``x``."""
    if x in way.notes:
        return way.notes[x]
    variant = way.at.get(x)
    lack = skipped.get(variant.name) if variant else None
    if lack:
        return f"needs {lack}"
    return "every measurement lost packets" if variant else "not measured"


def curves_of(
    plan: Plan,
    rounds: Rounds,
    measurements: Sequence[Measurement],
    skipped: Mapping[str, str],
) -> list[Curve]:
    """All curves of a sweep.

    :param rounds: what of the measurements can be used.
    :param skipped: variant to what this machine lacks for it.
    """
    found = [_times(plan, way, rounds, skipped) for way in plan.ways]
    found += [_loading(plan, way, measurements, skipped) for way in plan.ways if way.loaded]
    if plan.sizes:
        found += [_throughput(curve) for curve in found[: len(plan.ways)]]
    by_name = {way.name: way for way in plan.ways}
    references = dict.fromkeys(name for way in plan.ways for name in way.against)
    for reference in references:
        for off in (False, True):
            for way in plan.ways:
                if reference in way.against:
                    base, alone = by_name[way.against[reference]], by_name[way.generator]
                    name = rate(reference) + (WITHOUT if off else "")
                    found.append(_ratios(plan, way, base, rounds, name, alone if off else None))
    return found


def _curve(plan: Plan, way: Way, quantity: str, unit: str, points: Sequence[Point]) -> Curve:
    return Curve(
        way=way.name,
        text=way.text,
        quantity=quantity,
        unit=unit,
        x_quantity=plan.x_quantity,
        x_unit=plan.x_unit,
        points=tuple(points),
    )


def _times(plan: Plan, way: Way, rounds: Rounds, skipped: Mapping[str, str]) -> Curve:
    points = []
    for x in plan.xs:
        mine = rounds.get(way.at[x].name) if x in way.at else None
        found = middle(list(mine.values())) if mine else None
        points.append(_point(x, found, None if mine else _note(way, x, skipped), 2))
    return _curve(plan, way, NS, "ns", points)


def _throughput(times: Curve) -> Curve:
    """Bits of packets of so many bytes in the time that they take."""

    def gbps(x: float, ns: float | None) -> float | None:
        return round(8 * x / ns, 4) if ns else None

    points = tuple(
        Point(
            x=point.x,
            value=gbps(point.x, point.value),
            low=gbps(point.x, point.high),
            high=gbps(point.x, point.low),
            note=point.note,
        )
        for point in times.points
    )
    return times.model_copy(update={"quantity": THROUGHPUT, "unit": "Gbit/s", "points": points})


def _loading(
    plan: Plan, way: Way, measurements: Sequence[Measurement], skipped: Mapping[str, str]
) -> Curve:
    took: dict[str, list[float]] = {}
    for entry in measurements:
        took.setdefault(entry.variant.name, []).append(entry.switch_s * 1000)
    points = []
    for x in plan.xs:
        mine = took.get(way.at[x].name) if x in way.at else None
        found = middle(mine) if mine else None
        points.append(_point(x, found, None if mine else _note(way, x, skipped), 3))
    return _curve(plan, way, LOADING, "ms", points)


def _ratios(
    plan: Plan, way: Way, base: Way, rounds: Rounds, quantity: str, alone: Way | None
) -> Curve:
    points = []
    for x in plan.xs:
        both = x in way.at and x in base.at and (alone is None or x in alone.at)
        found = None
        if both:
            off = alone.at[x].name if alone else None
            found = over(rounds, way.at[x].name, base.at[x].name, off=off)
        note = None if found else _why_no_ratio(way, base, x, rounds)
        points.append(_point(x, found, note, 4))
    return _curve(plan, way, quantity, "", points)


def _why_no_ratio(way: Way, base: Way, x: int, rounds: Rounds) -> str:
    for one in (way, base):
        if x not in one.at or one.at[x].name not in rounds:
            return f"no time of {one.name}: {one.notes.get(x, 'not measured, or packets lost')}"
    return "disturbed: the generator alone took as long"


def compared_of(plan: Plan, rounds: Rounds) -> list[Compared]:
    """The ratios and slopes that are told for themselves."""
    by_name, found = {way.name: way for way in plan.ways}, []
    for asked in plan.asked:
        way, base = by_name[asked.way], by_name[asked.reference]
        if asked.x not in plan.xs:
            continue
        there = asked.x in way.at and asked.x in base.at
        both = over(rounds, way.at[asked.x].name, base.at[asked.x].name) if there else None
        found.append(Compared(name=asked.name, aim=asked.aim, **_ends(both)))
    for more in plan.slopes:
        way = by_name[more.way]
        xs = [x for x in way.at if x <= more.most]
        columns = _shared(rounds, [way.at[x].name for x in xs])
        line = slope(dict(zip(xs, columns, strict=True))) if len(columns) > 1 else None
        found.append(Compared(name=more.name, unit="ns", **_ends(line)))
    return found


def _ends(found: Interval | None) -> dict[str, float | None]:
    return {k: round(getattr(found, k), 4) if found else None for k in ("value", "low", "high")}
