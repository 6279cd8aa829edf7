# SPDX-License-Identifier: MIT
"""What the BPF maps and programs that this process has open hold and use, by the kernel's account.

Run times are counted while somebody asks for it (:func:`run_time_counted`). A tail call is part of
the program that made it: the run time of a chain is that of its classifier.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from testbed.bpf.library import check, libbpf

__all__ = ["BpfUse", "objects_in_use", "parse_fdinfo", "run_time_counted"]

_RUN_TIME = 0  # BPF_STATS_RUN_TIME
_KINDS: dict[str, Literal["map", "program"]] = {
    "anon_inode:bpf-map": "map",
    "anon_inode:bpf-prog": "program",
}


@dataclass(frozen=True, kw_only=True)
class BpfUse:
    """One map or program.

    :ivar number: the kernel's id.
    :ivar held_bytes: memory as charged (memlock); maps without preallocation count what they hold.
        Before Linux 6.4 (``probe("map_memory")``) it is the size of a map's entries if it were
        full, in whole pages.
    :ivar run_time_ns: all runs together, tail calls included; 0 for a map.
    :ivar runs: how often it was entered, tail calls into it left out; 0 for a map.
    """

    kind: Literal["map", "program"]
    number: int
    held_bytes: int
    run_time_ns: int = 0
    runs: int = 0


def parse_fdinfo(text: str, kind: Literal["map", "program"]) -> BpfUse:
    """Read ``/proc/<pid>/fdinfo/<fd>`` of a map or program. Raises KeyError for other text."""
    info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return BpfUse(
        kind=kind,
        number=int(info["map_id" if kind == "map" else "prog_id"]),
        held_bytes=int(info["memlock"]),
        run_time_ns=int(info.get("run_time_ns", 0)),
        runs=int(info.get("run_cnt", 0)),
    )


def objects_in_use() -> dict[tuple[str, int], BpfUse]:
    """Each map and program that this process has open, by kind and kernel id."""
    found: dict[tuple[str, int], BpfUse] = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            kind = _KINDS.get(os.readlink(link))  # noqa: PTH115 - a Path would take the colon
            if kind is None:
                continue
            text = Path(f"/proc/self/fdinfo/{link.name}").read_text()
        except OSError:  # closed meanwhile, such as the folder's own descriptor
            continue
        use = parse_fdinfo(text, kind)
        found[kind, use.number] = use
    return found


@contextlib.contextmanager
def run_time_counted() -> Iterator[None]:
    """Have the kernel count programs' run time meanwhile (BPF_ENABLE_STATS).

    It ends with its descriptor, however this process ends, and changes no sysctl. A run costs some
    20 ns more.

    :raises BpfError: the kernel refuses.
    """
    fd = check(libbpf().bpf_enable_stats(_RUN_TIME), "count the programs' run time")
    try:
        yield
    finally:
        os.close(fd)
