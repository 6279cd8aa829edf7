# SPDX-License-Identifier: MIT
"""What tests of figures need: recorded results with changes, and what a figure says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

__all__ = ["RECORDED", "imports_that_need_root", "storing", "words"]

RECORDED = Path(__file__).with_name("figures") / "recorded"
_NEED_ROOT = (
    *("mininet", "pyroute2", "experiments"),
    *("testbed.bpf", "testbed.network", "testbed.sandbox"),
)


def storing(name: str, folder: Path) -> Callable[..., Path]:
    """A function that stores a recorded result in a folder, with changes of its fields."""

    def store(**changes: Any) -> Path:
        data = json.loads((RECORDED / name / "result.json").read_text()) | changes
        (folder / "result.json").write_text(json.dumps(data))
        return folder

    return store


def words(figure: Figure) -> str:
    """All texts of a figure, those of tables included."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def imports_that_need_root(module: str) -> list[str]:
    """Modules that a fresh Python imports with this one and that only a testbed has."""
    program = (
        f"import sys, json, {module};"
        f"print(json.dumps([m for m in sys.modules if m.startswith({_NEED_ROOT!r})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    found: list[str] = json.loads(done.stdout)
    return found
