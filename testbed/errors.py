# SPDX-License-Identifier: MIT
"""Every error that nfcbed raises on purpose.

    NfcbedError            exit code 1
    ├── UserError          exit code 2: the user can mend it (input, options, privileges)
    │   └── PolicyError    a policy or description file is wrong; names file, line and field
    ├── RunError           exit code 1: a run was tried and failed
    └── UnsupportedError   exit code 3: this machine cannot do it

The command line prints the message and ends with ``exit_code``; it never prints a traceback
for one of these.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["NfcbedError", "PolicyError", "RunError", "UnsupportedError", "UserError"]


class NfcbedError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is one message for the user."""

    exit_code = 1


class UserError(NfcbedError):
    """The user's input, options or privileges are wrong; the message says what to do."""

    exit_code = 2


class PolicyError(UserError):
    """A file is wrong at one place.

    :param message: what is wrong and what is allowed.
    :param path: the file, or None for a value that did not come from one.
    :param line: line in the file, counted from 1, where it is known.
    :param field: path of the field, such as ``chains[0].nfs[1].params.window_s``.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        self.message = message
        self.path = path
        self.line = line
        self.field = field
        super().__init__(str(self))

    def __str__(self) -> str:
        where = "" if self.path is None else f"{self.path}:"
        if self.line is not None:
            where += f"{self.line}:"
        parts = [part for part in (where.rstrip(":"), self.field, self.message) if part]
        return ": ".join(parts)


class RunError(NfcbedError):
    """A run was tried and failed; the message says at which step and why."""


class UnsupportedError(NfcbedError):
    """This machine lacks something; the message names it and ``nfcbed doctor``."""

    exit_code = 3
