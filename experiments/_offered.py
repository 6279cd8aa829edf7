# SPDX-License-Identifier: MIT
"""What trials at offered rates come to: curves, rates without loss, ledgers, validity. Pure values.

A trial in which others had the node's core, or the sender did not reach its rate, says nothing of
the way; such trials are told, and are used only where there are no others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments._carried import Ledger, total
from testbed.bench.paced import Trial
from testbed.bench.stats import Interval, middle, ratio
from testbed.bench.throughput import GOALS, Found
from testbed.experiment import checks
from testbed.results import Check, Compared, Curve, Point, Validity

__all__ = [
    "LOST",
    "RECEIVED",
    "REFERENCES",
    "Offered",
    "Searched",
    "books_of",
    "compared_of",
    "curves_of",
    "grid",
    "judge",
    "limits",
    "plain",
]

LOST, RECEIVED = "lost", "received"
REFERENCES = ("routing", "nftables")
_MOST_UNFIT = 0.1  # of the trials that are used
_MOST_STOLEN = 0.01
_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Offered:
    """One trial on one way.

    :ivar stage: ``search`` or ``curve``; others are not judged.
    :ivar round: from 1; interleaved trials of one round were made one after the other.
    :ivar used: whether it counts: it was not repeated because others had the core.
    """

    way: str
    stage: str
    round: int
    trial: Trial
    used: bool = True

    @property
    def fit(self) -> bool:
        """Whether it tells something of the way."""
        return self.used and self.trial.reached and not self.trial.disturbed

    @property
    def ledger(self) -> Ledger:
        """Where its packets went."""
        trial = self.trial
        lost = {**trial.lost, "queue in front of the node full": trial.queue_full}
        return Ledger(sent=trial.sent, received=trial.received, dropped=trial.dropped, lost=lost)


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What one search found, by goal."""

    way: str
    round: int
    found: Mapping[str, Found]
    seconds: float


def grid(searches: Iterable[Searched], *, count: int) -> tuple[float, ...]:
    """Rates for the curves, in Mpps: evenly up to well over what the best way carries."""
    rates = [f.pps for s in searches for f in s.found.values() if f.pps is not None]
    if not rates:
        return ()
    step = 1.4 * max(rates) / 1e6 / count
    return tuple(round(step * n, 3) for n in range(1, count + 1))


def curves_of(
    ways: Mapping[str, str], offered: Sequence[Offered], xs: Sequence[float]
) -> list[Curve]:
    """Share lost and rate received over the offered rate, one curve a way each.

    :param ways: name to text.
    """
    quantities: tuple[tuple[str, str, Callable[[Trial], float]], ...] = (
        (LOST, "%", lambda trial: 100 * trial.loss_ratio),
        (RECEIVED, "Mpps", lambda trial: trial.received / trial.seconds / 1e6),
    )
    mine = [entry for entry in offered if entry.stage == "curve"]
    return [
        Curve(
            way=way,
            text=text,
            quantity=quantity,
            unit=unit,
            x_quantity="offered rate",
            x_unit="Mpps",
            points=tuple(_point([e for e in mine if e.way == way], x, value) for x in xs),
        )
        for quantity, unit, value in quantities
        for way, text in ways.items()
    ]


def _point(entries: Sequence[Offered], x: float, value: Callable[[Trial], float]) -> Point:
    here = [e for e in entries if abs(e.trial.asked_pps - x * 1e6) < 1 and e.used]
    if not here:
        return Point(x=x, value=None, note="not measured")
    if not any(e.trial.reached for e in here):
        most = max(e.trial.offered_pps for e in here) / 1e6
        return Point(x=x, value=None, note=f"the sender reached {most:.3g} Mpps only")
    reached = [e for e in here if e.trial.reached]
    fit = [e for e in reached if e.fit]
    note = None if fit else "others had the node's core in all trials"
    found = middle([value(e.trial) for e in fit or reached])
    return Point(x=x, note=note, **_rounded(found))


def _rounded(found: Interval) -> dict[str, float]:
    return {end: round(getattr(found, end), _DIGITS) for end in ("value", "low", "high")}


