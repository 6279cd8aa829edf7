# SPDX-License-Identifier: MIT
"""Where the system's tools are looked for."""

from __future__ import annotations

import os

__all__ = ["tool_path"]

_ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def tool_path() -> str:
    """Give PATH with the folders of administrators' tools, which a user's path often lacks."""
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += [folder for folder in _ADMIN_FOLDERS if folder not in folders]
    return os.pathsep.join(folders)
