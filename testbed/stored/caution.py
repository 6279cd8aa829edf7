# SPDX-License-Identifier: MIT
"""What has to be known of a result before anybody uses it. Pure values."""

from __future__ import annotations

from typing import Any, TypeVar

from testbed.printable import printable_text
from testbed.results import Result

__all__ = ["cautions", "printable"]

T = TypeVar("T")


def cautions(result: Result) -> list[str]:
    """Why a result is no evidence, or not without a word beside it; nothing if it is."""
    found = []
    if result.state == "running":
        found.append("incomplete: the run was killed, or has not ended yet")
    if result.state == "failed":
        found.append(f"incomplete: {result.reason or 'the run failed'}")
    if result.validity.state == "host-limited":
        reasons = "; ".join(result.validity.reasons)
        found.append(f"host-limited: the machine was the limit, not what was measured ({reasons})")
    if result.validity.state == "unknown" and result.state == "complete":
        found.append("not judged: whether the machine was the limit is not known")
    if result.quick:
        found.append("quick: a short run to see that all works, nothing to publish")
    if result.failed_checks:
        found.append(f"{len(result.failed_checks)} of {len(result.checks)} checks did not pass")
    return found


def printable(value: T) -> T:
    """The same, a result or JSON values, with every text fit for a terminal and a page."""
    if isinstance(value, Result):
        return type(value).model_validate(_spelled(value.model_dump(by_alias=False)), by_name=True)
    spelled: T = _spelled(value)
    return spelled


def _spelled(value: Any) -> Any:
    if isinstance(value, str):
        return printable_text(value)
    if isinstance(value, dict):
        return {_spelled(key): _spelled(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_spelled, value))
    return value
