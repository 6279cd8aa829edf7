# SPDX-License-Identifier: MIT
"""All that stands in the report, as texts. Pure values."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from testbed.report.bench import Bench
from testbed.report.found import Chosen, Found
from testbed.report.items import ITEMS, Item, differences_of
from testbed.report.methods import method_of
from testbed.report.tables import Table, difference_table, interval, number, result_tables
from testbed.report.verdicts import Mark, Verdict, Word, compare, marks
from testbed.results import Result
from testbed.stored.surroundings import summary

__all__ = ["Figure", "Group", "Line", "Report", "Section", "make_report"]

_DASH = "–"
_NO_BENCH = Bench()
_TONES = {
    Word.AGREES: "good",
    Word.BETTER: "good",
    Word.DIFFERS: "bad",
    Word.CONTEXT: "plain",
    Word.NOT_COMPARABLE: "bad",
    Word.MISSING: "bad",
}
_COUNTED = {
    Word.AGREES: ("value agrees", "values agree"),
    Word.BETTER: ("value better than published", "values better than published"),
    Word.DIFFERS: ("value differs", "values differ"),
    Word.CONTEXT: ("value for context only", "values for context only"),
    Word.NOT_COMPARABLE: ("value not comparable", "values not comparable"),
    Word.MISSING: ("value not measured", "values not measured"),
}


@dataclass(frozen=True)
class Figure:
    """A drawn figure.

    :ivar name: of its file, without a suffix.
    """

    name: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of “published beside ours”."""

    name: str
    unit: str
    published: str
    ours: str
    interval: str
    ratio: str
    verdict: str
    because: str
    tone: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """An item of the thesis with its rows; no rows where it is missing.

    :ivar command: what makes it, where it is missing.
    """

    label: str
    title: str
    anchor: str
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...]
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One experiment.

    :ivar method: how it measures, by paragraphs.
    :ivar differences: from the thesis; None of what it did not measure.
    :ivar run: what was run, as pairs of a term and a text.
    :ivar no_figure: why there is none.
    :ivar commands: a command line, and what it is good for.
    """

    label: str
    title: str
    anchor: str
    question: str
    marks: tuple[Mark, ...]
    validity: str
    run: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    method: tuple[str, ...]
    differences: Table | None
    commands: tuple[tuple[str, str], ...]
    figure: Figure | None = None
    no_figure: str = ""

    @property
    def alt(self) -> str:
        """The figure in words, for who cannot see it."""
        marked = "".join(f" Marked: {mark.text}." for mark in self.marks)
        return f"{self.title}. Its values are in the tables below it.{marked}"


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole report.

    :ivar warnings: what must not be overlooked, by item: a label, an anchor, and marks.
    :ivar counts: how many values got which verdict, in words and number.
    :ivar missing: experiments beyond chapter 7 without a result: a name, and what makes it.
    """

    groups: tuple[Group, ...]
    published: tuple[Section, ...]
    beyond: tuple[Section, ...]
    missing: tuple[tuple[str, str], ...]
    unread: tuple[str, ...]
    counts: tuple[tuple[str, int], ...]
    bench: Bench = _NO_BENCH

    @property
    def warnings(self) -> tuple[tuple[str, str, tuple[Mark, ...]], ...]:
        """What must not be overlooked, by item: a label, an anchor, and marks."""
        shown: list[Group | Section] = [*self.groups, *self.beyond]
        found = [(entry.label, entry.anchor, entry.marks) for entry in shown]
        found.append(("What a packet costs", "bench", self.bench.marks))
        return tuple(entry for entry in found if entry[2])

    @property
    def serious(self) -> bool:
        """Whether something that is shown is no evidence."""
        return any(mark.serious for _, _, marks in self.warnings for mark in marks)

    @property
    def sections(self) -> tuple[Section, ...]:
        """All that have a result."""
        return (*self.published, *self.beyond)

    @property
    def machine(self) -> tuple[tuple[str, str], ...]:
        """What all runs have in common of machine and software."""
        if not self.sections:
            return ()
        first, *others = (section.run for section in self.sections)
        own = {"state", "started", "folder", "options", "command"}
        return tuple(p for p in first if p[0] not in own and all(p in run for run in others))

    @property
    def measured(self) -> int:
        """How many items of the thesis have a result that is evidence."""
        return sum(1 for g in self.groups if g.lines and not any(m.serious for m in g.marks))


