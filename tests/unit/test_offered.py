# SPDX-License-Identifier: MIT
"""What trials at offered rates come to: points, ratios, ledgers, checks, validity."""

from __future__ import annotations

from typing import Any

import pytest

from experiments import _offered
from experiments._offered import Offered, Searched
from testbed.bench.paced import Trial
from testbed.bench.throughput import Found

WAYS = {"routing": "routing alone", "chain-stack": "a chain", "nftables": "the same"}


def entry(
    way: str = "routing", *, used: bool = True, stage: str = "curve", **changes: Any
) -> Offered:
    """A trial of 1,000 packets at 1 Mpps; 100 find the queue full."""
    values: dict[str, Any] = {
        "asked_pps": 1e6,
        "offered_pps": 1e6,
        "seconds": 0.001,
        "sent": 1000,
        "received": 900,
        "queue_full": 100,
        "dropped": {},
        "lost": {},
        "walked": 900 if way.startswith("chain") else None,
        "late_share": 0.0,
        "others_share": 0.0,
        "others_longest_s": 0.0,
    }
    trial = Trial(**{**values, **changes})
    return Offered(way=way, stage=stage, round=1, trial=trial, used=used)


def searched(way: str, number: int, ndr: float | None, note: str | None = None) -> Searched:
    found = {"NDR": Found(pps=ndr, note=note), "PDR": Found(pps=ndr, note=note)}
    return Searched(way=way, round=number, found=found, seconds=1.0)


def lost_at(offered: list[Offered], x: float = 1.0) -> Any:
    curve = _offered.curves_of({"routing": "routing"}, offered, [x])[0]
    return curve.points[0]


def test_point_is_the_median_share_that_was_lost() -> None:
    """In percent, with its interval; another curve has the rate that was received."""
    entries = [entry(), entry(received=700, queue_full=300), entry(received=800, queue_full=200)]
    point = lost_at(entries)
    assert (point.value, point.low, point.high, point.note) == (20.0, 10.0, 30.0, None)
    received = _offered.curves_of({"routing": "routing"}, entries, [1.0])[1]
    assert (received.quantity, received.unit) == ("received", "Mpps")
    assert received.points[0].value == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("bad", "note"),
    [
        ({"others_longest_s": 0.003}, "others had the node's core in all trials"),
        ({"others_share": 0.02}, "others had the node's core in all trials"),
        ({"offered_pps": 0.9e6}, "the sender reached 0.9 Mpps only"),
    ],
)
def test_unfit_trials_are_left_out_or_told(bad: dict[str, Any], note: str) -> None:
    """A trial that says nothing of the way does not count beside one that does."""
    unfit = entry(received=100, queue_full=900, **bad)
    assert lost_at([unfit, entry()]).value == 10.0
    alone = lost_at([unfit])
    assert alone.note == note
    assert alone.value == (None if "sender" in note else 90.0)


def test_repeated_and_other_trials_are_in_no_curve() -> None:
    """What was made again is in the ledger only, and so are the search's trials."""
    again, of_search = entry(used=False), entry(stage="search")
    assert lost_at([again, of_search]).note == "not measured"
    assert _offered.books_of([again, of_search])["ledger"]["sent"] == 2000


def test_grid_goes_beyond_the_best_way() -> None:
    """Evenly from a little to 1.4 times the largest rate found, in Mpps."""
    xs = _offered.grid([searched("routing", 1, 1e6), searched("nftables", 1, None)], count=7)
    assert xs == (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
    assert _offered.grid([searched("nftables", 1, None)], count=7) == ()


def test_ratios_are_of_rounds_that_have_both() -> None:
    """A chain's rate by each reference's; a search without a rate takes its round away."""
    searches = [searched("routing", n, 2e6) for n in (1, 2)]
    searches += [searched("chain-stack", 1, 1.5e6), searched("chain-stack", 2, None)]
    searches += [searched("nftables", n, 1e6) for n in (1, 2)]
    rows = {row.name: row for row in _offered.compared_of(WAYS, searches)}
    assert rows["routing, NDR"].value == 2.0
    assert rows["chain-stack / routing, NDR"].value == 0.75
    assert rows["chain-stack / nftables, PDR"].value == 1.5
    assert "routing / nftables, NDR" not in rows
    missing = _offered.compared_of(WAYS, [searched("routing", 1, 2e6)])
    assert {row.name: row.value for row in missing}["chain-stack / routing, NDR"] is None


def test_ledger_tells_where_packets_were_lost() -> None:
    """In front of the node, elsewhere, and what nobody knows of."""
    books = entry(received=890, lost={"node: queue full": 4}).ledger.plain()
    assert books["lost"] == {"node: queue full": 4, "queue in front of the node full": 100}
    assert books["unexplained"] == 6


def test_checks_fail_where_they_have_to() -> None:
    """A packet unexplained, one that left the chain early, and a rate not found: each is seen."""
    searches = [searched(way, 1, 1e6) for way in WAYS]
    good = [entry(), entry("chain-stack"), entry("nftables")]

    def failed(searches: list[Searched], offered: list[Offered]) -> list[str]:
        return [c.name for c in _offered.judge(WAYS, searches, offered) if not c.passed]

    assert failed(searches, good) == []
    assert failed(searches, [*good, entry(received=899)]) == ["unexplained"]
    strayed = entry("chain-stack", walked=899)
    assert failed(searches, [*good, strayed]) == ["did not walk their whole chain"]
    assert failed([searched("routing", 1, None), *searches[1:]], good) == [
        *("routing, NDR", "routing, PDR")
    ]


def test_machine_that_was_the_limit_is_named() -> None:
    """Others on the node's core, a late sender, a hypervisor that takes time, a search given up."""
    searches = [searched("routing", 1, 1e6)]
    good = [entry() for _ in range(8)]
    assert _offered.limits(searches, good, {0: 0.0}).state == "valid"
    assert _offered.limits(searches, [], {0: 0.0}).state == "unknown"
    disturbed = [entry(others_longest_s=0.004), entry(others_longest_s=0.002)]
    (reason,) = _offered.limits(searches, good + disturbed, {0: 0.0}).reasons
    assert reason == "others had the node's core in 2 of 10 trials, for up to 4.0 ms at once"
    late = [entry(offered_pps=0.5e6), entry(offered_pps=0.5e6)]
    (reason,) = _offered.limits(searches, good + late, {0: 0.0}).reasons
    assert reason == "the sender fell short of its rate in 2 of 10 trials"
    (reason,) = _offered.limits(searches, good, {0: 0.0, 1: 0.05}).reasons
    assert reason == "the hypervisor took 5.0% of core 1's time"
    given_up = [*searches, searched("nftables", 1, None, "the search was given up after 12 s")]
    (reason,) = _offered.limits(given_up, good, {0: 0.0}).reasons
    assert reason == "the search was given up after 12 s (1 of 2 searches)"
