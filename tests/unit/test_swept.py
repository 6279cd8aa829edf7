# SPDX-License-Identifier: MIT
"""What comes of a sweep's measurements, and what a sweep refuses; no network."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from experiments import sweep_flows, sweep_nfs, sweep_rules, sweep_size
from experiments._swept import judge, ledger, used_rounds, validity
from experiments._swept_curves import (
    LOADING,
    NS,
    THROUGHPUT,
    WITHOUT,
    compared_of,
    curves_of,
    rate,
)
from experiments._swept_plan import Asked, Plan, Slope, Way, flat
from testbed.bench.noise import Noise
from testbed.bench.rig import Sent
from testbed.bench.rounds import Measurement
from testbed.bench.socketsender import udp_frame
from testbed.bench.variant import Variant, nothing
from testbed.bench.variants import nftables_dad_dnat
from testbed.cli import main
from testbed.results import Curve

CHAIN = {x: Variant(name=f"chain-{x}", text="", on=nothing) for x in (1, 2)}
ROUTING = Variant(name="routing", text="", on=nothing)
GENERATOR = Variant(name="generator", text="", to=None, on=nothing)
QUIET = Noise(wall_s=0.1, steal_ticks=0, waited_s=0.0, preempted=0, others_busy=0.0)
BUSY = Noise(wall_s=0.1, steal_ticks=3, waited_s=0.05, preempted=0, others_busy=0.0)


def plan(*, sizes: bool = False) -> Plan:
    xs = (1, 2, 3)
    return Plan(
        x_quantity="things",
        x_unit="",
        xs=xs,
        ways=(
            Way(
                name="chain-direct",
                text="",
                at=CHAIN,
                notes={3: "too many"},
                against={"routing": "routing"},
            ),
            flat(ROUTING, xs),
            flat(GENERATOR, xs),
        ),
        rounds=3,
        packets=100,
        lasts_s=1,
        asked=(Asked(name="asked", x=2, way="chain-direct", reference="routing", aim=1.5),),
        slopes=(Slope(name="one more", way="chain-direct", most=2),),
        sizes=sizes,
    )


def measured(
    variant: Variant, number: int, ns: int, *, lost: int = 0, walked: int | None = None
) -> Measurement:
    noise = BUSY if number == 0 else QUIET
    delivered = 0 if variant.to is None else 100 - lost
    return Measurement(
        round=number,
        position=0,
        variant=variant,
        switch_s=0.002,
        warm_up=Sent(ns_per_packet=1, sent=10, delivered=min(10, delivered), noise=noise),
        outcome=Sent(ns_per_packet=ns, sent=100, delivered=delivered, noise=noise),
        walked=walked,
    )


def rounds() -> list[Measurement]:
    """Three rounds: 200 ns and 300 ns in the chain, 400 ns in routing, the generator's 100 ns."""
    return [
        measured(variant, number, ns + number, walked=walked)
        for number in range(3)
        for variant, ns, walked in (
            *((CHAIN[x], 100 + 100 * x, 110) for x in (1, 2)),
            (ROUTING, 400, None),
            (GENERATOR, 100, None),
        )
    ]


def curves(measurements: list[Measurement], **options: bool) -> dict[tuple[str, str], Curve]:
    found = curves_of(plan(**options), used_rounds(measurements), measurements, {})
    return {(curve.way, curve.quantity): curve for curve in found}


def values(curve: Curve) -> list[float | None]:
    return [point.value for point in curve.points]


def test_curves_are_medians_and_ratios_of_the_same_rounds() -> None:
    """Median over the rounds with its interval; rates by the reference, with the generator or not.

    A way that is the same everywhere has its value at each x.
    """
    found = curves(rounds())
    assert values(found["chain-direct", NS]) == [201, 301, None]
    assert [found["chain-direct", NS].points[0].low, found["chain-direct", NS].points[0].high] == [
        *(200, 202)
    ]
    assert values(found["routing", NS]) == [401, 401, 401]
    assert values(found["chain-direct", rate("routing")]) == [
        *(pytest.approx(401 / x, abs=1e-4) for x in (201, 301)),
        None,
    ]
    assert values(found["chain-direct", rate("routing") + WITHOUT])[:2] == [3, 1.5]
    assert values(found["chain-direct", LOADING])[:2] == [2, 2]
    assert ("routing", LOADING) not in found