def make_report(
    found: Found,
    *,
    experiments: Iterable[str],
    figures: Mapping[str, Figure | str],
    bench: Bench = _NO_BENCH,
) -> Report:
    """Put the report together.

    :param experiments: names of all there are.
    :param figures: by experiment; a text says why there is none.
    """
    groups = tuple(_group(item, found.results.get(item.experiment)) for item in ITEMS)
    ours = {item.experiment: item for item in ITEMS}
    sections = {
        name: _section(chosen, ours.get(name), figures.get(name, "none was drawn"))
        for name, chosen in found.results.items()
    }
    words = Counter(line.verdict.partition(":")[0] for group in groups for line in group.lines)
    return Report(
        groups=groups,
        published=tuple(sections[name] for name in ours if name in sections),
        beyond=tuple(section for name, section in sections.items() if name not in ours),
        missing=tuple(
            (name, f"sudo nfcbed run {name}")
            for name in sorted(set(experiments) - set(ours) - set(sections))
        ),
        unread=found.unread,
        counts=tuple(
            (text if words[word] == 1 else texts, words[word])
            for word, (text, texts) in _COUNTED.items()
            if words[word]
        ),
        bench=bench,
    )


def _group(item: Item, chosen: Chosen | None) -> Group:
    anchor, command = item.experiment, f"sudo nfcbed run {item.experiment}"
    if chosen is None:
        missing = Mark("missing", (f"make it with: {command}",))
        return Group(
            label=item.label,
            title=item.question,
            anchor=anchor,
            marks=(missing,),
            lines=(),
            command=command,
        )
    lines = tuple(_line(verdict) for verdict in compare(chosen.result, item))
    return Group(
        label=item.label,
        title=item.question,
        anchor=anchor,
        marks=marks(chosen.result),
        lines=lines,
        command="" if lines else command,
    )


def _line(verdict: Verdict) -> Line:
    row = verdict.row
    text = str(verdict.word)
    because = verdict.because
    if verdict.word in (Word.NOT_COMPARABLE, Word.MISSING):
        text, because = f"{text}: {because}", ""
    return Line(
        name=row.name,
        unit=row.unit,
        published=number(row.published),
        ours=number(row.value),
        interval=interval(row),
        ratio=_DASH if verdict.ratio is None else f"{verdict.ratio:.4g}",
        verdict=text,
        because=because,
        tone=_TONES[verdict.word],
    )


def _section(chosen: Chosen, item: Item | None, figure: Figure | str) -> Section:
    result = chosen.result
    known = {**result.facts, **result.parameters}
    folder = shlex.quote(str(chosen.folder))
    return Section(
        label=item.label if item else result.experiment,
        title=result.title,
        anchor=result.experiment,
        question=item.question if item else "",
        marks=marks(result),
        validity=_validity(result),
        run=tuple(_run(chosen)),
        tables=tuple(result_tables(result)),
        method=method_of(result.experiment),
        differences=difference_table(differences_of(item, known)) if item else None,
        commands=(
            (f"sudo nfcbed rerun {folder}", "the same again, from this result's own file"),
            (
                f"sudo nfcbed run {shlex.quote(result.experiment)}",
                "as the experiment is by default",
            ),
            (f"nfcbed plot {folder}", "draws the figure from the data; needs no root"),
        ),
        figure=figure if isinstance(figure, Figure) else None,
        no_figure=figure if isinstance(figure, str) else "",
    )


def _validity(result: Result) -> str:
    state = result.validity.state
    if state == "valid":
        return "valid: this machine could carry the run"
    if state == "host-limited":
        return "host-limited: this machine was the limit, not what was measured"
    return "unknown: whether this machine was the limit was not found out"


def _run(chosen: Chosen) -> Iterable[tuple[str, str]]:
    """What was run, on what."""
    result = chosen.result
    yield "state", result.state + (", quick run" if result.quick else "")
    yield "started", result.started
    yield "folder", str(chosen.folder)
    options = {k: v for k, v in result.options.items() if v not in (None, False)}
    yield "options", ", ".join(f"{k} {v}" for k, v in options.items()) or "none"
    if chosen.environment:
        yield from summary(chosen.environment)
    else:
        yield "machine", "not stored"
    if chosen.others:
        yield "others", f"{chosen.others} more of this experiment, older, quick or cut short"
