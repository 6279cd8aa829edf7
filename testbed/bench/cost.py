# SPDX-License-Identifier: MIT
"""What a packet costs on one core: the ways through the node in turn, and the aims of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from testbed.bench.aims import AIMS, Aim
from testbed.bench.environment import describe_machine
from testbed.bench.record import BenchRecord, Settings, make_record
from testbed.bench.rig import FRAME_BYTES, open_rig
from testbed.bench.rounds import measure
from testbed.bench.targets import Finding, Found, Target, found_of, not_measured
from testbed.bench.variant import Variant
from testbed.experiment.progress import Progress

__all__ = [
    "PACKETS",
    "QUICK_PACKETS",
    "QUICK_ROUNDS",
    "ROUNDS",
    "TARGETS",
    "cost_found",
    "lacking",
    "lasts_s",
    "measure_cost",
    "settings_of",
]

ROUNDS, PACKETS = 15, 200_000
QUICK_ROUNDS, QUICK_PACKETS = 3, 20_000
_SWITCH_S, _PACKET_S = 0.1, 0.9e-6  # of one measurement, about

TARGETS = tuple(
    Target(
        key=aim.name,
        part="chain",
        text=aim.text.removesuffix(", ns"),
        unit="ns" if aim.kind == "hop" else "",
        bound=aim.bound,
        at_least=aim.at_least,
    )
    for aim in AIMS
    if aim.bound is not None
)


def settings_of(
    *, quick: bool, cpu: int, rounds: int | None = None, packets: int | None = None, seed: int = 1
) -> Settings:
    """How to measure: what is given, the rest as usual or as in a quick run."""
    return Settings(
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        packets=packets or (QUICK_PACKETS if quick else PACKETS),
        seed=seed,
        cpu=cpu,
        frame_bytes=FRAME_BYTES,
    )


def lacking(variants: Sequence[Variant]) -> dict[str, str]:
    """Variants that this machine cannot run, and what it lacks."""
    return {v.name: lack for v in variants if (lack := v.lacking()) is not None}


def lasts_s(settings: Settings, variants: int) -> float:
    """About how long so many variants take."""
    return settings.rounds * variants * (_SWITCH_S + settings.packets * _PACKET_S)


def measure_cost(
    bpffs: Path,
    settings: Settings,
    variants: Sequence[Variant],
    *,
    skipped: dict[str, str],
    progress: Progress,
) -> BenchRecord:
    """Measure all rounds in this sandbox.

    :param skipped: variants to leave out, and why.
    """
    here = [variant for variant in variants if variant.name not in skipped]
    environment, measurements = describe_machine(), []
    with open_rig(bpffs=bpffs, cpu=settings.cpu) as rig:
        for found in measure(
            rig, here, rounds=settings.rounds, packets=settings.packets, seed=settings.seed
        ):
            measurements.append(found)
            if found.position == 0:
                progress.step(f"round {found.round + 1} of {settings.rounds}")
            progress.tick()
    return make_record(
        measurements,
        settings=settings,
        environment=environment,
        variants=variants,
        skipped=skipped,
    )


def cost_found(record: BenchRecord) -> Found:
    """What the table says of it."""
    outcomes = {entry.aim.name: entry for entry in record.aims}
    findings: dict[str, Finding] = {}
    for aim in AIMS:
        outcome = outcomes.get(aim.name)
        findings[aim.name] = (
            found_of(outcome.interval) if outcome else not_measured(_why(aim, record))
        )
    faults = (f"chain: {record.lost:,} packets got lost",) if record.lost else ()
    return Found(findings=findings, faults=faults)


def _why(aim: Aim, record: BenchRecord) -> str:
    """Why an aim has no outcome."""
    known = {variant.name: variant for variant in record.variants}
    for name in filter(None, (aim.variant, aim.reference)):
        if name not in known:
            return f"the bench has no way {name}"
        if (lack := known[name].skipped) is not None:
            return f"{name} needs {lack}"
    return "every measurement of it lost packets"
