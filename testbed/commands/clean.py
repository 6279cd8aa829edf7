# SPDX-License-Identifier: MIT
"""``nfcbed clean``."""

from __future__ import annotations

import os

import typer

from testbed import runs
from testbed.errors import UserError

__all__ = ["app"]

app = typer.Typer()


@app.command()
def clean() -> int:
    """Remove what runs left that were killed with SIGKILL.

    The kernel has taken their networks, queues, rules and BPF programs already. What can be
    left is a folder in /run/nfcbed. Runs that are still alive are not touched; neither is
    anything that nfcbed did not make.
    """
    if os.geteuid() != 0:
        raise UserError("needs root: run it with sudo")
    done = runs.clean()
    for line in done:
        typer.echo(line)
    for run in runs.list_runs():
        typer.echo(f"left alone {run.folder}: {run.command} is running (process {run.pid})")
    if not done:
        typer.echo("nothing to clean")
    return 0
