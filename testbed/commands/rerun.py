# SPDX-License-Identifier: MIT
"""``nfcbed rerun``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.commands.results import side_of
from testbed.commands.run import run_one
from testbed.errors import UserError
from testbed.experiment.folder import default_folder
from testbed.results import read_result
from testbed.stored.comparison import compare
from testbed.stored.repeating import how_to_repeat
from testbed.stored.side_by_side import print_comparison

__all__ = ["app"]

app = typer.Typer()


@app.command()
def rerun(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the result.", metavar="DIR", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the new result; else results/NAME-<UTC time>."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the result that --out holds.")
    ] = False,
) -> int:
    """Repeat a run from its result's folder, also one from another machine, and compare.

    Takes the experiment, the options and the policy from the folder; everything else is this
    machine's. Ends as ``nfcbed run`` does.
    """
    before = side_of(folder, read_result(folder))
    again = how_to_repeat(before.result, folder)
    target = out or default_folder(again.name)
    if target.resolve() == folder.resolve():
        raise UserError(f"--out {target}: is the result to be repeated; take another folder")
    code = run_one(
        again.name,
        out=target,
        force=force,
        policy=again.policy,
        options=again.options,
        command=f"nfcbed rerun {folder.resolve().name}",
    )
    if code <= 1:
        typer.echo()
        print_comparison(compare(before, side_of(target)), short=True)
    return code
