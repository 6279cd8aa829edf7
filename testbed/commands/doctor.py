# SPDX-License-Identifier: MIT
"""``nfcbed doctor``."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer()


@app.command()
def doctor() -> int:
    """Say what this machine has, what it lacks and how to get it."""
    return 0
