# SPDX-License-Identifier: MIT
"""Where things lie: the project's folder and the system's tools."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BUILD", "ROOT", "tool_path"]

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"

_ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def tool_path() -> str:
    """Give PATH with the folders of administrators' tools, which a user's path often lacks."""
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += [folder for folder in _ADMIN_FOLDERS if folder not in folders]
    return os.pathsep.join(folders)
