# SPDX-License-Identifier: MIT
"""The small types that the values are made of: addresses, ports, protocols, parameters.

Each parser takes what a person writes or a program hands over and returns one normal form. It
raises ValueError with a message that says what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf
from pydantic_core import PydanticCustomError

__all__ = [
    "ANY",
    "PORT_PROTOCOLS",
    "PROTOCOLS",
    "Address",
    "Name",
    "OneProtocol",
    "Params",
    "ParamsField",
    "Port",
    "Prefix",
    "Protocol",
    "Word",
    "parse_address",
    "parse_port",
    "parse_prefix",
    "parse_protocol",
    "problem",
    "protocol_name",
    "shown",
]

ANY = IPv4Network("0.0.0.0/0")
"""Every IPv4 address."""

PROTOCOLS: Mapping[str, int] = {
    "icmp": 1,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "sctp": 132,
    "udplite": 136,
}
"""Protocols that have a name here, with their IANA numbers."""

PORT_PROTOCOLS = frozenset(PROTOCOLS[name] for name in ("tcp", "udp", "dccp", "sctp", "udplite"))
"""Protocols whose header begins with source and destination port."""

_NAMES = {number: name for name, number in PROTOCOLS.items()}
_SHOWN_LENGTH = 60


def shown(value: object) -> str:
    """Give the value as an error message quotes it: on one line, and not too long."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"


def _name_parser(what: str, pattern: str) -> AfterValidator:
    def parse(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {what}, got {shown(value)}")
        return value

    return AfterValidator(parse)


def problem(message: str, *, at: Iterable[str | int] = ()) -> PydanticCustomError:
    """Make a validator's complaint; ``at`` leads from what is validated to the part at fault."""
    return PydanticCustomError("value", "{message}", {"message": message, "at": tuple(at)})


def parse_address(value: object) -> IPv4Address:
    """Read one IPv4 address."""
    if isinstance(value, IPv4Address):
        return value
    try:
        if isinstance(value, str):
            return IPv4Address(value)
    except ValueError:
        pass
    raise ValueError(f"must be an IPv4 address such as 10.10.9.5, got {shown(value)}")


def parse_prefix(value: object) -> IPv4Network:
    """Read an address, a prefix, or ``any``.

    An address alone is that address (/32), except 0.0.0.0, which means any, as in the thesis
    (chapter 6). Bits beyond the prefix length must be zero.
    """
    if isinstance(value, IPv4Network):
        return value
    if isinstance(value, IPv4Address):
        return IPv4Network((value, 32)) if int(value) else ANY
    if value == "any":
        return ANY
    if not isinstance(value, str):
        raise ValueError(_prefix_message(value))
    text, slash, bits = value.partition("/")
    try:
        address = IPv4Address(text)
    except ValueError:
        raise ValueError(_prefix_message(value)) from None
    if not slash:
        return IPv4Network((address, 32)) if int(address) else ANY
    if not (bits.isascii() and bits.isdigit() and len(bits) <= 2 and int(bits) <= 32):
        raise ValueError(f"prefix length must be 0 to 32, got {shown(value)}")
    network = IPv4Network((address, int(bits)), strict=False)
    if network.network_address != address:
        raise ValueError(
            f"{value} has bits set beyond its prefix length: write {network} for the network"
            f" or {address} for the one address"
        )
    return network


def _prefix_message(value: object) -> str:
    return (
        "must be an IPv4 address or prefix such as 10.10.9.5 or 10.10.9.0/24, or any,"
        f" got {shown(value)}"
    )


def parse_port(value: object) -> int | None:
    """Read a port number; None or ``any`` means any port."""
    if value is None or value == "any":
        return None
    if type(value) is int and 0 <= value <= 65535:
        return value
    raise ValueError(f"must be a port from 0 to 65535, or any, got {shown(value)}")


def parse_protocol(value: object) -> int | None:
    """Read a protocol's name or number; None or ``any`` means any protocol."""
    if value is None:
        return None
    if type(value) is int and 0 <= value <= 255:
        return value
    if isinstance(value, str):
        name = value.lower()
        if name == "any":
            return None
        if name in PROTOCOLS:
            return PROTOCOLS[name]
    names = ", ".join(PROTOCOLS)
    raise ValueError(f"must be {names}, any, or a number from 0 to 255, got {shown(value)}")


def _parse_one_protocol(value: object) -> int:
    number = parse_protocol(value)
    if number is None:
        raise ValueError("a packet has one protocol, not any")
    return number


def protocol_name(number: int | None) -> str | int:
    """Give the name if the protocol has one here, else the number; ``any`` for None."""
    return "any" if number is None else _NAMES.get(number, number)


Address = Annotated[IPv4Address, BeforeValidator(parse_address)]
Prefix = Annotated[IPv4Network, BeforeValidator(parse_prefix)]
Port = Annotated[int | None, BeforeValidator(parse_port)]
Protocol = Annotated[int | None, BeforeValidator(parse_protocol)]
Name = Annotated[
    str,
    Field(strict=True),
    _name_parser(
        "1 to 64 letters, digits, dots, hyphens or underscores, not beginning with a mark",
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    ),
]
Word = Annotated[
    str,
    Field(strict=True),
    _name_parser("1 to 32 small letters, digits or underscores", r"[a-z][a-z0-9_]{0,31}"),
]
OneProtocol = Annotated[int, BeforeValidator(_parse_one_protocol)]


class Params(Mapping[str, Any]):
    """An NF's parameters: a mapping that cannot change, so that it can be hashed and shared.

    Mappings inside become Params too, and lists become tuples.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items = {key: _freeze(value) for key, value in (items or {}).items()}

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"Params({self.plain()!r})"

    def __reduce__(self) -> tuple[type[Params], tuple[dict[str, Any]]]:
        return Params, (self.plain(),)

    def plain(self) -> dict[str, Any]:
        """Give a copy made of dicts and lists."""
        return {key: _thaw(value) for key, value in self._items.items()}


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Params(value)
    if isinstance(value, list | tuple):
        return tuple(_freeze(part) for part in value)
    return value


def _thaw(value: Any) -> Any:
    if isinstance(value, Params):
        return value.plain()
    if isinstance(value, tuple):
        return [_thaw(part) for part in value]
    return value


def _parse_params(value: object) -> Params:
    if isinstance(value, Params):
        return value
    if isinstance(value, Mapping):
        return Params(value)
    raise ValueError(f"must map parameters to values, got {shown(value)}")


ParamsField = Annotated[InstanceOf[Params], BeforeValidator(_parse_params)]
