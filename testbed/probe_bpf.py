# SPDX-License-Identifier: MIT
"""Probes of the kernel's BPF: hand-assembled programs of a few instructions, loaded for a moment.

They work before any object is built and need no library. Numbers are those of the kernel's
``include/uapi/linux/bpf.h``.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from testbed.probe_base import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Absent,
    CouldNotTell,
    ProbeSpec,
    attribute,
    bpf_call,
    mount,
    netlink_request,
)
from testbed.probe_net import LOOPBACK, TC_H_CLSACT, add_link, add_qdisc

__all__ = ["PROBES"]

_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _OBJ_PIN, _TEST_RUN = 0, 2, 5, 6, 10
_RAW_TRACEPOINT_OPEN, _LINK_CREATE, _ENABLE_STATS = 17, 28, 32
_SCHED_CLS, _XDP, _TRACING, _NETFILTER = 3, 6, 26, 32
_TRACE_RAW_TP, _XDP_ATTACH, _NETFILTER_ATTACH, _TCX_INGRESS = 23, 37, 45, 46
_MAP_HASH, _MAP_ARRAY, _MAP_PROG_ARRAY, _NO_PREALLOC = 1, 2, 3, 1
_TAIL_CALL, _FIB_LOOKUP, _REDIRECT_PEER, _TIMER_INIT = 12, 69, 155, 169
_LIVE_FRAMES = 1 << 1

_KERNEL_BTF = Path("/sys/kernel/btf")
_CONNTRACK_KFUNCS = (
    "bpf_skb_ct_lookup",
    "bpf_skb_ct_alloc",
    "bpf_ct_set_nat_info",
    "bpf_ct_insert_entry",
    "bpf_ct_change_status",
    "bpf_ct_set_timeout",
    "bpf_ct_change_timeout",
    "bpf_ct_release",
)


def _instruction(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("=BBhi", code, src << 4 | dst, off, imm)


def _set(register: int, value: int) -> bytes:
    return _instruction(0xB7, register, imm=value)


def _call(helper: int) -> bytes:
    return _instruction(0x85, imm=helper)


_EXIT = _instruction(0x95)


def _returning(value: int) -> bytes:
    return _set(0, value) + _EXIT


def _bpf(command: int, attributes: bytes) -> int:
    """bpf(2); returns its result.

    :raises OSError: the kernel refused.
    """
    try:
        return bpf_call(command, attributes)[0]
    except KeyError:
        machine = platform.machine()
        raise CouldNotTell(f"the number of bpf(2) on {machine} is not known here") from None


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def _load(
    kind: int,
    program: bytes,
    *,
    attach_type: int = 0,
    btf_id: int = 0,
    log: ctypes.Array[ctypes.c_char] | None = None,
) -> int:
    """Load a program and return its descriptor, which closes when the probe's process ends.

    :raises OSError: the verifier or the kernel refused it.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"GPL")
    log_part = (0, 0, 0) if log is None else (1, len(log), _address(log))
    attributes = struct.pack(
        "=IIQQIIQII16sIIIIQIIQIII",
        *(kind, len(program) // 8, _address(instructions), _address(licence)),
        *log_part,
        *(0, 0, b"nfcbed_probe", 0, attach_type),
        *(0, 0, 0, 0, 0, 0, 0, btf_id, 0),
    )
    return _bpf(_PROG_LOAD, attributes)


def _array(kind: int, *, entries: int, flags: int = 0) -> int:
    return _bpf(_MAP_CREATE, struct.pack("=IIIII", kind, 4, 4, entries, flags))


def _store(table: int, value: int) -> None:
    """Put a value at key 0."""
    key, data = ctypes.create_string_buffer(4), ctypes.create_string_buffer(4)
    data.raw = struct.pack("=I", value)
    _bpf(_MAP_UPDATE, struct.pack("=IxxxxQQQ", table, _address(key), _address(data), 0))


def _test_run(program: int, *, flags: int = 0, repeat: int = 1) -> int:
    """BPF_PROG_TEST_RUN with an empty packet of 64 bytes; returns the program's return value."""
    packet = ctypes.create_string_buffer(64)
    attributes = struct.pack(
        "=IIIIQQIIIIQQIII",
        *(program, 0, 64, 0, _address(packet), 0),
        *(repeat, 0, 0, 0, 0, 0),
        *(flags, 0, 0),
    )
    _, after = bpf_call(_TEST_RUN, attributes)
    return int(struct.unpack_from("=I", after, 4)[0])


def _link(program: int, target: int, attach_type: int, *, flags: int = 0, more: bytes = b"") -> int:
    return _bpf(_LINK_CREATE, struct.pack("=IIII", program, target, attach_type, flags) + more)


def _btf() -> str:
    size = (_KERNEL_BTF / "vmlinux").stat().st_size
    return f"{size / 1e6:.1f} MB"


def _bpf_jit() -> str:
    try:
        value = Path("/proc/sys/net/core/bpf_jit_enable").read_text().strip()
    except PermissionError as error:
        raise CouldNotTell("needs root") from error
    if value == "0":
        raise Absent("net.core.bpf_jit_enable = 0")
    return f"net.core.bpf_jit_enable = {value}"


def _sched_cls() -> str:
    _load(_SCHED_CLS, _returning(0))
    return "loaded a program"


def _xdp() -> str:
    program = _load(_XDP, _returning(2))
    _link(program, add_link("veth", "probe0", peer="probe1"), _XDP_ATTACH, flags=1 << 2)
    return "native on a veth"


def _tcx() -> str:
    program = _load(_SCHED_CLS, _returning(0), attach_type=_TCX_INGRESS)
    _link(program, LOOPBACK, _TCX_INGRESS)
    return "made a link"


def _clsact() -> str:
    program = _load(_SCHED_CLS, _returning(0))
    add_qdisc("clsact", LOOPBACK, parent=TC_H_CLSACT, handle=0xFFFF0000)
    ingress, protocol_all = 0xFFFFFFF2, socket.htons(3)
    message = struct.pack("=BxxxiIII", 0, LOOPBACK, 0, ingress, 1 << 16 | protocol_all)
    options = attribute(6, program) + attribute(7, "probe") + attribute(8, 1)
    new_filter = 44
    netlink_request(
        new_filter,
        message + attribute(1, "bpf") + attribute(2, options),
        flags=NLM_F_CREATE | NLM_F_EXCL,
    )
    return "attached a filter"


def _netfilter_link() -> str:
    program = _load(_NETFILTER, _returning(1), attach_type=_NETFILTER_ATTACH)
    ipv4, prerouting, priority = 2, 0, -400
    where = struct.pack("=IIiI", ipv4, prerouting, priority, 0)
    _link(program, 0, _NETFILTER_ATTACH, more=where)
    return "made a link at PRE_ROUTING"


def _redirect_peer() -> str:
    _load(_SCHED_CLS, _set(1, LOOPBACK) + _set(2, 0) + _call(_REDIRECT_PEER) + _EXIT)
    return "loaded a call"


def _fib_lookup() -> str:
    store_zero, copy, add = 0x7A, 0xBF, 0x07
    program = b"".join(_instruction(store_zero, 10, off=off) for off in range(-64, 0, 8))
    program += _instruction(copy, 2, 10) + _instruction(add, 2, imm=-64)
    program += _set(3, 64) + _set(4, 0) + _call(_FIB_LOOKUP) + _returning(0)
    _load(_SCHED_CLS, program)
    return "loaded a call"


def _tail_call() -> str:
    slots, answer = _array(_MAP_PROG_ARRAY, entries=1), 42
    target = _load(_SCHED_CLS, _returning(answer))
    _store(slots, target)
    map_reference = _instruction(0x18, 2, 1, imm=slots) + _instruction(0)
    caller = _load(_SCHED_CLS, map_reference + _set(3, 0) + _call(_TAIL_CALL) + _returning(0))
    if (seen := _test_run(caller)) != answer:
        raise Absent(f"the call was not made: {seen} came back")
    return "made a call"


def _prog_test_run() -> str:
    if (seen := _test_run(_load(_SCHED_CLS, _returning(7)))) != 7:
        raise Absent(f"the program returned 7 and {seen} came back")
    return "ran a program"


def _xdp_live_frames() -> str:
    drop = 1
    _test_run(_load(_XDP, _returning(drop)), flags=_LIVE_FRAMES, repeat=64)
    return "ran 64 frames"


def _bpf_timer() -> str:
    """Call the helper wrongly: a verifier that knows it complains about the arguments."""
    log = ctypes.create_string_buffer(65536)
    try:
        _load(_SCHED_CLS, _call(_TIMER_INIT) + _EXIT, log=log)
    except OSError as error:
        text = log.value.decode(errors="replace")
        if error.errno == errno.EPERM or not text:
            raise
        if any(sign in text for sign in ("unknown func", "invalid func", "cannot use helper")):
            raise Absent("the verifier does not know bpf_timer_init") from error
    return "the verifier knows bpf_timer_init"


@functools.cache
def _names(module: str) -> frozenset[bytes]:
    """All names in the BTF of the kernel or of one of its modules."""
    try:
        data = (_KERNEL_BTF / module).read_bytes()
    except FileNotFoundError:
        return frozenset()
    header_length, _, _, offset, length = struct.unpack_from("=5I", data, 4)
    start = header_length + offset
    return frozenset(data[start : start + length].split(b"\0"))


def _conntrack_kfuncs() -> str:
    missing = _missing_kfuncs()
    if missing and shutil.which("modprobe"):
        # Where connection tracking is a module, its functions show once it is loaded.
        argv = ["modprobe", "-q", "-a", "nf_conntrack", "nf_nat"]
        subprocess.run(argv, capture_output=True, timeout=4, check=False)
        _names.cache_clear()
        missing = _missing_kfuncs()
    if missing:
        raise Absent("not in the kernel's BTF: " + ", ".join(missing))
    return f"all {len(_CONNTRACK_KFUNCS)} functions"


def _missing_kfuncs() -> list[str]:
    known = _names("vmlinux") | _names("nf_conntrack") | _names("nf_nat")
    return [name for name in _CONNTRACK_KFUNCS if name.encode() not in known]


def _type_names(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Walk BTF: (type id, kind, offset of its name among the strings)."""
    header_length, type_offset, type_length = struct.unpack_from("=3I", data, 4)
    at, end = header_length + type_offset, header_length + type_offset + type_length
    # Bytes after each type's header, by kind: so much, and so much for each member.
    fixed = {1: 4, 3: 12, 14: 4, 17: 4}
    each = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
    header, number = struct.Struct("=III"), 1
    while at < end:
        name, info, _ = header.unpack_from(data, at)
        kind = info >> 24 & 0x1F
        yield number, kind, name
        at += 12 + fixed.get(kind, 0) + each.get(kind, 0) * (info & 0xFFFF)
        number += 1


def _typedef_id(name: str) -> int:
    """Id of a typedef in the kernel's BTF."""
    data = (_KERNEL_BTF / "vmlinux").read_bytes()
    header_length, _, _, string_offset, _ = struct.unpack_from("=5I", data, 4)
    start = header_length + string_offset
    wanted, typedef = data.find(b"\0" + name.encode() + b"\0", start) + 1 - start, 8
    for number, kind, name_offset in _type_names(data):
        if name_offset == wanted and kind == typedef:
            return number
    raise Absent(f"the kernel's BTF has no {name}")


def _tp_btf() -> str:
    btf_id = _typedef_id("btf_trace_sched_switch")
    program = _load(_TRACING, _returning(0), attach_type=_TRACE_RAW_TP, btf_id=btf_id)
    _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, program))
    return "attached to sched_switch"


