# SPDX-License-Identifier: MIT
"""Rules that every file of the repository keeps."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TOP_LEVEL = {
    *("testbed", "topologies", "nfs", "experiments", "plots", "labs", "tests", "Vagrantfile"),
    *("README.md", "ARCHITECTURE.md", "Makefile", "pyproject.toml", "requirements.lock"),
    *("LICENSES", "COPYING", ".ci", ".gitignore"),
}
NOT_OURS = {
    *(".git", ".venv", "build", "results", "__pycache__", ".hypothesis", ".vagrant"),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", "nfcbed.egg-info"),
}
MIT, GPL = "SPDX-License-Identifier: MIT", "SPDX-License-Identifier: GPL-2.0-only"
SHARP = (".py", ".sh", ".yaml", ".yml", ".toml", ".lock", "Makefile", "Vagrantfile", "run")
HEADERS = {
    **dict.fromkeys(SHARP, f"# {MIT}"),
    ".c": f"// {GPL}",
    ".h": f"/* {GPL} */",  # as the kernel's own sources have it
}
LENGTH_LIMITED = {".py", ".c", ".h", ".sh", "Makefile", "Vagrantfile", "run"}
MAX_LINES = 400

# Who may import whom: of the project's own packages, and in the case of topologies, at all.
OWN = ("testbed", "topologies", "experiments", "plots", "labs", "tests")
MAY_IMPORT = {
    "testbed": {"testbed", "topologies"},
    "topologies": {"topologies"},
    "experiments": {"experiments", "testbed"},
    "plots": {"plots", "testbed.results"},
    "labs": {"labs", "testbed"},
}
# Modules with a view of their own: only these import the library named.
ONLY_HERE = {"mininet": {"topologies", "testbed/network.py", "tests"}}
PURE = ("testbed/chain.py", "testbed/fields.py", "testbed/errors.py")
NOT_PURE = {"os", "subprocess", "socket", "ctypes", "time", "pyroute2", "mininet", "scapy"}


def files() -> Iterator[Path]:
    """All files of the project, relative to its folder."""
    for folder, names, leaves in os.walk(ROOT):
        names[:] = sorted(name for name in names if name not in NOT_OURS)
        for leaf in sorted(leaves):
            yield (Path(folder) / leaf).relative_to(ROOT)


def kind(path: Path) -> str:
    """Give what a file's rules hang on: its suffix, or its name where it has none."""
    return path.suffix or path.name


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def imports(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a Python file imports, wherever in it."""
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                anchor = path.parts[: len(path.parts) - node.level]
                yield ".".join([*anchor, *([node.module] if node.module else [])])
            elif node.module == "testbed":
                yield from (f"testbed.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def is_under(name: str, allowed: set[str]) -> bool:
    """Tell whether a module is one of those allowed or lies inside one."""
    return any(name == entry or name.startswith(f"{entry}.") for entry in allowed)


SOURCES = [path for path in files() if kind(path) in HEADERS]
PYTHON = [path for path in SOURCES if path.suffix == ".py"]


def test_sources_are_found() -> None:
    """The rules below look at real files: an empty list would keep every rule."""
    assert Path("testbed/errors.py") in PYTHON
    assert Path("tests/unit/test_repository.py") in PYTHON
    assert Path("Makefile") in SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_source_says_its_licence_first(path: Path) -> None:
    """The first line, or the second after an interpreter's, is the SPDX line of its kind."""
    lines = [line for line in text_of(path).splitlines()[:2] if not line.startswith("#!")]
    assert lines, f"{path} is empty: give it an SPDX line"
    assert lines[0] in {HEADERS[kind(path)], f"// {GPL}" if path.suffix == ".h" else ""}


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if kind(path) in LENGTH_LIMITED], ids=str
)
def test_source_is_short(path: Path) -> None:
    """No source file is longer than 400 lines."""
    assert len(text_of(path).splitlines()) <= MAX_LINES


def test_top_level_is_fixed() -> None:
    """Nothing lies at the top but what the layout names."""
    assert {entry.name for entry in ROOT.iterdir()} - NOT_OURS <= TOP_LEVEL


# Put together here, so that this file keeps its own rule.
FORBIDDEN = re.compile(
    r"(?<![\w.])/" + r"(?:work|home|root)/|py" + r"env|(?:deb\.debian|pypi)\." + r"org"
)


@pytest.mark.parametrize(
    "path", [p for p in files() if p.suffix not in {".png", ".svg", ".pcap"}], ids=str
)
def test_file_names_no_machine(path: Path) -> None:
    """No path of one machine and no package host is in a file."""
    found = [line for line in text_of(path).splitlines() if FORBIDDEN.search(line)]
    assert not found


def test_machine_paths_would_be_seen() -> None:
    """The pattern of the rule above finds what it is for and lets relative paths be."""
    assert FORBIDDEN.search("see /" + "home/someone/file")
    assert not FORBIDDEN.search("tests/work/here")


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_imports_keep_the_layers(path: Path) -> None:
    """A package imports only those of the project's packages that its layer may."""
    allowed = MAY_IMPORT.get(path.parts[0])
    if allowed is None:
        return
    own = [name for name in imports(path) if name.split(".")[0] in OWN]
    assert [name for name in own if not is_under(name, allowed)] == []


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_libraries_stay_in_their_module(path: Path) -> None:
    """One module speaks to Mininet; topologies know nothing else; values know no kernel."""
    names = {name.split(".")[0] for name in imports(path)}
    for library, homes in ONLY_HERE.items():
        if library in names:
            assert path.parts[0] in homes or str(path) in homes
    if path.parts[0] == "topologies":
        assert names <= {"topologies", "mininet", *sys.stdlib_module_names}
    if str(path) in PURE:
        assert not names & NOT_PURE


NF_FOLDERS = sorted(
    path for path in (ROOT / "nfs").glob("*/") if path.name not in {"include", "__pycache__"}
)


@pytest.mark.parametrize("folder", NF_FOLDERS, ids=lambda folder: folder.name)
def test_network_function_is_complete(folder: Path) -> None:
    """Every NF has its description, a program, its logic and a behaviour test."""
    name = folder.name
    wanted = [folder / "nf.yaml", ROOT / "tests" / "bpf" / f"test_nf_{name}.py"]
    assert [str(path.relative_to(ROOT)) for path in wanted if not path.is_file()] == []
    assert list(folder.glob(f"{name}.*"))


def public_modules(folder: str) -> set[str]:
    """Stems of a folder's modules, without those that start with an underscore."""
    return {path.stem for path in (ROOT / folder).glob("*.py") if not path.name.startswith("_")}


def test_every_experiment_has_its_plot() -> None:
    """experiments/ and plots/ hold the same stems; what they share starts with an underscore."""
    assert public_modules("experiments") == public_modules("plots")
