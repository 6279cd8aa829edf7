# SPDX-License-Identifier: MIT
"""One BPF object: opened, given its constants and map sizes, loaded.

::

    with BpfObject(path) as bpf:
        bpf.constants({"window_ns": 10**10})
        bpf.resize("flows", 4096)
        bpf.share("slots", slots)
        bpf.load()
        bpf.program("nf").test_run(packet)
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from testbed.bpf.btf import Btf, Layout, Value
from testbed.bpf.library import BpfError, check, libbpf, take_log
from testbed.bpf.maps import Map, object_info
from testbed.errors import UnsupportedError

__all__ = ["BpfObject", "Program", "TestRun"]

_LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES
_ARRAY, _MAPPABLE = 2, 1 << 10  # BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE
_NEW_SECTIONS = {b"netfilter": (32, 45)}  # to program type and attach type
_SKB_SIZE = 192  # struct __sk_buff, as far as this module fills it
_SKB_FIELDS = {"ifindex": 40, "cb": 48, "gso_segs": 164, "gso_size": 176}


class _TestRunOptions(ctypes.Structure):
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    ]


@dataclass(frozen=True, kw_only=True)
class TestRun:
    """Outcome of BPF_PROG_TEST_RUN: the program's answer, the packet after it, ns a run."""

    result: int
    packet: bytes
    duration_ns: int
    context: bytes = b""


@dataclass(frozen=True)
class Program:
    """A loaded program."""

    name: str
    fd: int

    @classmethod
    def from_pin(cls, path: Path) -> Program:
        """The program pinned at ``path``. The caller closes its descriptor."""
        return cls(
            path.name, check(libbpf().bpf_obj_get(os.fsencode(path)), f"open the program {path}")
        )

    @property
    def id(self) -> int:
        """The kernel's id."""
        return int.from_bytes(object_info(self.fd)[4:8], "little")

    @property
    def instructions(self) -> int:
        """How many instructions the kernel runs it as, before they become the machine's."""
        return int.from_bytes(object_info(self.fd)[20:24], "little") // 8

    @property
    def instructions_followed(self) -> int:
        """How many the verifier went through (of 1,000,000); 0 before Linux 5.16."""
        return int.from_bytes(object_info(self.fd)[216:220], "little")

    def pin(self, path: Path) -> None:
        """Give the program a name in a bpffs; it lives until that is removed."""
        check(libbpf().bpf_obj_pin(self.fd, os.fsencode(path)), f"pin {self.name} at {path}")

    def test_run(
        self,
        packet: bytes,
        *,
        repeat: int = 1,
        skb: Mapping[str, int | bytes] | None = None,
    ) -> TestRun:
        """Run on one packet (BPF_PROG_TEST_RUN).

        :param packet: whole frame, Ethernet header first.
        :param skb: fields of ``struct __sk_buff`` to start with: ifindex, cb, gso_segs, gso_size.
        """
        out = ctypes.create_string_buffer(len(packet) + 256)
        context = bytearray(_SKB_SIZE)
        for name, value in (skb or {}).items():
            data = value if isinstance(value, bytes) else value.to_bytes(4, "little")
            context[_SKB_FIELDS[name] : _SKB_FIELDS[name] + len(data)] = data
        context_in = ctypes.create_string_buffer(bytes(context), _SKB_SIZE)
        context_out = ctypes.create_string_buffer(_SKB_SIZE)
        data_in = ctypes.create_string_buffer(packet, len(packet))
        options = _TestRunOptions(
            sz=ctypes.sizeof(_TestRunOptions),
            data_in=ctypes.addressof(data_in),
            data_out=ctypes.addressof(out),
            data_size_in=len(packet),
            data_size_out=len(out),
            repeat=repeat,
        )
        if skb is not None:
            options.ctx_in = ctypes.addressof(context_in)
            options.ctx_out = ctypes.addressof(context_out)
            options.ctx_size_in = options.ctx_size_out = _SKB_SIZE
        check(libbpf().bpf_prog_test_run_opts(self.fd, ctypes.byref(options)), f"run {self.name}")
        result = ctypes.c_int32(options.retval).value
        return TestRun(
            result=result,
            packet=out.raw[: options.data_size_out],
            duration_ns=options.duration,
            context=context_out.raw,
        )

    def send_frames(self, packet: bytes, *, count: int, ifindex: int, batch: int = 64) -> int:
        """Have an XDP program process ``count`` real frames (BPF_F_TEST_XDP_LIVE_FRAMES).

        Frames are recycled without being reset: the program has to rewrite what it or a receiver
        changed.

        :param ifindex: where the frames seem to come from, in this thread's namespace.
        :returns: ns per frame by the kernel's own clock, which leaves the call's set-up (20 ms
            and more) out.
        """
        data_in = ctypes.create_string_buffer(packet, len(packet))
        context = (ctypes.c_uint32 * 6)(0, len(packet), 0, ifindex, 0, 0)
        options = _TestRunOptions(
            sz=ctypes.sizeof(_TestRunOptions),
            data_in=ctypes.addressof(data_in),
            data_size_in=len(packet),
            ctx_in=ctypes.addressof(context),
            ctx_size_in=ctypes.sizeof(context),
            repeat=count,
            flags=_LIVE_FRAMES,
            batch_size=batch,
        )
        check(
            libbpf().bpf_prog_test_run_opts(self.fd, ctypes.byref(options)),
            f"send frames with {self.name}",
        )
        return int(options.duration)


