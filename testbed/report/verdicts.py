# SPDX-License-Identifier: MIT
"""A value beside the published one, and what may be said of it. Pure values.

Nothing is said of a result that the machine could not carry, that is not whole, or that was a
quick run: its values stand in the table, without a ratio.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from testbed.report.items import Item, Rule
from testbed.results import Compared, Result

__all__ = ["Mark", "Verdict", "Word", "aim_in_words", "compare", "marks", "published_rows"]


class Word(StrEnum):
    """What is said of a value."""

    AGREES = "agrees"
    BETTER = "better than published"
    DIFFERS = "differs"
    CONTEXT = "for context"
    NOT_COMPARABLE = "not comparable"
    MISSING = "missing"


@dataclass(frozen=True)
class Mark:
    """Something that must not be overlooked of a result.

    :ivar text: a word or two.
    :ivar reasons: why, with numbers.
    :ivar serious: whether its values are no evidence.
    """

    text: str
    reasons: tuple[str, ...] = ()
    serious: bool = True


@dataclass(frozen=True)
class Verdict:
    """One row of “published beside ours”.

    :ivar ratio: ours by published; None where that says nothing.
    :ivar because: why it is said.
    """

    row: Compared
    ratio: float | None
    word: Word
    because: str = ""


def marks(result: Result) -> tuple[Mark, ...]:
    """What must not be overlooked; nothing of a result that is good evidence."""
    found = []
    validity = result.validity
    if result.state == "failed":
        found.append(Mark("failed", (result.reason or "no reason is stored",)))
    elif result.state == "running":
        found.append(Mark("incomplete", ("the run was killed, or is still under way",)))
    if validity.state == "host-limited":
        found.append(Mark("host-limited", validity.reasons))
    elif validity.state != "valid" and result.state == "complete":
        found.append(Mark("validity unknown", validity.reasons))
    if result.quick:
        found.append(Mark("quick run", ("time is scaled down: for trying out, not for quoting",)))
    failed = result.failed_checks
    if failed:
        text = f"{len(failed)} of {len(result.checks)} checks failed"
        found.append(Mark(text, tuple(check.name for check in failed), serious=False))
    return tuple(found)


def published_rows(result: Result) -> Iterator[Compared]:
    """The values that the thesis published beside ours: of its table, or level by level."""
    yield from (row for row in result.compared if row.published is not None)
    steady = {(mean.phase, mean.flow, mean.node): mean.steady for mean in result.means}
    for index, phase in enumerate(result.phases):
        for series in result.published:
            if index < len(series.values) and series.flow and series.node:
                yield Compared(
                    name=f"{series.flow}, {phase.name}: at {series.node}",
                    unit=series.unit,
                    value=steady.get((phase.name, series.flow, series.node)),
                    published=series.values[index],
                )


def compare(result: Result, item: Item) -> tuple[Verdict, ...]:
    """Judge every published value of a result."""
    serious = [mark.text for mark in marks(result) if mark.serious]
    rows = list(published_rows(result))
    if serious:
        because = ", ".join(serious)
        return tuple(Verdict(row, None, Word.NOT_COMPARABLE, because) for row in rows)
    return tuple(_judge(result, item, row) for row in rows)


def _judge(result: Result, item: Item, row: Compared) -> Verdict:
    if row.value is None:
        return Verdict(row, None, Word.MISSING, "not measured")
    ratio = row.value / row.published if row.published and row.value >= 0 else None
    rule = next((rule for rule in item.rules if rule.takes(row.name)), None)
    if rule is None:
        return Verdict(row, ratio, Word.CONTEXT)
    if rule.how == "check":
        return Verdict(row, ratio, *_by_check(result, rule, row))
    if rule.how == "near":
        return Verdict(row, ratio, _near(rule, row), rule.why)
    if rule.how == "least":
        return Verdict(row, ratio, *_least(row))
    return Verdict(row, ratio, Word.CONTEXT, _beside(result, rule))


def _by_check(result: Result, rule: Rule, row: Compared) -> tuple[Word, str]:
    match = rule.takes(row.name)
    name = match.expand(rule.check) if match else row.name
    check = next((check for check in result.checks if check.name == name), None)
    if check is None:
        return Word.CONTEXT, "no check of it is stored"
    wanted = f"wanted: {check.expected} {check.unit}".rstrip()
    return (Word.AGREES if check.passed else Word.DIFFERS), wanted


def _near(rule: Rule, row: Compared) -> Word:
    value, published = row.value or 0.0, row.published or 0.0
    return Word.AGREES if abs(value - published) <= rule.by * abs(published) else Word.DIFFERS


def _least(row: Compared) -> tuple[Word, str]:
    """By which side of the published value the interval lies on."""
    value, published = row.value or 0.0, row.published or 0.0
    low = value if row.low is None else row.low
    high = value if row.high is None else row.high
    because = "" if row.aim is None else f"aim {aim_in_words(row)}"
    if low > published:
        return Word.BETTER, because
    return (Word.DIFFERS if high < published else Word.AGREES), because


def aim_in_words(row: Compared, *, evidence: bool = True) -> str:
    """What is aimed at, and whether the unfavourable end of the interval reaches it.

    :param evidence: whether the result may be judged.
    """
    if row.aim is None or row.value is None:
        return ""
    text = f"{'≤' if row.at_most else '≥'} {row.aim:g}"
    if not evidence:
        return f"{text} not judged"
    end = row.high if row.at_most else row.low
    judged = row.value if end is None else end
    reached = judged <= row.aim if row.at_most else judged >= row.aim
    return f"{text} {'reached' if reached else 'not reached'}"


def _beside(result: Result, rule: Rule) -> str:
    rows = {row.name: row for row in result.compared}
    exact = [
        f"{name} {rows[name].value:,.6g} {rows[name].unit}".rstrip()
        for name in rule.beside
        if name in rows and rows[name].value is not None
    ]
    return " ".join(filter(None, (rule.why, "; ".join(exact))))
