# SPDX-License-Identifier: MIT
"""A result as tables of texts, for HTML and Markdown alike. Pure values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from testbed.report.items import Difference
from testbed.report.verdicts import aim_in_words, marks
from testbed.results import Check, Curve, Point, Result

__all__ = ["Row", "Table", "difference_table", "interval", "number", "result_tables"]

_DASH = "–"
_LARGE = 1000.0


@dataclass(frozen=True)
class Row:
    """Texts, one a column; the first one names the row.

    :ivar tone: ``good`` or ``bad``, or nothing.
    """

    cells: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    :ivar numeric: which columns hold numbers.
    :ivar notes: below it.
    :ivar folded: whether it is only seen when asked for.
    :ivar prose: whether its cells are sentences.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    numeric: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()
    folded: bool = False
    prose: bool = False

    def without_empty_columns(self) -> Table:
        """The same without the columns that hold nothing in any row."""
        kept = [
            column
            for column in range(len(self.head))
            if column == 0 or any(row.cells[column] not in ("", _DASH) for row in self.rows)
        ]
        return replace(
            self,
            head=tuple(self.head[column] for column in kept),
            rows=tuple(replace(r, cells=tuple(r.cells[c] for c in kept)) for r in self.rows),
            numeric=frozenset(kept.index(column) for column in kept if column in self.numeric),
        )


def number(value: float | int | str | None) -> str:
    """A value for people: six figures, thousands apart."""
    if value is None:
        return _DASH
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= _LARGE * 100:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:,.6g}".replace("-", "−")


class _Estimate(Protocol):
    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


def interval(row: _Estimate) -> str:
    """The interval of a value."""
    if row.low is None or row.high is None:
        return _DASH
    return f"{number(row.low)} … {number(row.high)}"


def result_tables(result: Result) -> Iterator[Table]:
    """All that a result holds, in the order in which one reads it: failed checks come first."""
    if result.failed_checks:
        yield _checks("Checks that failed", result.failed_checks)
    if result.compared:
        yield _compared(result).without_empty_columns()
    if result.means:
        yield _means(result)
    for quantity in dict.fromkeys((c.quantity, c.x_quantity) for c in result.curves):
        curves = [c for c in result.curves if (c.quantity, c.x_quantity) == quantity]
        yield _curves(curves)
    books = _ledger(result.facts.get("ledger"), result.facts.get("packets"))
    if books is not None:
        yield books
    passed = [check for check in result.checks if check.passed]
    if passed:
        yield _checks("Checks that passed", passed)


def difference_table(differences: Sequence[Difference]) -> Table:
    """What is not as in the thesis."""
    return Table(
        caption="What differs in set-up from the thesis",
        head=("", "in the thesis", "here"),
        rows=tuple(Row((d.what, d.thesis, d.here)) for d in differences),
        prose=True,
    )


def _checks(caption: str, checks: Sequence[Check]) -> Table:
    return Table(
        caption=f"{caption} ({len(checks)})",
        head=("check", "value", "wanted", "unit", ""),
        rows=tuple(
            Row(
                (c.name, number(c.value), c.expected, c.unit, "passed" if c.passed else "FAILED"),
                tone="good" if c.passed else "bad",
            )
            for c in checks
        ),
        numeric=frozenset({1, 2}),
        folded=all(check.passed for check in checks),
    )


def _compared(result: Result) -> Table:
    evidence = not any(mark.serious for mark in marks(result))
    return Table(
        caption="All values, with bootstrap 95 % intervals where there are repeats",
        head=("value", "ours", "95 % interval", "published", "aim", "unit"),
        rows=tuple(
            Row(
                (
                    row.name,
                    number(row.value),
                    interval(row),
                    number(row.published),
                    aim_in_words(row, evidence=evidence) or _DASH,
                    row.unit,
                )
            )
            for row in result.compared
        ),
        numeric=frozenset({1, 2, 3, 4}),
    )


def _means(result: Result) -> Table:
    """One row a phase: what was offered, and what arrived where."""
    places = list(dict.fromkeys((m.flow, m.node) for m in result.means))
    steady = any(mean.steady is not None for mean in result.means)
    values = {
        (m.phase, m.flow, m.node): m.steady if steady else m.whole for m in result.means
    }  # fmt: skip
    offered = {
        phase.name: " / ".join(sorted({number(v) for v in phase.offered_mbps.values()}))
        for phase in result.phases
    }
    return Table(
        caption="Means of each phase, its ends left out" if steady else "Means of each run",
        head=("", "offered by each flow", *(f"{flow} at {node}" for flow, node in places), "unit"),
        rows=tuple(
            Row(
                (
                    phase,
                    offered.get(phase) or _DASH,
                    *(number(values.get((phase, *place))) for place in places),
                    result.means[0].unit,
                )
            )
            for phase in dict.fromkeys(m.phase for m in result.means)
        ),
        numeric=frozenset(range(1, len(places) + 2)),
    )


def _curves(curves: Sequence[Curve]) -> Table:
    """One row a value of what was varied, one column a way through the node."""
    first = curves[0]
    points = [{point.x: point for point in curve.points} for curve in curves]
    notes: list[str] = [f"{c.way}: {c.text}" for c in curves if c.text and c.text != c.way]
    rows = []
    for x in sorted({x for column in points for x in column}):
        cells = []
        for curve, column in zip(curves, points, strict=True):
            point = column.get(x)
            cells.append(_cell(point))
            if point is not None and point.note:
                notes.append(
                    f"{curve.way}, {number(x)} {first.x_unit}".rstrip() + f": {point.note}"
                )
        rows.append(Row((number(x), *cells)))
    x_title = f"{first.x_quantity} ({first.x_unit})" if first.x_unit else first.x_quantity
    return Table(
        caption=f"{first.quantity}, {first.unit}".rstrip(", ") + "; in brackets 95 % intervals",
        head=(x_title, *(curve.way for curve in curves)),
        rows=tuple(rows),
        numeric=frozenset(range(len(curves) + 1)),
        notes=tuple(notes),
    )


def _cell(point: Point | None) -> str:
    """A value of a curve with its interval, both short: many curves stand side by side."""
    if point is None or point.value is None:
        return _DASH
    if point.low is None or point.high is None:
        return _short(point.value)
    return f"{_short(point.value)} [{_short(point.low)}, {_short(point.high)}]"


def _short(value: float) -> str:
    """Four figures, or all of those before the point."""
    text = f"{value:,.0f}" if abs(value) >= _LARGE else f"{value:.4g}"
    return text.replace("-", "−")


def _ledger(books: Any, packets: Any) -> Table | None:
    """Where every packet went.

    :param books: a result's ``ledger``.
    :param packets: what older results of Figure 7.2 hold instead.
    """
    if not isinstance(books, Mapping) and isinstance(packets, Mapping):
        books = _older_books(packets)
    if not isinstance(books, Mapping) or not {"sent", "received", "unexplained"} <= set(books):
        return None
    rows = [Row(("sent", number(books["sent"]))), Row(("received", number(books["received"])))]
    for what, text in (("dropped", "dropped by NF: "), ("lost", "lost: ")):
        entries = books.get(what) or {}
        rows += [Row((f"{text}{name}", number(count))) for name, count in entries.items()]
        if not entries:
            rows.append(Row((f"{text.rstrip(': ')}", "0")))
    rest = books["unexplained"]
    rows.append(Row(("unexplained", number(rest)), tone="bad" if rest else "good"))
    return Table(
        caption="Where every packet went: sent = received + dropped + lost + unexplained",
        head=("", "packets"),
        rows=tuple(rows),
        numeric=frozenset({1}),
    )


def _older_books(packets: Mapping[str, Any]) -> dict[str, Any] | None:
    if not {"sent", "arrived", "denied_by_dad", "unaccounted"} <= set(packets):
        return None
    return {
        "sent": sum(packets["sent"].values()),
        "received": sum(packets["arrived"].values()),
        "dropped": {"dad: over_threshold": packets["denied_by_dad"]},
        "unexplained": packets["unaccounted"],
    }
