# SPDX-License-Identifier: MIT
"""A bench's record as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from testbed.bench.record import AimRecord, BenchRecord, VariantRecord
from testbed.bench.stats import Interval

__all__ = ["notes", "tables"]


def tables(record: BenchRecord) -> Iterator[Table]:
    """What each variant costs, then what came of the aims."""
    yield _costs(record)
    if record.aims:
        yield _aims(record)


def _table(title: str, *, text: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column(text, min_width=22)
    return table


def _costs(record: BenchRecord) -> Table:
    settings = record.settings
    table = _table(
        f"ns per packet ({settings.frame_bytes}-byte UDP frames, the generator's time included;"
        f" {settings.rounds} rounds of {settings.packets:,} packets, core {settings.cpu},"
        f" seed {settings.seed})",
        text="variant",
    )
    for name in ("median", "min", "IQR", "delivered"):
        table.add_column(name, justify="right", min_width=len(name))
    table.add_column("what")
    for variant in record.variants:
        table.add_row(variant.name, *_figures(variant))
    return table


def _figures(variant: VariantRecord) -> tuple[str | Text, ...]:
    if variant.skipped is not None:
        return ("–", "–", "–", "–", Text(f"skipped: {variant.skipped}", style="yellow"))
    whole = variant.delivered is None or variant.delivered == 1
    share = "–" if variant.delivered is None else f"{100 * variant.delivered:.4g} %"
    arrived = Text(share, style="" if whole else "bold red")
    spread = variant.ns_per_packet
    if spread is None:
        return ("–", "–", "–", arrived, variant.text)
    figures = (f"{spread.median:.0f}", f"{spread.min:.0f}", f"{spread.iqr:.1f}")
    return (*figures, arrived, variant.text)


def _aims(record: BenchRecord) -> Table:
    table = _table(
        "ratios of packets per second, unless it says otherwise (medians; 95 % bootstrap"
        " intervals; an aim is judged on the unfavourable end)",
        text="figure",
    )
    for name in ("value", "interval", "aim", "w/o gen."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for entry in record.aims:
        without = entry.without_generator
        table.add_row(
            entry.aim.text,
            f"{entry.interval.value:.3f}",
            _range(entry.interval),
            _bound(entry),
            "–" if without is None else f"{without.value:.3f}",
            _verdict(entry),
        )
    return table


def _range(interval: Interval) -> str:
    return f"{interval.low:.3f}–{interval.high:.3f}"


def _bound(entry: AimRecord) -> str:
    if entry.aim.bound is None:
        return "–"
    return f"{'≥' if entry.aim.at_least else '≤'} {entry.aim.bound:g}"


def _verdict(entry: AimRecord) -> Text:
    if entry.reached is None or entry.aim.bound is None:
        return Text("no aim")
    if entry.reached:
        return Text("reached", style="green")
    away = abs(entry.judged - entry.aim.bound) / entry.aim.bound
    return Text(f"{100 * away:.1f} % off", style="red")


def notes(record: BenchRecord) -> Iterator[str]:
    """What a reader must know beside the figures."""
    if record.lost:
        bad = sum(1 for entry in record.rounds if not entry.used)
        yield f"{record.lost:,} packets got lost; {bad} measurements were not used."
    if record.noisy:
        reasons = sorted({why for entry in record.rounds for why in entry.noise.reasons})
        yield (
            f"The machine was not quiet in {record.noisy} of {len(record.rounds)} measurements"
            f" ({'; '.join(reasons)}): repeat before you quote a figure."
        )
    if any(variant.name == "generator" for variant in record.variants):
        yield (
            "Each figure has the time to make a frame in it (variant generator), which draws"
            " every ratio towards 1; the column w/o gen. shows the ratio with it taken off."
        )
