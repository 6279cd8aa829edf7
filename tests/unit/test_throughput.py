# SPDX-License-Identifier: MIT
"""The search for NDR and PDR, on ways whose limit is known."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from testbed.bench.paced import Trial
from testbed.bench.throughput import Effort, Offer, search

EFFORT = Effort(first_s=0.05, last_s=0.1, sum_s=0.5, width=0.01)


def trial(
    pps: float,
    seconds: float,
    *,
    capacity_pps: float,
    sender_pps: float = 1e9,
    longest_s: float = 0,
) -> Trial:
    offered = min(pps, sender_pps)
    sent = round(offered * seconds)
    received = min(sent, round(capacity_pps * seconds))
    return Trial(
        asked_pps=pps,
        offered_pps=offered,
        seconds=seconds,
        sent=sent,
        received=received,
        queue_full=sent - received,
        dropped={},
        lost={},
        walked=None,
        late_share=0.0,
        others_share=0.0,
        others_longest_s=longest_s,
    )


def find(
    offer: Offer, *, most_pps: float = 6e6, effort: Effort = EFFORT
) -> dict[str, float | None]:
    found = search(offer, least_pps=5e4, most_pps=most_pps, effort=effort)
    return {goal: each.pps for goal, each in found.items()}


@pytest.mark.parametrize("capacity_pps", [8e4, 1e6, 2.345e6])
def test_limit_is_found(capacity_pps: float) -> None:
    """NDR is the limit, PDR what still arrives with half a percent lost; within the width."""
    rates = find(lambda pps, s: trial(pps, s, capacity_pps=capacity_pps))
    assert rates["NDR"] == pytest.approx(capacity_pps, rel=0.011)
    assert rates["PDR"] == pytest.approx(capacity_pps, rel=0.011)


def test_half_a_percent_is_what_pdr_allows() -> None:
    """Where a little is lost at every rate there is no NDR, but a PDR."""

    def leaky(pps: float, seconds: float) -> Trial:
        whole = trial(pps, seconds, capacity_pps=1e6)
        few = max(1, round(0.003 * whole.sent))
        return Trial(**{**vars(whole), "received": min(whole.received, whole.sent - few)})

    found = search(leaky, least_pps=5e4, most_pps=6e6, effort=EFFORT)
    assert found["NDR"].pps is None
    assert found["NDR"].note == "not even 0.05 Mpps were carried"
    assert found["PDR"].pps == pytest.approx(1e6, rel=0.012)


def test_one_bad_trial_in_ten_does_not_end_at_a_lower_rate() -> None:
    """A rate is carried if most of its trials were: a machine hiccups at times."""
    luck = random.Random(7)

    def hiccups(pps: float, seconds: float) -> Trial:
        return trial(pps, seconds, capacity_pps=1e5 if luck.random() < 0.1 else 2e6)

    assert find(hiccups)["NDR"] == pytest.approx(2e6, rel=0.05)


def counted(offer: Offer) -> tuple[Offer, Callable[[], int]]:
    calls = []

    def both(pps: float, seconds: float) -> Trial:
        calls.append(pps)
        return offer(pps, seconds)

    return both, lambda: len(calls)


def test_disturbed_trials_that_lost_are_made_again() -> None:
    """A loss while others had the node's core is not the way's."""
    luck = random.Random(7)

    def disturbed(pps: float, seconds: float) -> Trial:
        if luck.random() < 0.3:
            return trial(pps, seconds, capacity_pps=1e4, longest_s=0.004)
        return trial(pps, seconds, capacity_pps=2e6)

    offer, calls = counted(disturbed)
    assert find(offer)["NDR"] == pytest.approx(2e6, rel=0.03)
    assert calls() > 10


def test_slow_sender_is_told_and_is_not_the_ways_limit() -> None:
    """What was carried at the sender's limit is a lower bound, and said to be one."""
    found = search(
        lambda pps, s: trial(pps, s, capacity_pps=5e6, sender_pps=1.5e6),
        least_pps=5e4,
        most_pps=6e6,
        effort=EFFORT,
    )
    assert found["NDR"].pps == pytest.approx(1.5e6, rel=0.02)
    assert found["NDR"].note == "at least: the sender was at its limit"


def test_way_that_carries_all_that_is_offered_has_a_lower_bound() -> None:
    """Where nothing was lost at the highest rate, the rate is at least that."""
    found = search(
        lambda pps, s: trial(pps, s, capacity_pps=9e6), least_pps=5e4, most_pps=6e6, effort=EFFORT
    )
    assert found["NDR"].pps == pytest.approx(6e6)
    assert found["NDR"].note == "at least: no more was offered"


def test_value_is_of_what_was_offered() -> None:
    """A sender that offers 1 % less than it is asked for does not make a way faster."""

    def short(pps: float, seconds: float) -> Trial:
        return Trial(**{**vars(trial(0.99 * pps, seconds, capacity_pps=1e6)), "asked_pps": pps})

    assert find(short)["NDR"] == pytest.approx(1e6, rel=0.011)


def test_search_gives_up_in_time() -> None:
    """A search that does not come to an end says so instead of giving a value."""
    luck = random.Random(1)

    def erratic(pps: float, seconds: float) -> Trial:
        return trial(pps, seconds, capacity_pps=luck.uniform(1e5, 5e6))

    effort = Effort(first_s=0.05, last_s=0.1, sum_s=3.0, width=0.001, limit_s=0.002)
    found = search(erratic, least_pps=5e4, most_pps=6e6, effort=effort)
    assert found["NDR"].pps is None
    assert found["NDR"].note == "the search was given up after 0.002 s"
