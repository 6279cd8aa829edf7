# SPDX-License-Identifier: MIT
"""How an experiment measures, in its own module's words. The module is read, not run."""

from __future__ import annotations

import ast
import re

from testbed.paths import ROOT

__all__ = ["method_of"]

_ROLE = re.compile(r":\w+:(?=`)")
_QUOTES = re.compile(r"`+")


def method_of(name: str) -> tuple[str, ...]:
    """The paragraphs of its docstring, markup taken off; none of an experiment not known here."""
    known = {path.stem: path for path in (ROOT / "experiments").glob("*.py")}
    if name not in known:
        return ()
    text = ast.get_docstring(ast.parse(known[name].read_text(encoding="utf-8"))) or ""
    plain = _QUOTES.sub("", _ROLE.sub("", text))
    return tuple(" ".join(paragraph.split()) for paragraph in plain.split("\n\n"))