def test_value_that_is_not_there_says_why() -> None:
    """What cannot be, what got lost, and what the machine lacks are points with a note."""
    lossy = [measured(CHAIN[1], 0, 200, lost=1), *(m for m in rounds() if m.variant != CHAIN[1])]
    found = curves(lossy)["chain-direct", NS].points
    assert found[0].value is None
    assert found[0].note == "every measurement lost packets"
    assert (found[2].value, found[2].note) == (None, "too many")
    (lacking,) = (
        curve
        for curve in curves_of(plan(), {"routing": {0: 1.0}}, [], {"chain-1": "a tool"})
        if (curve.way, curve.quantity) == ("chain-direct", NS)
    )
    assert lacking.points[0].note == "needs a tool"


def test_generator_as_slow_as_the_way_gives_no_ratio_without_it() -> None:
    """What would be a division by nothing is a point that says so."""
    slow = [*(m for m in rounds() if m.variant != GENERATOR)]
    slow += [measured(GENERATOR, number, 201) for number in range(3)]
    found = curves(slow)
    assert values(found["chain-direct", rate("routing")])[0] is not None
    point = found["chain-direct", rate("routing") + WITHOUT].points[0]
    assert (point.value, point.note) == (None, "disturbed: the generator alone took as long")
    beyond = found["chain-direct", rate("routing")].points[2]
    assert beyond.note == "no time of chain-direct: too many"


def test_throughput_turns_the_interval_round() -> None:
    """8 bits of each byte in the time of a packet; the shortest time is the highest rate."""
    point = curves(rounds(), sizes=True)["chain-direct", THROUGHPUT].points[1]
    assert point.x == 2
    assert point.value == pytest.approx(16 / 301, abs=1e-4)
    assert point.low == pytest.approx(16 / 302, abs=1e-4)
    assert point.high == pytest.approx(16 / 300, abs=1e-4)


def test_what_is_asked_for_stands_in_the_table() -> None:
    """Ratio with interval and aim, and what one more costs."""
    asked, more = compared_of(plan(), used_rounds(rounds()))
    assert asked.aim == 1.5
    assert asked.value == pytest.approx(401 / 301, abs=1e-4)
    assert asked.low is not None
    assert (more.value, more.unit) == (100, "ns")
    nothing_yet = compared_of(plan(), {})
    assert [row.value for row in nothing_yet] == [None, None]
    elsewhere = replace(plan(), asked=(replace(plan().asked[0], x=9),), slopes=())
    assert compared_of(elsewhere, used_rounds(rounds())) == []


def test_ledger_balances_and_shows_what_it_cannot_explain() -> None:
    """Sent = received + dropped in the chain + lost by place + the rest.

    The generator's are not there, since they go nowhere.
    """
    books = ledger(rounds(), {"left: queue full": 0})
    assert books == {
        "sent": 9 * 110,
        "received": 9 * 110,
        "dropped": {},
        "lost": {},
        "unexplained": 0,
    }
    lossy = [
        *rounds(),
        measured(CHAIN[1], 3, 200, lost=7, walked=108),
        measured(ROUTING, 3, 1, lost=6),
    ]
    books = ledger(lossy, {"left: queue full": 4})
    assert books["dropped"] == {"before the chain's last step": 2}
    assert books["lost"] == {"left: queue full": 4}
    assert books["unexplained"] == 13 - 2 - 4


def test_checks_fail_where_packets_are_lost_or_leave_the_chain() -> None:
    """A loss, a packet that no counter explains, and one that did not walk the whole chain."""
    good = rounds()
    assert all(check.passed for check in judge(good, ledger(good, {})))
    bad = [*good, measured(CHAIN[1], 3, 200, lost=1, walked=109)]
    failed = {check.name for check in judge(bad, ledger(bad, {"x": 0})) if not check.passed}
    assert failed == {"lost while measured", "did not walk their whole chain"}
    bad = [*good, measured(ROUTING, 3, 200, lost=1)]
    failed = {check.name for check in judge(bad, ledger(bad, {})) if not check.passed}
    assert failed == {"lost while measured", "unexplained"}


