# SPDX-License-Identifier: MIT
"""Medians over rounds, and ratios and slopes of medians with bootstrap intervals. Pure values.

Rounds are drawn as a whole: what happened to the machine in one round happened to all variants
of it, so a ratio is taken between values of the same rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "Interval", "Spread", "middle", "ratio", "slope", "spread"]

CONFIDENCE = 0.95
_RESAMPLES = 10_000

Table = NDArray[np.float64]  # one row a round


@dataclass(frozen=True)
class Spread:
    """How values lie, each in their unit.

    :ivar count: how many values there are.
    :ivar iqr: distance of the quartiles.
    """

    count: int
    median: float
    min: float
    max: float
    iqr: float


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its bootstrap interval (percentiles)."""

    value: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Describe some values. Raises ValueError where there are none."""
    if not values:
        raise ValueError("no values")
    low, middle, high = np.percentile(values, (25, 50, 75))
    return Spread(
        count=len(values),
        median=float(middle),
        min=float(min(values)),
        max=float(max(values)),
        iqr=float(high - low),
    )


def ratio(
    over: Sequence[float],
    under: Sequence[float],
    *,
    off: Sequence[float] | None = None,
    seed: int = 0,
) -> Interval:
    """Median of ``over`` by median of ``under``; the n-th values belong to the same round.

    :param off: what is taken off both medians before; of the same rounds as well.
    :param seed: of the bootstrap's random numbers.
    :raises ValueError: not as many values in each, or none.
    """
    base = [0.0] * len(over) if off is None else list(off)
    table = _table([over, under, base])

    def statistic(medians: Table) -> Table:
        top, bottom, less = medians[..., 0], medians[..., 1], medians[..., 2]
        return np.asarray((top - less) / (bottom - less), dtype=np.float64)

    return _interval(table, statistic, seed)


def middle(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Median of some values.

    :raises ValueError: there are none.
    """
    return _interval(_table([values]), lambda medians: medians[..., 0], seed)


def slope(series: Mapping[int, Sequence[float]], *, seed: int = 0) -> Interval:
    """Slope of the medians over the keys, by least squares; the n-th values are of one round.

    :raises ValueError: fewer than two keys, or not as many values in each, or none.
    """
    if len(series) < 2:
        raise ValueError("a slope needs two points")
    x = np.array(sorted(series), dtype=np.float64)
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    table = _table([series[int(key)] for key in x])
    return _interval(table, lambda medians: np.asarray(medians @ weights), seed)


def _table(columns: Sequence[Sequence[float]]) -> Table:
    if len({len(column) for column in columns}) != 1 or not columns[0]:
        raise ValueError("as many values are needed in each column, and at least one")
    return np.array(columns, dtype=np.float64).T


def _interval(table: Table, statistic: Callable[[Table], Table], seed: int) -> Interval:
    rounds = table.shape[0]
    drawn = np.random.default_rng(seed).integers(0, rounds, size=(_RESAMPLES, rounds))
    values = statistic(np.median(table[drawn], axis=1))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, (tail, 100 - tail))
    return Interval(float(statistic(np.median(table, axis=0))), float(low), float(high))
