# SPDX-License-Identifier: MIT
"""``nfcbed bench``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from testbed.bench.environment import describe_machine
from testbed.bench.memory import MOST_BYTES, MOST_BYTES_PER_FLOW, Held, Memory, measure_memory
from testbed.bench.record import BenchRecord, Settings, make_record
from testbed.bench.report import notes, tables
from testbed.bench.rig import FRAME_BYTES, default_cpu, open_rig
from testbed.bench.rounds import measure
from testbed.bench.variant import Variant
from testbed.bench.variants import choose
from testbed.errors import UnsupportedError, UserError
from testbed.probe import probe
from testbed.sandbox import Sandbox, run_in_sandbox

__all__ = ["app"]

app = typer.Typer()

_ROUNDS, _PACKETS = 15, 200_000
_QUICK_ROUNDS, _QUICK_PACKETS = 3, 20_000
_MAX_PACKETS = 100_000_000

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Cpu = Annotated[int | None, typer.Option(help="Core to measure on; the last one if not given.")]


@app.callback()
def bench() -> None:
    """Measure what a packet costs, and what a chain holds in memory."""


@app.command()
def chain(
    *,
    out: Annotated[Path | None, typer.Option(help="Write bench.json into this folder.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=10_000, help=f"Rounds; {_ROUNDS} if not given.")
    ] = None,
    packets: Annotated[
        int | None,
        typer.Option(
            min=1_000,
            max=_MAX_PACKETS,
            help=f"Packets of each variant in a round; {_PACKETS:,} if not given.",
        ),
    ] = None,
    variants: Annotated[
        str | None, typer.Option(help="Measure only these: names with commas between.")
    ] = None,
    cpu: Cpu = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the rounds' orders.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"{_QUICK_ROUNDS} short rounds: does it all work?")
    ] = False,
    as_json: Json = False,
) -> int:
    """Compare DAD + DNAT with plain routing, nftables and the least that a packet can cost.

    Sends as fast as one core can through each way in turn, all of them once a round, in another
    random order each time; every measurement loads its programs anew. Prints ns per packet and
    the ratios that are aimed at. A missed aim is a result (exit code 0); lost packets are a
    failure (1).
    """
    chosen = choose(variants)
    skipped = {v.name: lack for v in chosen if (lack := v.lacking()) is not None}
    if skipped and variants is not None:
        raise UnsupportedError("; ".join(f"{name} needs {lack}" for name, lack in skipped.items()))
    settings = Settings(
        rounds=rounds or (_QUICK_ROUNDS if quick else _ROUNDS),
        packets=packets or (_QUICK_PACKETS if quick else _PACKETS),
        seed=seed,
        cpu=default_cpu() if cpu is None else cpu,
        frame_bytes=FRAME_BYTES,
    )
    folder = None if out is None else _folder(out)
    return run_in_sandbox(
        lambda sandbox: _chain(
            sandbox, settings, chosen, skipped=skipped, folder=folder, as_json=as_json
        ),
        command="bench chain",
    )


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {path}: {error.strerror}") from None
    return path.resolve()


def _chain(
    sandbox: Sandbox,
    settings: Settings,
    chosen: Sequence[Variant],
    *,
    skipped: dict[str, str],
    folder: Path | None,
    as_json: bool,
) -> int:
    here = [variant for variant in chosen if variant.name not in skipped]
    progress = Progress(console=Console(stderr=True), transient=True, refresh_per_second=2)
    measurements = []
    environment = describe_machine()
    with open_rig(bpffs=sandbox.bpffs, cpu=settings.cpu) as rig, progress:
        task = progress.add_task("measuring", total=settings.rounds * len(here))
        for measurement in measure(
            rig, here, rounds=settings.rounds, packets=settings.packets, seed=settings.seed
        ):
            measurements.append(measurement)
            progress.advance(task)
    record = make_record(
        measurements,
        settings=settings,
        environment=environment,
        variants=chosen,
        skipped=skipped,
    )
    _show(record, folder=folder, as_json=as_json)
    return 1 if record.lost else 0


def _show(record: BenchRecord, *, folder: Path | None, as_json: bool) -> None:
    text = record.model_dump_json(indent=2)
    if folder is not None:
        _write(folder / "bench.json", text + "\n")
    if as_json:
        typer.echo(text)
        return
    console = Console(highlight=False)
    for table in tables(record):
        console.print(table)
    for note in notes(record):
        console.print(note)
    if folder is not None:
        console.print(f"wrote {folder / 'bench.json'}", soft_wrap=True)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise UserError(f"--out: cannot write {path}: {error.strerror}") from None


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
    if as_json:
        typer.echo(json.dumps(_memory_json(found), indent=2))
        return 0
    for held in (found.exact, found.thesis, found.usual, found.large):
        typer.echo(_line(held))
    typer.echo(_aim("DAD + DNAT, 2 flows, room for 10: bytes", found.thesis.total, MOST_BYTES))
    typer.echo(_aim("one more flow, bytes per NF", found.bytes_per_flow, MOST_BYTES_PER_FLOW))
    if probe("map_memory").state == "no":
        typer.echo(
            "This kernel (before 6.4) tells what the tables' entries would need if they were"
            " full, not what they hold."
        )
    return 0


def _line(held: Held) -> str:
    flows = f"{held.flows:,} flows, room for {held.bound:,}:"
    return f"{flows:<35} maps {held.maps:>9,} B, programs {held.programs:>7,} B"


def _aim(text: str, value: float, most: int) -> str:
    verdict = "reached" if value <= most else f"missed by {value - most:,.0f}"
    return f"{text}: {value:,.0f}, aim ≤ {most:,}: {verdict}"


def _memory_json(found: Memory) -> dict[str, Any]:
    return {
        "format": "nfcbed-bench-memory",
        "version": 1,
        **asdict(found),
        "bytes_per_flow_per_nf": found.bytes_per_flow,
        "aims": {"bytes": MOST_BYTES, "bytes_per_flow_per_nf": MOST_BYTES_PER_FLOW},
        "environment": describe_machine(),
    }
