# SPDX-License-Identifier: MIT
"""The report's values as one HTML page, and as Markdown with the same facts.

Results may come from elsewhere: nothing in them becomes markup. HTML is escaped by Jinja2, and the
page forbids scripts and any outside resource by itself; Markdown's special characters are escaped.
"""

from __future__ import annotations

import base64
import html
import re

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from testbed.paths import ROOT
from testbed.report.values import Figure, Report

__all__ = ["as_html", "as_markdown", "figure_file"]


_TEMPLATES = ROOT / "testbed/report/templates"
_SPECIAL = re.compile(r"([\\`*\[\]|#])")


def figure_file(figure: Figure) -> str:
    """Name of a figure's file beside ``report.md``."""
    return f"report-{figure.name}.svg"


def as_html(report: Report) -> str:
    """One page that needs nothing else."""
    environment = _environment(escape=True)
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("report.html").render(report=report)


def as_markdown(report: Report) -> str:
    """The same as Markdown; each figure is a file beside it, see :func:`figure_file`."""
    environment = _environment(escape=False)
    environment.filters |= {"md": _plain, "file": figure_file}
    text = environment.get_template("report.md").render(report=report)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _environment(*, escape: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _data_uri(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(figure.svg.encode()).decode()


def _plain(text: str) -> str:
    """A text as one line in which nothing is markup."""
    line = html.escape(" ".join(text.split()), quote=False)
    return _SPECIAL.sub(r"\\\1", line).replace("://", ":&sol;/")