class BpfObject:
    """One object file: spec first (open), kernel second (load)."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise UnsupportedError(f"{path} is not there: run `make build`")
        take_log()
        self.path = path
        self._handle = check(
            libbpf().bpf_object__open_file(os.fsencode(path), None), f"open {path}"
        )
        self._maps = {_name(h, "map"): h for h in self._handles("bpf_object__next_map")}
        self._left_out: set[str] = set()
        self._shared: dict[str, Map] = {}
        self._set_types()
        size = ctypes.c_uint32()
        btf = check(libbpf().bpf_object__btf(self._handle), f"read BTF of {path}")
        raw = libbpf().btf__raw_data(btf, ctypes.byref(size))
        self.btf = Btf(ctypes.string_at(raw, size.value))

    def _set_types(self) -> None:
        """Say what the sections mean that libbpf before 1.3 does not know."""
        for handle in self._handles("bpf_object__next_program"):
            kinds = _NEW_SECTIONS.get(libbpf().bpf_program__section_name(handle))
            if kinds is not None:
                program_type, attach_type = kinds
                libbpf().bpf_program__set_type(handle, program_type)
                libbpf().bpf_program__set_expected_attach_type(handle, attach_type)

    def _handles(self, following: str) -> list[int]:
        step = getattr(libbpf(), following)
        found: list[int] = []
        here = step(self._handle, None)
        while here:
            found.append(here)
            here = step(self._handle, here)
        return found

    def constants(self, values: Mapping[str, Value]) -> None:
        """Set read-only variables before loading. Raises KeyError for one it does not have."""
        variables = self.btf.variables.get(".rodata", {})
        size = ctypes.c_size_t()
        for name, value in values.items():
            if name not in variables:
                raise KeyError(f"{self.path.name} has no constant {name} (has {sorted(variables)})")
            offset, layout = variables[name]
            start = libbpf().bpf_map__initial_value(
                self._maps[self._section(".rodata")], ctypes.byref(size)
            )
            if offset + layout.size > size.value:
                raise ValueError(f"constant {name} lies outside of {self.path.name}'s section")
            ctypes.memmove(start + offset, layout.encode(value), layout.size)

    def _section(self, section: str) -> str:
        return next(name for name in self._maps if name.endswith(section))

    def resize(self, map_name: str, entries: int) -> None:
        """Set a map's bound before loading."""
        check(
            libbpf().bpf_map__set_max_entries(self._maps[map_name], entries),
            f"size map {map_name} to {entries}",
        )

    def share(self, map_name: str, existing: Map) -> None:
        """Use an existing map instead of making one."""
        check(
            libbpf().bpf_map__reuse_fd(self._maps[map_name], existing.fd), f"share map {map_name}"
        )
        self._shared[map_name] = existing

    def leave_out(self, program_name: str) -> None:
        """Do not load one of the programs."""
        handle = self._programs()[program_name]
        check(libbpf().bpf_program__set_autoload(handle, False), f"leave {program_name} out")

    def leave_map_out(self, map_name: str) -> None:
        """Do not make one of the maps; no program that is loaded may reach it."""
        handle = self._maps[map_name]
        check(libbpf().bpf_map__set_autocreate(handle, False), f"leave map {map_name} out")
        self._left_out.add(map_name)

    def mappable(self, map_name: str) -> None:
        """Make a map an array that a program in user space can map into its memory."""
        handle = self._maps[map_name]
        check(libbpf().bpf_map__set_type(handle, _ARRAY), f"make map {map_name} an array")
        check(libbpf().bpf_map__set_map_flags(handle, _MAPPABLE), f"make map {map_name} mappable")

    def load(self) -> None:
        """Create the maps and load the programs. Raises BpfError with the verifier's last lines."""
        result = libbpf().bpf_object__load(self._handle)
        if result < 0:
            log = take_log()
            last = "\n".join(log.splitlines()[-30:])
            raise BpfError(f"load {self.path.name}", -result, last, whole_log=log)

    def map(self, name: str) -> Map:
        """A map of the loaded object; its descriptor belongs to the object."""
        handle = self._maps[name]
        library = libbpf()
        key, value = self._layouts(name, handle)
        return Map(
            name=name,
            fd=library.bpf_map__fd(handle),
            type_id=library.bpf_map__type(handle),
            key=key,
            value=value,
            max_entries=library.bpf_map__max_entries(handle),
        )

    def _layouts(self, name: str, handle: int) -> tuple[Layout, Layout]:
        if name in self._shared:  # its type ids are those of the object that made it
            return self._shared[name].key, self._shared[name].value
        library = libbpf()
        key, value = (
            (library.bpf_map__btf_key_type_id(handle), library.bpf_map__key_size(handle)),
            (library.bpf_map__btf_value_type_id(handle), library.bpf_map__value_size(handle)),
        )
        return self._layout(*key), self._layout(*value)

    def _layout(self, type_id: int, size: int) -> Layout:
        """Layout by BTF; of a map without one (a stack has no key), plain bytes."""
        return self.btf.layout(type_id) if type_id else Layout(size=size)

    @property
    def map_names(self) -> tuple[str, ...]:
        """Maps that the source declares (sections such as .rodata left out)."""
        return tuple(n for n in self._maps if "." not in n and n not in self._left_out)

    def _programs(self) -> dict[str, int]:
        return {_name(h, "program"): h for h in self._handles("bpf_object__next_program")}

    def program(self, name: str) -> Program:
        """A loaded program, by its C function's name. Raises KeyError."""
        return Program(name, libbpf().bpf_program__fd(self._programs()[name]))

    @property
    def program_names(self) -> tuple[str, ...]:
        """Names of its programs that are loaded (or will be)."""
        return tuple(
            name
            for name, handle in self._programs().items()
            if libbpf().bpf_program__autoload(handle)
        )

    def close(self) -> None:
        """Close all descriptors; what is pinned, linked or in a slot lives on."""
        if self._handle:
            libbpf().bpf_object__close(self._handle)
            self._handle = 0

    def __enter__(self) -> BpfObject:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _name(handle: int, kind: str) -> str:
    name: bytes = getattr(libbpf(), f"bpf_{kind}__name")(handle)
    return name.decode()
