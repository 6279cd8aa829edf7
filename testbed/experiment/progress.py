# SPDX-License-Identifier: MIT
"""How far a run is: a bar with the time left on a terminal, a line a step elsewhere.

It is written to standard error, so that standard output holds the table alone.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.progress import Task as BarTask
from rich.text import Text

__all__ = ["Place", "Progress", "in_words", "show_progress"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run stands among several.

    :ivar number: from 1.
    :ivar later_s: about how long those after it take.
    """

    number: int
    count: int
    later_s: float


class Progress(Protocol):
    """What an experiment tells of how far it is."""

    def step(self, text: str) -> None:
        """Say what is done now."""

    def tick(self) -> None:
        """Move the bar to the time that has passed; call it often."""


def in_words(seconds: float) -> str:
    """A length of time: ``45 s``, ``3 min 20 s``."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes} min {rest:2d} s" if minutes else f"{rest} s"


def _left(left_s: float, place: Place | None) -> str:
    text = f"{max(0.0, left_s):.0f} s left"
    return text if place is None else f"{text}, {in_words(left_s + place.later_s)} in all"


def _title(title: str, place: Place | None) -> str:
    return title if place is None else f"{place.number} of {place.count}: {title}"


class _TimeLeft(ProgressColumn):
    def __init__(self, place: Place | None) -> None:
        self._place = place
        super().__init__()

    def render(self, task: BarTask) -> Text:
        return Text(_left((task.total or 0.0) - task.completed, self._place))


class _OnTerminal:
    def __init__(self, bar: Bar, total_s: float) -> None:
        self._bar, self._total_s = bar, total_s
        self._task = bar.add_task("starting", total=total_s)
        self._begin_s = time.monotonic()

    def step(self, text: str) -> None:
        self._bar.update(self._task, description=text)
        self.tick()

    def tick(self) -> None:
        passed_s = time.monotonic() - self._begin_s
        self._bar.update(self._task, completed=min(passed_s, self._total_s))


class _Lines:
    def __init__(self, console: Console, title: str, total_s: float, place: Place | None) -> None:
        self._console, self._title, self._total_s = console, _title(title, place), total_s
        self._place = place
        self._begin_s = time.monotonic()

    def step(self, text: str) -> None:
        left_s = max(0.0, self._total_s - (time.monotonic() - self._begin_s))
        left = _left(left_s, self._place)
        self._console.print(f"{self._title}: {text} ({left})", highlight=False, markup=False)

    def tick(self) -> None:
        pass


@contextlib.contextmanager
def show_progress(title: str, total_s: float, *, place: Place | None = None) -> Iterator[Progress]:
    """Show how far a run is that takes about ``total_s``, and how far all are of several."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _Lines(Console(file=sys.stderr, width=200), title, total_s, place)
        return
    columns = (
        TextColumn(f"[bold]{_title(title, place)}[/]"),
        BarColumn(),
        _TimeLeft(place),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=console, refresh_per_second=5, transient=True) as bar:
        yield _OnTerminal(bar, total_s)
