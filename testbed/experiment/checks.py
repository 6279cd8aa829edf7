# SPDX-License-Identifier: MIT
"""Measured values against what was expected of them; a value that is not there never passes."""

from __future__ import annotations

from testbed.results import Check

__all__ = ["above", "below", "equal", "within"]


def within(name: str, value: float | None, *, target: float, by: float, unit: str) -> Check:
    """``value`` is ``target``, or off by ``by`` at most."""
    passed = value is not None and abs(value - target) <= by
    return _check(name, value, f"{target:g} ± {by:g}", unit, passed)


def below(name: str, value: float | None, *, limit: float, unit: str) -> Check:
    """``value`` is less than ``limit``."""
    return _check(name, value, f"< {limit:g}", unit, value is not None and value < limit)


def above(name: str, value: float | None, *, limit: float, unit: str) -> Check:
    """``value`` is more than ``limit``."""
    return _check(name, value, f"> {limit:g}", unit, value is not None and value > limit)


def equal(name: str, value: float | str | None, *, to: float | str, unit: str = "") -> Check:
    """``value`` is exactly ``to``."""
    return _check(name, value, str(to), unit, value == to)


def _check(name: str, value: float | str | None, expected: str, unit: str, passed: bool) -> Check:
    shown = round(value, 6) if isinstance(value, float) else value
    return Check(name=name, value=shown, expected=expected, unit=unit, passed=passed)
