# SPDX-License-Identifier: MIT
"""The networks that the testbed can build, one file each, for Mininet alone or for nfcbed.

A file is a topology if it has a dictionary ``topos`` of names and classes, as ``mn --custom``
wants it. Each class takes ``rate_mbps``, ``mtu`` and ``queue_packets``, see
:class:`topologies.parts.NfcTopo`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topologies.parts import NfcTopo

__all__ = ["load_topologies"]


def load_topologies() -> dict[str, type[NfcTopo]]:
    """Import the files of this folder and return their topologies by name."""
    found: dict[str, type[NfcTopo]] = {}
    for module in iter_modules(__path__):
        found |= getattr(import_module(f"{__name__}.{module.name}"), "topos", {})
    return dict(sorted(found.items()))
