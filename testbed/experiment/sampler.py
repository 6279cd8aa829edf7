# SPDX-License-Identifier: MIT
"""Reads something at a steady pace, in a thread of its own, and keeps all that was read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from testbed.errors import RunError

__all__ = ["Sampler"]

T = TypeVar("T")


class Sampler(Generic[T]):
    """Calls ``read`` every ``period_s`` while the ``with`` block lasts, once more at its end.

    A reading that comes late does not shift those after it. What ``read`` returns carries its own
    timestamps.

    :ivar samples: what was read so far, oldest first; grows from another thread.
    """

    def __init__(self, read: Callable[[], T], *, period_s: float) -> None:
        self._read, self._period_s = read, period_s
        self.samples: list[T] = []
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def check(self) -> None:
        """Raise RunError if reading has failed."""
        if self._error is not None:
            raise RunError(f"sampling failed: {self._error}") from self._error

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stop.is_set():
                self.samples.append(self._read())
                now = time.monotonic()
                while due <= now:
                    due += self._period_s
                self._stop.wait(due - now)
            self.samples.append(self._read())
        except Exception as error:
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
