# SPDX-License-Identifier: MIT
"""The program that runs a step's NFs where one of them is in Python.

All but the NFs is the native program's own code, loaded as a library: it takes packets from the
queue, walks the NFs, keeps counters and states, and answers. For an NF in Python it calls back.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from testbed.paths import BUILD, NFS
from testbed.user.packet import Packet, PacketStruct

__all__ = ["load_nf", "main"]

_FAILED = -1
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_uint32, ctypes.c_bool, ctypes.POINTER(PacketStruct)
)
_TOLD = 10  # errors of an NF that are told; the rest are counted alike


def load_nf(name: str) -> Callable[[Any], Callable[[Packet], int]]:
    """Give the function ``make`` of an NF's module."""
    path = NFS / name / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"nfs.{name}.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Callable[[Any], Callable[[Packet], int]] = module.make
    return make


class _Stage:
    """One NF, called for each packet."""

    def __init__(self, nf: dict[str, Any]) -> None:
        self.name = nf["name"]
        self.call = load_nf(self.name)(nf["params"])
        self.reasons = {name: place for place, name in enumerate(nf["reasons"])}
        self.counters = {name: place for place, name in enumerate(nf["counters"])}
        self.kept: dict[int, Packet] = {}
        self.told = 0

    def run(self, struct: PacketStruct) -> int:
        packet = Packet(struct, reasons=self.reasons, counters=self.counters)
        try:
            verdict = self.call(packet)
            if not isinstance(verdict, int):
                raise TypeError(f"must answer ACCEPT or packet.drop(…), got {verdict!r}")
        except Exception:
            self._tell()
            return _FAILED
        # The program reads a new packet when this call is over.
        self.kept[threading.get_ident()] = packet
        return verdict

    def _tell(self) -> None:
        self.told += 1
        if self.told <= _TOLD:
            sys.stderr.write(f"nfqueue: {self.name}: {traceback.format_exc()}\n")
            sys.stderr.flush()


def main(argv: list[str]) -> int:
    """Run it. ``argv``: the NFs as JSON, in order, null for a native one; then as options.c says.

    :returns: the exit code.
    """
    stages = [_Stage(nf) if nf else None for nf in json.loads(argv[0])]

    def call(stage: int, reply: bool, packet: Any) -> int:  # noqa: ARG001 - C's order
        nf = stages[stage]
        assert nf is not None
        return nf.run(packet.contents)

    library = ctypes.CDLL(str(BUILD / "user" / "libnfqueue.so"))
    options = [b"nfqueue", *(os.fsencode(option) for option in argv[1:])]
    # Each option is written to and restored, so that it needs room of its own.
    buffers = [ctypes.create_string_buffer(option) for option in options]
    vector = (ctypes.c_void_p * (len(options) + 1))(*map(ctypes.addressof, buffers), None)
    return int(library.run_program(len(options), vector, _CALLBACK(call)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
