# SPDX-License-Identifier: MIT
"""The figures of `nfcbed bench`: medians, ratios, slopes, and how aims are judged."""

from __future__ import annotations

import random
import statistics

import pytest

from testbed.bench.aims import AIMS, Aim, Outcome, judge
from testbed.bench.noise import Noise, cpu_ticks
from testbed.bench.stats import Interval, middle, ratio, slope, spread


def noisy(value: float, *, count: int = 25, sd: float = 1.0, seed: int = 0) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(value, sd) for _ in range(count)]


def rounds(**ns: list[float]) -> dict[str, dict[int, float]]:
    """Variant (``_`` for ``-``) to its rounds."""
    return {name.replace("_", "-"): dict(enumerate(values)) for name, values in ns.items()}


def outcome(found: list[Outcome], name: str) -> Outcome:
    return next(entry for entry in found if entry.aim.name == name)


def test_spread_of_known_values() -> None:
    """Median, ends and distance of the quartiles are those of the textbook."""
    found = spread([4, 1, 2, 3, 100])
    assert (found.count, found.median, found.min, found.max, found.iqr) == (5, 3, 1, 100, 2)
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_ratio_is_that_of_the_medians() -> None:
    """One outlier of a thousand-fold moves neither the ratio nor its interval far."""
    over, under = noisy(300), noisy(200, seed=1)
    over[3] = 300_000
    found = ratio(over, under)
    assert found.value == statistics.median(over) / statistics.median(under)
    assert found.low <= found.value <= found.high
    assert 1.48 < found.low < found.high < 1.52


def test_ratio_of_rounds_that_move_together_is_exact() -> None:
    """Rounds are drawn as a whole: what slows both variants of a round does not widen it."""
    machine = noisy(1, sd=0.2)
    found = ratio([300 * m for m in machine], [200 * m for m in machine])
    assert (found.low, found.high) == pytest.approx((1.5, 1.5))


def test_interval_holds_the_truth() -> None:
    """A 95 % interval holds the true ratio in about 95 of 100 repeats, and is not wider."""
    held = 0
    for seed in range(200):
        found = ratio(noisy(300, sd=5, seed=seed), noisy(200, sd=5, seed=seed + 1000), seed=seed)
        held += found.low <= 1.5 <= found.high
    assert 180 <= held <= 199


def test_ratio_with_something_taken_off() -> None:
    """What both have in common is subtracted from the medians before."""
    assert ratio([300.0] * 3, [200.0] * 3, off=[100.0] * 3).value == 2


def test_same_seed_same_interval() -> None:
    """An interval can be had again from the file: the seed is all that chance there is."""
    over, under = noisy(3), noisy(2, seed=1)
    assert ratio(over, under, seed=5) == ratio(over, under, seed=5)
    assert len({ratio(over, under, seed=seed) for seed in range(20)}) > 1


def test_slope_of_a_line() -> None:
    """Points on a line give its slope, whatever the keys' distances."""
    found = slope({n: [100 + 1.5 * n] * 4 for n in (0, 1, 2, 8)})
    assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    with pytest.raises(ValueError, match="two points"):
        slope({1: [1.0]})


