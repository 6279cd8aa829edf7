# SPDX-License-Identifier: MIT
"""The program that runs a step's NFs in user space: started, watched, ended."""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO

from testbed.errors import RunError

__all__ = ["UserProgram"]

_START_S = 20.0
_END_S = 5.0


class UserProgram:
    """One program; see ``testbed/user``.

    :param argv: how it is called.
    :param descriptors: what it inherits: the maps that ``argv`` names.

    It runs in the network namespace of the thread that starts it, and ends with the run, if not
    before.
    """

    def __init__(self, argv: Sequence[str], descriptors: Sequence[int]) -> None:
        self._argv = list(argv)
        self._descriptors = tuple(descriptors)
        self._process: subprocess.Popen[str] | None = None
        self._said: IO[str] | None = None

    @property
    def pid(self) -> int | None:
        """Its process, or None where it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it and wait until packets may come.

        :raises RunError: it ended instead.
        """
        if self.pid is not None:
            return
        self.close()
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            pass_fds=self._descriptors,
            start_new_session=True,
        )
        output = self._process.stdout
        assert output is not None
        ready = select.select([output], [], [], _START_S)[0]
        if not ready or output.readline() != "ready\n":
            self._process.kill()
            code = self._process.wait()
            raise RunError(f"`{self._argv[0]}` did not start ({code}): {self.errors()}")

    def errors(self) -> str:
        """What it has written on standard error."""
        if self._said is None:
            return ""
        self._said.seek(0)
        return self._said.read().strip()

    def close(self) -> None:
        """Let it answer what waits, then end it; kill it if it takes too long."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        if self._said:
            self._said.close()
        self._process = self._said = None
