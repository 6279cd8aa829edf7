# SPDX-License-Identifier: MIT
"""What a result's folder says of how its run can be repeated.

The folder may come from another machine and from anybody. What is taken from it is the name of an
experiment that is known here, options that are checked like those of the command line, and a
policy that is checked like any other. Nothing of it is carried out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from testbed.errors import UserError
from testbed.experiment.catalogue import load_experiment
from testbed.experiment.folder import GIVEN_POLICY_FILE, POLICY_FILE
from testbed.experiment.runner import Options
from testbed.results import RESULT_FILE, Result
from testbed.stored.surroundings import read_environment

__all__ = ["Repeatable", "how_to_repeat"]


@dataclass(frozen=True, kw_only=True)
class Repeatable:
    """How a run is repeated.

    :ivar policy: file with the policy as it was given; None where the experiment makes its own.
    """

    name: str
    options: Options
    policy: Path | None


def how_to_repeat(result: Result, folder: Path) -> Repeatable:
    """Read how a run is repeated.

    :raises UserError: its experiment or one of its options is not known here, or the folder does
        not hold what it takes.
    """
    experiment = load_experiment(result.experiment)
    given = result.options or _options_of_old(result, folder)
    policy = None if experiment.policy is None else _policy(result, folder)
    return Repeatable(name=experiment.name, options=_options(given, folder), policy=policy)


def _options(given: Mapping[str, Any], folder: Path) -> Options:
    path = folder / RESULT_FILE
    known = [field.name for field in fields(Options)]
    for name in given:
        if name not in known:
            raise UserError(
                f"{path}: options.{name}: this nfcbed has no such option: use the one that wrote it"
            )
    try:
        return TypeAdapter(Options).validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("options", *first["loc"])))
        raise UserError(f"{path}: {where}: {first['msg']}") from None


def _policy(result: Result, folder: Path) -> Path:
    """The policy as it was given. Without it, the one that ran will do if it is the same."""
    path = folder / GIVEN_POLICY_FILE
    if not (path.exists() or path.is_symlink()):
        if result.quick:
            raise _cannot(folder, f"{GIVEN_POLICY_FILE} is not there, and a quick run changes it")
        path = folder / POLICY_FILE
    if path.is_symlink() or not path.is_file():
        raise _cannot(folder, f"{path.name} is not there, or is no plain file")
    return path


def _options_of_old(result: Result, folder: Path) -> dict[str, Any]:
    """Options from the command line that older results keep in environment.json."""
    command = (read_environment(folder) or {}).get("command")
    words = command.split() if isinstance(command, str) else []
    if words[:3] != ["nfcbed", "run", result.experiment]:
        raise _cannot(folder, "it does not say what it was run with")
    options: dict[str, Any] = {"quick": result.quick}
    rest = iter(words[3:])
    for word in rest:
        name = word.removeprefix("--").replace("-", "_")
        if name == "policy":
            next(rest, None)  # its file lies in the folder
        elif name != "quick":
            value = next(rest, "")
            options[name] = int(value) if value.isdecimal() else value
    return options


def _cannot(folder: Path, why: str) -> UserError:
    return UserError(f"{folder}: cannot be repeated: {why}; see nfcbed run --help")
