# SPDX-License-Identifier: MIT
"""``nfcbed plot``."""

from __future__ import annotations

import contextlib
import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed.errors import RunError
from testbed.experiment.folder import owner_of_the_call
from testbed.report.figures import drawing_of
from testbed.results import read_result

__all__ = ["app", "plot_one"]

app = typer.Typer()


def plot_one(folder: Path) -> list[Path]:
    """Draw the figure of a folder's result into the folder; returns the files.

    :raises UserError: there is no result, nothing in it to draw, or no figure of its experiment.
    """
    result = read_result(folder)
    figure = drawing_of(result, folder).draw(result)
    style, files = import_module("plots._style"), []
    for suffix in ("png", "svg"):
        path = folder / f"{result.experiment}.{suffix}"
        try:
            with _replacing(path) as draft:
                style.save(figure, draft, suffix)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from None
        files.append(path)
    style.close(figure)
    return files


@contextlib.contextmanager
def _replacing(path: Path) -> Any:
    """Give a draft that takes the file's place when it is done."""
    draft = path.with_name(f".{path.name}.new")
    try:
        yield draft
        owner = owner_of_the_call()
        if owner is not None:
            os.chown(draft, *owner)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@app.command()
def plot(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of results.", metavar="DIR…", show_default=False)
    ],
) -> int:
    """Draw the figures of results, as PNG and SVG beside their data. Needs no root."""
    for folder in folders:
        for path in plot_one(folder):
            typer.echo(str(path))
    return 0
