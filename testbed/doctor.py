# SPDX-License-Identifier: MIT
"""Look a machine over: one row per thing that nfcbed needs.

:func:`examine` gives all rows, :func:`check` one by its key. A row says whether the thing is
there, what it is needed for and how to get it. Kernel features are tried (:mod:`testbed.probe`),
never concluded from a version; the versions of tools are asked of the tools.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from testbed.doctor_needs import FEATURES, TOOLS, Feature, Tool
from testbed.paths import ROOT
from testbed.probe import State, needs_root, probe, probe_all
from testbed.tool_path import tool_path

__all__ = ["KEYS", "Presence", "Report", "Row", "check", "examine"]

_BUFFER_BYTES = 4 * 1024 * 1024

TOOLS_GROUP, MACHINE, PRIVILEGES = "Tools", "Machine", "Privileges"


class Presence(StrEnum):
    """Whether a thing is there."""

    PRESENT = "present"
    MISSING = "missing"
    UNKNOWN = "could not tell"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing needed.

    :param key: its name in ``--json`` and in tests.
    :param detail: what was seen.
    :param get: how to get it.
    :param required: the thesis's experiment cannot run without it.
    """

    key: str
    group: str
    title: str
    presence: Presence
    detail: str
    needed_for: str
    get: str
    required: bool


@dataclass(frozen=True, slots=True)
class Report:
    """All rows for one machine."""

    rows: tuple[Row, ...]

    @property
    def lacking(self) -> tuple[Row, ...]:
        """Required rows that are missing: with one of these the main job cannot run."""
        return tuple(r for r in self.rows if r.required and r.presence is Presence.MISSING)

    @property
    def unclear(self) -> tuple[Row, ...]:
        """Required rows that could not be told."""
        return tuple(r for r in self.rows if r.required and r.presence is Presence.UNKNOWN)

    @property
    def can_run(self) -> bool | None:
        """Whether the main job can run here; None if that could not be told."""
        if self.lacking:
            return False
        return None if self.unclear else True

    def as_json(self) -> dict[str, Any]:
        """Give the report as plain values, version 1 of its form."""
        return {
            "version": 1,
            "can_run": self.can_run,
            "kernel": platform.release(),
            "machine": platform.machine(),
            "rows": [asdict(row) for row in self.rows],
        }


def examine() -> Report:
    """Look at everything. Takes well under three seconds and leaves nothing behind."""
    probe_all()
    return Report(tuple(check(key) for key in KEYS))


@functools.cache
def check(key: str) -> Row:
    """Look at one thing.

    :raises KeyError: there is no such row.
    """
    return KEYS[key]()


def _feature(need: Feature) -> Row:
    answer = probe(need.key)
    presence = {
        State.YES: Presence.PRESENT,
        State.NO: Presence.MISSING,
        State.UNKNOWN: Presence.UNKNOWN,
    }[answer.state]
    return Row(
        need.key,
        need.group,
        need.title,
        presence,
        answer.detail,
        need.needed_for,
        need.get,
        need.required,
    )


def _tc_ingress() -> Row:
    """Either of the two chaining points will do."""
    rows = [check("tcx"), check("clsact")]
    present = [row for row in rows if row.presence is Presence.PRESENT]
    unknown = all(row.presence is Presence.UNKNOWN for row in rows)
    if present:
        presence, detail = Presence.PRESENT, f"{present[0].title}"
    else:
        presence = Presence.UNKNOWN if unknown else Presence.MISSING
        detail = rows[0].detail if unknown else "neither tcx nor clsact"
    return Row(
        "tc_ingress",
        rows[0].group,
        "chaining point at tc ingress",
        presence,
        detail,
        "the datapath tc: where packets enter the chain",
        "Linux 6.6 or newer, or CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF",
        required=True,
    )


