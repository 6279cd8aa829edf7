# SPDX-License-Identifier: MIT
"""``nfcbed report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.report.values import Report
from testbed.report.write import PAGE, TEXT, write_report

__all__ = ["app", "report_on"]

app = typer.Typer()

_RESULTS = Path("results")


def report_on(places: list[Path], *, out: Path) -> Report:
    """Write the report and say where it is and what must not be overlooked in it."""
    report = write_report(places, out=out)
    for label, _, marks in report.warnings:
        for mark in marks:
            reasons = "; ".join(mark.reasons)
            typer.echo(f"{label}: {mark.text}" + (f": {reasons}" if reasons else ""), err=True)
    for why in report.unread:
        typer.echo(f"not read: {why}", err=True)
    typer.echo(f"report in {out / PAGE} and {out / TEXT}")
    return report


@app.command()
def report(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Results, or folders to look for them; else results/.",
            metavar="[DIR…]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the report; else the first DIR.", metavar="FOLDER"),
    ] = None,
) -> int:
    """Write report.html and report.md: all stored results beside what the thesis published.

    Of each experiment the newest complete result is shown; what was cut short, quick, or limited
    by the machine is marked and not compared. Needs no root. Ends with 0 whatever the results say.
    """
    places = folders or [_RESULTS]
    report_on(places, out=out or places[0])
    return 0
