# SPDX-License-Identifier: MIT
"""``nfcbed nf``."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from testbed.errors import NfcbedError, UserError
from testbed.nf import NFDescription, Param, load_descriptions
from testbed.nfbuild import compile_source, load_object, sources
from testbed.paths import ROOT

__all__ = ["app"]

app = typer.Typer()

_LEFT, _WIDTH = 18, 100  # columns of what `show` prints

Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]


@app.callback()
def nf() -> None:
    """List, show, build and begin network functions."""


def _find(name: str) -> NFDescription:
    known = load_descriptions()
    if name not in known:
        raise UserError(f"there is no NF {name} (there are: {', '.join(known)})")
    return known[name]


@app.command("list")
def list_(*, as_json: Json = False) -> int:
    """List the network functions there are."""
    known = load_descriptions()
    if as_json:
        fields = {"name", "title", "summary", "datapaths"}
        found = [nf.model_dump(include=fields) for nf in known.values()]
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    width = max(len(name) for name in known)
    for name, description in known.items():
        typer.echo(f"{name:<{width}}  {description.summary}")
        typer.echo(f"{'':<{width}}  runs on {', '.join(description.datapaths)}")
    return 0


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Such as dad.", show_default=False)],
    *,
    as_json: Json = False,
) -> int:
    """Say all about one network function: parameters, state, why it drops, what it counts."""
    description = _find(name)
    if as_json:
        typer.echo(description.model_dump_json(indent=2))
        return 0
    for left, text in _shown(description):
        lines = textwrap.wrap(text, _WIDTH - _LEFT) or [""]
        for first, line in zip([left, *[""] * len(lines)], lines, strict=False):
            typer.echo(f"{first:<{_LEFT}}{line}".rstrip())
    return 0


def _shown(description: NFDescription) -> Iterator[tuple[str, str]]:
    """Rows of what is said on the left, and what about it on the right."""
    yield description.name, description.title
    yield "", description.summary
    yield "source", description.source
    yield "datapaths", ", ".join(description.datapaths)
    yield "files", ", ".join(str(path.relative_to(ROOT)) for path in sources(description.name))
    yield "fragments", description.fragment
    if description.state is not None:
        yield "state", f"{description.state.per_flow} (per {description.state.key})"
    for heading, items in (("drops", description.drop_reasons), ("counts", description.counters)):
        if items:
            yield heading, ""
            yield from ((f"  {item.name}", item.text) for item in items)
    if description.params:
        yield "parameters", ""
        for name, param in description.params.items():
            yield from _param_rows(name, param)


def _param_rows(name: str, param: Param) -> Iterator[tuple[str, str]]:
    if param.one_of is not None:
        presence = f"one of {param.one_of} is needed"
    else:
        presence = "needed" if param.required else f"default {_value(param.default)}"
    yield f"  {name}", f"{param.allowed}; {presence}. {param.help}"
    for column, about in param.columns.items():
        yield f"    {column}", about.help + (" Needed." if about.required else "")


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@app.command()
def build(
    name: Annotated[
        str | None, typer.Argument(help="One NF; all if not given.", show_default=False)
    ] = None,
) -> int:
    """Compile an NF's programs and load them, to see whether the kernel takes them.

    A rejection by the kernel's verifier is explained: the source line, what the verifier wanted
    there, and how to give it. Nothing stays loaded. Without root the programs are compiled only.
    """
    known = load_descriptions() if name is None else {name: _find(name)}
    failed = 0
    for nf_name, description in known.items():
        for source in sources(nf_name):
            where = source.relative_to(ROOT)
            try:
                typer.echo(f"{where}: {_build(source, description)}")
            except NfcbedError as error:
                failed += 1
                typer.echo(f"{where}: {error}")
    if os.geteuid() != 0:
        typer.echo("compiled only: loading takes root")
    return 1 if failed else 0


def _build(source: Path, description: NFDescription) -> str:
    target = compile_source(source)
    if target.suffix != ".o" or os.geteuid() != 0:
        return "compiles"
    sizes = load_object(target, description)
    programs = ", ".join(
        f"{size.name} has {size.instructions} instructions"
        + (f" (the verifier followed {size.followed})" if size.followed else "")
        for size in sizes
    )
    return f"loads; {programs}"
