# SPDX-License-Identifier: MIT
"""The parts of ``nfcbed bench``, one after the other, and the one table that comes of them.

A part measures in a sandbox of its own, leaves a file (or an experiment's folder) with all that it
measured, and says what became of its targets. One that fails, or that this machine cannot run,
leaves its rows unmeasured with the reason; the others go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from testbed.bench import cost, evaluation, memory
from testbed.bench.environment import describe_machine
from testbed.bench.flood import measure_flood
from testbed.bench.floodrecord import (
    FLOOD_TARGETS,
    FloodRecord,
    flood_found,
    flood_lasts_s,
    flood_settings,
)
from testbed.bench.record import read_record
from testbed.bench.rig import open_rig
from testbed.bench.table import BenchTable, PartRecord, record_of
from testbed.bench.targets import Found, Row, Target, not_measured, rows_of
from testbed.bench.variants import VARIANTS
from testbed.errors import NfcbedError, UnsupportedError
from testbed.experiment.environment import socket_buffer_bytes
from testbed.experiment.folder import ResultFolder
from testbed.experiment.progress import show_progress
from testbed.sandbox import Sandbox, run_in_sandbox

__all__ = ["PARTS", "How", "Part", "measure_parts"]

_MEMORY_S = 3.0


@dataclass(frozen=True, kw_only=True)
class How:
    """How to measure.

    :ivar folder: where the parts leave their files.
    :ivar cpu: core of the parts that measure on one.
    """

    folder: ResultFolder
    quick: bool
    cpu: int


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part.

    :ivar file: what it leaves, by name.
    :ivar lasts_s: about how long it takes.
    :ivar measure: raises NfcbedError where it failed, KeyboardInterrupt where a signal ended it.
    """

    name: str
    text: str
    file: str
    targets: tuple[Target, ...]
    lasts_s: Callable[[How], float]
    measure: Callable[[How], Found]


def _sandboxed(name: str, main: Callable[[Sandbox], None]) -> None:
    def run(sandbox: Sandbox) -> int:
        main(sandbox)
        return 0

    if run_in_sandbox(run, command=f"bench {name}"):
        raise KeyboardInterrupt


def _chain(how: How) -> Found:
    settings = cost.settings_of(quick=how.quick, cpu=how.cpu)
    variants = list(VARIANTS.values())
    skipped = cost.lacking(variants)

    def main(sandbox: Sandbox) -> None:
        with show_progress("chain", _chain_lasts_s(how)) as progress:
            record = cost.measure_cost(
                sandbox.bpffs, settings, variants, skipped=skipped, progress=progress
            )
        how.folder.write("chain.json", record.model_dump_json(indent=2) + "\n")

    _sandboxed("chain", main)
    return cost.cost_found(read_record(how.folder.path / "chain.json"))


def _chain_lasts_s(how: How) -> float:
    return cost.lasts_s(cost.settings_of(quick=how.quick, cpu=how.cpu), len(VARIANTS))


def _memory(how: How) -> Found:
    def main(sandbox: Sandbox) -> None:
        with (
            show_progress("memory", _MEMORY_S) as progress,
            open_rig(bpffs=sandbox.bpffs, cpu=how.cpu) as rig,
        ):
            progress.step("few and many flows")
            found = memory.measure_memory(rig)
        how.folder.write_json("memory.json", found.plain(describe_machine()))

    _sandboxed("memory", main)
    return memory.memory_found(json.loads((how.folder.path / "memory.json").read_text()))


def _flood(how: How) -> Found:
    settings = flood_settings(quick=how.quick)
    buffer_bytes = socket_buffer_bytes()  # the sandbox may not see the host's limits

    def main(sandbox: Sandbox) -> None:
        with show_progress("flood", flood_lasts_s(settings)) as progress:
            record = measure_flood(sandbox, settings, buffer_bytes=buffer_bytes, progress=progress)
        record = record.model_copy(update={"environment": describe_machine()})
        how.folder.write("flood.json", record.model_dump_json(indent=2) + "\n")

    _sandboxed("flood", main)
    return flood_found(
        FloodRecord.model_validate_json((how.folder.path / "flood.json").read_bytes())
    )


def _experiment(name: str, how: How) -> Found:
    return evaluation.found_in(
        evaluation.run_quietly(name, how.folder.path / name, quick=how.quick)
    )


def _experiment_lasts_s(name: str, how: How) -> float:
    return evaluation.lasts_s(name, quick=how.quick)


PARTS = (
    Part(
        name="chain",
        text="what a packet costs",
        file="chain.json",
        targets=cost.TARGETS,
        lasts_s=_chain_lasts_s,
        measure=_chain,
    ),
    Part(
        name="flood",
        text="a good flow under a flood",
        file="flood.json",
        targets=FLOOD_TARGETS,
        lasts_s=lambda how: flood_lasts_s(flood_settings(quick=how.quick)),
        measure=_flood,
    ),
    *(
        Part(
            name=name,
            text=f"experiment {name}",
            file=f"{name}/result.json",
            targets=tuple(t for t in evaluation.TARGETS if t.part == name),
            lasts_s=partial(_experiment_lasts_s, name),
            measure=partial(_experiment, name),
        )
        for name in evaluation.EXPERIMENTS
    ),
    Part(
        name="memory",
        text="what a chain holds",
        file="memory.json",
        targets=memory.TARGETS,
        lasts_s=lambda _: _MEMORY_S,
        measure=_memory,
    ),
)


def measure_parts(
    how: How, *, tell: Callable[[str], None], keep: Callable[[BenchTable], None]
) -> BenchTable:
    """Measure all parts.

    :param tell: is told which part begins, and how long all that is left will take.
    :param keep: gets the table after each part, with what there is so far.
    :raises KeyboardInterrupt: a signal ended a part.
    """
    run = _Run(how, datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        for number, part in enumerate(PARTS):
            left_s = sum(each.lasts_s(how) for each in PARTS[number:])
            tell(f"{number + 1} of {len(PARTS)}: {part.text} (about {left_s:.0f} s left)")
            run.measure(part)
            keep(run.table())
    finally:
        table = run.table()
        keep(table)
    return table


class _Run:
    """What there is so far."""

    def __init__(self, how: How, started: str) -> None:
        self._how, self._started = how, started
        self._environment = describe_machine()
        self._found: dict[str, Found] = {}
        self._parts: list[PartRecord] = []

    def measure(self, part: Part) -> None:
        begin_s = time.monotonic()
        try:
            self._found[part.name] = part.measure(self._how)
        except UnsupportedError as error:
            self._found[part.name] = _failed(part, str(error))
        except NfcbedError as error:
            fault = f"{part.name}: {error}"
            self._found[part.name] = _failed(part, str(error), fault)
        there = (self._how.folder.path / part.file).exists()
        seconds = round(time.monotonic() - begin_s, 1)
        self._parts.append(
            PartRecord(name=part.name, file=part.file if there else None, seconds=seconds)
        )

    def table(self) -> BenchTable:
        return BenchTable(
            quick=self._how.quick,
            started=self._started,
            parts=tuple(self._parts),
            rows=tuple(record_of(row) for row in self._rows()),
            faults=tuple(fault for found in self._found.values() for fault in found.faults),
            environment=self._environment,
        )

    def _rows(self) -> Iterator[Row]:
        for part in PARTS:
            found = self._found.get(part.name) or _failed(part, "the bench was stopped before")
            yield from rows_of(part.targets, found.findings)


def _failed(part: Part, why: str, *faults: str) -> Found:
    return Found(findings={target.key: not_measured(why) for target in part.targets}, faults=faults)
