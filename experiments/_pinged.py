# SPDX-License-Identifier: MIT
"""What round-trip times come to: percentiles with intervals, ratios, ledgers. Pure values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments._carried import Ledger, total
from testbed.bench.stats import Interval, middle, ratio
from testbed.experiment import checks
from testbed.experiment.sockperf import Pinged
from testbed.results import Check, Compared, Curve, Point, Validity

__all__ = [
    "LOADS",
    "PERCENTILES",
    "REFERENCES",
    "Books",
    "Measured",
    "books_of",
    "compared_of",
    "curves_of",
    "judge",
    "limits",
    "quantity",
]

PERCENTILES = (1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)
COMPARED = (50.0, 99.0)
REFERENCES = ("routing", "nftables")
LOADS = {"idle": "no other traffic", "load": "with a background load"}
_MOST_WAITED = 0.01  # of a measurement's time
_MOST_DISTURBED = 0.5  # of the measurements
_LOAD_OFFERED = 0.95
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One measurement on one way.

    :ivar load: ``idle``, or ``load`` where other traffic went the same way.
    :ivar waited_s: that one of both ends was ready to run and did not.
    :ivar load_mbps: that iperf3 offered meanwhile; None without load.
    """

    way: str
    load: str
    repeat: int
    pinged: Pinged
    waited_s: float
    seconds: float
    load_mbps: float | None

    @property
    def disturbed(self) -> bool:
        """Whether others had an end's core; under load they are our own programs."""
        return self.load == "idle" and self.waited_s > _MOST_WAITED * self.seconds

    @property
    def name(self) -> str:
        """For people and files."""
        return f"{self.way}-{self.load}-{self.repeat}"


@dataclass(frozen=True, kw_only=True)
class Books:
    """Packets of a way in one repeat, as the ends' IP counts them: pings, load, all of it.

    :ivar entered: packets that the chain's rules took; ``replies`` that it translated back. None
        where there is no chain.
    :ivar missed: that found no next program in the chain.
    :ivar translated: connections of pings that conntrack translates; None where it does not.
    """

    way: str
    sent: int
    received: int
    lost: Mapping[str, int]
    dropped: Mapping[str, int]
    entered: int | None
    replies: int | None
    missed: int
    translated: int | None

    @property
    def ledger(self) -> Ledger:
        """Where they went."""
        return Ledger(sent=self.sent, received=self.received, dropped=self.dropped, lost=self.lost)


def quantity(load: str) -> str:
    """What the curves of a load show."""
    return f"round-trip time, {LOADS[load]}"


def curves_of(ways: Mapping[str, str], runs: Sequence[Measured]) -> list[Curve]:
    """Percentiles of round-trip times, one curve a way and load: medians over the repeats.

    :param ways: name to text.
    """
    found = []
    for load in LOADS:
        for way, text in ways.items():
            mine = [run.pinged.percentiles(PERCENTILES) for run in _of(runs, way, load)]
            points = tuple(
                Point(x=p, **_rounded(middle([times[p] for times in mine])))
                for p in PERCENTILES
                if mine
            )
            if points:
                found.append(
                    Curve(
                        way=way,
                        text=text,
                        quantity=quantity(load),
                        unit="µs",
                        x_quantity="percentile",
                        x_unit="%",
                        points=points,
                    )
                )
    return found


def _of(runs: Iterable[Measured], way: str, load: str) -> list[Measured]:
    return [run for run in runs if (run.way, run.load) == (way, load)]


def _rounded(found: Interval) -> dict[str, float]:
    return {end: round(getattr(found, end), _DIGITS) for end in ("value", "low", "high")}


def compared_of(ways: Iterable[str], runs: Sequence[Measured]) -> list[Compared]:
    """Median and 99th percentile of each way, and each chain's by those of the references."""
    rows = []
    for load in LOADS:
        for percentile in COMPARED:
            times = {
                way: {
                    run.repeat: run.pinged.percentiles((percentile,))[percentile]
                    for run in _of(runs, way, load)
                }
                for way in ways
            }
            what = f"p{percentile:g}, {LOADS[load]}"
            for way, mine in times.items():
                if mine:
                    found = _rounded(middle(list(mine.values())))
                    rows.append(Compared(name=f"{way}, {what}", unit="µs", **found))
            rows += _ratios(times, what)
    return rows


def _ratios(times: Mapping[str, Mapping[int, float]], what: str) -> list[Compared]:
    rows = []
    for way in (way for way in times if way not in REFERENCES):
        for reference in (r for r in REFERENCES if r in times):
            both = sorted(times[way].keys() & times[reference].keys())
            if both:
                found = ratio(*([times[name][n] for n in both] for name in (way, reference)))
                rows.append(Compared(name=f"{way} / {reference}, {what}", **_rounded(found)))
    return rows


def books_of(books: Sequence[Books]) -> dict[str, Any]:
    """Where all packets went, and those of each way."""
    ways = dict.fromkeys(entry.way for entry in books)
    return {
        "ledger": total([entry.ledger for entry in books]).plain(),
        "ledgers": {
            way: total([entry.ledger for entry in books if entry.way == way]).plain()
            for way in ways
        },
    }


def judge(runs: Sequence[Measured], books: Sequence[Books]) -> list[Check]:
    """Every packet is accounted for, no ping is lost, and the chain was on the way, both ways."""
    unit = "packets"
    unexplained = sum(abs(entry.ledger.unexplained) for entry in books)
    dropped = sum(sum(entry.dropped.values()) + entry.missed for entry in books)
    lost = sum(run.pinged.lost + run.pinged.duplicated for run in runs)
    found = [
        checks.equal("unexplained", unexplained, to=0, unit=unit),
        checks.equal("dropped by the chains", dropped, to=0, unit=unit),
        checks.equal("pings without one answer", lost, to=0, unit=unit),
    ]
    for way in dict.fromkeys(entry.way for entry in books):
        mine = [entry for entry in books if entry.way == way]
        pings = sum(run.pinged.received for run in runs if run.way == way)
        if mine[0].entered is not None:
            for name, counts in (
                ("entered the chain", [entry.entered for entry in mine]),
                ("translated back", [entry.replies for entry in mine]),
            ):
                packets = sum(count or 0 for count in counts)
                found.append(checks.above(f"{way}: {name}", packets, limit=pings - 1, unit=unit))
        elif mine[0].translated is not None:
            fewest = min(entry.translated or 0 for entry in mine)
            found.append(checks.above(f"{way}: connections translated", fewest, limit=0, unit=""))
    return found


def limits(runs: Sequence[Measured], asked_mbps: float) -> Validity:
    """Whether the machine was the limit."""
    if not runs:
        return Validity()
    reasons = []
    idle = [run for run in runs if run.load == "idle"]
    disturbed = [run for run in idle if run.disturbed]
    if len(disturbed) > _MOST_DISTURBED * len(idle):
        longest = max(run.waited_s / run.seconds for run in disturbed)
        reasons.append(
            f"others had the core of an end in {len(disturbed)} of {len(idle)} measurements"
            f" without load, for up to {longest:.0%} of the time"
        )
    reasons += [
        f"{run.way}, repeat {run.repeat}: iperf3 offered {run.load_mbps:.1f} of"
        f" {asked_mbps:g} Mbit/s"
        for run in runs
        if run.load_mbps is not None and run.load_mbps < _LOAD_OFFERED * asked_mbps
    ]
    return Validity(state="host-limited" if reasons else "valid", reasons=tuple(reasons))