def compared_of(ways: Iterable[str], searches: Sequence[Searched]) -> list[Compared]:
    """The rate of each way for each goal, and each chain's by those of the references."""
    rows = []
    for goal in GOALS:
        rates = {way: _rates(searches, way, goal) for way in ways}
        for way, by_round in rates.items():
            found = middle(list(by_round.values())) if by_round else None
            rows.append(_row(f"{way}, {goal}", "Mpps", found))
        for way in (way for way in rates if way not in REFERENCES):
            for reference in (r for r in REFERENCES if r in rates):
                both = sorted(rates[way].keys() & rates[reference].keys())
                columns = [[rates[name][n] for n in both] for name in (way, reference)]
                name = f"{way} / {reference}, {goal}"
                rows.append(_row(name, "", ratio(*columns) if both else None))
    return rows


def _rates(searches: Sequence[Searched], way: str, goal: str) -> dict[int, float]:
    """Mpps by round, of the searches that found something."""
    return {
        s.round: s.found[goal].pps / 1e6  # type: ignore[operator]
        for s in searches
        if s.way == way and s.found[goal].pps is not None
    }


def _row(name: str, unit: str, found: Interval | None) -> Compared:
    values = _rounded(found) if found else {"value": None}
    return Compared(name=name, unit=unit, **values)


def books_of(offered: Sequence[Offered]) -> dict[str, Any]:
    """Where all packets went, and those of each way."""
    ways = dict.fromkeys(entry.way for entry in offered)
    by_way = {way: total([e.ledger for e in offered if e.way == way]).plain() for way in ways}
    return {"ledger": total([e.ledger for e in offered]).plain(), "ledgers": by_way}


def judge(
    ways: Iterable[str], searches: Sequence[Searched], offered: Sequence[Offered]
) -> list[Check]:
    """Every packet is accounted for, each chain was walked to its end, each way has its rates."""
    unit = "packets"
    unexplained = sum(abs(entry.trial.unexplained) for entry in offered)
    strayed = sum(_strayed(entry.trial) for entry in offered)
    walked = sum(entry.trial.walked or 0 for entry in offered)
    found = [
        checks.equal("unexplained", unexplained, to=0, unit=unit),
        checks.equal("did not walk their whole chain", strayed, to=0, unit=unit),
        checks.above("walked a chain", walked, limit=0, unit=unit),
    ]
    for way in ways:
        for goal in GOALS:
            rates = list(_rates(searches, way, goal).values())
            rate = middle(rates).value if rates else None
            found.append(checks.above(f"{way}, {goal}", rate, limit=0, unit="Mpps"))
    return found


def _strayed(trial: Trial) -> int:
    """Packets that entered the node and did not get to the chain's last step, or too many did."""
    return 0 if trial.walked is None else abs(trial.sent - trial.queue_full - trial.walked)


def limits(
    searches: Sequence[Searched], offered: Sequence[Offered], stolen: Mapping[int, float]
) -> Validity:
    """Whether the machine was the limit.

    :param stolen: share of the time that the hypervisor took, by core.
    """
    judged = [entry for entry in offered if entry.used and entry.stage in ("search", "curve")]
    if not judged:
        return Validity()
    reasons = []
    disturbed = [e.trial for e in judged if e.trial.disturbed]
    if len(disturbed) > _MOST_UNFIT * len(judged):
        longest_ms = max(trial.others_longest_s for trial in disturbed) * 1e3
        reasons.append(
            f"others had the node's core in {len(disturbed)} of {len(judged)} trials,"
            f" for up to {longest_ms:.1f} ms at once"
        )
    curve = [e for e in judged if e.stage == "curve"]
    late = sum(not e.trial.reached for e in curve)
    if curve and late > _MOST_UNFIT * len(curve):
        reasons.append(f"the sender fell short of its rate in {late} of {len(curve)} trials")
    reasons += [
        f"the hypervisor took {share:.1%} of core {core}'s time"
        for core, share in stolen.items()
        if share > _MOST_STOLEN
    ]
    notes = Counter(note for s in searches for note in {f.note for f in s.found.values()} if note)
    reasons += [f"{note} ({n} of {len(searches)} searches)" for note, n in notes.items()]
    return Validity(state="host-limited" if reasons else "valid", reasons=tuple(reasons))


def plain(entry: Offered) -> dict[str, Any]:
    """A trial as JSON values."""
    trial = entry.trial
    return {
        "way": entry.way,
        "stage": entry.stage,
        "round": entry.round,
        "used": entry.used,
        "reached": trial.reached,
        "disturbed": trial.disturbed,
        **{name: _short(value) for name, value in asdict(trial).items()},
        "unexplained": trial.unexplained,
    }


def _short(value: Any) -> Any:
    return round(value, 9) if isinstance(value, float) else value
