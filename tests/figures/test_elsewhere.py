# SPDX-License-Identifier: MIT
"""A result that is brought to another machine is drawn and read there by anybody.

The other machine is this one, seen by a user without rights, home or settings, in a folder of
another name; what its environment.json tells fits nothing here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NFCBED = Path(sys.executable).with_name("nfcbed")
RECORDED = Path(__file__).with_name("recorded")
NOBODY = 65534
FOREIGN = {
    "format": "nfcbed-environment",
    "version": 1,
    "command": "nfcbed run",
    "nfcbed": {"version": "9.9", "commit": None, "dirty": None},
    "kernel": {"release": "9.9.9-riscv", "machine": "riscv64", "boot_words": [], "options": None},
    "cpu": {"model": None, "count": 512, "usable": 256, "load": None},
    "sysctls": {},
    "tools": {},
    "hook": "another",
}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of nobody's, where nobody can go."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory(prefix="nfcbed-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def as_nobody(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run nfcbed as nobody, with nothing of this process's environment."""
    readable = subprocess.run([sys.executable, "-c", ""], user=NOBODY, group=NOBODY, cwd="/")
    if readable.returncode:
        pytest.skip("the repository lies where only its owner can go")
    return subprocess.run(
        [NFCBED, *words],
        capture_output=True,
        text=True,
        timeout=60,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd=place,
        env={"LANG": "C", "TZ": "Asia/Tokyo", "HOME": "/nonexistent"},
    )


def brought(place: Path, name: str) -> Path:
    """Copy a recorded result there, with the environment of a machine that is not this one."""
    folder = place / "brought here" / name
    shutil.copytree(RECORDED / name, folder)
    (folder / "environment.json").write_text(json.dumps(FOREIGN))
    for path in (folder.parent, folder, *folder.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    return folder


def test_figures_are_drawn_by_nobody_on_another_machine(place: Path) -> None:
    """PNG and SVG, from the folder alone: no root, no home, no locale, another machine's facts."""
    folders = [brought(place, path.name) for path in sorted(RECORDED.iterdir())]
    done = as_nobody(place, "plot", *(str(folder.relative_to(place)) for folder in folders))
    assert (done.returncode, done.stderr) == (0, "")
    for folder in folders:
        for suffix in ("png", "svg"):
            figure = folder / f"{folder.name}.{suffix}"
            assert figure.stat().st_size > 5_000
            assert figure.stat().st_uid == NOBODY


def test_results_are_read_by_nobody_on_another_machine(place: Path) -> None:
    """List, show and compare need no root either, and say what the other machine was."""
    one, other = brought(place, "table7_4"), brought(place, "fig7_2")
    done = as_nobody(place, "results", "list", "brought here")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(folder.name in done.stdout for folder in (one, other))
    done = as_nobody(place, "results", "show", str(one))
    assert (done.returncode, done.stderr) == (0, "")
    assert "9.9.9-riscv (riscv64)" in done.stdout
    done = as_nobody(place, "results", "compare", str(one), str(one))
    assert (done.returncode, done.stderr) == (0, "")
    assert "the same in both" in done.stdout
