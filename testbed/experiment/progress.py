# SPDX-License-Identifier: MIT
"""How far a run is: a bar with the time left on a terminal, a line a step elsewhere.

It is written to standard error, so that standard output holds the table alone.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.progress import Task as BarTask
from rich.text import Text

__all__ = ["Progress", "show_progress"]


class Progress(Protocol):
    """What an experiment tells of how far it is."""

    def step(self, text: str) -> None:
        """Say what is done now."""

    def tick(self) -> None:
        """Move the bar to the time that has passed; call it often."""


class _TimeLeft(ProgressColumn):
    def render(self, task: BarTask) -> Text:
        left_s = max(0.0, (task.total or 0.0) - task.completed)
        return Text(f"{left_s:4.0f} s left")


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
    def __init__(self, console: Console, title: str, total_s: float) -> None:
        self._console, self._title, self._total_s = console, title, total_s
        self._begin_s = time.monotonic()

    def step(self, text: str) -> None:
        left_s = max(0.0, self._total_s - (time.monotonic() - self._begin_s))
        self._console.print(f"{self._title}: {text} ({left_s:.0f} s left)", highlight=False)

    def tick(self) -> None:
        pass


@contextlib.contextmanager
def show_progress(title: str, total_s: float) -> Iterator[Progress]:
    """Show how far a run is that takes about ``total_s``."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _Lines(Console(file=sys.stderr, width=200), title, total_s)
        return
    columns = (
        TextColumn(f"[bold]{title}[/]"),
        BarColumn(),
        _TimeLeft(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=console, refresh_per_second=5, transient=True) as bar:
        yield _OnTerminal(bar, total_s)
