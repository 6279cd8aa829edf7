# SPDX-License-Identifier: MIT
"""The figures of results: which module of ``plots/`` draws which, and one as SVG."""

from __future__ import annotations

import io
import logging
from importlib import import_module
from pathlib import Path
from typing import Any

from testbed.errors import UserError
from testbed.paths import ROOT
from testbed.report.found import Chosen
from testbed.report.values import Figure
from testbed.results import Result

__all__ = ["draw", "drawing_of", "plotted_names"]


def plotted_names() -> frozenset[str]:
    """Names of the experiments that have a figure: all of them."""
    stems = (path.stem for path in (ROOT / "plots").glob("*.py"))
    return frozenset(stem for stem in stems if not stem.startswith("_"))


def drawing_of(result: Result, folder: Path) -> Any:
    """The module that draws this experiment.

    :raises UserError: none does, or there is nothing in the result to draw.
    """
    name = result.experiment
    if name not in plotted_names():
        raise UserError(f"{folder}: no figure is known for experiment {name!r}")
    if not (result.series or result.compared or result.curves):
        why = f" (the run failed: {result.reason})" if result.reason else ""
        raise UserError(f"{folder}: the result holds nothing to draw{why}")
    # It complains of a home that cannot be written to, which it can do without.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    return import_module(f"plots.{name}")


def draw(chosen: Chosen) -> Figure | str:
    """A result's figure, stamps included; or why there is none.

    A result that was cut short, or that comes from elsewhere, may lack what its figure shows. The
    report is written all the same, and says so.
    """
    result, file = chosen.result, io.BytesIO()
    try:
        figure = drawing_of(result, chosen.folder).draw(result)
        style = import_module("plots._style")
        style.save(figure, file, "svg")
        style.close(figure)
    except UserError as error:
        return str(error)
    except Exception as error:
        return f"it could not be drawn ({type(error).__name__}: {error})"
    return Figure(result.experiment, file.getvalue().decode())
