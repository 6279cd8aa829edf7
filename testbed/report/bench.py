# SPDX-License-Identifier: MIT
"""The aims of the bench and what was reached, from the ``bench.json`` that it wrote."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from testbed.report.tables import Row, Table, interval, number

__all__ = ["bench_tables"]


def bench_tables(path: Path | None) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """The table and notes; neither where there is no bench, a note where it cannot be read."""
    if path is None:
        return (), ()
    from testbed.bench.table import BenchTable, RowRecord  # takes scipy along

    def row_of(row: RowRecord) -> Row:
        target, finding = row.target, row.finding
        asked = f"{'≥' if target.at_least else '≤'} {number(target.bound)} {target.unit}".rstrip()
        cells = (target.text, number(finding.value), interval(finding), asked, row.verdict)
        return Row(cells, tone={True: "good", False: "bad", None: ""}[row.reached])

    try:
        bench = BenchTable.model_validate_json(path.read_bytes())
    except OSError as error:
        return (), (f"{path}: cannot be read: {error.strerror}",)
    except ValidationError as error:
        return (), (f"{path}: {'.'.join(map(str, error.errors()[0]['loc']))}: cannot be read",)
    table = Table(
        caption="Aims of the project; judged on the unfavourable end of the 95 % interval",
        head=("aim", "value", "95 % interval", "asked", "verdict"),
        rows=tuple(map(row_of, bench.rows)),
        numeric=frozenset({1, 2, 3}),
    )
    notes = [f"{path}, started {bench.started}: {bench.summary}."]
    if bench.quick:
        notes.append("A quick run: no figures to quote.")
    return (table,), (*notes, *(f"Fault: {fault}" for fault in bench.faults))
