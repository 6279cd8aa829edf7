# SPDX-License-Identifier: MIT
"""libbpf.so.1 by ctypes: declarations, the log, and how its errors become ours.

Only functions that libbpf 1.0 has are used, so that Debian 12's 1.1 is enough.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
from collections.abc import Callable
from functools import cache

from testbed.errors import RunError, UnsupportedError

__all__ = ["BpfError", "check", "libbpf", "take_log"]

_LOG_LIMIT = 4000
_LOG_BYTES = 1 << 24  # a whole verifier log comes as one text, and its end is what matters
_log: list[str] = []


class BpfError(RunError):
    """The kernel or libbpf refused.

    ``errno`` is the kernel's answer, ``log`` what libbpf said, as the message shows it,
    ``whole_log`` all of it.
    """

    def __init__(self, what: str, error: int, log: str = "", *, whole_log: str = "") -> None:
        self.errno = error
        self.log = log
        self.whole_log = whole_log or log
        name = errno.errorcode.get(error, str(error))
        tail = f"\n{log}" if log else ""
        super().__init__(f"{what}: {os.strerror(error)} ({name}){tail}")


_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_libc = ctypes.CDLL(None)


def _keep(level: int, text: bytes, arguments: int) -> int:
    """libbpf's print hook: keeps warnings (verifier logs among them) for the next error."""
    if level > 0:
        return 0
    buffer = ctypes.create_string_buffer(_LOG_BYTES)
    _libc.vsnprintf(buffer, ctypes.c_size_t(len(buffer)), text, ctypes.c_void_p(arguments))
    _log.append(buffer.value.decode(errors="replace"))
    del _log[:-_LOG_LIMIT]
    return 0


def take_log() -> str:
    """What libbpf said since the last call; empties it."""
    text = "".join(_log).strip()
    _log.clear()
    return text


_p, _i, _u32, _u64, _s = (
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_uint32,
    ctypes.c_uint64,
    ctypes.c_char_p,
)
_keep_hook = _PRINT(_keep)  # kept alive as long as libbpf may call it
_SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "libbpf_set_print": (_p, [_PRINT]),
    "libbpf_num_possible_cpus": (_i, []),
    "bpf_object__open_file": (_p, [_s, _p]),
    "bpf_object__load": (_i, [_p]),
    "bpf_object__close": (None, [_p]),
    "bpf_object__btf": (_p, [_p]),
    "bpf_object__next_map": (_p, [_p, _p]),
    "bpf_object__next_program": (_p, [_p, _p]),
    "bpf_map__name": (_s, [_p]),
    "bpf_map__fd": (_i, [_p]),
    "bpf_map__type": (_i, [_p]),
    "bpf_map__key_size": (_u32, [_p]),
    "bpf_map__value_size": (_u32, [_p]),
    "bpf_map__max_entries": (_u32, [_p]),
    "bpf_map__set_autocreate": (_i, [_p, ctypes.c_bool]),
    "bpf_map__set_map_flags": (_i, [_p, _u32]),
    "bpf_map__set_max_entries": (_i, [_p, _u32]),
    "bpf_map__set_type": (_i, [_p, _i]),
    "bpf_map__reuse_fd": (_i, [_p, _i]),
    "bpf_map__btf_key_type_id": (_u32, [_p]),
    "bpf_map__btf_value_type_id": (_u32, [_p]),
    "bpf_map__initial_value": (_p, [_p, _p]),
    "bpf_program__name": (_s, [_p]),
    "bpf_program__fd": (_i, [_p]),
    "bpf_program__section_name": (_s, [_p]),
    "bpf_program__set_type": (_i, [_p, _u32]),
    "bpf_program__set_expected_attach_type": (_i, [_p, _u32]),
    "bpf_program__autoload": (ctypes.c_bool, [_p]),
    "bpf_program__set_autoload": (_i, [_p, ctypes.c_bool]),
    "btf__raw_data": (_p, [_p, _p]),
    "btf__load_from_kernel_by_id": (_p, [_u32]),
    "btf__free": (None, [_p]),
    "bpf_map_lookup_elem": (_i, [_i, _p, _p]),
    "bpf_map_update_elem": (_i, [_i, _p, _p, _u64]),
    "bpf_map_delete_elem": (_i, [_i, _p]),
    "bpf_map_get_next_key": (_i, [_i, _p, _p]),
    "bpf_map_update_batch": (_i, [_i, _p, _p, _p, _p]),
    "bpf_obj_pin": (_i, [_i, _s]),
    "bpf_obj_get": (_i, [_s]),
    "bpf_obj_get_info_by_fd": (_i, [_i, _p, _p]),
    "bpf_prog_test_run_opts": (_i, [_i, _p]),
    "bpf_link_create": (_i, [_i, _i, _i, _p]),
    "bpf_prog_query": (_i, [_i, _i, _u32, _p, _p, _p]),
    "bpf_enable_stats": (_i, [_i]),
    "bpf_raw_tracepoint_open": (_i, [_s, _i]),
    "bpf_tc_hook_create": (_i, [_p]),
    "bpf_tc_attach": (_i, [_p, _p]),
    "bpf_tc_detach": (_i, [_p, _p]),
}


@cache
def libbpf() -> ctypes.CDLL:
    """The library, declared. Raises UnsupportedError where it is not installed."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise UnsupportedError(
            f"libbpf.so.1 cannot be loaded ({error}): install the package libbpf1, or run"
            " `make deps`"
        ) from None
    for name, (result, arguments) in _SIGNATURES.items():
        function: Callable[..., object] = getattr(library, name)
        function.restype = result  # type: ignore[attr-defined]
        function.argtypes = arguments  # type: ignore[attr-defined]
    library.libbpf_set_print(_keep_hook)
    return library


def check(result: int | None, what: str) -> int:
    """Result of a libbpf call that answers a number < 0, or a null pointer, for an error."""
    if result is None:
        raise BpfError(what, ctypes.get_errno(), take_log())
    if result < 0:
        raise BpfError(what, -result, take_log())
    return result
