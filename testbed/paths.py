# SPDX-License-Identifier: MIT
"""Where the project's parts lie."""

from __future__ import annotations

from pathlib import Path

import testbed

__all__ = ["BUILD", "NFS", "ROOT"]

ROOT = Path(testbed.__file__).resolve().parent.parent
NFS = ROOT / "nfs"
BUILD = ROOT / "build"
