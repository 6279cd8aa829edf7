# SPDX-License-Identifier: MIT
"""BPF maps as mappings of Python values."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from testbed.bpf.btf import Btf, Layout, Value
from testbed.bpf.library import BpfError, check, libbpf

__all__ = ["Map", "object_info", "possible_cpus"]

PER_CPU_TYPES = {5, 6, 10}  # PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH
_BATCH = 65_536
# Field to (offset, size) in struct bpf_map_info (uapi, never changes).
_MAP_INFO = {
    "type": (0, 4),
    "id": (4, 4),
    "key_size": (8, 4),
    "value_size": (12, 4),
    "max_entries": (16, 4),
    "btf_id": (64, 4),
    "btf_key_type_id": (68, 4),
    "btf_value_type_id": (72, 4),
}


def possible_cpus() -> int:
    """CPUs the kernel may ever use: how many values a per-CPU map holds a key."""
    return check(libbpf().libbpf_num_possible_cpus(), "count the CPUs")


def object_info(fd: int, size: int = 256) -> bytes:
    """``struct bpf_map_info``, ``bpf_prog_info`` or ``bpf_link_info`` of a descriptor."""
    buffer = ctypes.create_string_buffer(size)
    length = ctypes.c_uint32(size)
    check(libbpf().bpf_obj_get_info_by_fd(fd, buffer, ctypes.byref(length)), "read object info")
    return buffer.raw


def _kernel_btf(btf_id: int) -> Btf:
    handle = check(libbpf().btf__load_from_kernel_by_id(btf_id), f"read BTF {btf_id}")
    try:
        size = ctypes.c_uint32()
        data = libbpf().btf__raw_data(handle, ctypes.byref(size))
        return Btf(ctypes.string_at(data, size.value))
    finally:
        libbpf().btf__free(handle)


class Map:
    """A BPF map; keys and values are Python values as :class:`testbed.bpf.btf.Layout` says.

    Values of a per-CPU map are lists with one value a CPU.
    """

    def __init__(
        self, *, name: str, fd: int, type_id: int, key: Layout, value: Layout, max_entries: int
    ) -> None:
        self.name = name
        self.fd = fd
        self.key = key
        self.value = value
        self.max_entries = max_entries
        self.cpus = possible_cpus() if type_id in PER_CPU_TYPES else 0
        self._stride = (value.size + 7) // 8 * 8 if self.cpus else value.size

    @classmethod
    def from_pin(cls, path: Path) -> Map:
        """The map pinned at ``path``, with its layout as the kernel has it.

        The caller closes it.
        """
        fd = check(libbpf().bpf_obj_get(os.fsencode(path)), f"open the pinned map {path}")
        info = object_info(fd)
        number = {
            name: int.from_bytes(info[at : at + size], "little")
            for name, (at, size) in _MAP_INFO.items()
        }
        btf = _kernel_btf(number["btf_id"]) if number["btf_id"] else None

        def layout(type_id: int, size: int) -> Layout:
            return btf.layout(type_id) if btf and type_id else Layout(size=size)

        return cls(
            name=path.name,
            fd=fd,
            type_id=number["type"],
            key=layout(number["btf_key_type_id"], number["key_size"]),
            value=layout(number["btf_value_type_id"], number["value_size"]),
            max_entries=number["max_entries"],
        )

    def close(self) -> None:
        """Close the descriptor (only for maps from :meth:`from_pin`)."""
        os.close(self.fd)

    def _decode(self, data: bytes) -> Value:
        if not self.cpus:
            return self.value.decode(data)
        step = self._stride
        return [self.value.decode(data[i * step :]) for i in range(self.cpus)]

    def _encode(self, value: Value) -> bytes:
        if not self.cpus:
            return self.value.encode(value)
        return b"".join(self.value.encode(part).ljust(self._stride, b"\0") for part in value)

    def get(self, key: Value) -> Value | None:
        """Value at ``key``, or None."""
        buffer = ctypes.create_string_buffer(self._stride * max(1, self.cpus))
        result = libbpf().bpf_map_lookup_elem(self.fd, self.key.encode(key), buffer)
        if result < 0 and ctypes.get_errno() == errno.ENOENT:
            return None
        check(result, f"read map {self.name}")
        return self._decode(buffer.raw)

    def set(self, key: Value, value: Value, *, flags: int = 0) -> None:
        """Write one entry. Raises BpfError, such as E2BIG for a full map."""
        result = libbpf().bpf_map_update_elem(
            self.fd, self.key.encode(key), self._encode(value), flags
        )
        check(result, f"write map {self.name}")

    def set_program(self, slot: int, program_fd: int) -> None:
        """Put a program into one slot of a program array: one atomic step."""
        self.set(slot, program_fd)

    def fill(self, entries: Iterable[tuple[Value, Value]]) -> None:
        """Write many entries, in batches (BPF_MAP_UPDATE_BATCH, Linux 5.6)."""
        keys, values, count = bytearray(), bytearray(), 0
        for key, value in entries:
            keys += self.key.encode(key)
            values += self._encode(value)
            count += 1
            if count == _BATCH:
                self._write_batch(keys, values, count)
                keys, values, count = bytearray(), bytearray(), 0
        if count:
            self._write_batch(keys, values, count)

    def _write_batch(self, keys: bytearray, values: bytearray, count: int) -> None:
        done = ctypes.c_uint32(count)
        result = libbpf().bpf_map_update_batch(
            self.fd, bytes(keys), bytes(values), ctypes.byref(done), None
        )
        check(result, f"write {count} entries into map {self.name}")

    def delete(self, key: Value) -> bool:
        """Remove one entry; False where there was none."""
        result = libbpf().bpf_map_delete_elem(self.fd, self.key.encode(key))
        if result < 0 and ctypes.get_errno() == errno.ENOENT:
            return False
        check(result, f"delete from map {self.name}")
        return True

    def _raw_keys(self) -> Iterator[bytes]:
        here: ctypes.Array[ctypes.c_char] | None = None
        while True:
            following = ctypes.create_string_buffer(self.key.size)
            result = libbpf().bpf_map_get_next_key(self.fd, here, following)
            if result < 0 and ctypes.get_errno() == errno.ENOENT:
                return
            check(result, f"walk map {self.name}")
            yield following.raw
            here = following

    def items(self) -> Iterator[tuple[Value, Value]]:
        """All entries; of a map that changes meanwhile, some may be missed or seen twice."""
        seen: set[bytes] = set()
        for raw in self._raw_keys():
            if raw in seen:
                continue
            seen.add(raw)
            value = self.get(raw)
            if value is not None:
                yield self.key.decode(raw), value

    def total(self, key: Value) -> Value:
        """Sum over the CPUs of a per-CPU value made of numbers. Raises BpfError if absent."""
        values = self.get(key)
        if values is None:
            raise BpfError(f"read map {self.name} at {key}", errno.ENOENT)
        return _add_up(values)

    def grand_total(self) -> Value:
        """Sum of an array's values over its entries, and CPUs."""
        rows = range(self.max_entries)
        return _add_up([self.total(i) if self.cpus else self.get(i) for i in rows])

    def pin(self, path: Path) -> None:
        """Give the map a name in a bpffs; it lives until that is removed."""
        check(libbpf().bpf_obj_pin(self.fd, os.fsencode(path)), f"pin map {self.name} at {path}")


def _add_up(values: list[Value]) -> Value:
    first = values[0]
    if isinstance(first, dict):
        return {name: _add_up([value[name] for value in values]) for name in first}
    if isinstance(first, list):
        return [_add_up(list(column)) for column in zip(*values, strict=True)]
    return sum(values)
