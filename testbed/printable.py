# SPDX-License-Identifier: MIT
"""Text that may come from anybody, made fit for a terminal."""

from __future__ import annotations

import unicodedata

__all__ = ["one_line", "printable_text"]

_UNFIT = {"Cc", "Cf", "Cs"}  # control, format (such as writing from right to left), surrogates


def printable_text(text: str) -> str:
    """The same with control characters spelled out, so that it moves no cursor and hides nothing.

    Line breaks and tabs stay.
    """
    return "".join(map(_spelled, text))


def one_line(text: str) -> str:
    """The same without line breaks and tabs as well."""
    return printable_text(text).replace("\n", " ").replace("\t", " ")


def _spelled(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _UNFIT:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
