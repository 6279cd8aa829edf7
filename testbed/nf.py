# SPDX-License-Identifier: MIT
"""What a network function is and takes: its description ``nfs/<name>/nf.yaml``, as a value.

A description names the NF's parameters and says, for each, what it sets in the compiled object:
a read-only variable (``rodata``), the size of a map (``map_size``) or the rows of one
(``bpf_map``). So whatever loads an NF needs to know nothing about it::

    dad = load_descriptions()["dad"]
    dad.rodata({"threshold_mbps": 100})   # {"threshold": 125000000, "unit": 1, …}
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from testbed.columns import Column, column_problem, row_values
from testbed.errors import PolicyError
from testbed.fields import Params, Word, problem, shown
from testbed.paths import NFS
from testbed.yamlfile import (
    Problem,
    policy_error,
    problems_of,
    read_document,
    read_text,
    unknown_key,
)

__all__ = ["FlowTable", "NFDescription", "Param", "load_description", "load_descriptions"]

Number = int | float
FlowTable = Literal["max_flows", "idle_s", "unreplied_s", "replied_s", "tcp_idle_s"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _as_tuple(value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class Item(_Value):
    """A drop reason or a counter: its name, and what it means."""

    name: Word
    text: str


class State(_Value):
    """What the NF keeps per flow.

    :ivar map: the BPF map, whose bound is the bound of the state.
    :ivar key: what tells two flows apart.
    :ivar per_flow: what is kept.
    """

    map: str
    key: str
    per_flow: str


class Param(_Value):
    """One parameter.

    :ivar unit: the unit of a number, for people.
    :ivar min: smallest number, fewest rows of a table, fewest patterns.
    :ivar max: largest number, most rows of a table, most patterns.
    :ivar one_of: exactly one parameter of those with the same ``one_of`` must be given.
    :ivar choices: what a choice may be; the object gets the position.
    :ivar needs: what a choice needs of the kernel beyond the datapath: choice to probe, by the
        keys of ``nfcbed doctor --json``.
    :ivar only_at: a choice that not every datapath can carry out: choice to datapaths.
    :ivar rodata: the read-only variable that is set to (value + the parameter ``plus``) × the
        parameter ``times`` × scale, rounded down.
    :ivar sets: further read-only variables that are set where the parameter is given.
    :ivar map_size: BPF maps that get the value as their ``max_entries``.
    :ivar flow_table: what the value asks of the node's flow table (``nfs/include/flow.h``): how
        many flows it holds, or how many seconds it keeps one; computed as for ``rodata``, without
        scale and rounded up.
    :ivar bpf_map: BPF array that gets a table's rows; their count goes to ``n_<parameter>``.
    """

    type: Literal["int", "number", "bool", "choice", "table", "patterns"]
    help: str
    unit: str = ""
    min: Number | None = None
    max: Number | None = None
    required: bool = False
    default: Any = None
    one_of: str | None = None
    choices: Names = ()
    needs: Mapping[str, str] = {}
    only_at: Mapping[str, Names] = {}
    rodata: str | None = None
    scale: Number = 1
    plus: str | None = None
    times: str | None = None
    sets: Mapping[str, int] = {}
    map_size: Names = ()
    flow_table: FlowTable | None = None
    bpf_map: str | None = None
    columns: Mapping[str, Column] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.type == "choice") != bool(self.choices):
            raise problem("a choice, and nothing else, has choices", at=("choices",))
        for name, choices in (("needs", self.needs), ("only_at", self.only_at)):
            if not choices.keys() <= set(self.choices):
                raise problem("must name choices", at=(name,))
        if (self.type == "table") != bool(self.columns and self.bpf_map):
            raise problem("a table, and nothing else, has columns and bpf_map", at=("type",))
        if [self.required, self.default is not None, self.one_of is not None].count(True) != 1:
            raise problem("needs one of required, default and one_of")
        if self.default is not None:
            for wrong in self.problems(self.default):
                raise problem(wrong.message, at=("default",))
        return self

    @property
    def allowed(self) -> str:
        """What is allowed, for people: ``0.001 to 86400 s``."""
        if self.type == "choice":
            return ", ".join(self.choices)
        if self.type == "bool":
            return "true, false"
        what = {"table": "rows", "patterns": "patterns"}.get(self.type, self.unit)
        bounds = [f"{bound:.15g}" for bound in (self.min, self.max) if bound is not None]
        if len(bounds) == 1:
            bounds = [f"{'≥' if self.max is None else '≤'} {bounds[0]}"]
        return " ".join([*[" to ".join(bounds)], what]).strip() or "any number"

    def problems(self, value: Any) -> Iterator[Problem]:
        """Find what is wrong with a value."""
        if self.type == "table":
            yield from self._table_problems(value)
        elif self.type == "patterns":
            yield from self._pattern_problems(value)
        elif self.type == "choice":
            if value not in self.choices:
                yield Problem((), f"must be one of {self.allowed}, got {shown(value)}")
        elif self.type == "bool":
            if not isinstance(value, bool):
                yield Problem((), f"must be true or false, got {shown(value)}")
        else:
            yield from self._number_problems(value)

    def _number_problems(self, value: Any) -> Iterator[Problem]:
        kinds = (int,) if self.type == "int" else (int, float)
        if type(value) not in kinds or not math.isfinite(value):
            what = "a whole number" if self.type == "int" else "a number"
            yield Problem((), f"must be {what}, got {shown(value)} (allowed: {self.allowed})")
        else:
            yield from self._bound_problems(value, shown(value))

    def _bound_problems(self, value: Number, got: str) -> Iterator[Problem]:
        if self.min is not None and value < self.min:
            yield Problem((), f"must be ≥ {self.min}, got {got} (allowed: {self.allowed})")
        if self.max is not None and value > self.max:
            yield Problem((), f"must be ≤ {self.max}, got {got} (allowed: {self.allowed})")

    def _table_problems(self, value: Any) -> Iterator[Problem]:
        if not isinstance(value, list | tuple):
            yield Problem((), f"must be a list of rows, got {shown(value)}")
            return
        yield from self._bound_problems(len(value), f"{len(value)} rows")
        for index, row in enumerate(value):
            if not isinstance(row, Mapping):
                columns = ", ".join(self.columns)
                yield Problem((index,), f"must be a mapping of {columns}, got {shown(row)}")
                continue
            yield from self._row_problems(row, index)

    def _pattern_problems(self, value: Any) -> Iterator[Problem]:
        if not isinstance(value, list | tuple):
            yield Problem((), f"must be a list of regular expressions, got {shown(value)}")
            return
        yield from self._bound_problems(len(value), f"{len(value)} patterns")
        for index, pattern in enumerate(value):
            try:
                re.compile(pattern.encode())
            except (AttributeError, re.error) as error:
                message = f"must be a regular expression, got {shown(pattern)} ({error})"
                yield Problem((index,), message)

    def _row_problems(self, row: Mapping[str, Any], index: int) -> Iterator[Problem]:
        for name, value in row.items():
            if name not in self.columns:
                yield Problem((index, name), unknown_key(name, self.columns))
            elif message := column_problem(self.columns[name], value):
                yield Problem((index, name), message)
        for name, column in self.columns.items():
            if column.required and name not in row:
                yield Problem((index, name), f"is missing: {column.help}")


class NFDescription(_Value):
    """One NF's description; the parts that are not said here speak for themselves.

    :ivar user: its forms in user space, the preferred one first: ``native``, ``python``.
    :ivar translates: whether it rewrites addresses and has to see the replies.
    :ivar fragment: what becomes of a fragment.
    :ivar drop_reasons: in the order of the object's ``counters.dropped``.
    :ivar counters: in the order of the object's ``counters.extra``.
    """

    name: Word
    title: str
    summary: str
    source: str
    datapaths: Names
    user: Names = ("native",)
    translates: bool
    fragment: str
    state: State | None = None
    drop_reasons: Annotated[tuple[Item, ...], BeforeValidator(_as_tuple)] = ()
    counters: Annotated[tuple[Item, ...], BeforeValidator(_as_tuple)] = ()
    params: Mapping[str, Param] = {}

    @model_validator(mode="after")
    def _other_is_a_number(self) -> Self:
        for name, param in self.params.items():
            for key, named in (("plus", param.plus), ("times", param.times)):
                other = self.params.get(named) if named else None
                if named and (other is None or other.type not in ("int", "number")):
                    raise problem("names no parameter that is a number", at=("params", name, key))
        return self

    def problems(self, params: Mapping[str, Any]) -> list[Problem]:
        """Find all that is wrong with the parameters; an empty list means they are right."""
        found: list[Problem] = []
        for name, value in params.items():
            if name not in self.params:
                found.append(Problem((name,), unknown_key(name, self.params)))
                continue
            found += [
                Problem((name, *p.where), p.message) for p in self.params[name].problems(value)
            ]
        for name, param in self.params.items():
            if param.required and name not in params:
                found.append(Problem((name,), f"is missing: {param.help}"))
        return found + list(self._group_problems(params))

    def _group_problems(self, params: Mapping[str, Any]) -> Iterator[Problem]:
        for group in dict.fromkeys(p.one_of for p in self.params.values() if p.one_of):
            names = [name for name, param in self.params.items() if param.one_of == group]
            given = [name for name in params if name in names]
            if len(given) > 1:
                message = f"only one of {' and '.join(names)} may be given"
                yield Problem((given[1],), message)
            elif not given:
                yield Problem((), f"one of {' and '.join(names)} must be given")

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Give the parameters with the defaults filled in. Raises PolicyError."""
        found = self.problems(params)
        if found:
            raise policy_error(found)
        filled = {}
        for name, param in self.params.items():
            value = params.get(name, param.default)
            if value is not None:
                filled[name] = value
        return Params(filled).plain()

    def rodata(self, params: Mapping[str, Any]) -> dict[str, int]:
        """Give the object's read-only variables. Raises PolicyError for wrong parameters."""
        values = self.check(params)
        found: dict[str, int] = {}
        for name, value in values.items():
            param = self.params[name]
            if param.rodata:
                found[param.rodata] = _stored(param, value, values)
            if param.type == "table":
                found[f"n_{name}"] = len(value)
            found |= param.sets
        return found

    def needs(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Give the probes of what these parameters need of the kernel. Raises PolicyError."""
        values = self.check(params)
        asked = [self.params[name].needs.get(str(value)) for name, value in values.items()]
        return tuple(name for name in asked if name)

    def map_sizes(self, params: Mapping[str, Any]) -> dict[str, int]:
        """Give how many entries maps hold, where a parameter says so. Raises PolicyError."""
        values = self.check(params)
        return {
            bpf_map: int(value)
            for name, value in values.items()
            for bpf_map in self.params[name].map_size
        }

    def flow_table(self, params: Mapping[str, Any]) -> dict[FlowTable, int]:
        """Give what the node's flow table must offer, in flows and in seconds, rounded up.

        Raises PolicyError.
        """
        values = self.check(params)
        found: dict[FlowTable, int] = {}
        for name, value in values.items():
            param = self.params[name]
            if param.flow_table:
                found[param.flow_table] = math.ceil(_number(param, value, values))
        return found

    def tables(self, params: Mapping[str, Any]) -> dict[str, list[dict[str, int]]]:
        """Give the rows of the BPF arrays, every column a number. Raises PolicyError.

        Addresses are numbers too (10.0.0.1 is 0x0a000001); a column that a row leaves out is 0.
        """
        values = self.check(params)
        found = {}
        for name, rows in values.items():
            param = self.params[name]
            if param.bpf_map:
                found[param.bpf_map] = [row_values(param.columns, row) for row in rows]
        return found


def _stored(param: Param, value: Any, values: Mapping[str, Any]) -> int:
    """Give the number that stands for a value in the object."""
    if param.type == "choice":
        return param.choices.index(value)
    return math.floor(_number(param, value, values) * _exact(param.scale))


def _number(param: Param, value: Any, values: Mapping[str, Any]) -> Fraction:
    number = _exact(value)
    if param.plus:
        number += _exact(values[param.plus])
    if param.times:
        number *= _exact(values[param.times])
    return number


def _exact(value: Number) -> Fraction:
    """Give the number as it is written: 0.1 is a tenth."""
    return Fraction(str(int(value) if isinstance(value, bool) else value))


def load_description(path: Path) -> NFDescription:
    """Read one ``nf.yaml``. Raises PolicyError with file, line and field."""
    document = read_document(read_text(path), path=path)
    try:
        description = NFDescription.model_validate(document.data)
    except ValidationError as error:
        raise document.error(problems_of(error, NFDescription)) from None
    if description.name != path.parent.name:
        message = f"must be the folder's name, {path.parent.name}, got {description.name}"
        raise document.error([Problem(("name",), message)])
    return description


@cache
def load_descriptions(folder: Path = NFS) -> Mapping[str, NFDescription]:
    """Read every NF's description, by name; each is read once in a process.

    Raises PolicyError for a wrong one.
    """
    try:
        paths = sorted(folder.glob("*/nf.yaml"))
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror}", path=folder) from None
    return {path.parent.name: load_description(path) for path in paths}
