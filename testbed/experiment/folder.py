# SPDX-License-Identifier: MIT
"""The folder of a result: checked before a run begins, written so that no file is ever half there.

Files belong to the user who called ``sudo``, not to root.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from testbed.errors import RunError, UserError
from testbed.paths import ROOT
from testbed.results import RESULT_FILE, Result, dump_result

__all__ = ["ResultFolder", "default_folder", "owner_of_the_call"]

ENVIRONMENT_FILE, POLICY_FILE, RAW = "environment.json", "policy.yaml", "raw"
GIVEN_POLICY_FILE = "policy-given.yaml"
_LINE = 200  # characters of JSON
_FILES = {ENVIRONMENT_FILE, POLICY_FILE, GIVEN_POLICY_FILE}


def default_folder(name: str) -> Path:
    """A new folder's place in ``results/``, named by the experiment and the time (UTC)."""
    return Path("results") / f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"


def owner_of_the_call() -> tuple[int, int] | None:
    """User and group that ``sudo`` was called by; None without sudo."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (user.isdecimal() and group.isdecimal()):
        return None
    return int(user), int(group)


class ResultFolder:
    """A folder that is ready to take a result."""

    def __init__(self, path: Path, *, owner: tuple[int, int] | None) -> None:
        self.path = path
        self._owner = owner

    @classmethod
    def prepare(cls, path: Path, *, force: bool = False) -> Self:
        """Make the folder, or see that it is empty and can be written.

        :param force: let go of the result that it holds, figures included.
        :raises UserError: it holds something, or cannot be made or written.
        """
        folder = cls(path, owner=owner_of_the_call())
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: is a file; a result needs a folder")
        try:
            folder._make(path)
            held = [entry.name for entry in path.iterdir()]
            if held and not force:
                what = "another result" if RESULT_FILE in held else f"other files ({held[0]} …)"
                raise UserError(
                    f"{path}: holds {what}; take another folder with --out, or --force to replace"
                )
            with tempfile.NamedTemporaryFile(dir=path, prefix=".nfcbed-"):
                pass
            folder._forget(set(held))
        except OSError as error:
            raise UserError(
                f"{error.filename or path}: cannot be used for a result: {error.strerror}"
            ) from None
        return folder

    def _make(self, path: Path) -> None:
        """Make a folder and its missing parents, each given to the owner."""
        if path.is_dir():
            return
        if path.parent != path:
            self._make(path.parent)
        path.mkdir()
        self._give(path)

    def _give(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, *self._owner, follow_symlinks=False)

    def _forget(self, held: set[str]) -> None:
        """Remove an earlier result's files, by the names that results have."""
        if RESULT_FILE not in held:
            return
        paths = [self.path / name for name in held & _FILES]
        figures = {path.stem for path in (ROOT / "plots").glob("*.py") if path.stem[0] != "_"}
        kinds = (".png", ".svg")
        paths += [self.path / f"{name}{k}" for name in figures for k in kinds if name + k in held]
        paths += (self.path / RAW).glob("*.json")
        for path in (*paths, self.path / RESULT_FILE):
            path.unlink()

    def write(self, name: str, text: str) -> None:
        """Write a file, in one step as its readers see it.

        :raises RunError: it cannot be written (a full disk, say).
        """
        path = self.path / name
        draft = path.with_name(f".{path.name}.new")
        try:
            self._make(path.parent)
            draft.write_text(text, encoding="utf-8")
            self._give(draft)
            draft.replace(path)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from None

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as JSON; raises RunError as :meth:`write` does."""
        self.write(name, _json(value) + "\n")

    def write_result(self, result: Result) -> None:
        """Write ``result.json``; raises RunError as :meth:`write` does."""
        self.write(RESULT_FILE, dump_result(result))


def _json(value: Any, *, indent: str = "") -> str:
    """JSON in which whatever fits one line has one line: a sample, an interval, an interface."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list | tuple) or len(indent) + len(line) <= _LINE:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        rows = [f"{json.dumps(str(k))}: {_json(v, indent=inner)}" for k, v in value.items()]
    else:
        rows = [_json(entry, indent=inner) for entry in value]
    brackets = "{}" if isinstance(value, dict) else "[]"
    body = ",\n".join(inner + row for row in rows)
    return f"{brackets[0]}\n{body}\n{indent}{brackets[1]}"
