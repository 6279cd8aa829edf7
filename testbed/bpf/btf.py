# SPDX-License-Identifier: MIT
"""Layouts from BTF: C structs to Python values and back, with nothing mirrored by hand.

A value is an int, a dict (struct, union) or a list (array). Types named ``__be16``, ``__be32``
and so on are in network byte order in memory and plain ints in Python.

Source: Documentation/bpf/btf.rst of the kernel.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

__all__ = ["Btf", "Layout", "Value"]

Value = Any
_HEADER = struct.Struct("<HBBIIIII")
_MAGIC = 0xEB9F
_KINDS = (
    "void int ptr array struct union enum fwd typedef volatile const restrict func "
    "func_proto var datasec float decl_tag type_tag enum64"
).split()
_FORWARDING = {"typedef", "volatile", "const", "restrict", "type_tag"}
_PER_ENTRY = {"struct": 12, "union": 12, "enum": 8, "enum64": 12, "func_proto": 8, "datasec": 12}
_FIXED = {"int": 4, "array": 12, "var": 4, "decl_tag": 4}
_NETWORK_ORDER = {"__be16", "__be32", "__be64", "__sum16"}
_NATIVE: Literal["little", "big"] = sys.byteorder


@dataclass(frozen=True, kw_only=True, slots=True)
class _Type:
    kind: str
    name: str
    vlen: int
    size_or_type: int
    bitfields: bool
    extra: bytes


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a C type stands in memory.

    :ivar size: in bytes.
    :ivar fields: of a struct: name to (offset in bytes, layout).
    :ivar element: of an array; with ``count``.
    :ivar order: of a number: ``little`` or ``big``.
    """

    size: int
    order: Literal["little", "big"] = _NATIVE
    signed: bool = False
    fields: Mapping[str, tuple[int, Layout]] | None = None
    element: Layout | None = None
    count: int = 0

    def encode(self, value: Value) -> bytes:
        """Bytes of a value; a struct's missing fields are zero. Raises ValueError on a misfit."""
        if isinstance(value, bytes):
            if len(value) != self.size:
                raise ValueError(f"{len(value)} bytes given where {self.size} are needed")
            return value
        if self.fields is not None:
            return self._encode_struct(value)
        if self.element is not None:
            return self._encode_array(value)
        if not isinstance(value, int):
            raise ValueError(f"{value!r} is not a whole number")
        try:
            return value.to_bytes(self.size, self.order, signed=self.signed)
        except OverflowError:
            raise ValueError(f"{value} does not fit into {self.size} bytes") from None

    def _encode_struct(self, value: Mapping[str, Value]) -> bytes:
        assert self.fields is not None
        unknown = set(value) - set(self.fields)
        if unknown:
            raise ValueError(f"no field {sorted(unknown)} (there are {sorted(self.fields)})")
        out = bytearray(self.size)
        for name, part in value.items():
            offset, layout = self.fields[name]
            out[offset : offset + layout.size] = layout.encode(part)
        return bytes(out)

    def _encode_array(self, value: Sequence[Value]) -> bytes:
        assert self.element is not None
        if len(value) > self.count:
            raise ValueError(f"{len(value)} elements given where {self.count} fit")
        return b"".join(self.element.encode(part) for part in value).ljust(self.size, b"\0")

    def decode(self, data: bytes) -> Value:
        """The value that stands in ``data`` (``size`` bytes)."""
        if self.fields is not None:
            return {
                name: layout.decode(data[offset : offset + layout.size])
                for name, (offset, layout) in self.fields.items()
            }
        if self.element is not None:
            size = self.element.size
            return [self.element.decode(data[i * size : (i + 1) * size]) for i in range(self.count)]
        return int.from_bytes(data[: self.size], self.order, signed=self.signed)


class Btf:
    """The types of one object or kernel, read from raw BTF."""

    def __init__(self, data: bytes) -> None:
        magic, _version, _flags, header, type_at, type_size, str_at, str_size = _HEADER.unpack_from(
            data
        )
        if magic != _MAGIC:
            raise ValueError("not BTF of this machine's byte order")
        self._strings = data[header + str_at : header + str_at + str_size]
        self._types = self._read(data[header + type_at : header + type_at + type_size])
        self._layouts: dict[int, Layout] = {}

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _read(self, data: bytes) -> list[_Type]:
        types = [_Type(kind="void", name="", vlen=0, size_or_type=0, bitfields=False, extra=b"")]
        at = 0
        while at < len(data):
            name, info, size_or_type = struct.unpack_from("<III", data, at)
            kind, vlen = _KINDS[info >> 24 & 31], info & 0xFFFF
            length = _FIXED.get(kind, 0) + _PER_ENTRY.get(kind, 0) * vlen
            types.append(
                _Type(
                    kind=kind,
                    name=self._string(name),
                    vlen=vlen,
                    size_or_type=size_or_type,
                    bitfields=bool(info >> 31),
                    extra=data[at + 12 : at + 12 + length],
                )
            )
            at += 12 + length
        return types

    @cached_property
    def variables(self) -> Mapping[str, Mapping[str, tuple[int, Layout]]]:
        """Global variables by section: section to name to (offset, layout)."""
        sections: dict[str, dict[str, tuple[int, Layout]]] = {}
        for section in self._types:
            if section.kind != "datasec" or section.name in (".maps", "license"):
                continue
            found = sections.setdefault(section.name, {})
            for variable_id, offset, _size in struct.iter_unpack("<III", section.extra):
                variable = self._types[variable_id]
                if variable.kind == "var":
                    found[variable.name] = (offset, self.layout(variable.size_or_type))
        return sections

    def layout(self, type_id: int) -> Layout:
        """Layout of the type with this id. Raises ValueError for what has none."""
        if type_id not in self._layouts:
            self._layouts[type_id] = self._layout(type_id)
        return self._layouts[type_id]

    def _layout(self, type_id: int) -> Layout:
        kind = self._types[type_id]
        while kind.kind in _FORWARDING:
            if kind.name in _NETWORK_ORDER:
                return Layout(size=self.layout(kind.size_or_type).size, order="big")
            kind = self._types[kind.size_or_type]
        if kind.kind == "int":
            (encoding,) = struct.unpack("<I", kind.extra)
            return Layout(size=kind.size_or_type, signed=bool(encoding >> 24 & 1))
        if kind.kind in ("enum", "enum64"):
            return Layout(size=kind.size_or_type)
        if kind.kind == "ptr":
            return Layout(size=8)
        if kind.kind == "array":
            element_id, _index, count = struct.unpack("<III", kind.extra)
            element = self.layout(element_id)
            return Layout(size=element.size * count, element=element, count=count)
        if kind.kind in ("struct", "union"):
            return Layout(size=kind.size_or_type, fields=self._fields(kind))
        raise ValueError(f"BTF type {kind.name or type_id} ({kind.kind}) has no layout")

    def _fields(self, kind: _Type) -> dict[str, tuple[int, Layout]]:
        """Members; a union is read and written as its first member."""
        fields: dict[str, tuple[int, Layout]] = {}
        for name, type_id, offset in struct.iter_unpack("<III", kind.extra):
            bits = offset & 0xFFFFFF if kind.bitfields else offset
            if kind.bitfields and offset >> 24:
                continue  # a bit field: none of ours crosses to user space
            layout, at = self.layout(type_id), bits // 8
            if self._string(name):
                fields[self._string(name)] = (at, layout)
            else:  # an anonymous struct or union: its members belong to this one
                fields |= {n: (at + o, part) for n, (o, part) in (layout.fields or {}).items()}
            if kind.kind == "union":
                break
        return fields
