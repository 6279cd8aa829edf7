# SPDX-License-Identifier: MIT
"""Figure 7.2 as values: what is expected of a policy, what samples mean, what is judged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from experiments._course import (
    FLOWS,
    RATES_MBPS,
    expected_mbps,
    five_tuple,
    guard_of,
    with_forward,
    with_windows_scaled,
)
from experiments._judged import Accounts, judge, validity
from experiments._measured import Course, Reading, Sample, mean_mbps
from experiments.fig7_2 import EXPERIMENT, prepare
from testbed.chain import FiveTuple, Policy
from testbed.datapath.status import Count
from testbed.errors import RunError, UserError
from testbed.experiment.catalogue import experiment_names, load_experiment
from testbed.experiment.iperf import Sent
from testbed.experiment.meter import Arrived
from testbed.experiment.runner import Options
from testbed.experiment.sampler import Sampler
from testbed.policy import load_policy, parse_policy
from testbed.results import Mean, Phase, Validity

assert EXPERIMENT.policy is not None
POLICY_FILE = EXPERIMENT.policy
THESIS = load_policy(POLICY_FILE)
SECOND = 10**9


def policy_with(dad: str) -> Policy:
    text = POLICY_FILE.read_text()
    return parse_policy(text.replace("{threshold_mbps: 100, window_s: 10}", dad))


# What is expected -------------------------------------------------------------------------------


def test_thesis_expects_what_it_published() -> None:
    """50, 150 and 0 Mbit/s for both flows."""
    for flow in FLOWS:
        assert expected_mbps(guard_of(THESIS, flow)) == (50.0, 150.0, 0.0)


@pytest.mark.parametrize(
    ("dad", "expected"),
    [
        ("{threshold_mbps: 40, window_s: 10}", (50.0, 0.0, 0.0)),
        ("{threshold_mbps: 160, window_s: 10}", (50.0, 150.0, 100.0)),
        ("{threshold_mbps: 120, window_s: 10}", (50.0, 150.0, 0.0)),
        ("{threshold_pps: 8700, window_s: 10}", (50.0, 150.0, 0.0)),
        ("{threshold_pps: 13000, window_s: 10}", (50.0, 150.0, 100.0)),
    ],
)
def test_expected_follows_the_threshold(dad: str, expected: tuple[float, ...]) -> None:
    """Another threshold, also one in packets, gives another course."""
    assert expected_mbps(guard_of(policy_with(dad), FLOWS[0])) == expected


def test_quick_run_scales_the_window_and_nothing_else() -> None:
    """The threshold is a rate: the course stays, in a fifth of the time."""
    quick = with_windows_scaled(THESIS, 0.2)
    for flow in FLOWS:
        slow, fast = guard_of(THESIS, flow), guard_of(quick, flow)
        assert (slow.window_s, fast.window_s) == (10.0, 2.0)
        assert fast.threshold_mbps == pytest.approx(slow.threshold_mbps)
        assert expected_mbps(fast) == expected_mbps(slow)
    assert prepare(THESIS, Options(quick=True)).lasts_s < 15


def test_last_hop_can_be_chosen() -> None:
    """--forward holds for every chain."""
    assert {chain.forward for chain in with_forward(THESIS, "direct").chains} == {"direct"}
    assert prepare(THESIS, Options(forward="direct")).policy == with_forward(THESIS, "direct")
    assert prepare(THESIS, Options()).policy == THESIS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("- {proto: udp, dst: 10.10.9.5, dport: 53}", "", "no rule for flow 1"),
        ("nf: dad", "nf: pass", "has 0 dad"),
        ("threshold_mbps: 100", "threshold_mbps: 148", "too near the 150 Mbit/s"),
        ("threshold_mbps: 100", "threshold_mbps: 52", "too near the 50 Mbit/s"),
        ("window_s: 10", "window_s: 0.5", "needs 0.9 to 120 s"),
        ("window_s: 10", "window_s: 1000", "needs 0.9 to 120 s"),
    ],
)
def test_policy_that_does_not_fit_is_refused(old: str, new: str, message: str) -> None:
    """Before anything is built, with what the experiment needs."""
    text = POLICY_FILE.read_text().replace(old, new)
    if "pass" in new:
        text = text.replace("params: {threshold_mbps: 100, window_s: 10}", "params: {}")
    with pytest.raises(UserError, match=message):
        prepare(parse_policy(text), Options())


def test_experiments_are_found_by_name() -> None:
    """The catalogue knows this one, and guesses at a mistyped one."""
    assert "fig7_2" in experiment_names()
    assert load_experiment("fig7_2") is EXPERIMENT
    with pytest.raises(UserError, match="did you mean fig7_2"):
        load_experiment("fig72")


# What samples mean ------------------------------------------------------------------------------


def arrived(*, mbps: Mapping[str, float], t_s: float) -> dict[FiveTuple, Arrived]:
    """Counters after ``t_s`` at a steady rate, of flows translated to the receiver."""
    return {
        FiveTuple(src="10.10.9.1", dst="10.10.9.4", sport=f.cport, dport=f.dport, proto="udp"): (
            Arrived(int(mbps[f.name] * 1e6 / 8 * t_s) // 1448, int(mbps[f.name] * 1e6 / 8 * t_s))
        )
        for f in FLOWS
        if f.name in mbps
    }


def sample(t_s: float, *, window: int, present: int) -> Sample:
    """Flow 1 at 50 Mbit/s at vm2 alone, flow 2 at vm3 alone."""
    t_ns = int(t_s * SECOND)
    state = {"window_start_ns": window * SECOND, "present": present, "counter": int(t_s * 1e6)}
    return Sample(
        t_ns=t_ns,
        readings={
            "vm2": Reading(t_ns, arrived(mbps={"flow 1": 50}, t_s=t_s)),
            "vm3": Reading(t_ns, arrived(mbps={"flow 2": 50}, t_s=t_s)),
        },
        entered={f.name: Count(packets=1, bytes=1) for f in FLOWS},
        dad={f.name: state for f in FLOWS},
        dad_dropped={"over_threshold": 5},
        missed=0,
    )


def a_course() -> Course:
    """20 samples a second from 1 s to 5 s; a second window, which drops, from 3 s on."""
    times = [1 + i / 20 for i in range(81)]
    samples = [sample(t, window=1 if t < 3 else 3, present=int(t >= 3)) for t in times]
    quick = with_windows_scaled(THESIS, 0.2)
    guards = {flow.name: guard_of(quick, flow) for flow in FLOWS}
    return Course(samples, FLOWS, ("vm2", "vm3"), guards, SECOND, 0.1)


def test_throughput_is_the_rate_between_two_readings() -> None:
    """50 Mbit/s where the flow goes, 0 where it does not, at the readings' own times."""
    series = {(s.quantity, s.flow, s.node): s for s in a_course().series()}
    here = series["throughput", "flow 1", "vm2"]
    assert here.values == pytest.approx([50.0] * 80, abs=0.01)
    assert here.begin_s == 0.0
    assert here.t_s[0] == 0.05
    assert set(series["throughput", "flow 1", "vm3"].values) == {0.0}
    assert len(series["received", "flow 2", "vm3"].values) == 81


