# SPDX-License-Identifier: MIT
"""``nfcbed reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.commands.plot import plot_one
from testbed.commands.run import run_one
from testbed.errors import UnsupportedError
from testbed.experiment.catalogue import published_names
from testbed.experiment.folder import default_folder
from testbed.experiment.runner import Options

__all__ = ["app"]

app = typer.Typer()


@app.command()
def reproduce(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; else results/.", metavar="DIR"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The same courses in a fraction of the time.")
    ] = False,
) -> int:
    """Run every experiment, print its table, and draw its figure.

    Each result gets a folder DIR/NAME-<UTC time> of its own; earlier ones stay. Ends with 1 if a
    check did not pass. What this machine cannot run is named and left out; ends with 3 if that is
    all of it.
    """
    worst, refused = 0, []
    for name in published_names():
        folder = default_folder(name)
        folder = out / folder.name if out is not None else folder
        try:
            code = run_one(name, out=folder, options=Options(quick=quick))
        except UnsupportedError as error:
            refused.append(f"{name} cannot run on this machine: {error}")
            continue
        if code > 1:
            return code
        worst = max(worst, code)
        typer.echo("figure in " + " and ".join(map(str, plot_one(folder))))
    if len(refused) == len(published_names()):
        raise UnsupportedError("\n".join(refused))
    for line in refused:
        typer.echo(f"nfcbed: left out: {line}", err=True)
    return worst
