# SPDX-License-Identifier: MIT
"""The table of `nfcbed bench`: verdicts, what was not measured, and the flood's books."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from testbed.bench import evaluation, parts
from testbed.bench.aims import AIMS
from testbed.bench.floodrecord import (
    FloodRecord,
    FloodRun,
    FloodSettings,
    flood_found,
    make_record,
)
from testbed.bench.parts import PARTS, How, measure_parts
from testbed.bench.table import BenchTable, markdown, record_of, table_of
from testbed.bench.targets import Finding, Found, Row, Target
from testbed.bench.variants import VARIANTS
from testbed.errors import RunError, UnsupportedError
from testbed.experiment.folder import ResultFolder
from testbed.results import Compared, Result, Validity

AT_LEAST = Target(key="a", part="p", text="a ratio", bound=1.5)
AT_MOST = Target(key="b", part="p", text="a time", unit="ns", bound=2.0, at_least=False)


@pytest.mark.parametrize(
    ("target", "finding", "verdict"),
    [
        (AT_LEAST, Finding(value=1.6, low=1.5, high=1.7), "reached"),
        (AT_LEAST, Finding(value=1.6, low=1.47, high=1.7), "missed by 2 %"),
        (AT_LEAST, Finding(value=0.6, low=0.5, high=0.7), "missed by 67 %"),
        (AT_MOST, Finding(value=1.9, low=1.8, high=2.0), "reached"),
        (AT_MOST, Finding(value=1.9, low=1.8, high=2.1), "missed by 5 %"),
        (AT_MOST, Finding(value=1.9), "reached"),
        (AT_MOST, Finding(value=None, note="no tool"), "not measured: no tool"),
        (
            AT_LEAST,
            Finding(value=1.6, low=1.5, high=1.7, limited=True, note="no CPU time left"),
            "not judged: host-limited: no CPU time left",
        ),
    ],
)
def test_verdict(target: Target, finding: Finding, verdict: str) -> None:
    """The unfavourable end counts; what the machine limited is no evidence either way."""
    assert Row(target=target, finding=finding).verdict == verdict


def table(rows: dict[str, Finding]) -> BenchTable:
    targets = {"a": AT_LEAST, "b": AT_MOST}
    return BenchTable(
        quick=True,
        started="2026-01-01T00:00:00+00:00",
        parts=(),
        rows=tuple(record_of(Row(target=targets[k], finding=f)) for k, f in rows.items()),
        faults=("p: 3 packets got lost",),
        environment={"processor": "a CPU", "kernel": "6.1", "cpus": 2},
    )


def test_markdown_and_terminal_say_the_same() -> None:
    """Aim, value, interval, verdict; units where there are some; quick runs and faults are told."""
    bench = table(
        {"a": Finding(value=1.6, low=1.52, high=1.7), "b": Finding(value=None, note="why")}
    )
    text = markdown(bench)
    assert "| a ratio | ≥ 1.5 | 1.6000 | 1.5200 … 1.7000 | reached |" in text
    assert "| a time | ≤ 2 ns | – | – | not measured: why |" in text
    assert "1 of 2 aims reached, 0 missed, 1 not measured or not judged." in text
    assert "a quick run: no figures to quote" in text
    assert "- p: 3 packets got lost" in text
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table_of(bench))
    shown = console.export_text()
    assert all(word in shown for word in ("1.5200 … 1.7000", "not measured: why"))
    assert BenchTable.model_validate_json(bench.model_dump_json()) == bench


def test_no_two_rows_have_one_key() -> None:
    """Each aim stands once in the table."""
    keys = [target.key for part in PARTS for target in part.targets]
    assert len(keys) == len(set(keys)) == 16


@pytest.fixture
def how(tmp_path: Path) -> How:
    return How(folder=ResultFolder(tmp_path, owner=None), quick=True, cpu=0)


def replaced(monkeypatch: pytest.MonkeyPatch, **measure: Callable[[How], Found]) -> None:
    """Put other functions in the place of the parts' own; the rest find nothing."""

    def nothing(_: How) -> Found:
        return Found(findings={})

    found = (dataclasses.replace(p, measure=measure.get(p.name, nothing)) for p in PARTS)
    monkeypatch.setattr(parts, "PARTS", tuple(found))


def raising(error: BaseException) -> Callable[[How], Found]:
    def measure(_: How) -> Found:
        raise error

    return measure


