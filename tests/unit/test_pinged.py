# SPDX-License-Identifier: MIT
"""What round-trip times come to: percentiles, ratios, ledgers, checks, validity."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import numpy as np
import pytest

from experiments import _pinged
from experiments._pinged import Books, Measured
from experiments._pinging import policy_of
from testbed.chain import FiveTuple
from testbed.experiment.sockperf import Pinged
from testbed.rulesets import compile_policy

WAYS = {"routing": "routing alone", "chain-direct": "a chain", "nftables": "the same"}


def run(way: str = "routing", load: str = "idle", repeat: int = 1, **changes: Any) -> Measured:
    """100 round trips of 1, 2, … 100 µs, times ``slower``."""
    slower, lost = changes.pop("slower", 1.0), changes.pop("lost", 0)
    pinged = Pinged(
        sent=120,
        received=119,
        lost=lost,
        duplicated=0,
        out_of_order=0,
        rtt_us=slower * np.arange(1.0, 101.0),
        head=(),
    )
    values: dict[str, Any] = {"waited_s": 0.0, "seconds": 1.0, "load_mbps": None}
    return Measured(way=way, load=load, repeat=repeat, pinged=pinged, **{**values, **changes})


def books(way: str = "routing", **changes: Any) -> Books:
    values: dict[str, Any] = {
        "sent": 240,
        "received": 240,
        "lost": {},
        "dropped": {},
        "entered": 120 if way.startswith("chain") else None,
        "replies": 119 if way.startswith("chain") else None,
        "missed": 0,
        "translated": 2 if way == "nftables" else None,
    }
    return Books(way=way, **{**values, **changes})


def test_curve_has_the_medians_of_the_repeats_percentiles() -> None:
    """One curve a way and load, over the percentiles, the longest time at 100."""
    runs = [run(repeat=n, slower=s) for n, s in ((1, 1.0), (2, 3.0), (3, 2.0))]
    (curve,) = _pinged.curves_of(WAYS, runs)
    assert (curve.quantity, curve.unit) == ("round-trip time, no other traffic", "µs")
    points = {point.x: point for point in curve.points}
    assert (points[100.0].value, points[100.0].low, points[100.0].high) == (200.0, 100.0, 300.0)
    assert points[50.0].value == pytest.approx(101.0)


def test_ratios_are_times_of_the_same_repeats() -> None:
    """A chain's time by each reference's: less than 1 is quicker."""
    runs = [run(repeat=n, slower=2.0) for n in (1, 2)]
    runs += [run("chain-direct", repeat=1), run("nftables", repeat=1, slower=4.0)]
    rows = {row.name: row.value for row in _pinged.compared_of(WAYS, runs)}
    assert rows["chain-direct / routing, p50, no other traffic"] == 0.5
    assert rows["chain-direct / nftables, p99, no other traffic"] == 0.25
    assert not [name for name in rows if "background" in name]


def test_checks_fail_where_they_have_to() -> None:
    """A lost packet, an unanswered ping, and a chain that was not on the way are each seen."""
    runs = [run(way) for way in WAYS]
    good = [books(way) for way in WAYS]

    def failed(runs: list[Measured], kept: list[Books]) -> list[str]:
        return [check.name for check in _pinged.judge(runs, kept) if not check.passed]

    assert failed(runs, good) == []
    assert failed(runs, [*good, books(received=239)]) == ["unexplained"]
    assert failed(runs, [*good, books(received=239, lost={"node: queue full": 1})]) == []
    assert failed([*runs, run(lost=1)], good) == ["pings without one answer"]
    aside = [books("chain-direct", entered=0), *(b for b in good if b.way != "chain-direct")]
    assert failed(runs, aside) == ["chain-direct: entered the chain"]
    one_way = [books("chain-direct", replies=0), *(b for b in good if b.way != "chain-direct")]
    assert failed(runs, one_way) == ["chain-direct: translated back"]
    untranslated = [books("nftables", translated=0), books("chain-direct")]
    assert failed(runs, untranslated) == ["nftables: connections translated"]


def test_machine_that_was_the_limit_is_named() -> None:
    """Others on an end's core while nothing else was sent, and a load that was not offered."""
    quiet = [run(repeat=n) for n in range(3)]
    assert _pinged.limits(quiet, 100.0).state == "valid"
    assert _pinged.limits([], 100.0).state == "unknown"
    busy = [run(repeat=n, waited_s=0.2) for n in range(4)]
    (reason,) = _pinged.limits(quiet + busy, 100.0).reasons
    assert "4 of 7 measurements without load, for up to 20% of the time" in reason
    loaded = run(load="load", waited_s=0.9, load_mbps=99.0)
    assert _pinged.limits([*quiet, loaded], 100.0).state == "valid"
    short = run("nftables", load="load", load_mbps=60.0)
    (reason,) = _pinged.limits([*quiet, short], 100.0).reasons
    assert reason == "nftables, repeat 1: iperf3 offered 60.0 of 100 Mbit/s"


@pytest.mark.parametrize("port", [53, 5201])
def test_chain_takes_pings_and_load(port: int) -> None:
    """Both go through DAD and DNAT, and nftables gets the same policy."""
    policy = policy_of("direct")
    packet = FiveTuple(
        src=IPv4Address("10.10.1.2"),
        dst=IPv4Address("10.10.1.1"),
        sport=40000,
        dport=port,
        proto=17,
    )
    assert policy.match(packet) is not None
    assert f"th dport {port} dnat to 10.10.2.2" in compile_policy(policy, to="nftables")
