# SPDX-License-Identifier: MIT
"""Table 7.3 and Figure 7.3 as values: what is derived, what is judged, what limits a run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from experiments import _histogram as histogram
from experiments import _usage as usage
from experiments._carried import Ledger
from experiments._gigabit import loaded, parameters
from experiments._scene import Books, validity
from experiments.table7_3 import EXPERIMENT, prepare
from testbed.bpf.held import BpfUse
from testbed.errors import UserError
from testbed.experiment.cpudist import Bin
from testbed.experiment.cputime import VECTORS, CpuTime
from testbed.experiment.procstat import CpuTicks
from testbed.experiment.runner import Options
from testbed.experiment.vmstat import CpuLine
from testbed.policy import load_policy, parse_policy
from testbed.probe_base import State

SECOND_NS = 10**9
CLASSIFIER, MAP = ("program", 7), ("map", 3)
assert EXPERIMENT.policy is not None
POLICY_FILE = EXPERIMENT.policy
COUNTING = load_policy(POLICY_FILE)


def ticks(*, user: int = 0, softirq: int = 0, idle: int = 0) -> CpuTicks:
    return CpuTicks(
        user=user, nice=0, system=0, idle=idle, iowait=0, irq=0, softirq=softirq, steal=0
    )


def reading(
    *, at_s: int, run_time_ns: int = 0, runs: int = 0, arrived: int = 0, cpu: CpuTicks
) -> usage.Reading:
    return usage.Reading(
        t_ns=at_s * SECOND_NS,
        stat={"cpu": cpu, "cpu0": cpu, "cpu1": cpu},
        cpu=CpuTime(
            task_ns=at_s * SECOND_NS,
            idle_softirq_ns=0,
            softirq_ns={name: arrived * 1000 if name == "net_rx" else 0 for name in VECTORS},
            switches=0,
        ),
        uses={
            CLASSIFIER: BpfUse(
                kind="program",
                number=7,
                held_bytes=4096,
                run_time_ns=run_time_ns,
                runs=runs,
            ),
            MAP: BpfUse(kind="map", number=3, held_bytes=1000),
            ("map", 4): BpfUse(kind="map", number=4, held_bytes=5000),  # a meter's
        },
        arrived=arrived,
    )


def state(name: str, *, used_kb: int, run_time_ns: int, packets: int) -> usage.Usage:
    """Ten seconds in which the chain ran so long, on a machine of two CPUs."""
    first = reading(at_s=10, cpu=ticks())
    last = reading(
        at_s=20,
        run_time_ns=run_time_ns,
        runs=packets,
        arrived=packets,
        cpu=ticks(user=300, softirq=100, idle=600),
    )
    line = CpuLine(free_kb=1, user=30, system=10, idle=60, io_wait=0, stolen=0)
    return usage.Usage(
        name=name,
        first=first,
        last=last,
        vmstat=(line, replace(line, idle=50)),
        samples=tuple(
            usage.Sample(t * SECOND_NS, used_kb + kb, {"cpu": ticks(user=t, idle=t)})
            for t, kb in ((10, 0), (11, 5), (12, 1000))
        ),
        chain=frozenset({CLASSIFIER, MAP}),
        classifier=7,
    )


IDLE = state("idle", used_kb=1000, run_time_ns=0, packets=0)
BUSY = state("processing", used_kb=1180, run_time_ns=50_000_000, packets=280_000)
STATES = {"idle": IDLE, "processing": BUSY}


def values(states: dict[str, usage.Usage]) -> dict[str, float | None]:
    return {row.name: row.value for row in usage.compared(states)}


def test_rows_of_the_table() -> None:
    """Medians and means, the chain's own objects alone, time per packet, shares of all CPUs."""
    found = values(STATES)
    assert found["idle: memory used (vmstat)"] == 1005  # the median, not the outlier's mean
    assert found["processing − idle: memory used (vmstat)"] == 180
    assert found["processing: CPU (vmstat, whole machine)"] == 45
    assert found["processing: CPU of the chain"] == 0.5
    assert found["processing: the chain's maps hold"] == 1000
    assert found["processing: the chain's programs hold"] == 4096
    assert found["processing: softirq (/proc/stat)"] == 10
    assert found["processing: tasks and softirqs (traced)"] == 50
    assert found["chain: run time per packet (bpf_stats)"] == pytest.approx(178.57, abs=0.01)
    assert found["chain: softirq time per packet"] == 1000


def test_published_values_stand_beside_ours() -> None:
    """766,664 and 766,844 KB, 180 KB between them, and no CPU."""
    published = {row.name: row.published for row in usage.compared(STATES)}
    assert published["idle: memory used (vmstat)"] == 766_664
    assert published["processing: memory used (vmstat)"] == 766_844
    assert published["processing − idle: memory used (vmstat)"] == 180
    assert published["processing: CPU (vmstat, whole machine)"] == 0


def test_nothing_is_made_up_where_tracing_is_refused() -> None:
    """Without tp_btf the traced rows are empty; the others stay."""
    blind = replace(BUSY, first=replace(BUSY.first, cpu=None))
    found = values({"idle": IDLE, "processing": blind})
    assert found["processing: softirq (traced)"] is None
    assert found["chain: softirq time per packet"] is None
    assert found["processing: CPU of the chain"] == 0.5


@pytest.mark.parametrize(("state", "exact"), [("yes", True), ("no", False), ("unknown", None)])
def test_memory_says_whether_it_is_exact(state: State, exact: bool | None) -> None:
    """What maps could hold, all that old kernels tell, is not given out for what they hold."""
    said = usage.exactness(State(state))
    assert said["exact"] is exact
    assert ("if they were full" in said["what"]) is not (exact is True)