def test_columns_must_belong_to_the_same_rounds() -> None:
    """Columns of different length, or empty ones, are refused."""
    with pytest.raises(ValueError, match="as many values"):
        ratio([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="as many values"):
        ratio([], [])


@pytest.mark.parametrize(
    ("at_least", "interval", "reached"),
    [
        (True, Interval(1.6, 1.5, 1.7), True),
        (True, Interval(1.6, 1.49, 1.7), False),
        (False, Interval(1.3, 1.2, 1.5), True),
        (False, Interval(1.3, 1.2, 1.51), False),
    ],
)
def test_aim_is_judged_on_the_unfavourable_end(
    at_least: bool, interval: Interval, reached: bool
) -> None:
    """The value alone reaches nothing: the end of the interval has to."""
    aim = Aim(name="x", text="x", at_least=at_least, bound=1.5)
    found = Outcome(aim=aim, rounds=9, interval=interval, without_generator=None)
    assert found.reached is reached


def test_speed_is_the_inverse_of_time() -> None:
    """A chain that takes half the time of routing forwards twice as many packets a second."""
    found = judge(rounds(chain_direct=[200.0] * 5, routing=[400.0] * 5, generator=[100.0] * 5))
    speed = outcome(found, "chain-direct/routing")
    assert speed.interval.value == 2
    assert speed.without_generator is not None
    assert speed.without_generator.value == 3
    assert speed.reached is True
    assert [entry.aim.name for entry in found] == ["chain-direct/routing"]


def test_time_is_not_inverted() -> None:
    """The figure for many flows is time by time: more is worse."""
    found = judge(rounds(chain_direct=[200.0] * 5, chain_direct_65536=[400.0] * 5))
    entry = outcome(found, "chain-direct-65536/chain-direct")
    assert (entry.interval.value, entry.reached) == (2, False)


def test_cost_of_a_hop() -> None:
    """Pass-through NFs give the slope per hop."""
    found = judge(rounds(**{f"pass_{n}": [200 + 1.25 * n] * 5 for n in range(9)}))
    assert outcome(found, "hop").interval.value == pytest.approx(1.25)
    assert outcome(found, "hop").reached is True


def test_only_rounds_that_both_have_count() -> None:
    """A round that is not used for one variant is not used for its partner in the ratio."""
    found = judge({"chain-direct": {0: 200, 1: 9999, 2: 200}, "routing": {0: 400, 2: 400, 3: 1}})
    entry = outcome(found, "chain-direct/routing")
    assert (entry.rounds, entry.interval.value) == (2, 2)
    assert judge({"chain-direct": {0: 200}, "routing": {1: 400}}) == []


def test_every_bound_of_the_design_is_asked_for() -> None:
    """The aims and their bounds, in order."""
    bounds = {aim.name: (aim.at_least, aim.bound) for aim in AIMS if aim.bound is not None}
    assert bounds == {
        "chain-direct/routing": (True, 1.5),
        "chain-direct/nftables": (True, 2.2),
        "chain-direct/limit": (True, 0.8),
        "chain-stack/routing": (True, 0.9),
        "hop": (False, 2.0),
        "chain-direct-65536/chain-direct": (False, 1.6),
        "rules-1000-direct/iptables-rules-1000": (True, 6.0),
        "pass-1/nfqueue-c": (True, 8.0),
        "pass-1/nfqueue-python": (True, 40.0),
    }


def test_noise_names_its_reasons() -> None:
    """Steal time, another thread on the core and busy other cores are each told apart."""
    quiet = {"wall_s": 1.0, "steal_ticks": 0, "waited_s": 0.001, "preempted": 3}
    assert Noise(**quiet, others_busy=0.1).reasons == ()  # type: ignore[arg-type]
    loud = Noise(wall_s=1.0, steal_ticks=2, waited_s=0.2, preempted=3, others_busy=0.9)
    assert len(loud.reasons) == 3


def test_ticks_of_the_cores() -> None:
    """/proc/stat is read by core; the sum over all cores is left out."""
    text = "cpu  9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 0 0\ncpu1 0 0 0 9 0 0 0 1 0 0\nintr 5\n"
    found = cpu_ticks(text)
    assert sorted(found) == [0, 1]
    assert (found[0]["idle"], found[0]["steal"], found[1]["steal"]) == (4, 8, 1)


def test_a_median_has_an_interval_around_it() -> None:
    """The interval lies within the values, holds the median, and shrinks with more rounds."""
    few, many = middle([8.0, 9.0, 10.0, 11.0, 12.0]), middle([8.0, 9.0, 10.0, 11.0, 12.0] * 20)
    assert few.value == many.value == 10.0
    assert 8.0 <= few.low <= few.value <= few.high <= 12.0
    assert many.high - many.low < few.high - few.low
