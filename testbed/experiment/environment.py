# SPDX-License-Identifier: MIT
"""``environment.json``: the machine and the software of a run, without a host's or user's name.

Read in the host's own namespaces, before the sandbox is made: inside, some sysctls cannot be seen.
What cannot be read is null or left out; nothing here stops a run.
"""

from __future__ import annotations

import gzip
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from testbed import doctor
from testbed.bench.environment import describe_machine
from testbed.doctor_needs import TOOLS
from testbed.paths import ROOT

__all__ = ["describe_environment", "socket_buffer_bytes"]

SYSCTLS = (
    "kernel/bpf_stats_enabled",
    "kernel/nmi_watchdog",
    "kernel/numa_balancing",
    "kernel/perf_event_paranoid",
    "kernel/sched_autogroup_enabled",
    "kernel/timer_migration",
    "kernel/unprivileged_bpf_disabled",
    "net/core/bpf_jit_enable",
    "net/core/bpf_jit_harden",
    "net/core/bpf_jit_limit",
    "net/core/busy_poll",
    "net/core/busy_read",
    "net/core/default_qdisc",
    "net/core/dev_weight",
    "net/core/flow_limit_cpu_bitmap",
    "net/core/gro_normal_batch",
    "net/core/high_order_alloc_disable",
    "net/core/netdev_budget",
    "net/core/netdev_budget_usecs",
    "net/core/netdev_max_backlog",
    "net/core/rmem_default",
    "net/core/rmem_max",
    "net/core/rps_default_mask",
    "net/core/wmem_default",
    "net/core/wmem_max",
    "net/ipv4/udp_mem",
)
KERNEL_OPTIONS = re.compile(
    r"CONFIG_(HZ|NO_HZ\w*|HIGH_RES_TIMERS|PREEMPT\w*|BPF\w*|NET_CLS_BPF|NET_SCH_INGRESS|VETH"
    r"|BRIDGE|NF_CONNTRACK|NF_NAT|NETFILTER_BPF_LINK|DEBUG_INFO_BTF|CPU_MITIGATIONS"
    r"|MITIGATION_RETPOLINE|RETPOLINE|IRQ_TIME_ACCOUNTING|VIRT_CPU_ACCOUNTING\w*"
    r"|TICK_CPU_ACCOUNTING|SMP|NR_CPUS|NUMA|HYPERVISOR_GUEST|PARAVIRT|MEMCG\w*|CGROUP_BPF|RPS|XPS"
    r"|NET_RX_BUSY_POLL|IP_MULTIPLE_TABLES|NETFILTER_XT_\w*BPF|NF_TABLES|BRIDGE_NETFILTER"
    # what makes a kernel slow on purpose
    r"|KASAN|KCSAN|KMSAN|UBSAN|LOCKDEP|PROVE_LOCKING|DEBUG_PREEMPT|DEBUG_LOCK_ALLOC|DEBUG_OBJECTS"
    r"|DEBUG_PAGEALLOC|SLUB_DEBUG_ON|PAGE_TABLE_CHECK|FUNCTION_TRACER|CC_VERSION_TEXT)=(.+)"
)
# Words of the kernel's command line that bear on speed; the rest may name a machine.
_BOOT_WORDS = re.compile(
    r"(mitigations|isolcpus|nohz\w*|rcu_nocbs|idle|intel_pstate|amd_pstate|intel_idle\.\w+"
    r"|processor\.\w+|cpuidle\S*|threadirqs|preempt|clocksource|tsc|nosmt|maxcpus|nested\w*)(=\S*)?"
)
_LIBRARIES = ("mininet", "pyroute2", "pydantic", "rich", "typer", "numpy", "scipy", "matplotlib")
_SMALLEST_BUFFER_BYTES = 64 * 1024
_LARGEST_BUFFER_BYTES = 4 * 1024 * 1024


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def socket_buffer_bytes() -> int:
    """Bytes that iperf3 can have for its sockets here: what the kernel allows, 4 MiB at most."""
    limits = [_read(f"/proc/sys/net/core/{name}_max") for name in ("rmem", "wmem")]
    known = [int(limit) for limit in limits if limit is not None]
    return min([_LARGEST_BUFFER_BYTES, *known]) if known else _SMALLEST_BUFFER_BYTES


def describe_environment(*, command: str) -> dict[str, Any]:
    """Give all that is known of the machine and the software.

    :param command: the command line, without paths.
    """
    machine = describe_machine()
    return {
        "format": "nfcbed-environment",
        "version": 1,
        "command": command,
        "nfcbed": {"version": _own_version(), **_git()},
        "kernel": {**_kernel(), "build": machine["kernel_build"]},
        "cpu": {**_cpu(), "mitigations": machine["mitigations"]},
        "memory_kb": _memory_kb(),
        "clocksource": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "system": _system(),
        "sysctls": {name: _read(f"/proc/sys/{name}") for name in SYSCTLS},
        "objects": machine["objects"],
        "tools": _tools(),
        "python": {
            "version": platform.python_version(),
            "libc": " ".join(platform.libc_ver()),
            **{name: _version(name) for name in _LIBRARIES},
        },
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _own_version() -> str | None:
    return _version("nfcbed")


def _git() -> dict[str, Any]:
    """Commit and whether files differ from it; both null where there is no repository."""
    # The folder may belong to somebody else than root; nothing of it is executed.
    git = ["git", "-c", f"safe.directory={ROOT}", "-c", "core.fsmonitor=false", "-C", str(ROOT)]
    try:
        commit = _output([*git, "rev-parse", "HEAD"])
        changes = _output([*git, "status", "--porcelain"])
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changes)}


def _output(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _kernel() -> dict[str, Any]:
    release = platform.release()
    return {
        "release": release,
        "machine": platform.machine(),
        "boot_words": [
            word for word in (_read("/proc/cmdline") or "").split() if _BOOT_WORDS.fullmatch(word)
        ],
        "options": _kernel_options(release),
    }


def _kernel_options(release: str) -> dict[str, str] | None:
    text = _read(f"/boot/config-{release}")
    if text is None:
        try:
            text = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
        except OSError:
            return None
    lines = (KERNEL_OPTIONS.fullmatch(line) for line in text.splitlines())
    return {f"CONFIG_{found[1]}": found[2].strip('"') for found in lines if found}


def _cpu() -> dict[str, Any]:
    text = _read("/proc/cpuinfo") or ""
    model = re.search(r"^(?:model name|Model|Processor)\s*:\s*(.+)$", text, re.MULTILINE)
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "model": model[1] if model else None,
        "count": os.cpu_count(),
        "usable": len(os.sched_getaffinity(0)),
        "governor": governor,
        "max_khz": _read("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"),
        "caches": _caches(),
        "virtual": re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE) is not None,
        "smt": _read("/sys/devices/system/cpu/smt/active"),
        "load": list(os.getloadavg()),
    }


def _caches() -> dict[str, str | None]:
    """Sizes of the first CPU's caches, by level and type."""
    folders = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    return {f"L{_read(f / 'level')} {_read(f / 'type')}": _read(f / "size") for f in folders}


def _memory_kb() -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) if found else None


def _system() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _tools() -> dict[str, str]:
    """Versions as ``nfcbed doctor`` finds them."""
    rows = [doctor.check(key) for key in (*(tool.key for tool in TOOLS), "libbpf")]
    found = {row.key: row.detail for row in rows if row.presence is doctor.Presence.PRESENT}
    return {key: detail for key, detail in found.items() if "/" not in detail}  # no version known
