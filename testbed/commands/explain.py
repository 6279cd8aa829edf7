# SPDX-License-Identifier: MIT
"""``nfcbed explain``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from testbed.bpf import BpfError
from testbed.chain import FiveTuple
from testbed.datapath.live import find_node
from testbed.datapath.plan import make_plan
from testbed.errors import RunError, UserError
from testbed.explain import Line, as_text, explain, explain_live
from testbed.policy import load_policy

__all__ = ["app"]

app = typer.Typer()


def _packet(**fields: Any) -> FiveTuple:
    try:
        return FiveTuple(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + str(first["loc"][0]).replace("_", "-")
        raise UserError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None


def _show(lines: list[Line]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        typer.echo(as_text(lines))
        return
    table = Table.grid(padding=(0, 2))
    for _ in range(2):
        table.add_column(overflow="fold")
    for line in lines:
        table.add_row(Text(line.what, style="bold"), Text(line.text))
        if line.code:
            table.add_row("", Text(f"└ {line.code}", style="cyan"))
    console.print(table)


@app.command()
def show(
    src: Annotated[str, typer.Option(help="Source address.", metavar="ADDRESS")],
    dst: Annotated[str, typer.Option(help="Destination address.", metavar="ADDRESS")],
    proto: Annotated[str, typer.Option(help="udp, tcp, icmp or a number.", metavar="PROTO")],
    dport: Annotated[int, typer.Option(help="Destination port.", metavar="PORT")] = 0,
    sport: Annotated[int, typer.Option(help="Source port.", metavar="PORT")] = 0,
    fragment: Annotated[bool, typer.Option(help="A piece of a fragmented packet.")] = False,
    policy: Annotated[
        Path | None, typer.Option(help="Ask about this file instead of a running node.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Which run, where several run.")] = None,
    node: Annotated[str | None, typer.Option(help="Which NFC node, where several run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> int:
    """Say which way a packet goes: rule, NFs in order, hook, and what happens after.

    Reads the live objects of a running testbed, or with --policy a file.
    """
    packet = _packet(src=src, dst=dst, proto=proto, sport=sport, dport=dport, fragment=fragment)
    if policy is not None:
        lines = explain(make_plan(load_policy(policy)), packet)
    elif os.geteuid() != 0:
        raise UserError("needs root to look into a running node: run it with sudo, or --policy")
    else:
        found = find_node(run_id=run, name=node)
        try:
            lines = explain_live(found, packet)
        except BpfError as error:
            raise RunError(f"cannot look into run {found.run_id}: {error}") from None
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in lines], ensure_ascii=False, indent=2))
    else:
        _show(lines)
    return 0
