# SPDX-License-Identifier: MIT
"""The machine that a bench ran on, as far as it bears on the figures."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from testbed.paths import BUILD

__all__ = ["describe_machine"]

_SYSCTLS = ("net/core/bpf_jit_enable", "net/core/bpf_jit_harden", "kernel/bpf_stats_enabled")
_VULNERABILITIES = Path("/sys/devices/system/cpu/vulnerabilities")


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _processor() -> str | None:
    lines = (_text(Path("/proc/cpuinfo")) or "").splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, None)


def _objects() -> dict[str, str]:
    """SHA-256 of each built BPF object: which code the figures belong to."""
    return {
        str(path.relative_to(BUILD)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(BUILD.glob("*/*.o"))
    }


def describe_machine() -> dict[str, Any]:
    """Kernel, processor, mitigations, sysctls and objects, as plain JSON values."""
    clock = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "nfcbed": version("nfcbed"),
        "kernel": platform.release(),
        "kernel_build": platform.version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": list(os.getloadavg()),
        "clocksource": _text(clock),
        "python": platform.python_version(),
        "sysctls": {name: _text(Path("/proc/sys") / name) for name in _SYSCTLS},
        "objects": _objects(),
        "mitigations": {
            path.name: _text(path) for path in sorted(_VULNERABILITIES.glob("*")) if path.is_file()
        },
    }