def _tool(need: Tool) -> Row:
    row = functools.partial(
        Row,
        need.key,
        TOOLS_GROUP,
        need.key + (f" ≥ {_dotted(need.minimum)}" if need.minimum else ""),
        needed_for=need.needed_for,
        get=f"make deps, or apt-get install {need.package}",
        required=need.required,
    )
    path = shutil.which(need.key, path=tool_path())
    if path is None:
        return row(Presence.MISSING, "not installed")
    try:
        done = subprocess.run(
            [path, *need.version],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return row(Presence.UNKNOWN, f"{path} does not answer: {error}")
    found = re.search(need.pattern, done.stdout + done.stderr)
    if found is None:
        known_enough = not need.minimum and done.returncode == 0
        return row(Presence.PRESENT if known_enough else Presence.UNKNOWN, path)
    if tuple(int(part) for part in found[0].split(".")) < need.minimum:
        return row(Presence.MISSING, f"{found[0]} is too old")
    return row(Presence.PRESENT, found[0])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _libbpf() -> Row:
    row = functools.partial(
        Row,
        "libbpf",
        TOOLS_GROUP,
        "libbpf ≥ 1.0",
        needed_for="loading BPF objects",
        get="make deps, or apt-get install libbpf1",
        required=True,
    )
    try:
        library = ctypes.CDLL("libbpf.so.1")
        library.libbpf_version_string.restype = ctypes.c_char_p
        version = library.libbpf_version_string().decode()
    except OSError:
        return row(Presence.MISSING, "no libbpf.so.1")
    return row(Presence.PRESENT, version.removeprefix("v"))


def _mininet() -> Row:
    try:
        presence, detail = Presence.PRESENT, metadata.version("mininet")
    except metadata.PackageNotFoundError:
        presence, detail = Presence.MISSING, "not in this Python environment"
    get = "make deps"
    return Row(
        "mininet", TOOLS_GROUP, "Mininet for Python", presence, detail, "networks", get, True
    )


def _objects() -> Row:
    """Every NF's source has its object, and the object is not older."""
    sources = sorted(ROOT.glob("nfs/*/*.bpf.c")) + sorted(ROOT.glob("testbed/bpf/*.bpf.c"))
    stale = [source.name for source in sources if not _is_built(source)]
    presence = Presence.MISSING if stale else Presence.PRESENT
    detail = f"to be built: {', '.join(stale)}" if stale else f"{len(sources)} objects"
    title, why = "built BPF objects", "loading a chain"
    return Row("objects", TOOLS_GROUP, title, presence, detail, why, "make build", required=True)


def _is_built(source: Path) -> bool:
    kind = "nfs" if source.is_relative_to(ROOT / "nfs") else "testbed"
    built = ROOT / "build" / kind / f"{source.stem}.o"
    return built.exists() and built.stat().st_mtime >= source.stat().st_mtime


def _root() -> Row:
    weak = needs_root()
    return Row(
        "root",
        PRIVILEGES,
        "root, or its capabilities",
        Presence.MISSING if weak else Presence.PRESENT,
        f"user {os.geteuid()}" + (" without CAP_SYS_ADMIN, NET_ADMIN and BPF" if weak else ""),
        "namespaces, loading programs",
        "sudo nfcbed …",
        required=True,
    )


def _cores() -> Row:
    count = len(os.sched_getaffinity(0))
    return Row(
        "cores",
        MACHINE,
        "two cores",
        Presence.PRESENT if count >= 2 else Presence.MISSING,
        f"{count} usable",
        "senders and receivers that do not wait for each other",
        "give the (virtual) machine more",
        required=False,
    )


def _buffers() -> Row:
    row = functools.partial(
        Row,
        "socket_buffers",
        MACHINE,
        "socket buffers ≥ 4 MiB",
        needed_for="flows of 1 Gbit/s that a receiver does not lose",
        get="sysctl -w net.core.rmem_max=4194304 net.core.wmem_max=4194304",
        required=False,
    )
    try:
        values = {
            name: int(Path("/proc/sys/net/core", name).read_text())
            for name in ("rmem_max", "wmem_max")
        }
    except OSError as error:
        return row(Presence.UNKNOWN, str(error.strerror))
    enough = min(values.values()) >= _BUFFER_BYTES
    detail = "receive {rmem_max:,}, send {wmem_max:,} B".format(**values)
    return row(Presence.PRESENT if enough else Presence.MISSING, detail)


def _all_keys() -> Mapping[str, Callable[[], Row]]:
    keys: dict[str, Callable[[], Row]] = {"root": _root}
    for feature in FEATURES:
        if feature.key == "tcx":
            keys["tc_ingress"] = _tc_ingress
        keys[feature.key] = functools.partial(_feature, feature)
    keys.update((tool.key, functools.partial(_tool, tool)) for tool in TOOLS)
    keys.update(libbpf=_libbpf, mininet=_mininet, objects=_objects)
    keys.update(cores=_cores, socket_buffers=_buffers)
    return keys


KEYS: Mapping[str, Callable[[], Row]] = _all_keys()