def test_readings_are_kept_as_they_were() -> None:
    """The raw file of a reading has every counter: CPUs, traced time, each map and program."""
    plain = reading(at_s=10, run_time_ns=5, runs=2, cpu=ticks(user=3)).plain({7: "classify"})
    assert json.loads(json.dumps(plain)) == plain
    assert plain["proc_stat"]["cpu1"]["user"] == 3
    assert plain["traced"]["task_ns"] == 10 * SECOND_NS
    program, table, _ = plain["bpf"]
    assert (program["name"], program["run_time_ns"], program["runs"]) == ("classify", 5, 2)
    assert (table["kind"], table["held_bytes"], table["name"]) == ("map", 1000, None)


def failed(states: dict[str, usage.Usage]) -> list[str]:
    return [check.name for check in usage.judge(states) if not check.passed]


def test_good_run_passes_and_a_bad_one_does_not() -> None:
    """Too much memory, too much CPU, or a chain that no packet went through fail by name."""
    assert failed(STATES) == []
    slow = state("processing", used_kb=0, run_time_ns=SECOND_NS, packets=280_000)
    assert failed({"idle": IDLE, "processing": slow}) == ["CPU of the chain"]
    idle = state("processing", used_kb=0, run_time_ns=0, packets=0)
    assert failed({"idle": IDLE, "processing": idle}) == ["packets that the chain ran for"]
    uses = {**BUSY.last.uses, MAP: BpfUse(kind="map", number=3, held_bytes=2**20)}
    large = replace(BUSY, last=replace(BUSY.last, uses=uses))
    assert failed({"idle": IDLE, "processing": large}) == [
        "bytes that the chain holds",
        "bytes more than idle",
    ]


def books(**changes: Any) -> Books:
    fields: dict[str, Any] = {
        "name": "processing",
        "sent_mbps": {"flow 1": 999.9, "flow 2": 1000.0},
        "entered": 1000,
        "ledger": Ledger(sent=1000, received=1000, dropped={}, lost={}),
        "idle_share": 0.3,
    }
    return Books(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "idle_busy", "reason"),
    [
        ({}, 0.1, None),
        ({"sent_mbps": {"flow 1": 900.0}}, 0.1, "sent 900.0 of 1000"),
        (
            {"ledger": Ledger(sent=1000, received=990, dropped={}, lost={"vm2: queue": 10})},
            0.1,
            "10 of 1000 packets lost (vm2: queue)",
        ),
        ({"ended_early": True}, 0.1, "were over before"),
        ({"idle_share": 0.013}, 0.1, "processing: 1.3% of CPU time was left"),
        ({}, 0.91, "idle: other work took 91%"),
    ],
)
def test_machine_that_was_the_limit_is_named(
    changes: dict[str, Any], idle_busy: float, reason: str | None
) -> None:
    """Rate not offered, packets lost, observed too late, or not idle when it should have been."""
    found = validity([books(**changes)], idle_busy=idle_busy)
    assert found.state == ("valid" if reason is None else "host-limited")
    assert len(found.reasons) == (reason is not None)
    assert reason is None or reason in found.reasons[0]


def test_packets_that_go_round_the_chain_or_vanish_fail() -> None:
    """All that was sent entered the chain, and nothing is unexplained."""
    assert all(check.passed for check in books().checks())
    assert not all(check.passed for check in books(entered=999).checks())
    lost = Ledger(sent=1000, received=999, dropped={}, lost={})
    assert [c.name for c in books(ledger=lost).checks() if not c.passed] == [
        "processing: packets unexplained"
    ]


HISTOGRAMS = {
    "idle": [Bin(0, 1, 5), Bin(1024, 2047, 0), Bin(2048, 4095, 50)],
    "processing": [Bin(0, 1, 10), Bin(2048, 4095, 100)],
}


def test_histograms_are_compared_with_the_published_ones() -> None:
    """Fullest bin of each state, and how many times the stretches of idle."""
    rows = {row.name: (row.value, row.published) for row in histogram.compared(HISTOGRAMS)}
    assert rows["idle: fullest bin, from"] == (2048, 2048)
    assert rows["processing: stretches on a CPU"] == (110, None)
    assert rows["processing / idle: stretches"] == (2.0, 2.0)
    assert all(check.passed for check in histogram.judge(HISTOGRAMS))
    same = {**HISTOGRAMS, "processing": HISTOGRAMS["idle"]}
    assert not all(check.passed for check in histogram.judge(same))


def test_empty_histogram_has_no_ratio() -> None:
    """Nothing seen in idle is no division by zero."""
    rows = {row.name: row.value for row in histogram.compared({"idle": [], "processing": []})}
    assert rows["processing / idle: stretches"] is None


def test_share_of_cpus_between_samples() -> None:
    """Busy ticks over all ticks; samples in the same tick are no error."""
    samples = [(0, ticks()), (1, ticks(user=1, idle=3)), (2, ticks(user=1, idle=3))]
    assert histogram.busy_share(samples) == 0.25
    (series,) = histogram.cpu_series({"idle": samples, "processing": samples[:1]}, 0)
    assert series.values == (25.0, 0.0)


def test_options_are_taken_and_a_policy_without_a_flow_is_refused() -> None:
    """MTU sets the datagrams; quick shortens; both flows need a rule."""
    assert parameters(Options(mtu=1500), ())["datagram_bytes"] == 1448
    assert parameters(Options(quick=True), ())["duration_s"] == 4
    prepared = prepare(COUNTING, Options(forward="direct"))
    assert {chain.forward for chain in prepared.policy.chains} == {"direct"}
    text = POLICY_FILE.read_text().replace("dport: 123}", "dport: 124}")
    with pytest.raises(UserError, match="no rule for flow 2"):
        loaded(parse_policy(text, POLICY_FILE), Options())
