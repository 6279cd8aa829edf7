# SPDX-License-Identifier: MIT
"""A comparison of two results as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from testbed.experiment.summary import make_console
from testbed.printable import one_line
from testbed.stored.comparison import Comparison, Difference, Value, Verdict

__all__ = ["print_comparison"]

_PASSED = {True: "passed", False: "did not pass", None: "not there"}


def print_comparison(found: Comparison, *, short: bool = False) -> None:
    """Print what differs in set-up, then the values and the checks that changed.

    :param short: the values and checks, and of the rest only how much differs.
    """
    console = make_console()
    _print_sides(console, found)
    if short:
        console.print(_text(_differing(found)))
    else:
        for title, lines in _set_up(found):
            _print_section(console, title, lines)
    for group in dict.fromkeys(value.group for value in found.values):
        console.print(Text(group, style="bold"))
        console.print(_table([value for value in found.values if value.group == group]))
    _print_section(console, "checks that changed", [_verdict(check) for check in found.checks])


def _print_sides(console: Console, found: Comparison) -> None:
    console.print(_text(found.a.result.title, style="bold"))
    for letter, side, cautions in zip("AB", (found.a, found.b), found.cautions, strict=True):
        console.print(_text(f"{letter}  {side.folder}  ({side.result.started})"))
        for caution in cautions:
            console.print(_text(f"   {letter} is {caution}", style="yellow"))


def _text(text: str, *, style: str = "") -> Text:
    """A line; what stands in results may come from elsewhere."""
    return Text(one_line(text), style=style)


def _print_section(console: Console, title: str, lines: list[str]) -> None:
    if lines:
        console.print(Text(title, style="bold"))
    for line in lines:
        console.print(_text(f"  {line}"), soft_wrap=True)


def _set_up(found: Comparison) -> Iterator[tuple[str, list[str]]]:
    yield "settings that differ (A → B)", [_difference(entry) for entry in found.settings]
    yield "policy (- A, + B)", list(found.policy)
    machine = [_difference(entry) for entry in found.machine]
    yield "machine and software that differ (A → B)", machine
    if not (found.settings or found.policy or found.machine):
        yield "settings, policy, machine and software", ["the same in both"]


def _differing(found: Comparison) -> str:
    counts = {
        "settings": len(found.settings),
        "lines of policy": sum(line[:1] in {"+", "-"} for line in found.policy),
        "things of the machine": len(found.machine),
    }
    told = [f"{count} {what}" for what, count in counts.items() if count]
    return f"differing: {', '.join(told) or 'no setting, nothing of the machine'}"


def _difference(entry: Difference) -> str:
    times = f" ({entry.times} times)" if entry.times > 1 else ""
    return f"{entry.what}: {_plain(entry.a)} → {_plain(entry.b)}{times}"


def _plain(value: Any) -> str:
    return "not there" if value is None else str(value)


def _verdict(check: Verdict) -> str:
    sides = ((check.a, check.a_value), (check.b, check.b_value))
    one, other = (
        _PASSED[passed] + (f" ({value})" if value is not None else "") for passed, value in sides
    )
    return f"{check.name}, expected {check.expected}: A {one}, B {other}"


def _table(values: list[Value]) -> Table:
    """One row a value: both, B / A, and where there are intervals, whether they overlap."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("")
    with_intervals = any(value.overlap is not None for value in values)
    for title in ("A", "B", "B / A", *(("intervals",) if with_intervals else ())):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("unit")
    for value in values:
        cells = [
            one_line(value.name) + ("" if value.x is None else f" at {value.x:,.6g}"),
            _number(value.a, value.a_interval),
            _number(value.b, value.b_interval),
            "–" if value.ratio is None else f"{value.ratio:.4f}",
        ]
        if with_intervals:
            cells.append({True: "overlap", False: "apart", None: "–"}[value.overlap])
        table.add_row(*map(Text, (*cells, one_line(value.unit))))
    return table


def _number(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "–"
    text = f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
    return text if interval is None else f"{text} [{interval[0]:,.5g}, {interval[1]:,.5g}]"
