# SPDX-License-Identifier: MIT
"""All that a person needs of one result, section by section, as lines of text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from testbed.experiment.summary import describe, is_ledger
from testbed.results import Result
from testbed.stored.surroundings import flat, summary

__all__ = ["ledgers", "sections"]

Section = tuple[str, list[str]]


def sections(
    result: Result, folder: Path, environment: Mapping[str, Any] | None, *, checks: bool
) -> Iterator[Section]:
    """Headings and their lines, beside what the summary of a run shows.

    :param environment: as the folder has it; None if it has none.
    :param checks: with those that passed.
    """
    yield (
        "run",
        _pairs(
            started=result.started,
            state=result.state if result.reason is None else f"{result.state}: {result.reason}",
            quick="yes" if result.quick else "no",
            format=f"version {result.version}",
        ),
    )
    options = {key: value for key, value in result.options.items() if value not in (None, False)}
    yield "options", _values(options) if result.options else ["not kept by the nfcbed of then"]
    yield "parameters", _values(result.parameters)
    yield "validity", [result.validity.state, *(f"  {r}" for r in result.validity.reasons)]
    if checks:
        yield "checks", [f"{'✓' if c.passed else '✗'} {describe(c)}" for c in result.checks]
    books = ledgers(result)
    yield "packets", [line for name, book in books.items() for line in _ledger(name, book)]
    yield "notes", list(_notes(result))
    if environment is None:
        yield "machine", ["not known: there is no environment.json"]
    else:
        yield "machine", _pairs(**dict(summary(environment)))
    yield "files", _files(folder)


def ledgers(result: Result) -> dict[str, Mapping[str, Any]]:
    """Where packets went: of the whole run, and of each part of it that has books of its own."""
    found: dict[str, Mapping[str, Any]] = {}
    whole = {"all": result.facts.get("ledger")}
    for parts in (whole, result.facts.get("ledgers"), result.facts.get("packets")):
        if isinstance(parts, dict):
            found |= {name: books for name, books in parts.items() if is_ledger(books)}
    return found


def _ledger(name: str, books: Mapping[str, Any]) -> Iterator[str]:
    """One ledger in full: each NF and reason, each place."""
    rows = [("sent", books["sent"]), ("= received", books["received"])]
    rows += [(f"+ dropped by {reason}", count) for reason, count in books["dropped"].items()]
    rows += [(f"+ lost at {place}", count) for place, count in books["lost"].items()]
    rows.append(("+ unexplained", books["unexplained"]))
    yield name
    width = max(len(f"{count:,}") for _, count in rows)
    yield from (f"  {count:>{width},} {text}" for text, count in rows)


def _notes(result: Result) -> Iterator[str]:
    """What is said of single points of curves."""
    for curve in result.curves:
        for point in curve.points:
            if point.note:
                at = f"{point.x:,.6g} {curve.x_unit or curve.x_quantity}"
                yield f"{curve.way}, {curve.quantity} at {at}: {point.note}"


def _values(whole: Mapping[str, Any]) -> list[str]:
    rows = {".".join(keys): _text(value) for keys, value in flat(whole) if keys}
    return _pairs(**rows) or ["none"]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pairs(**rows: str) -> list[str]:
    width = max(map(len, rows), default=0)
    return [f"{name:<{width}}  {text}" for name, text in rows.items()]


def _files(folder: Path) -> list[str]:
    """Every file of the folder with its size; links are not followed."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return [f"{path.stat().st_size:>10,} B  {path.relative_to(folder)}" for path in paths]
