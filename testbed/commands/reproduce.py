# SPDX-License-Identifier: MIT
"""``nfcbed reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from testbed.commands.plot import plot_one
from testbed.commands.report import report_on
from testbed.commands.run import lasts_s, run_one
from testbed.errors import NfcbedError, RunError, UnsupportedError
from testbed.experiment.catalogue import experiment_names, published_names
from testbed.experiment.folder import default_folder
from testbed.experiment.progress import Place, in_words
from testbed.experiment.runner import Options
from testbed.results import RESULT_FILE

__all__ = ["app"]

app = typer.Typer()


@dataclass
class _Outcome:
    """What came of the experiments so far.

    :ivar code: the exit code of the worst.
    :ivar folders: that results may lie in.
    :ivar refused: what this machine cannot run, and why.
    :ivar failed: what was tried and failed, and why.
    """

    code: int = 0
    folders: list[Path] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@app.command()
def reproduce(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results and the report; else results/.", metavar="DIR"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="The same courses in a fraction of the time.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Beyond chapter 7 as well: the sweeps and the latency.")
    ] = False,
) -> int:
    """Run what the thesis published, print its tables, draw its figures, and write the report.

    Each result gets a folder DIR/NAME-<UTC time> of its own; earlier ones stay. DIR/report.html
    and DIR/report.md show these results and no others. One that fails does not stop the rest. Ends
    with 1 if one failed or a check did not pass. What this machine cannot run is named and left
    out; ends with 3 if that is all of it.
    """
    names = list(published_names())
    if everything:
        names += [name for name in experiment_names() if name not in names]
    outcome = _run_all(names, out, Options(quick=quick))
    if outcome.code > 1:
        return outcome.code
    if len(outcome.refused) == len(names):
        raise UnsupportedError("\n".join(outcome.refused))
    folders = [folder for folder in outcome.folders if (folder / RESULT_FILE).exists()]
    for line in outcome.refused:
        typer.echo(f"nfcbed: left out: {line}", err=True)
    for line in outcome.failed:
        typer.echo(f"nfcbed: {line}", err=True)
    if folders:
        report_on(folders, out=folders[0].parent)
    return outcome.code


def _run_all(names: Sequence[str], out: Path | None, options: Options) -> _Outcome:
    """Run one after the other; a signal stops."""
    outcome = _Outcome()
    lengths_s = [lasts_s(name, options) for name in names]
    typer.echo(f"{len(names)} experiments, about {in_words(sum(lengths_s))}", err=True)
    for index, name in enumerate(names):
        folder = default_folder(name)
        folder = out / folder.name if out is not None else folder
        place = Place(number=index + 1, count=len(names), later_s=sum(lengths_s[index + 1 :]))
        outcome.folders.append(folder)
        try:
            code = run_one(name, out=folder, options=options, place=place)
        except UnsupportedError as error:
            outcome.refused.append(f"{name} cannot run on this machine: {error}")
            continue
        except RunError as error:
            outcome.failed.append(f"{name} failed: {error}")
            outcome.code = 1
            continue
        outcome.code = max(outcome.code, code)
        if code > 1:
            break
        _draw(name, folder, outcome)
    return outcome


def _draw(name: str, folder: Path, outcome: _Outcome) -> None:
    """Draw a figure; whatever goes wrong with it must not stop the measurements to come."""
    try:
        typer.echo("figure in " + " and ".join(map(str, plot_one(folder))))
    except NfcbedError as error:
        why = str(error)
    except Exception as error:
        why = f"unexpected {type(error).__name__}: {error}"
    else:
        return
    outcome.failed.append(f"the figure of {name} was not drawn: {why}")
    outcome.code = 1