def test_part_that_fails_is_a_fault_and_the_rest_goes_on(
    how: How, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows say why; a part that this machine cannot run is no fault."""
    replaced(
        monkeypatch,
        flood=raising(RunError("iperf3 was killed")),
        table7_3=raising(UnsupportedError("needs vmstat")),
        memory=lambda _: Found(findings={"bytes": Finding(value=1.0)}),
    )
    told: list[str] = []
    bench = measure_parts(how, tell=told.append, keep=lambda _: None)
    verdicts = {row.target.key: row.verdict for row in bench.rows}
    assert verdicts["flood"] == "not measured: iperf3 was killed"
    assert verdicts["CPU time per packet, in-stack / routing"] == "not measured: needs vmstat"
    assert verdicts["bytes"] == "reached"
    assert bench.faults == ("flood: iperf3 was killed",)
    assert len(told) == len(PARTS)
    assert "1 of 5" in told[0]
    assert "s left" in told[0]


def test_interrupted_bench_keeps_what_it_had(how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before is in the last table that was kept; the rest says that it was stopped."""
    replaced(
        monkeypatch,
        chain=lambda _: Found(findings={"hop": Finding(value=1.0, low=0.9, high=1.1)}),
        flood=raising(KeyboardInterrupt()),
    )
    kept: list[BenchTable] = []
    with pytest.raises(KeyboardInterrupt):
        measure_parts(how, tell=lambda _: None, keep=kept.append)
    verdicts = {row.target.key: row.verdict for row in kept[-1].rows}
    assert verdicts["hop"] == "reached"
    assert verdicts["bytes"] == "not measured: the bench was stopped before"


def result(**fields: Any) -> Result:
    rows = tuple(
        Compared(name=f"{flow}, NFC / routing", value=1.0, low=0.9995, high=1.0, aim=0.999)
        for flow in ("flow 1", "flow 2")
    )
    whole = {
        "experiment": "table7_4",
        "title": "t",
        "state": "complete",
        "started": "2026-01-01",
        "clock_start_ns": 0,
        "compared": rows,
    }
    return Result.model_validate({**whole, **fields})


def test_host_limited_experiment_is_not_judged() -> None:
    """Its rows carry the reason."""
    limited = Validity(state="host-limited", reasons=("nfc 1: 1.0% of CPU time was left",))
    for validity, verdict in (
        (Validity(state="valid"), "reached"),
        (limited, "not judged: host-limited: nfc 1: 1.0% of CPU time was left"),
    ):
        found = evaluation.found_in(result(validity=validity))
        target = evaluation.TARGETS[0]
        assert Row(target=target, finding=found.findings[target.key]).verdict == verdict
        assert found.faults == ()


def test_packets_that_a_check_misses_are_a_fault() -> None:
    """A failed check of packets fails the bench; one of a rate does not."""
    checks = [
        {"name": "nfc 1: unexplained", "value": 3, "expected": "0", "unit": "packets"},
        {"name": "nfc 1: flow 1 offered", "value": 900.0, "expected": "1000", "unit": "Mbit/s"},
    ]
    found = evaluation.found_in(result(checks=[{**check, "pass": False} for check in checks]))
    assert found.faults == ("table7_4: nfc 1: unexplained: 3 packets, expected 0",)


def test_other_aim_of_the_experiment_is_refused() -> None:
    """The bench and the experiment cannot drift apart in silence."""
    other = result(compared=[{"name": "flow 1, NFC / routing", "value": 1.0, "aim": 0.9}])
    with pytest.raises(RunError, match=r"aims at 0.9 .* not 0.999"):
        evaluation.found_in(other)


SETTINGS = FloodSettings(rounds=2, span_s=1.0)
PACKETS = 8633  # of 1448 bytes: 100 Mbit/s for a second


def flood_run(number: int, *, flooded: bool, **changes: int) -> FloodRun:
    counts = {
        "goodput_bytes": PACKETS * 1448,
        "good_arrived": PACKETS,
        "flood_arrived": 0,
        "good_entered": PACKETS,
        "flood_entered": 3 * PACKETS if flooded else 0,
        "denied": 3 * PACKETS if flooded else 0,
    }
    return FloodRun(round=number, flooded=flooded, seconds=1.0, **{**counts, **changes})


def flood(*, unexplained: int = 0, **changes: int) -> FloodRecord:
    runs = [
        flood_run(number, flooded=flooded, **(changes if flooded else {}))
        for number in range(2)
        for flooded in (True, False)
    ]
    return make_record(SETTINGS, runs, unexplained=unexplained, lost={})


def test_flood_that_takes_nothing() -> None:
    """The ratio is that of goodput with the flood by that without."""
    found = flood_found(flood())
    assert found.faults == ()
    assert found.findings["flood"].value == 1.0
    half = flood_found(flood(goodput_bytes=PACKETS * 724))
    assert half.findings["flood"].value == 0.5


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"denied": 2 * PACKETS}, "DAD denied"),
        ({"denied": 0}, "DAD denied 0 of"),
        ({"unexplained": 7}, "7 packets are unexplained"),
    ],
)
def test_flood_that_is_not_denied_or_not_accounted_for(changes: dict[str, int], fault: str) -> None:
    """The figure would be of something else then: a fault."""
    assert fault in flood_found(flood(**changes)).faults[0]


@pytest.mark.parametrize("changes", [{"good_entered": 8000}, {"flood_entered": 2 * PACKETS}])
def test_sender_that_could_not_offer_it_is_host_limited(changes: dict[str, int]) -> None:
    """Then the sender is what was measured."""
    finding = flood_found(flood(**changes)).findings["flood"]
    assert finding.limited
    assert finding.note is not None
    assert "Mbit/s of the" in finding.note


def test_ways_that_are_compared_are_measured() -> None:
    """Every way that an aim names is one of the bench's."""
    named = {name for aim in AIMS for name in (aim.variant, aim.reference) if name}
    assert named <= set(VARIANTS)
