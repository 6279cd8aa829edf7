# SPDX-License-Identifier: MIT
"""The aims of the bench and what was reached, from the ``bench.json`` that it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from testbed.report.tables import Row, Table, interval, number
from testbed.report.verdicts import Mark

__all__ = ["Bench", "read_bench"]


@dataclass(frozen=True)
class Bench:
    """What the report says of a bench; nothing where there is none."""

    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()


def read_bench(path: Path | None) -> Bench:
    """Read a ``bench.json``; a note says why where it cannot be read."""
    if path is None:
        return Bench()
    from testbed.bench.table import BenchTable, RowRecord  # takes scipy along

    def row_of(row: RowRecord) -> Row:
        target, finding = row.target, row.finding
        asked = f"{'≥' if target.at_least else '≤'} {number(target.bound)} {target.unit}".rstrip()
        verdict = f"not judged: quick run ({row.verdict})" if bench.quick else row.verdict
        cells = (target.text, number(finding.value), interval(finding), asked, verdict)
        return Row(cells, tone="bad" if row.reached is False and not bench.quick else "")

    try:
        bench = BenchTable.model_validate_json(path.read_bytes())
    except OSError as error:
        return Bench(notes=(f"{path}: cannot be read: {error.strerror}",))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "its text"
        return Bench(notes=(f"{path}: cannot be read: {where} is not as it should be",))
    table = Table(
        caption="Aims of the project; judged on the unfavourable end of the 95 % interval",
        head=("aim", "value", "95 % interval", "asked", "verdict"),
        rows=tuple(map(row_of, bench.rows)),
        numeric=frozenset({1, 2, 3}),
    )
    marks = []
    if bench.quick:
        marks.append(Mark("quick run", ("no figures to quote",)))
    if bench.faults:
        marks.append(Mark("failed", bench.faults))
    summary = () if bench.quick else (f"{bench.summary}.",)
    return Bench((table,), (f"From {path}, started {bench.started}.", *summary), tuple(marks))
