# SPDX-License-Identifier: MIT
"""Writes the report: the page, the Markdown, and its figures beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from testbed.experiment.folder import ResultFolder, owner_of_the_call
from testbed.report.bench import read_bench
from testbed.report.figures import draw, plotted_names
from testbed.report.found import find
from testbed.report.render import as_html, as_markdown, figure_file
from testbed.report.values import Figure, Report, make_report

__all__ = ["PAGE", "TEXT", "write_report"]

PAGE, TEXT = "report.html", "report.md"


def write_report(places: Sequence[Path], *, out: Path) -> Report:
    """Report on the results in or below some folders, into a folder; files there are replaced.

    :raises UserError: a folder is not there, or a named result cannot be read.
    :raises RunError: the report cannot be written.
    """
    found = find(places)
    figures = {name: draw(chosen) for name, chosen in found.results.items()}
    report = make_report(
        found, experiments=plotted_names(), figures=figures, bench=read_bench(found.bench)
    )
    folder = ResultFolder(out, owner=owner_of_the_call())
    for figure in figures.values():
        if isinstance(figure, Figure):
            folder.write(figure_file(figure), figure.svg)
    folder.write(TEXT, as_markdown(report))
    folder.write(PAGE, as_html(report))
    return report
