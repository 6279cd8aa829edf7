# SPDX-License-Identifier: MIT
"""``environment.json`` of a result: read, summed up, and two of them compared."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from testbed.errors import UserError
from testbed.experiment.folder import ENVIRONMENT_FILE
from testbed.results import read_json

__all__ = ["environment_differences", "flat", "read_environment", "summary"]

Keys = tuple[str, ...]

FORMAT = "nfcbed-environment"
# What differs between any two runs and bears on nothing.
_PASSING = {"command", "pid", "load", "index", "mac", "refcnt", "handle"}
_NETWORKS = ("network", "routing_network", "networks")
_NAMED = ("nodes", "interfaces", "peer")  # below these stands a name or a number
_OPTIONS = ("CONFIG_HZ", "CONFIG_NO_HZ_FULL", "CONFIG_BPF_JIT_ALWAYS_ON")
_SLOW = (
    *("KASAN", "KCSAN", "KMSAN", "UBSAN", "LOCKDEP", "PROVE_LOCKING", "DEBUG_PREEMPT"),
    *("DEBUG_LOCK_ALLOC", "DEBUG_OBJECTS", "DEBUG_PAGEALLOC", "SLUB_DEBUG_ON"),
)
_SYSCTLS = (
    *("net/core/bpf_jit_enable", "net/core/bpf_jit_harden", "net/core/netdev_max_backlog"),
    *("net/core/netdev_budget", "net/core/rmem_max", "net/core/wmem_max"),
)


def read_environment(folder: Path) -> dict[str, Any] | None:
    """What a result's folder says of the machine; None if it does not.

    :raises UserError: the file is not one of ours.
    """
    path = folder / ENVIRONMENT_FILE
    if not os.path.lexists(path):
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{path}: is not an environment of nfcbed (no format {FORMAT!r})")
    return found


def flat(value: Any, *, at: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every value below a value, and the keys that lead to it; an empty container is one."""
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from flat(entry, at=(*at, str(key)))
    elif isinstance(value, list | tuple) and any(isinstance(v, dict | list) for v in value):
        for number, entry in enumerate(value):
            yield from flat(entry, at=(*at, str(number)))
    else:
        yield at, list(value) if isinstance(value, tuple) else value


def environment_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where two machines and their software differ: ``what``, ``a``, ``b``, ``times``.

    What differs in the same way in many interfaces or nodes is one entry.
    """
    found: Counter[tuple[str, str, str]] = Counter()
    for keys, *values in _differing(a, b):
        one, other = (json.dumps(value, ensure_ascii=False) for value in values)
        found[_name(keys), one, other] += 1
    return [
        {"what": what, "a": json.loads(one), "b": json.loads(other), "times": times}
        for (what, one, other), times in found.items()
    ]


def _differing(a: Any, b: Any, at: Keys = ()) -> Iterator[tuple[Keys, Any, Any]]:
    """Where two values differ: the keys that lead there, and both sides, None if not there."""
    if at and at[-1] in _PASSING:
        return
    if at[:1] == ("objects",) and len(at) > 1:
        if a != b:
            yield ("objects (compiled BPF)",), *_which_build(a, b)
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from _differing(a.get(key), b.get(key), (*at, str(key)))
    elif _is_rows(a) and _is_rows(b):
        for number, (one, other) in enumerate(zip_longest(a, b)):
            yield from _differing(one, other, (*at, str(number)))
    elif a != b:
        yield at, _short(a), _short(b)


def _which_build(a: Any, b: Any) -> tuple[str | None, str | None]:
    """In the place of hashes, which tell nobody anything."""
    return a and "one build", b and "another"


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(entry, dict) for entry in value)


def _short(value: Any) -> Any:
    """A whole part that the other side has not is only said to be there."""
    return "(there)" if isinstance(value, dict) or _is_rows(value) else value


def _name(keys: Keys) -> str:
    """Keys in words, without the names of nodes and the numbers of interfaces."""
    if keys[0] not in _NETWORKS:
        return " ".join(keys)
    words = [
        key
        for before, key in zip(("", *keys), keys, strict=False)
        if before not in _NAMED and not key.isdecimal()
    ]
    return " ".join(word for word in words if word not in {"nodes", "interfaces"})


def summary(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What bears most on figures, as pairs of a word and a line."""
    kernel, cpu, own = (_part(environment, key) for key in ("kernel", "cpu", "nfcbed"))
    dirty = {True: ", with changes", False: "", None: ""}.get(own.get("dirty"), "")
    rows = [
        ("command", environment.get("command")),
        ("nfcbed", f"{own.get('version')}, commit {own.get('commit') or 'unknown'}{dirty}"),
        ("system", environment.get("system")),
        ("kernel", f"{kernel.get('release')} ({kernel.get('machine')})"),
        ("kernel options", _options(_part(kernel, "options"), kernel.get("boot_words"))),
        ("processor", _processor(cpu)),
        ("memory", f"{environment.get('memory_kb')} KB"),
        ("clock", environment.get("clocksource")),
        ("hook", environment.get("hook")),
        ("sysctls", _pairs(_part(environment, "sysctls"), _SYSCTLS)),
        *_offloads(environment),
        ("tools", _pairs(_part(environment, "tools"))),
        ("python", _pairs(_part(environment, "python"))),
    ]
    return [(word, str(line)) for word, line in rows if line]


def _part(whole: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = whole.get(key)
    return part if isinstance(part, Mapping) else {}


def _pairs(values: Mapping[str, Any], keys: tuple[str, ...] | None = None) -> str:
    wanted = values if keys is None else [key for key in keys if key in values]
    return ", ".join(f"{key.rpartition('/')[2]} {values[key]}" for key in wanted if values[key])


def _options(options: Mapping[str, Any], boot_words: Any) -> str:
    words = [f"{key[7:]}={options[key]}" for key in _OPTIONS if key in options]
    words += [key[7:] for key in options if key.startswith("CONFIG_PREEMPT_") and len(key) < 23]
    slow = [name for name in _SLOW if f"CONFIG_{name}" in options]
    words += [f"made slow by {name}" for name in slow]
    return ", ".join([*words, *(boot_words if isinstance(boot_words, list) else ())])


def _processor(cpu: Mapping[str, Any]) -> str:
    threads = {"0": "no SMT", "1": "SMT"}.get(str(cpu.get("smt")), "SMT unknown")
    threads += ", virtual" if cpu.get("virtual") else ""
    load = cpu.get("load")
    before = f", load before {load[0]:.2f}" if isinstance(load, list) and load else ""
    return (
        f"{cpu.get('model')}, {cpu.get('usable')} of {cpu.get('count')} CPUs, {threads},"
        f" governor {cpu.get('governor') or 'unknown'}{before}"
    )


def _offloads(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """MTUs and offloads of the interfaces, those that are alike in one line."""
    found: Counter[tuple[str, str]] = Counter()
    for keys, value in flat({key: environment.get(key) for key in _NETWORKS}):
        if "offloads" in keys or keys[-1:] == ("mtu",):
            found[keys[-1], str(value)] += 1
    lines = [f"{name} {value} ({times} interfaces)" for (name, value), times in found.items()]
    if lines:
        yield "interfaces", ", ".join(lines)
