# SPDX-License-Identifier: MIT
"""YAML files that people write: read safely, and every complaint with its line and field.

Only plain data is taken: no aliases (a few lines of them can expand without bound), no tags of
objects, no key twice, no value left out. Numbers are what they look like: YAML 1.1 would read
``053`` as 43 and ``1:30`` as 90, so both are refused.
"""

from __future__ import annotations

import difflib
import gc
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel, ValidationError

from testbed.errors import PolicyError
from testbed.fields import shown

__all__ = [
    "Document",
    "Problem",
    "Where",
    "field_path",
    "policy_error",
    "problems_of",
    "read_document",
    "read_text",
    "uncollected",
    "unknown_key",
]

Where = tuple[str | int, ...]
"""The way from the top of a document to one of its parts: keys and positions."""

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 16

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_TRUE = ("yes", "true", "on")
_MAX_DIGITS = 30
_MISSING = "is missing"
_UNKNOWN = "unknown key "
_OTHER_WORDS = {
    "source": "src",
    "destination": "dst",
    "src_port": "sport",
    "source_port": "sport",
    "dst_port": "dport",
    "destination_port": "dport",
    "name": "nf",
}


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away while many small values are made, none of them in cycles.

    It would walk through all of them again and again: reading 150,000 rules takes three times as
    long with it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Problem(NamedTuple):
    """One thing that is wrong, and where."""

    where: Where
    message: str


@dataclass(frozen=True, eq=False)
class Document:
    """A file's data, with the way back to its lines."""

    data: Any
    path: Path | None
    root: yaml.Node

    def line(self, where: Where) -> int:
        """Give the line of a part; where it is missing, of what should hold it."""
        node, line = self.root, self.root.start_mark.line
        for step in where:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return int(line) + 1

    def error(self, problems: Iterable[Problem]) -> PolicyError:
        """Give the error for these problems: the first of the file, and how many more."""
        found = list(problems)
        # A mistyped key explains the key that is missing beside it, so it goes first.
        mistyped = {p.where[:-1]: p.where for p in found if p.message.startswith(_UNKNOWN)}

        def rank(problem: Problem) -> tuple[int, bool]:
            missing = problem.message == _MISSING
            where = mistyped.get(problem.where[:-1]) if missing else None
            return self.line(where or problem.where), missing

        found.sort(key=rank)
        return policy_error(found, path=self.path, line=self.line(found[0].where))


def policy_error(
    problems: Sequence[Problem], *, path: Path | None = None, line: int | None = None
) -> PolicyError:
    """Give the error that tells the first of the problems and counts the others."""
    first, more = problems[0], len(problems) - 1
    tail = f" (and {more} more problem{'s' if more > 1 else ''})" if more else ""
    field = field_path(first.where) or None
    return PolicyError(first.message + tail, path=path, line=line, field=field)


