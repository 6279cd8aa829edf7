# SPDX-License-Identifier: MIT
"""The command line (being filled in)."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.callback()
def main_options() -> None:
    """Network function chaining in the Linux kernel."""


def main() -> None:
    """Run the command line."""
    app()
