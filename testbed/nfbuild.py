# SPDX-License-Identifier: MIT
"""Compile and load the programs of one network function, as an author does after each change."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.bpf import BpfError, BpfObject
from testbed.errors import RunError, UserError
from testbed.nf import NFDescription, Param
from testbed.paths import BUILD, NFS, ROOT
from testbed.verifier import Rejection, explain_rejection

__all__ = ["ProgramSize", "RejectedError", "compile_source", "load_object", "sources"]

_MAKE_S = 120.0
_ROWS = 2  # of a table, at least, so that the verifier follows what is done with a row


class RejectedError(RunError):
    """The kernel refused a program; ``rejection`` says why."""

    def __init__(self, rejection: Rejection) -> None:
        self.rejection = rejection
        super().__init__("\n".join(rejection.lines()))


@dataclass(frozen=True, kw_only=True)
class ProgramSize:
    """A program that the kernel took.

    :ivar instructions: of the loaded program.
    :ivar followed: by the verifier, at most; its limit is 1,000,000.
    """

    name: str
    instructions: int
    followed: int


def sources(nf: str) -> list[Path]:
    """The thin files of an NF, one a datapath."""
    folder = NFS / nf
    return sorted([*folder.glob(f"{nf}.*.bpf.c"), *folder.glob(f"{nf}.user.c")])


def compile_source(source: Path) -> Path:
    """Compile one thin file, if it is newer than its object; give the object.

    :raises RunError: the compiler found a fault; the message is the compiler's.
    """
    suffix = ".o" if source.name.endswith(".bpf.c") else ".so"
    target = BUILD / "nfs" / (source.stem + suffix)
    argv = ["make", "-s", "-C", str(ROOT), str(target.relative_to(ROOT))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_MAKE_S, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        said = [line for line in lines if not line.startswith("make")] or lines
        raise RunError("does not compile:\n" + "\n".join(said))
    return target


def load_object(path: Path, description: NFDescription | None = None) -> list[ProgramSize]:
    """Load an object into the kernel, once for each choice that a parameter gives, and let it go.

    :param description: of the NF: each choice is another program to the verifier, which follows
        only what the constants leave possible.
    :raises RejectedError: the verifier refused it.
    :raises BpfError: something else did.
    :raises UserError: this takes root.
    """
    if os.geteuid() != 0:
        raise UserError("loading takes root: run it with sudo")
    largest: dict[str, ProgramSize] = {}
    for constants in _settings(description):
        for size in _load(path, constants, description):
            known = largest.get(size.name)
            if known is None or known.instructions < size.instructions:
                largest[size.name] = size
    return list(largest.values())


def _load(
    path: Path, constants: Mapping[str, Any], description: NFDescription | None
) -> Iterator[ProgramSize]:
    with BpfObject(path) as bpf:
        # An object need not have all: DNAT's at netfilter leaves the rows to the kernel's NAT.
        known = bpf.btf.variables.get(".rodata", {})
        bpf.constants({name: value for name, value in constants.items() if name in known})
        for param in description.params.values() if description else ():
            if param.bpf_map in bpf.map_names:
                bpf.resize(param.bpf_map, _rows(param))
        try:
            bpf.load()
        except BpfError as error:
            if "libbpf" not in error.whole_log:
                raise
            raise RejectedError(explain_rejection(error.whole_log, sources=NFS)) from None
        for name in bpf.program_names:
            program = bpf.program(name)
            yield ProgramSize(
                name=name,
                instructions=program.instructions,
                followed=program.instructions_followed,
            )


def _rows(param: Param) -> int:
    return int(param.max or _ROWS)


def _settings(description: NFDescription | None) -> Iterator[dict[str, int]]:
    """Read-only variables to load with: the tables full, and each choice in turn."""
    if description is None:
        yield {}
        return
    tables = {f"n_{n}": _rows(p) for n, p in description.params.items() if p.bpf_map}
    yield tables
    for param in description.params.values():
        for index in range(1, len(param.choices)):
            if param.rodata:
                yield {**tables, param.rodata: index}
