# SPDX-License-Identifier: MIT
"""A result as a table on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from testbed.results import Check, Compared, Curve, Phase, Result

__all__ = ["describe", "is_ledger", "make_console", "print_summary"]

_MANY = 100_000


def make_console() -> Console:
    """A terminal as it is; 100 columns where the output goes into a file or a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=100)


def print_summary(result: Result, folder: Path) -> None:
    """Print the means, what did not pass, whether the machine was the limit, and the folder."""
    console = make_console()
    console.print(Text(result.title, style="bold"))
    if result.compared:
        console.print(_comparison(result))
    elif result.means:
        console.print(_table(result))
    for quantity in dict.fromkeys(curve.quantity for curve in result.curves):
        console.print(_curves([c for c in result.curves if c.quantity == quantity]))
    for line in _verdict(result):
        console.print(line)
    console.print(Text(f"result in {folder}"))


def _table(result: Result) -> Table:
    """One row a phase: what was offered, measured at each node, and published."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    places = list(dict.fromkeys((mean.flow, mean.node) for mean in result.means))
    table.add_column("Mbit/s")
    for title in ("offered", *(f"{flow} at {node}" for flow, node in places), "published"):
        table.add_column(title, justify="right")
    values = {(mean.phase, mean.flow, mean.node): mean.steady for mean in result.means}
    for index, phase in enumerate(result.phases):
        measured = [_number(values.get((phase.name, *place)), digits=2) for place in places]
        published = {_number(s.values[index]) for s in result.published if index < len(s.values)}
        table.add_row(phase.name, _offered(phase), *measured, ", ".join(sorted(published)))
    return table


def _comparison(result: Result) -> Table:
    """One row a value of the published table: ours, its interval, theirs."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("")
    for title in ("measured", "95 % interval", "published", "unit"):
        table.add_column(title, justify="left" if title == "unit" else "right")
    for row in result.compared:
        aim = f"aim {'≤' if row.at_most else '≥'} {row.aim:g}" if row.aim is not None else ""
        table.add_row(
            row.name,
            _figures(row.value),
            _interval(row),
            _figures(row.published),
            " ".join(filter(None, (row.unit, aim))),
        )
    return table


def _curves(curves: Sequence[Curve]) -> Table:
    """One row a way, one column a value of what was varied."""
    first = curves[0]
    title = ", ".join(filter(None, (first.quantity, first.unit)))
    over = " ".join(filter(None, (first.x_quantity, first.x_unit and f"({first.x_unit})")))
    table = Table(
        box=None,
        padding=(0, 1),
        header_style="bold",
        title=f"{title}, over {over}",
        title_justify="left",
        title_style="",
    )
    table.add_column("", no_wrap=True)
    values = sorted({point.x for curve in curves for point in curve.points})
    for x in values:
        table.add_column(f"{x:,.10g}", justify="right")
    for curve in curves:
        found = {point.x: point.value for point in curve.points}
        table.add_row(curve.way, *(_short(found.get(x)) for x in values))
    return table


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _interval(row: Compared) -> str:
    if row.low is None or row.high is None:
        return "–"
    return f"{_figures(row.low)} … {_figures(row.high)}"


def _figures(value: float | None) -> str:
    """A number with six figures, or more where it has more before the point."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= _MANY else f"{value:.6g}"


def _offered(phase: Phase) -> str:
    rates = set(map(_number, phase.offered_mbps.values()))
    return ", ".join(sorted(rates)) + (" each" if len(phase.offered_mbps) > 1 else "")


def _verdict(result: Result) -> Iterator[Text]:
    failed = result.failed_checks
    for check in failed:
        yield Text(f"✗ {describe(check)}", style="red")
    passed = len(result.checks) - len(failed)
    style = "red" if failed else "green"
    yield Text(f"{passed} of {len(result.checks)} checks passed", style=style)
    if is_ledger(result.facts.get("ledger")):
        yield Text(_ledger(result.facts["ledger"]))
    if result.validity.state == "host-limited":
        yield Text("host-limited: this machine was the limit", style="yellow")
        for reason in result.validity.reasons:
            yield Text(f"  {reason}", style="yellow")


def is_ledger(value: Any) -> bool:
    """Whether a fact tells where packets went; a result from elsewhere may hold anything there."""
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), int) for key in ("sent", "received", "unexplained"))
        and all(_is_counts(value.get(key)) for key in ("dropped", "lost"))
    )


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(count, int) for count in value.values())


def _ledger(books: Mapping[str, Any]) -> str:
    """Where every packet went, in one line."""
    lost, dropped = (sum(books[what].values()) for what in ("lost", "dropped"))
    return (
        f"packets: {books['sent']} sent = {books['received']} received + {dropped} dropped by NFs"
        f" + {lost} lost elsewhere + {books['unexplained']} unexplained"
    )


def describe(check: Check) -> str:
    """One check in words."""
    value = _number(check.value, digits=4)
    return f"{check.name}: {value} {check.unit}".rstrip() + f", expected {check.expected}"


def _number(value: float | str | None, digits: int = 0) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
