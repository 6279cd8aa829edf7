# SPDX-License-Identifier: MIT
"""Which results lie below a folder, and what each came to, in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from testbed.errors import UserError
from testbed.printable import one_line
from testbed.results import RESULT_FILE, Compared, Result, read_result
from testbed.stored.caution import cautions

__all__ = ["Headline", "Listing", "Stored", "find_results", "headline", "lines"]

_LEAST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The value that says most of a result.

    :ivar low: lower end of its 95 % interval; None where there is none.
    """

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    published: float | None = None

    def __str__(self) -> str:
        text = f"{self.name}: {self.value:.5g}"
        if self.low is not None and self.high is not None:
            text += f" [{self.low:.5g}, {self.high:.5g}]"
        text += f" {self.unit}" if self.unit else ""
        return text + ("" if self.published is None else f" (published {self.published:g})")


@dataclass(frozen=True)
class Stored:
    """A result and where it lies."""

    folder: Path
    result: Result

    @property
    def started(self) -> datetime:
        """When; the earliest time there is where the file does not say it in ISO 8601."""
        try:
            started = datetime.fromisoformat(self.result.started)
        except ValueError:
            return _LEAST
        return started if started.tzinfo else started.replace(tzinfo=UTC)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        result, best = self.result, headline(self.result)
        return {
            "folder": str(self.folder),
            "experiment": result.experiment,
            "title": result.title,
            "started": result.started,
            "state": result.state,
            "reason": result.reason,
            "quick": result.quick,
            "validity": result.validity.model_dump(mode="json"),
            "checks": {
                "passed": len(result.checks) - len(result.failed_checks),
                "all": len(result.checks),
            },
            "cautions": cautions(result),
            "main": None if best is None else {**vars(best)},
        }


@dataclass(frozen=True)
class Listing:
    """What was found below a folder.

    :ivar results: newest first.
    :ivar others: folders that hold no result that can be read, and why.
    """

    results: Sequence[Stored]
    others: Sequence[tuple[Path, str]]

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format": "nfcbed-results",
            "version": 1,
            "results": [stored.plain() for stored in self.results],
            "others": [{"folder": str(folder), "why": why} for folder, why in self.others],
        }


def find_results(top: Path) -> Listing:
    """Read every result below a folder, the folder itself included; links are not followed.

    :raises UserError: there is no such folder.
    """
    if not top.is_dir():
        raise UserError(f"{top}: is no folder; results are in the folders that nfcbed run makes")
    results, others = [], []
    for folder, holds_result in _folders(top):
        try:
            if not holds_result:
                raise UserError(f"{folder}: holds no result ({RESULT_FILE} is not there)")
            results.append(Stored(folder, read_result(folder)))
        except UserError as error:
            why = str(error).removeprefix(f"{folder}: ").removeprefix(f"{folder}/")
            others.append((folder, why))
    results.sort(key=lambda stored: (stored.started, str(stored.folder)), reverse=True)
    return Listing(results, others)


def _folders(top: Path) -> Iterator[tuple[Path, bool]]:
    """Folders with a result, and the topmost ones without any in or below them."""
    if os.path.lexists(top / RESULT_FILE):
        yield top, True
        return
    try:
        below = [entry for entry in sorted(top.iterdir()) if _is_plain_folder(entry)]
    except OSError:
        yield top, False
        return
    found = [list(_folders(folder)) for folder in below]
    if not any(holds for rows in found for _, holds in rows):
        for folder in below:
            yield folder, False
        return
    for folder, rows in zip(below, found, strict=True):
        yield from rows if any(holds for _, holds in rows) else [(folder, False)]


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".")


def headline(result: Result) -> Headline | None:
    """The first ratio that is compared; else what else a result has to say; None if nothing."""
    rows = [row for row in result.compared if row.value is not None]
    ratios = [row for row in rows if row.aim is not None] or [r for r in rows if " / " in r.name]
    if rows:
        return _of_row((ratios or rows)[0])
    for mean in result.means:
        value = mean.whole if mean.steady is None else mean.steady
        if value:
            name = f"{mean.phase}, {mean.flow} at {mean.node}"
            return Headline(name=name, value=value, unit=mean.unit)
    for curve in result.curves:
        for point in curve.points:
            if point.value is not None:
                name = f"{curve.way}, {curve.quantity} at {point.x:g} {curve.x_unit}".rstrip()
                return Headline(
                    name=name, value=point.value, unit=curve.unit, low=point.low, high=point.high
                )
    return None


def _of_row(row: Compared) -> Headline:
    assert row.value is not None
    fields = row.model_dump(include={"name", "value", "unit", "low", "high", "published"})
    return Headline(**fields)


def lines(listing: Listing) -> list[str]:
    """One line a result: name, experiment, when, state, validity, checks, main value."""
    rows: list[tuple[str, ...]] = [
        ("result", "experiment", "when (UTC)", "state", "validity", "checks", "main value")
    ]
    for stored in listing.results:
        result, best = stored.result, headline(stored.result)
        passed = len(result.checks) - len(result.failed_checks)
        when = "–" if stored.started == _LEAST else f"{stored.started.astimezone(UTC):%F %R}"
        row = (
            str(stored.folder),
            result.experiment,
            when,
            result.state + (", quick" if result.quick else ""),
            result.validity.state,
            f"{passed}/{len(result.checks)}",
            str(best) if best else "–",
        )
        rows.append(tuple(one_line(cell) for cell in row))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
