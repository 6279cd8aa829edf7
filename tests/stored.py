# SPDX-License-Identifier: MIT
"""Recorded results, stored with changes, as tests of what reads results want them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["LIMITED", "RECORDED", "Store", "environment", "store"]

RECORDED = Path(__file__).resolve().parent / "figures/recorded"
LIMITED = {"state": "host-limited", "reasons": ["flow 1: sent 141 of 150 Mbit/s"]}
Store = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Store a recorded result with changes in a folder of a name."""

    def put(name: str, experiment: str = "table7_4", **changes: Any) -> Path:
        data = json.loads((RECORDED / experiment / "result.json").read_text())
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(data | changes))
        return folder

    return put


def environment(**changes: Any) -> dict[str, Any]:
    """A short environment.json."""
    interface = {"name": "hv-eth0", "mtu": 1500, "mac": "02:00:00:00:00:01", "offloads": {}}
    return {
        "format": "nfcbed-environment",
        "version": 1,
        "command": "nfcbed run table7_4",
        "nfcbed": {"version": "0.1.0", "commit": "abc", "dirty": True},
        "kernel": {"release": "6.1.0", "machine": "x86_64", "options": {"CONFIG_HZ": "250"}},
        "cpu": {"model": "Fast", "count": 2, "usable": 2, "load": [0.5, 0.4, 0.3]},
        "objects": {"a.o": "12", "b.o": "34"},
        "network": {"nodes": {n: {"interfaces": [interface]} for n in ("hv", "vm1")}},
    } | changes