def test_windows_are_told_by_their_start() -> None:
    """Each start is one window with its verdict and what was counted in it."""
    first, second = a_course().windows(FLOWS[0])
    assert (first.begin_s, first.end_s, first.verdict) == (0.0, 2.0, "ACCEPT")
    assert (second.begin_s, second.end_s, second.verdict) == (2.0, 4.0, "DROP")
    assert second.counted == 5_000_000
    assert second.counted_mbps == pytest.approx(20.0)


def test_steady_part_lies_in_one_window_and_is_cut_at_both_ends() -> None:
    """The end of the old window, which a phase begins in, is left out."""
    phase = Phase(name="phase 2", begin_s=1.9, end_s=3.8, offered_mbps={})
    mean = a_course().mean(FLOWS[0], "vm2", phase)
    assert mean.steady_s == pytest.approx((2.1, 3.7))
    assert mean.steady == pytest.approx(50, abs=0.01)
    assert mean.whole == pytest.approx(50, rel=0.06)


def test_mean_needs_two_readings() -> None:
    """A span without two readings has no mean, rather than a mean of nothing."""
    points = [(0.0, 0), (1.0, 125_000), (2.0, 250_000)]
    assert mean_mbps(points, 0, 2) == 1.0
    assert mean_mbps(points, 0.5, 1.5) is None


# What is judged ---------------------------------------------------------------------------------


def reports(scale: float = 1.0) -> dict[tuple[str, str], Sent]:
    return {
        (flow.name, f"phase {i + 1}"): Sent(
            port=flow.cport, seconds=1, payload_bytes=int(rate * scale * 125_000), packets=1000
        )
        for flow in FLOWS
        for i, rate in enumerate(RATES_MBPS)
    }


def means(levels: tuple[float, ...] = (50.0, 150.0, 0.0)) -> list[Mean]:
    return [
        Mean(
            phase=f"phase {i + 1}",
            flow=flow.name,
            node=flow.receiver,
            unit="Mbit/s",
            steady=level,
            steady_s=(0, 1),
            whole=level,
        )
        for flow in FLOWS
        for i, level in enumerate(levels)
    ]


PHASES = [
    Phase(name=f"phase {i + 1}", begin_s=i, end_s=i + 1, offered_mbps={f.name: r for f in FLOWS})
    for i, r in enumerate(RATES_MBPS)
]
ONE_EACH = {flow.name: 1 for flow in FLOWS}


