# SPDX-License-Identifier: MIT
"""The columns of a parameter that is a table: addresses, ports and protocols, as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from testbed.fields import parse_address, parse_port, parse_protocol, shown

__all__ = ["Column", "column_problem", "row_values"]


class Column(BaseModel):
    """One column, and the member of the same name in the rows' C struct.

    :ivar required: whether every row has it; otherwise ``any`` and leaving it out mean 0.
    :ivar min: smallest port.
    :ivar choices: names of the protocols allowed; all if empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["ipv4", "port", "proto"]
    help: str
    required: bool = False
    min: int = 0
    choices: Annotated[tuple[str, ...], BeforeValidator(lambda value: tuple(value))] = ()


def column_problem(column: Column, value: Any) -> str | None:
    """Say what is wrong with a value, or give None."""
    try:
        number = _number(column, value)
    except ValueError as error:
        return str(error)
    if number == 0 and column.required:
        return f"must be one {_WORDS[column.type]}, got {shown(value)}"
    if value != "any" and column.type == "port" and number < column.min:
        return f"must be ≥ {column.min}, got {shown(value)}"
    allowed = [parse_protocol(name) for name in column.choices]
    if number and allowed and number not in allowed:
        return f"must be {' or '.join(column.choices)}, got {shown(value)}"
    return None


_WORDS = {"ipv4": "address", "port": "port", "proto": "protocol"}


def _number(column: Column, value: Any) -> int:
    if value == "any":
        return 0
    if column.type == "ipv4":
        return int(parse_address(value))
    return (parse_port(value) if column.type == "port" else parse_protocol(value)) or 0


def row_values(columns: Mapping[str, Column], row: Mapping[str, Any]) -> dict[str, int]:
    """Give a row that has no problem as numbers."""
    return {
        name: _number(column, row[name]) if name in row else 0 for name, column in columns.items()
    }
