# SPDX-License-Identifier: MIT
"""The files ``bench.json``, format nfcbed-bench, version 1, and ``bench.md``. Pure values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from testbed.bench.targets import Finding, Row, Target

__all__ = [
    "BenchTable",
    "PartRecord",
    "RowRecord",
    "markdown",
    "record_of",
    "rows_table",
    "table_of",
]

_HEADS = ("aim", "asked", "value", "95 % interval", "verdict")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RowRecord(_Value):
    """See :class:`testbed.bench.targets.Row`."""

    target: Target
    finding: Finding
    judged: float | None
    reached: bool | None
    verdict: str


class PartRecord(_Value):
    """One part.

    :ivar file: what it measured, in full, beside this file; None where it failed before.
    :ivar seconds: how long it took.
    """

    name: str
    file: str | None
    seconds: float


class BenchTable(_Value):
    """The whole file.

    :ivar faults: why the bench failed; a missed aim is none.
    """

    format: Literal["nfcbed-bench"] = "nfcbed-bench"
    version: Literal[1] = 1
    quick: bool
    started: str
    parts: tuple[PartRecord, ...]
    rows: tuple[RowRecord, ...]
    faults: tuple[str, ...]
    environment: dict[str, Any]

    @property
    def summary(self) -> str:
        """How many aims are reached, in words."""
        reached = sum(row.reached is True for row in self.rows)
        missed = sum(row.reached is False for row in self.rows)
        rest = len(self.rows) - reached - missed
        text = f"{reached} of {len(self.rows)} aims reached, {missed} missed"
        return text + (f", {rest} not measured or not judged" if rest else "")


def record_of(row: Row) -> RowRecord:
    """A row with what follows from it."""
    return RowRecord(
        target=row.target,
        finding=row.finding,
        judged=row.judged,
        reached=row.reached,
        verdict=row.verdict,
    )


def _cells(row: RowRecord) -> tuple[str, ...]:
    target, finding = row.target, row.finding
    unit = f" {target.unit}" if target.unit else ""
    asked = f"{'≥' if target.at_least else '≤'} {target.bound:,.6g}{unit}"
    value = "–" if finding.value is None else _number(finding.value)
    interval = "–"
    if finding.low is not None and finding.high is not None:
        interval = f"{_number(finding.low)} … {_number(finding.high)}"
    return target.text, asked, value, interval, row.verdict


def _number(value: float) -> str:
    """Four decimals of a ratio; of what is larger, all figures before the point."""
    size = abs(value)
    return f"{value:.4f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:,.0f}"


def table_of(bench: BenchTable) -> Table:
    """The table for a terminal."""
    return rows_table(bench.rows)


def rows_table(rows: Sequence[RowRecord]) -> Table:
    """Some rows for a terminal."""
    table = Table(
        title="Aims and what was reached (judged on the unfavourable end of the interval)",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
    )
    for name in _HEADS:
        right = name not in ("aim", "verdict")
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    styles = {True: "green", False: "red", None: "yellow"}
    for row in rows:
        *cells, verdict = _cells(row)
        table.add_row(*cells, Text(verdict, style=styles[row.reached]))
    return table


def markdown(bench: BenchTable) -> str:
    """``bench.md``."""
    lines = [
        "# nfcbed bench",
        "",
        f"Started {bench.started}"
        + (", a quick run: no figures to quote." if bench.quick else "."),
        "A figure is judged on the unfavourable end of its bootstrap 95 % interval.",
        "",
        "| " + " | ".join(_HEADS) + " |",
        "| --- | ---: | ---: | ---: | --- |",
        *(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in _cells(r)) + " |"
            for r in bench.rows
        ),
        "",
        f"{bench.summary}.",
    ]
    if bench.faults:
        lines += ["", "Faults:", "", *(f"- {fault}" for fault in bench.faults)]
    machine = bench.environment
    about = ", ".join(
        str(machine[key]) for key in ("processor", "kernel") if machine.get(key) is not None
    )
    lines += ["", f"{about}, {machine.get('cpus')} CPUs."] if about else []
    return "\n".join(lines) + "\n"
