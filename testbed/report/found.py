# SPDX-License-Identifier: MIT
"""Which one of the stored results of each experiment is shown.

That which is complete, rather than cut short; at full length, rather than quick; and then the
newest. Whether the machine was the limit does not count: a good older run must not hide what a
newer one found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import UserError
from testbed.results import RESULT_FILE, Result, read_result
from testbed.stored.caution import printable
from testbed.stored.listing import Stored, find_results
from testbed.stored.surroundings import read_environment

__all__ = ["Chosen", "Found", "find"]

_BENCH_FILE = "bench.json"


@dataclass(frozen=True)
class Chosen:
    """A result, where it lies, and the machine that it was made on.

    :ivar others: how many more results of the experiment there were.
    """

    folder: Path
    result: Result
    environment: Mapping[str, Any]
    others: int = 0


@dataclass(frozen=True)
class Found:
    """What there is to report.

    :ivar results: one of each experiment.
    :ivar unread: why a result below the folders could not be read.
    :ivar bench: the newest ``bench.json``.
    """

    results: Mapping[str, Chosen]
    unread: tuple[str, ...] = ()
    bench: Path | None = None


def find(places: Sequence[Path]) -> Found:
    """Look for results in folders, and below those that hold none themselves.

    :raises UserError: a folder is not there, or one that was named holds a result that cannot be
        read.
    """
    stored: dict[Path, Stored] = {}
    unread: list[str] = []
    benches: list[Path] = []
    for place in places:
        if (place / RESULT_FILE).is_file():
            stored[place.resolve()] = Stored(place, read_result(place))
            continue
        listing = find_results(place)
        stored |= {entry.folder.resolve(): entry for entry in listing.results}
        unread += [
            f"{folder}: {why}" for folder, why in listing.others if (folder / RESULT_FILE).exists()
        ]
        benches += place.rglob(_BENCH_FILE)
    newest = max(benches, key=lambda path: (path.stat().st_mtime_ns, path), default=None)
    by_experiment: dict[str, list[Stored]] = {}
    for entry in stored.values():
        by_experiment.setdefault(entry.result.experiment, []).append(entry)
    chosen = {name: _best(by_experiment[name], unread) for name in sorted(by_experiment)}
    return Found(chosen, tuple(unread), newest)


def _best(entries: Sequence[Stored], unread: list[str]) -> Chosen:
    best = max(
        entries,
        key=lambda entry: (
            entry.result.state == "complete",
            not entry.result.quick,
            entry.started,
            str(entry.folder),
        ),
    )
    try:
        environment = read_environment(best.folder) or {}
    except UserError as error:
        unread.append(str(error))
        environment = {}
    return Chosen(best.folder, printable(best.result), printable(environment), len(entries) - 1)
