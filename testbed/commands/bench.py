# SPDX-License-Identifier: MIT
"""``nfcbed bench``: all parts, or one of them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from testbed.bench import cost
from testbed.bench.environment import describe_machine
from testbed.bench.flood import measure_flood
from testbed.bench.floodrecord import (
    FLOOD_TARGETS,
    FloodRecord,
    flood_found,
    flood_lasts_s,
    flood_settings,
)
from testbed.bench.memory import TARGETS as MEMORY_TARGETS
from testbed.bench.memory import Held, full_tables_only, measure_memory, memory_found
from testbed.bench.parts import How, measure_parts
from testbed.bench.record import BenchRecord, Settings
from testbed.bench.report import notes, tables
from testbed.bench.rig import default_cpu, open_rig
from testbed.bench.table import BenchTable, markdown, record_of, rows_table, table_of
from testbed.bench.targets import Found, Target, rows_of
from testbed.bench.variant import Variant
from testbed.bench.variants import choose
from testbed.errors import UnsupportedError, UserError
from testbed.experiment.environment import socket_buffer_bytes
from testbed.experiment.folder import ResultFolder, owner_of_the_call
from testbed.experiment.progress import show_progress
from testbed.sandbox import Sandbox, run_in_sandbox

__all__ = ["app"]

app = typer.Typer()

_MAX_PACKETS = 100_000_000

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Cpu = Annotated[int | None, typer.Option(help="Core to measure on; the last one if not given.")]
Quick = Annotated[bool, typer.Option("--quick", help="A few short rounds: does it all work?")]


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Write bench.json, bench.md and all measurements there.", metavar="DIR"),
    ] = None,
    quick: Quick = False,
    cpu: Cpu = None,
    as_json: Json = False,
) -> int:
    """Measure every part, one after the other, and hold it against what is aimed at.

    The parts: what a packet costs on one core, a good flow under a flood, 2 × 1 Gbit/s through
    the thesis's network, CPU time per packet, memory. A missed aim is a result (exit code 0); lost
    packets and parts that fail are not (1). With the name of a part, that part alone.
    """
    if context.invoked_subcommand is not None:
        if out is not None or quick or cpu is not None or as_json:
            part = context.invoked_subcommand
            raise UserError(f"options go behind the part: nfcbed bench {part} …")
        return 0
    if os.geteuid() != 0:
        raise UserError("needs root, to build networks and load programs: run it with sudo")
    core = default_cpu() if cpu is None else cpu
    if out is not None:
        return _all(How(folder=_folder(out), quick=quick, cpu=core), keep=True, as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="nfcbed-bench-") as path:
        folder = ResultFolder(Path(path), owner=None)
        return _all(How(folder=folder, quick=quick, cpu=core), keep=False, as_json=as_json)


def _all(how: How, *, keep: bool, as_json: bool) -> int:
    def store(table: BenchTable) -> None:
        how.folder.write("bench.json", table.model_dump_json(indent=2) + "\n")
        how.folder.write("bench.md", markdown(table))

    def tell(text: str) -> None:
        typer.echo(f"bench {text}", err=True)

    table = measure_parts(how, tell=tell, keep=store)
    if as_json:
        typer.echo(table.model_dump_json(indent=2))
    else:
        console = _console()
        console.print(table_of(table))
        console.print(f"{table.summary}.")
        if keep:
            path = how.folder.path
            console.print(f"wrote {path / 'bench.json'} and {path / 'bench.md'}", soft_wrap=True)
    return _faults(table.faults)


@app.command()
def chain(
    *,
    out: Annotated[
        Path | None, typer.Option(help="Write chain.json into this folder.", metavar="DIR")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=10_000, help=f"Rounds; {cost.ROUNDS} if not given.")
    ] = None,
    packets: Annotated[
        int | None,
        typer.Option(
            min=1_000,
            max=_MAX_PACKETS,
            help=f"Packets of each variant in a round; {cost.PACKETS:,} if not given.",
        ),
    ] = None,
    variants: Annotated[
        str | None, typer.Option(help="Measure only these: names with commas between.")
    ] = None,
    cpu: Cpu = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the rounds' orders.")] = 1,
    quick: Quick = False,
    as_json: Json = False,
) -> int:
    """Compare DAD + DNAT with plain routing, nftables and the least that a packet can cost.

    Sends as fast as one core can through each way in turn, all of them once a round, in another
    random order each time; every measurement loads its programs anew. Prints ns per packet and
    the ratios that are aimed at. A missed aim is a result (exit code 0); lost packets are a
    failure (1).
    """
    chosen = choose(variants)
    skipped = cost.lacking(chosen)
    if skipped and variants is not None:
        raise UnsupportedError("; ".join(f"{name} needs {lack}" for name, lack in skipped.items()))
    settings = cost.settings_of(
        quick=quick,
        cpu=default_cpu() if cpu is None else cpu,
        rounds=rounds,
        packets=packets,
        seed=seed,
    )
    folder = None if out is None else _folder(out)
    return run_in_sandbox(
        lambda sandbox: _chain(
            sandbox, settings, chosen, skipped=skipped, folder=folder, as_json=as_json
        ),
        command="bench chain",
    )


def _folder(path: Path) -> ResultFolder:
    """A folder to write to, which may hold files; it is made where it is missing."""
    owner, new = owner_of_the_call(), not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if new and owner is not None:
            os.chown(path, *owner)
    except OSError as error:
        raise UserError(f"--out {path}: {error.strerror}") from None
    return ResultFolder(path.resolve(), owner=owner)


def _chain(
    sandbox: Sandbox,
    settings: Settings,
    chosen: Sequence[Variant],
    *,
    skipped: dict[str, str],
    folder: ResultFolder | None,
    as_json: bool,
) -> int:
    lasts_s = cost.lasts_s(settings, len(chosen) - len(skipped))
    with show_progress("bench chain", lasts_s) as progress:
        record = cost.measure_cost(
            sandbox.bpffs, settings, chosen, skipped=skipped, progress=progress
        )
    _show(record, folder=folder, as_json=as_json)
    return 1 if record.lost else 0


def _show(record: BenchRecord, *, folder: ResultFolder | None, as_json: bool) -> None:
    text = record.model_dump_json(indent=2)
    if folder is not None:
        folder.write("chain.json", text + "\n")
    if as_json:
        typer.echo(text)
        return
    console = Console(highlight=False)
    for table in tables(record):
        console.print(table)
    for note in notes(record):
        console.print(note)
    if folder is not None:
        console.print(f"wrote {folder.path / 'chain.json'}", soft_wrap=True)


@app.command()
def flood(*, quick: Quick = False, as_json: Json = False) -> int:
    """Measure what a flood that DAD drops takes from a flow that keeps to the threshold."""
    settings, buffer_bytes = flood_settings(quick=quick), socket_buffer_bytes()

    def main(sandbox: Sandbox) -> int:
        with show_progress("bench flood", flood_lasts_s(settings)) as progress:
            record = measure_flood(sandbox, settings, buffer_bytes=buffer_bytes, progress=progress)
        return _show_flood(record, as_json=as_json)

    return run_in_sandbox(main, command="bench flood")


def _show_flood(record: FloodRecord, *, as_json: bool) -> int:
    found = flood_found(record)
    if as_json:
        whole = record.model_copy(update={"environment": describe_machine()})
        typer.echo(whole.model_dump_json(indent=2))
    else:
        denied, sent = (sum(getattr(r, n) for r in record.flooded) for n in _OF_THE_FLOOD)
        typer.echo(f"DAD denied {denied:,} of the flood's {sent:,} packets")
        _print_rows(FLOOD_TARGETS, found)
    return _faults(found.faults)


_OF_THE_FLOOD = ("denied", "flood_entered")


@app.command()
def memory(*, cpu: Cpu = None, as_json: Json = False) -> int:
    """Count the bytes that the maps and programs of DAD + DNAT hold, and their growth per flow."""
    core = default_cpu() if cpu is None else cpu
    return run_in_sandbox(
        lambda sandbox: _memory(sandbox, cpu=core, as_json=as_json), command="bench memory"
    )


def _memory(sandbox: Sandbox, *, cpu: int, as_json: bool) -> int:
    with open_rig(bpffs=sandbox.bpffs, cpu=cpu) as rig:
        found = measure_memory(rig)
    plain = found.plain(describe_machine())
    if as_json:
        typer.echo(json.dumps(plain, indent=2))
        return 0
    for held in (found.exact, found.thesis, found.usual, found.large):
        typer.echo(_line(held))
    _print_rows(MEMORY_TARGETS, memory_found(plain))
    if (why := full_tables_only()) is not None:
        typer.echo(why)
    return 0


def _line(held: Held) -> str:
    flows = f"{held.flows:,} flows, room for {held.bound:,}:"
    return f"{flows:<35} maps {held.maps:>9,} B, programs {held.programs:>7,} B"


def _print_rows(targets: Sequence[Target], found: Found) -> None:
    rows = tuple(record_of(row) for row in rows_of(targets, found.findings))
    _console().print(rows_table(rows))


def _faults(faults: Sequence[str]) -> int:
    for fault in faults:
        typer.echo(f"nfcbed: {fault}", err=True)
    return 1 if faults else 0


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)
