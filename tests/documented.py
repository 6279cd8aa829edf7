# SPDX-License-Identifier: MIT
"""What the format's documentation, the text of :mod:`testbed.results`, says of a result's files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatch

from testbed import results

__all__ = ["TABLES", "undocumented"]


def _tables() -> list[list[str]]:
    """First columns of the tables, in order: files, result, environment, raw."""
    text = results.__doc__ or ""
    blocks = re.split(r"^=+ =+$", text, flags=re.MULTILINE)
    # A table is: heading, rows, text after it.
    rows = [block for number, block in enumerate(blocks) if number % 3 == 2]
    return [re.findall(r"^(\S[^\n]*?) {1,}(?=\S)", block, flags=re.MULTILINE) for block in rows]


TABLES = _tables()


def undocumented(names: Iterable[str]) -> list[str]:
    """Files of ``raw/`` that no row of the documentation tells of."""
    known = [row.split("``")[1] for row in TABLES[3]]
    return [name for name in names if not any(fnmatch(name, pattern) for pattern in known)]
