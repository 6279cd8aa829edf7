# SPDX-License-Identifier: MIT
"""The rate without loss (NDR), and that with little of it (PDR), by MLRsearch.

MLRsearch (RFC 9971, the library of the same name) offers one rate after the other and narrows the
interval in which the rate lies, for all goals at once; short trials first. A rate counts as
carried if more than half of its trials' time was: on a machine that does other things too, one
trial with a loss says little. The value is the *conditional throughput*: what arrived a second at
the largest rate that was carried, of what the sender really offered there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from MLRsearch import (
    AbstractMeasurer,
    Config,
    MeasurementResult,
    MultipleLossRatioSearch,
    SearchGoal,
)

from testbed.bench.paced import Trial

__all__ = ["GOALS", "Effort", "Found", "search"]

GOALS: Mapping[str, float] = {"NDR": 0.0, "PDR": 0.005}
"""Goals by name, and the loss ratio that each allows."""

_AGAIN = 2  # more tries of a trial that says nothing of the way
_ALIKE = 0.005

Offer = Callable[[float, float], Trial]
"""Offers packets at a rate (packets per second) for a time (s)."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How thoroughly is searched.

    :ivar first_s: length of the first trials; ``last_s`` of those that decide.
    :ivar sum_s: time that a rate is offered for, in several trials, before it is decided on.
    :ivar width: of the interval that is left in the end, relative to the rate.
    """

    first_s: float
    last_s: float
    sum_s: float
    width: float
    limit_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of one goal.

    :ivar pps: packets per second; None where even the least rate is too much.
    :ivar note: what has to be known of the value.
    """

    pps: float | None
    note: str | None = None


class _Measurer(AbstractMeasurer):  # type: ignore[misc]
    """Carries out MLRsearch's trials; repeats those that say nothing of the way.

    :ivar unreached_pps: the largest rate that was carried without reaching what was asked for.
    :ivar offered: by rate that was asked for, the rates that were really offered.
    """

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self.unreached_pps = 0.0
        self.offered: dict[float, list[float]] = {}

    def measure(self, intended_duration: float, intended_load: float) -> MeasurementResult:
        for _ in range(1 + _AGAIN):
            trial = self._offer(intended_load, intended_duration)
            carried = trial.sent == trial.received
            if trial.reached if carried else not trial.disturbed:
                break
        if carried and not trial.reached:
            self.unreached_pps = max(self.unreached_pps, trial.offered_pps)
        self.offered.setdefault(intended_load, []).append(trial.offered_pps)
        # What the sender did not send counts against the rate, which sends the search to lower
        # ones, where the sender is on time; ``search`` says that it was not the way's limit.
        unsent = 0 if trial.reached else round(trial.sent * (intended_load / trial.offered_pps - 1))
        return MeasurementResult(
            intended_duration=intended_duration,
            intended_load=intended_load,
            intended_count=trial.sent + (unsent if carried else 0),
            offered_count=trial.sent,
            forwarding_count=trial.received,
        )


def search(
    offer: Offer, *, least_pps: float, most_pps: float, effort: Effort
) -> Mapping[str, Found]:
    """Search the rates of all goals, in one go.

    :param offer: makes a trial.
    """
    ndr = SearchGoal(
        loss_ratio=GOALS["NDR"],
        exceed_ratio=0.5,
        relative_width=effort.width,
        initial_trial_duration=effort.first_s,
        final_trial_duration=effort.last_s,
        duration_sum=effort.sum_s,
        preceding_targets=2 if effort.first_s < effort.last_s else 1,
        fail_fast=False,
    )
    goals = {
        name: dataclasses.replace(ndr, loss_ratio=loss_ratio) for name, loss_ratio in GOALS.items()
    }
    config = Config(
        goals=list(goals.values()),
        min_load=least_pps,
        max_load=most_pps,
        search_duration_max=effort.limit_s,
        warmup_duration=None,
    )
    measurer = _Measurer(offer)
    try:
        results = MultipleLossRatioSearch(config).search(measurer, debug=lambda _: None)
    except RuntimeError:  # so the library says that its time is over
        note = f"the search was given up after {effort.limit_s:g} s"
        return dict.fromkeys(goals, Found(pps=None, note=note))
    return {name: _found(results[goal], measurer, least_pps) for name, goal in goals.items()}


def _found(result: object, measurer: _Measurer, least_pps: float) -> Found:
    throughput = result.conditional_throughput  # type: ignore[attr-defined]
    if throughput is None:
        return Found(pps=None, note=f"not even {least_pps / 1e6:g} Mpps were carried")
    asked = float(result.relevant_lower_bound)  # type: ignore[attr-defined]
    pps = float(throughput) * min(1.0, median(measurer.offered[asked]) / asked)
    if result.relevant_upper_bound is None:  # type: ignore[attr-defined]
        return Found(pps=pps, note="at least: no more was offered")
    if measurer.unreached_pps >= (1 - _ALIKE) * pps:
        pps = max(pps, measurer.unreached_pps)
        return Found(pps=pps, note="at least: the sender was at its limit")
    return Found(pps=pps)