def test_run_is_host_limited_where_most_measurements_were_disturbed() -> None:
    """With the reasons and how often; half of them may be."""
    good = rounds()
    assert validity(good).state == "valid"
    assert validity(()).state == "unknown"
    found = validity([m for m in good if m.round == 0])
    assert found.state == "host-limited"
    assert found.reasons == (
        "4 of 4 measurements were disturbed: the hypervisor took time from the core (4),"
        " others ran on the core (4)",
    )


def test_what_connection_tracking_cannot_hold_is_no_measurement() -> None:
    """nftables with connections ends where the host's table does; all others go on."""
    ways = {way.name: way for way in sweep_flows._ways((1, 100_000, 1_000_000), room=262_144)}
    assert sorted(ways["nftables"].at) == [1, 100_000]
    assert "262,144 (nf_conntrack_max)" in ways["nftables"].notes[1_000_000]
    for name in ("chain-direct", "chain-stack", "routing", "nftables-stateless"):
        assert sorted(ways[name].at) == [1, 100_000, 1_000_000]
    unknown = {way.name: way for way in sweep_flows._ways((1, 1_000_000), room=None)}
    assert sorted(unknown["nftables"].at) == [1, 1_000_000]


def test_chain_holds_the_flows_that_are_sent() -> None:
    """The tables are as large as there are flows, and so is the set of nftables."""
    for flows in (1, 1_000_000):
        (variant,) = (
            way.at[flows]
            for way in sweep_flows._ways((flows,), room=None)
            if way.name == "chain-direct"
        )
        assert variant.flows == flows
    assert "size 200000" in nftables_dad_dnat(max_flows=200_000)


@pytest.mark.parametrize("module", [sweep_nfs, sweep_flows, sweep_rules, sweep_size])
def test_plans_measure_what_they_compare(module: object) -> None:
    """Every way that is compared or asked for is measured, at the values that are asked for."""
    for quick in (True, False):
        made: Plan = module.plan(quick)  # type: ignore[attr-defined]
        by_name = {way.name: way for way in made.ways}
        assert len(by_name) == len(made.ways)
        for way in made.ways:
            assert set(way.at) | set(way.notes) == set(made.xs)
            assert {*way.against.values(), way.generator} <= set(by_name)
        for asked in made.asked:
            assert {asked.way, asked.reference} <= set(by_name)
        names = [v.name for way in made.ways for v in {id(v): v for v in way.at.values()}.values()]
        assert len(set(names)) == len(names)
        assert made.lasts_s <= (15 if quick else 180)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--forward", "direct"], "a sweep measures both ways to forward: leave --forward out"),
        (["--mtu", "9000"], "leave --mtu out"),
        (["--policy", "mine.yaml"], "sweep_nfs makes its own policies: leave --policy out"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, one message, and no folder is made."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    out = tmp_path / "out"
    assert main(["run", "sweep_nfs", "--out", str(out), *words]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not out.exists()


@pytest.mark.parametrize("frame_bytes", [60, 1_514, 9_014])
def test_socket_sends_the_generators_packet(frame_bytes: int) -> None:
    """A whole UDP packet of that size, its IP checksum right, without one of UDP."""
    macs = (bytes(range(6)), bytes(range(6, 12)))
    data = udp_frame(macs, "10.10.1.2", "10.10.2.2", 53, frame_bytes)
    assert len(data) == frame_bytes
    frame = Ether(data)
    assert (frame.dst, frame.src) == ("00:01:02:03:04:05", "06:07:08:09:0a:0b")
    ip, udp = frame[IP], frame[UDP]
    assert (ip.src, ip.dst, ip.len, ip.ttl) == ("10.10.1.2", "10.10.2.2", frame_bytes - 14, 64)
    checksum = ip.chksum
    del ip.chksum
    assert IP(bytes(ip)).chksum == checksum
    assert (udp.sport, udp.dport, udp.len, udp.chksum) == (10_000, 53, frame_bytes - 34, 0)