def _bpf_stats() -> str:
    _bpf(_ENABLE_STATS, struct.pack("=I", 0))
    return "switched on for a moment"


def _map_memory() -> str:
    """Put an entry into a map that allocates as it goes, and see whether its account grows."""

    def held_bytes() -> int:
        lines = Path(f"/proc/self/fdinfo/{table}").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("memlock:"))

    table = _array(_MAP_HASH, entries=64, flags=_NO_PREALLOC)
    before = held_bytes()
    _store(table, 1)
    if (more := held_bytes() - before) <= 0:
        raise Absent("the kernel accounts what a map may hold, not what it holds")
    return f"one entry more, {more} bytes more"


def _bpffs() -> str:
    mount("none", "/mnt", "tmpfs")
    folder = Path("/mnt/bpf")
    folder.mkdir()
    mount("none", str(folder), "bpf")
    path = ctypes.create_string_buffer(os.fsencode(folder / "probe"))
    _bpf(_OBJ_PIN, struct.pack("=QII", _address(path), _array(_MAP_ARRAY, entries=1), 0))
    return "mounted, and a map pinned"


PROBES = {
    "btf": ProbeSpec(_btf, isolated=False),
    "bpf_jit": ProbeSpec(_bpf_jit, isolated=False),
    "bpffs": ProbeSpec(_bpffs, since=(4, 4)),
    "sched_cls": ProbeSpec(_sched_cls, since=(4, 1)),
    "tcx": ProbeSpec(_tcx, since=(6, 6)),
    "clsact": ProbeSpec(_clsact),
    "tail_call": ProbeSpec(_tail_call, since=(4, 12)),
    "redirect_peer": ProbeSpec(_redirect_peer, since=(5, 10)),
    "fib_lookup": ProbeSpec(_fib_lookup, since=(4, 18)),
    "conntrack_kfuncs": ProbeSpec(_conntrack_kfuncs),
    "bpf_timer": ProbeSpec(_bpf_timer, since=(5, 15)),
    "prog_test_run": ProbeSpec(_prog_test_run, since=(4, 12)),
    "xdp": ProbeSpec(_xdp, since=(5, 9)),
    "xdp_live_frames": ProbeSpec(_xdp_live_frames, since=(5, 18)),
    "netfilter_link": ProbeSpec(_netfilter_link),
    "tp_btf": ProbeSpec(_tp_btf),
    "bpf_stats": ProbeSpec(_bpf_stats, since=(5, 8)),
    "map_memory": ProbeSpec(_map_memory, since=(6, 4)),
}