def failed(levels: tuple[float, ...] = (50.0, 150.0, 0.0), scale: float = 1.0) -> set[str]:
    found = judge(a_course(), PHASES, means(levels), reports(scale), ONE_EACH)
    # The made-up samples know two windows only.
    return {check.name for check in found if not check.passed and "verdicts" not in check.name}


def test_published_course_passes_every_check() -> None:
    """50 ± 1, 150 ± 3 and under 0.1 Mbit/s; also at the edges."""
    assert failed() == set()
    assert failed((51.0, 147.0, 0.09)) == set()


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        ((51.1, 150.0, 0.0), "phase 1"),
        ((50.0, 146.9, 0.0), "phase 2"),
        ((50.0, 150.0, 0.1), "phase 3"),
        ((50.0, 150.0, 100.0), "phase 3"),
    ],
)
def test_another_course_fails_its_phase(levels: tuple[float, ...], name: str) -> None:
    """Exactly the phase that is off fails, for both flows."""
    assert failed(levels) == {f"{flow.name}, {name}: at {flow.receiver}" for flow in FLOWS}


def test_rate_that_was_not_offered_fails() -> None:
    """50 Mbit/s measured of 48 sent would be no proof of anything."""
    assert len(failed(scale=0.98)) == 6
    assert all("offered" in name for name in failed(scale=0.98))


def test_two_five_tuples_or_other_verdicts_fail() -> None:
    """A flow that changed its port, and a window that did not deny, are seen."""
    found = judge(a_course(), PHASES, means(), reports(), {"flow 1": 2})
    assert {c.name for c in found if not c.passed} == {
        "flow 1: 5-tuples",
        "flow 2: 5-tuples",
        "flow 1: DAD's verdicts",
        "flow 2: DAD's verdicts",
    }


def books(**changes: object) -> Accounts:
    fields: dict[str, object] = {
        "sent": {"flow 1": 50_000, "flow 2": 50_000},
        "arrived": {"flow 1": 30_000, "flow 2": 30_000},
        "denied": 40_000,
        "socket_errors": {"vm2": 0, "vm3": 0},
    }
    return Accounts(**(fields | changes))  # type: ignore[arg-type]


def test_run_is_valid_when_all_packets_are_accounted_for() -> None:
    """Sent = denied + arrived, and a few lost ones do not make a run host-limited."""
    assert validity(books(), reports(), [], idle_share=0.5).state == "valid"
    assert validity(books(denied=39_950), reports(), [], idle_share=0.5).state == "valid"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            validity(books(denied=39_000), reports(), [], idle_share=0.5),
            "1000 packets are unaccounted for: 100000",
        ),
        (validity(books(denied=41_000), reports(), [], idle_share=0.5), "-1000 packets"),
        (
            validity(books(), reports(0.9), [], idle_share=0.5),
            "flow 1, phase 2: iperf3 sent 135.0 of 150 Mbit/s",
        ),
        (
            validity(books(socket_errors={"vm2": 500}), reports(), [], idle_share=0.5),
            "vm2: 500 datagrams",
        ),
        (
            validity(books(), reports(), ["client of flow 1"], idle_share=0.5),
            "client of flow 1: iperf3 had not",
        ),
        (validity(books(), reports(), [], idle_share=0.013), "1.3% of CPU time was left"),
    ],
)
def test_run_that_the_machine_could_not_carry_says_why(found: Validity, reason: str) -> None:
    """Host-limited, with the numbers."""
    assert found.state == "host-limited"
    assert any(reason in text for text in found.reasons)


# The sampler ------------------------------------------------------------------------------------


def test_sampler_keeps_its_pace_though_reading_takes_time() -> None:
    """A reading of half a period does not stretch the period; the last reading is at the end."""

    def read() -> float:
        time.sleep(0.01)
        return time.monotonic()

    with Sampler(read, period_s=0.02) as sampler:
        time.sleep(0.5)
        end = time.monotonic()
    sampler.check()
    assert 18 <= len(sampler.samples) <= 28
    assert sampler.samples[-1] >= end


def test_sampler_reports_a_failed_reading() -> None:
    """A thread that died is not taken for one that saw nothing."""

    def read() -> int:
        raise OSError("gone")

    with Sampler(read, period_s=0.01) as sampler:
        time.sleep(0.05)
    with pytest.raises(RunError, match="sampling failed: gone"):
        sampler.check()


def test_five_tuple_is_what_the_policy_sees() -> None:
    """The flows' 5-tuples are taken by the rules of their own ports."""
    for order, flow in enumerate(FLOWS):
        match = THESIS.match(five_tuple(flow))
        assert match is not None
        assert match.order == order


def test_policy_file_is_there() -> None:
    """The default policy is the thesis's."""
    assert Path("experiments/policies/thesis.yaml") == POLICY_FILE.relative_to(
        POLICY_FILE.parents[2]
    )
