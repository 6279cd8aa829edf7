# SPDX-License-Identifier: MIT
"""``nfcbed chain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.policy import load_policy
from testbed.rulesets import Target, compile_policy

__all__ = ["app"]

app = typer.Typer()


@app.callback()
def chain() -> None:
    """Work on policy files."""


@app.command("compile")
def compile_(
    policy: Annotated[Path, typer.Argument(help="Policy file.", show_default=False)],
    to: Annotated[Target, typer.Option(help="Whose rules.")] = "nftables",
) -> int:
    """Print a policy as rules of nftables or iptables, to compare with.

    The text is what `nft -f` or `iptables-restore` takes; where the rules cannot do the same as
    the chain, comments say what differs. Needs no root: nothing is loaded.
    """
    typer.echo(compile_policy(load_policy(policy), to=to), nl=False)
    return 0
