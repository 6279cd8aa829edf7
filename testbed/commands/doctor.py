# SPDX-License-Identifier: MIT
"""``nfcbed doctor``: the report of :mod:`testbed.doctor` as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from typing import Annotated

import typer

from testbed.doctor import Presence, Report, Row, examine
from testbed.errors import UnsupportedError
from testbed.probe import NEEDS_ROOT

__all__ = ["app"]

app = typer.Typer()

_DETAIL_WIDTH = 36
_UNSUPPORTED = UnsupportedError.exit_code
_LOOKS = {
    Presence.PRESENT: ("✓", "green"),
    Presence.MISSING: ("✗", "red"),
    Presence.UNKNOWN: ("?", "yellow"),
}


@app.command()
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> int:
    """Say what this machine has, what it lacks and how to get it.

    Kernel features are tried in throw-away namespaces, not concluded from a version; nothing
    stays behind. What is marked "required" is needed for the thesis's experiment
    (make reproduce); the rest is needed for what its row says. Ends with 3 if something
    required is missing. Without root most kernel features cannot be told.
    """
    report = examine()
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        for line in _table(report.rows):
            typer.echo(line)
        typer.echo()
        typer.echo(_verdict(report))
    return _UNSUPPORTED if report.can_run is False else 0


def _table(rows: tuple[Row, ...]) -> Iterable[str]:
    """Give one line a thing; where it is missing, one more that says how to get it."""
    titles = max(len(row.title) for row in rows)
    details = min(max(len(_seen(row)) for row in rows), _DETAIL_WIDTH)
    for group, members in groupby(rows, key=lambda row: row.group):
        yield from ("", typer.style(group, bold=True))
        for row in members:
            mark, colour = _LOOKS[row.presence]
            need = "required" if row.required else "optional"
            line = f"{row.title:<{titles}}  {need}  {_seen(row):<{details}}  for {row.needed_for}"
            yield f"  {typer.style(mark, fg=colour)} {line}"
            if row.presence is Presence.MISSING:
                yield f"    {' ' * titles}  → {row.get}"


def _seen(row: Row) -> str:
    if row.presence is Presence.PRESENT:
        return row.detail
    return f"{row.presence.value}: {row.detail}"


def _verdict(report: Report) -> str:
    if report.lacking:
        names = ", ".join(row.title for row in report.lacking)
        text = f"This machine cannot run the thesis's experiment yet. Missing: {names}."
        if any(row.detail == NEEDS_ROOT for row in report.rows):
            text += " Root sees more: sudo nfcbed doctor"
        return typer.style(text, fg="red")
    if report.unclear:
        names = ", ".join(row.title for row in report.unclear)
        return typer.style(f"Could not tell whether all is there: {names}.", fg="yellow")
    return typer.style("This machine can run the thesis's experiment: make reproduce", fg="green")
