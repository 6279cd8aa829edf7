# SPDX-License-Identifier: MIT
"""Recorded results as reports show them, and a page as a reader takes it in."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from testbed.results import Result, parse_result

__all__ = ["BAD", "HOST_LIMITED", "Page", "recorded", "recorded_result"]

RECORDED = Path(__file__).with_name("figures") / "recorded"
GOOD = {"quick": False, "validity": {"state": "valid", "reasons": []}}

HOST_LIMITED = {"validity": {"state": "host-limited", "reasons": ["vm3: 159 packets lost"]}}
BAD: dict[str, dict[str, Any]] = {
    "host-limited": HOST_LIMITED,
    "failed": {"state": "failed", "reason": "iperf3 was killed"},
    "incomplete": {"state": "running"},
    "validity unknown": {"validity": {"state": "unknown", "reasons": []}},
    "quick run": {"quick": True},
}
"""What a result is no evidence by, and how it is marked."""


def recorded(name: str, **changes: Any) -> dict[str, Any]:
    """A recorded result as if it had run in full on a good machine, and with changes."""
    data: dict[str, Any] = json.loads((RECORDED / name / "result.json").read_text())
    return data | GOOD | changes


def recorded_result(name: str, **changes: Any) -> Result:
    """The same as a value."""
    return parse_result(recorded(name, **changes), Path("result.json"))


class Page(HTMLParser):
    """What a page holds: text, tags, and the tables' cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False
        if tag in ("td", "th", "dt", "dd"):
            self.text.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.text.append(data)

    @property
    def words(self) -> str:
        """All of its text, spaces made one."""
        return " ".join("".join(self.text).split())
