# SPDX-License-Identifier: MIT
"""The file ``flood.json``, format nfcbed-bench-flood, version 1. Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from testbed.bench.stats import Interval, ratio
from testbed.bench.targets import Finding, Found, Target, found_of
from testbed.experiment.iperf import BLOCK_BYTES

__all__ = [
    "FLOOD_TARGETS",
    "FloodCounts",
    "FloodRecord",
    "FloodRun",
    "FloodSettings",
    "flood_found",
    "flood_lasts_s",
    "flood_settings",
    "make_record",
]

FLOOD_TARGETS = (
    Target(
        key="flood",
        part="flood",
        text="good flow's goodput under a three-fold flood that DAD drops / without the flood",
        bound=0.95,
    ),
)
_DENIED_SHARE = 0.99  # of the flood, in a span that begins after its first window
_OFFERED_SHARE = 0.99


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FloodSettings(_Value):
    """How it is measured; rates are of UDP payload, DAD's threshold is of IP packets.

    :ivar span_s: measured of each run.
    """

    rounds: int
    span_s: float
    good_mbps: float = 100.0
    flood_mbps: float = 300.0
    threshold_mbps: float = 150.0
    window_s: float = 0.2
    forward: Literal["stack", "direct"] = "stack"
    max_flows: int = 256
    seed: int = 1


def flood_settings(*, quick: bool) -> FloodSettings:
    """The usual settings, or those of a quick run."""
    return FloodSettings(rounds=2, span_s=0.5) if quick else FloodSettings(rounds=7, span_s=2.0)


def flood_lasts_s(settings: FloodSettings) -> float:
    """About how long it takes."""
    return 1.5 + 2 * settings.rounds * (settings.span_s + 2.5 * settings.window_s + 0.4)


class FloodCounts(_Value):
    """Packets, but for ``goodput_bytes`` of payload.

    :ivar good_entered: that the chain's rules took of the good flow.
    :ivar denied: dropped by DAD.
    """

    goodput_bytes: int
    good_arrived: int
    flood_arrived: int
    good_entered: int
    flood_entered: int
    denied: int

    def since(self, before: FloodCounts) -> dict[str, int]:
        """What was added to each count."""
        return {name: getattr(self, name) - n for name, n in before.model_dump().items()}


class FloodRun(FloodCounts):
    """What one span of ``seconds`` added."""

    round: int
    flooded: bool
    seconds: float

    @property
    def goodput_mbps(self) -> float:
        """Of the good flow, at the receiver."""
        return self.goodput_bytes * 8e-6 / self.seconds


class FloodRecord(_Value):
    """The whole file.

    :ivar ratio: goodput with the flood by that without.
    :ivar lost: packets by place, of all runs; those of `right` had arrived.
    :ivar unexplained: packets that nothing accounts for, of all runs.
    """

    format: Literal["nfcbed-bench-flood"] = "nfcbed-bench-flood"
    version: Literal[1] = 1
    settings: FloodSettings
    runs: tuple[FloodRun, ...]
    ratio: Interval
    lost: dict[str, int]
    unexplained: int
    environment: dict[str, Any] = {}

    @property
    def flooded(self) -> tuple[FloodRun, ...]:
        """The runs with the flood."""
        return tuple(run for run in self.runs if run.flooded)


def make_record(
    settings: FloodSettings, runs: Sequence[FloodRun], *, unexplained: int, lost: Mapping[str, int]
) -> FloodRecord:
    """Put the runs together. Raises ValueError where there is not one of each in a round."""
    with_it, without = (
        [run.goodput_mbps for run in sorted(runs, key=lambda run: run.round) if run.flooded is on]
        for on in (True, False)
    )
    return FloodRecord(
        settings=settings,
        runs=tuple(runs),
        ratio=ratio(with_it, without),
        lost=dict(lost),
        unexplained=unexplained,
    )


def flood_found(record: FloodRecord) -> Found:
    """What the table says of it."""
    limits = _limits(record)
    finding: Finding = found_of(
        record.ratio, note=limits[0] if limits else None, limited=bool(limits)
    )
    return Found(findings={"flood": finding}, faults=tuple(_faults(record)))


def _faults(record: FloodRecord) -> list[str]:
    found = [
        f"flood, round {run.round}: DAD denied {run.denied} of {run.flood_entered} packets of it"
        for run in record.flooded
        if run.denied < _DENIED_SHARE * run.flood_entered or not run.denied
    ]
    if record.unexplained:
        found.append(f"flood: {record.unexplained} packets are unexplained")
    return found


def _limits(record: FloodRecord) -> list[str]:
    """Whether the sender could offer what it was asked for; else the machine is what is seen."""
    settings, found = record.settings, []
    for run in record.runs:
        offered = [("good flow", run.good_entered, settings.good_mbps)]
        if run.flooded:
            offered.append(("flood", run.flood_entered, settings.flood_mbps))
        for name, packets, asked_mbps in offered:
            mbps = packets / run.seconds * BLOCK_BYTES * 8e-6
            if mbps < _OFFERED_SHARE * asked_mbps:
                found.append(
                    f"round {run.round}: {mbps:.1f} of {asked_mbps:g} Mbit/s of the {name} came"
                )
    return found
