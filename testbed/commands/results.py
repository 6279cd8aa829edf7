# SPDX-License-Identifier: MIT
"""``nfcbed results``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from testbed import results as results_format
from testbed.errors import UserError
from testbed.experiment.folder import POLICY_FILE
from testbed.experiment.summary import make_console, print_summary
from testbed.printable import one_line
from testbed.results import Result, dump_result, read_result
from testbed.stored import listing
from testbed.stored.caution import cautions, printable
from testbed.stored.comparison import Side, compare
from testbed.stored.sheet import sections
from testbed.stored.side_by_side import print_comparison
from testbed.stored.surroundings import read_environment

__all__ = ["app", "side_of"]

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Folder = Annotated[Path, typer.Argument(help="Folder of a result.", show_default=False)]


@app.callback()
def results() -> None:
    """List, show and compare stored results; needs no root."""


@app.command("list")
def list_results(
    folder: Annotated[Path, typer.Argument(help="Where to look.", metavar="[DIR]")] = Path(
        "results"
    ),
    as_json: Json = False,
) -> None:
    """List the results in and below DIR, the newest first; one line each.

    Folders without a result that can be read are told as well, with the reason.
    """
    found = listing.find_results(folder)
    if as_json:
        _echo_json(found.plain())
        return
    console = make_console()
    for line in listing.lines(found) if found.results else ():
        if console.is_terminal:
            console.print(Text(line), no_wrap=True, overflow="ellipsis")
        else:
            typer.echo(line)
    for other, why in found.others:
        typer.echo(one_line(f"not a result: {other}: {why}"), err=True)
    if not found.results:
        typer.echo(f"no results in {folder}; nfcbed run --list says what can be run", err=True)


@app.command()
def show(
    folder: Folder,
    checks: Annotated[
        bool, typer.Option("--checks", help="All checks, those that passed as well.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show all of one result: values, settings, checks, where packets went, machine, files."""
    result = read_result(folder)
    if as_json:
        typer.echo(dump_result(result), nl=False)
        return
    environment = read_environment(folder)
    console = make_console()
    for caution in cautions(result):
        console.print(Text(one_line(caution), style="yellow"))
    print_summary(printable(result), folder)
    for title, lines in sections(result, folder, environment, checks=checks):
        if lines:
            console.print(Text(f"\n{title}", style="bold"))
        for line in lines:
            console.print(Text(f"  {one_line(line)}"), soft_wrap=not console.is_terminal)


def side_of(folder: Path, result: Result | None = None) -> Side:
    """A result with all that it is compared by.

    :raises UserError: the folder holds no result, or one of its files is not one of ours.
    """
    policy = folder / POLICY_FILE
    try:
        text = policy.read_text(encoding="utf-8") if policy.is_file() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{policy}: cannot be read: {error}") from None
    return Side(
        folder=str(folder),
        result=result or read_result(folder),
        policy=text,
        environment=read_environment(folder),
    )


@app.command("compare")
def compare_results(
    a: Annotated[Path, typer.Argument(help="Folder of a result.", metavar="A")],
    b: Annotated[
        Path, typer.Argument(help="Folder of another one of the same experiment.", metavar="B")
    ],
    as_json: Json = False,
) -> None:
    """Compare two results of the same experiment: what differs in set-up, then B / A.

    Results that must not be published as they are – host-limited, incomplete, quick – are told.
    """
    found = compare(side_of(a), side_of(b))
    if as_json:
        _echo_json(found.plain())
    else:
        print_comparison(found)


@app.command("format")
def print_format(
    schema: Annotated[
        bool, typer.Option("--schema", help="The JSON schema of result.json instead.")
    ] = False,
) -> None:
    """Print what the files of a result hold, field by field."""
    if schema:
        _echo_json(Result.model_json_schema(by_alias=True))
    else:
        typer.echo((results_format.__doc__ or "").strip())


def _echo_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