def field_path(where: Where) -> str:
    """Give a way as people write it: ``chains[0].nfs[1].params``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.removeprefix(".")


def unknown_key(key: str, allowed: Iterable[str]) -> str:
    """Give the message about a key that nobody knows, with the nearest one that exists."""
    names = list(allowed)
    near = [name for name in [_OTHER_WORDS.get(key.lower())] if name in names]
    near = near or difflib.get_close_matches(key.lower(), names, n=1)
    guess = f": did you mean {near[0]}?" if near else ""
    return f"{_UNKNOWN}{shown(key)}{guess} (allowed: {', '.join(names) or 'none'})"


def read_text(path: Path) -> str:
    """Read a text file. Raises PolicyError for one that cannot be read or is no text."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise PolicyError("this is a folder, not a file", path=path) from None
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror or error}", path=path) from None
    except ValueError as error:  # a NUL in the name
        raise PolicyError(f"cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise PolicyError(f"is longer than {MAX_BYTES // 2**20} MiB", path=path)
    if b"\0" in data:
        raise PolicyError("is not a text file", path=path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError("is not UTF-8 text", path=path, line=line) from None


def read_document(text: str, *, path: Path | None = None) -> Document:
    """Read YAML text into plain data. Raises PolicyError."""
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd:
        raise PolicyError(
            f"the character {odd[0]!r} is not allowed",
            path=path,
            line=text.count("\n", 0, odd.start()) + 1,
        )
    try:
        loader = _LOADER(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        reason = ": ".join(part for part in (error.context, error.problem) if part)
        raise PolicyError(f"not valid YAML: {reason}", path=path, line=line) from None
    except yaml.YAMLError as error:
        reason = str(error).partition("\n")[0]
        raise PolicyError(f"not valid YAML: {reason}", path=path) from None
    except RecursionError:
        raise PolicyError(f"nested more than {MAX_DEPTH} deep", path=path) from None
    if root is None:
        raise PolicyError("is empty", path=path)
    return Document(_Reader(path).read(root, ()), path, root)


class _Reader:
    """Turns nodes into data, once each."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: set[int] = set()

    def read(self, node: yaml.Node, where: Where) -> Any:
        if id(node) in self._seen:
            raise self._error(node, where, "aliases (*name) are not allowed: write it out")
        self._seen.add(id(node))
        if len(where) > MAX_DEPTH:
            raise self._error(node, where[:3], f"nested more than {MAX_DEPTH} deep")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.read(part, (*where, i)) for i, part in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where)
        raise self._error(node, where, f"the tag {shown(node.tag)} is not allowed")

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                what = f", got {shown(key_node.value)}"
                what = what if isinstance(key_node, yaml.ScalarNode) else ""
                raise self._error(key_node, where, f"a key must be a word{what}")
            key = key_node.value
            if key in data:
                raise self._error(
                    key_node, (*where, key), f"is there twice, first in line {first[key]}"
                )
            first[key] = key_node.start_mark.line + 1
            data[key] = self.read(value_node, (*where, key))
        return data

    def _scalar(self, node: yaml.ScalarNode, where: Where) -> Any:
        text, kind = str(node.value), node.tag.removeprefix(_TAG)
        if kind == "null":
            raise self._error(node, where, "has no value")
        if kind == "bool":
            return text.lower() in _TRUE
        if kind in ("int", "float") or (kind == "str" and not node.style):
            return self._number(node, where, text, kind)
        if kind in ("str", "timestamp"):
            return text
        raise self._error(node, where, f"the tag {shown(node.tag)} is not allowed: quote text")

    def _number(
        self, node: yaml.ScalarNode, where: Where, text: str, kind: str
    ) -> int | float | str:
        if len(text) <= _MAX_DIGITS and _INT.fullmatch(text):
            return int(text)
        if len(text) <= _MAX_DIGITS and _FLOAT.fullmatch(text) and kind != "int":
            return float(text)
        if kind == "str":
            return text
        raise self._error(
            node, where, f"write the number plainly in decimal, or quote it, got {text[:40]}"
        )

    def _error(self, node: yaml.Node, where: Where, message: str) -> PolicyError:
        return PolicyError(
            message,
            path=self._path,
            line=node.start_mark.line + 1,
            field=field_path(where) or None,
        )


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, int] | None:
    """Give a part of a node and its line, for a mapping that of the key."""
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        if step < len(node.value):
            return node.value[step], node.value[step].start_mark.line
    elif isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if key_node.value == step:
                return value_node, key_node.start_mark.line
    return None


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Give what pydantic found, in words and places of the file."""
    return [_problem_of(dict(detail), model) for detail in error.errors(include_url=False)]


def _problem_of(detail: dict[str, Any], model: type[BaseModel]) -> Problem:
    where: Where = tuple(detail["loc"])
    context, got = detail.get("ctx", {}), f", got {shown(detail.get('input'))}"
    match detail["type"]:
        case "value":
            return Problem((*where, *context["at"]), context["message"])
        case "value_error":
            return Problem(where, str(context["error"]))
        case "missing":
            message = _MISSING
        case "extra_forbidden":
            message = unknown_key(str(where[-1]), _keys_at(model, where[:-1]))
        case "int_type" | "int_from_float":
            message = f"must be a whole number{got}"
        case "string_type":
            message = f"must be text{got}"
        case "tuple_type":
            message = f"must be a list{got}"
        case "model_type" | "dict_type":
            message = f"must be a mapping{got}"
        case "literal_error":
            message = f"must be {context['expected']}{got}".replace("'", "")
        case "greater_than_equal":
            message = f"must be ≥ {context['ge']}{got}"
        case "less_than_equal":
            message = f"must be ≤ {context['le']}{got}"
        case _:
            message = f"{detail['msg'][:1].lower()}{detail['msg'][1:]}{got}"
    return Problem(where, message)


def _keys_at(model: type[BaseModel], where: Where) -> list[str]:
    """Give the keys that the model at this place of a document knows."""
    for step in where:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if step in fields:
            inner = next(_models_in(fields[str(step)].annotation), None)
            model = inner or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
