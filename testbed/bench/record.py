# SPDX-License-Identifier: MIT
"""The file ``chain.json``, format nfcbed-bench-chain, version 1. Pure values.

It holds all that was measured, and what was worked out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from testbed.bench.aims import Aim, judge
from testbed.bench.rounds import Measurement
from testbed.bench.stats import Interval, Spread, spread
from testbed.bench.variant import Variant
from testbed.errors import UserError

__all__ = ["BenchRecord", "Settings", "make_record", "read_record"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(_Value):
    """How it was measured; ``packets`` are those of one measurement."""

    rounds: int
    packets: int
    seed: int
    cpu: int
    frame_bytes: int


class NoiseRecord(_Value):
    """See :class:`testbed.bench.noise.Noise`."""

    wall_s: float
    steal_ticks: int
    waited_s: float
    preempted: int
    others_busy: float
    reasons: tuple[str, ...]


class RoundRecord(_Value):
    """One measurement; ``used``: nothing got lost, so it counts."""

    round: int
    position: int
    variant: str
    ns_per_packet: int
    sent: int
    delivered: int
    used: bool
    noise: NoiseRecord


class VariantRecord(_Value):
    """One way through the node.

    :ivar skipped: what this machine lacks for it.
    :ivar delivered: share of the frames that arrived, of all its rounds; None: none should.
    :ivar noisy: how many of its rounds were disturbed.
    """

    name: str
    text: str
    flows: int
    skipped: str | None
    ns_per_packet: Spread | None
    delivered: float | None
    noisy: int


class AimRecord(_Value):
    """An aim and what came of it; see :class:`testbed.bench.aims.Outcome`."""

    aim: Aim
    rounds: int
    interval: Interval
    judged: float
    reached: bool | None
    without_generator: Interval | None


class BenchRecord(_Value):
    """The whole file."""

    format: Literal["nfcbed-bench-chain"] = "nfcbed-bench-chain"
    version: Literal[1] = 1
    settings: Settings
    environment: dict[str, Any]
    variants: tuple[VariantRecord, ...]
    aims: tuple[AimRecord, ...]
    rounds: tuple[RoundRecord, ...]

    @property
    def lost(self) -> int:
        """Frames that should have arrived and did not."""
        judged = {v.name for v in self.variants if v.delivered is not None}
        return sum(r.sent - r.delivered for r in self.rounds if r.variant in judged)

    @property
    def noisy(self) -> int:
        """Disturbed measurements."""
        return sum(1 for r in self.rounds if r.noise.reasons)


def _round(measurement: Measurement) -> RoundRecord:
    outcome, noise = measurement.outcome, measurement.outcome.noise
    return RoundRecord(
        round=measurement.round,
        position=measurement.position,
        variant=measurement.variant.name,
        ns_per_packet=outcome.ns_per_packet,
        sent=outcome.sent,
        delivered=outcome.delivered,
        used=measurement.lost == 0,
        noise=NoiseRecord(
            wall_s=noise.wall_s,
            steal_ticks=noise.steal_ticks,
            waited_s=noise.waited_s,
            preempted=noise.preempted,
            others_busy=noise.others_busy,
            reasons=noise.reasons,
        ),
    )


def _variant(variant: Variant, rounds: Sequence[RoundRecord], skipped: str | None) -> VariantRecord:
    mine = [entry for entry in rounds if entry.variant == variant.name]
    used = [entry.ns_per_packet for entry in mine if entry.used]
    sent = sum(entry.sent for entry in mine)
    arrives = variant.to is not None and sent
    return VariantRecord(
        name=variant.name,
        text=variant.text,
        flows=variant.flows,
        skipped=skipped,
        ns_per_packet=spread(used) if used else None,
        delivered=sum(entry.delivered for entry in mine) / sent if arrives else None,
        noisy=sum(1 for entry in mine if entry.noise.reasons),
    )


def make_record(
    measurements: Sequence[Measurement],
    *,
    settings: Settings,
    environment: Mapping[str, Any],
    variants: Sequence[Variant],
    skipped: Mapping[str, str],
) -> BenchRecord:
    """Put a run's measurements together and judge the aims.

    :param skipped: variant to what this machine lacks for it.
    """
    rounds = tuple(_round(measurement) for measurement in measurements)
    by_variant: dict[str, dict[int, float]] = {}
    for entry in rounds:
        if entry.used:
            by_variant.setdefault(entry.variant, {})[entry.round] = entry.ns_per_packet
    aims = tuple(
        AimRecord(
            aim=outcome.aim,
            rounds=outcome.rounds,
            interval=outcome.interval,
            judged=outcome.judged,
            reached=outcome.reached,
            without_generator=outcome.without_generator,
        )
        for outcome in judge(by_variant, seed=settings.seed)
    )
    return BenchRecord(
        settings=settings,
        environment=dict(environment),
        variants=tuple(_variant(v, rounds, skipped.get(v.name)) for v in variants),
        aims=aims,
        rounds=rounds,
    )


def read_record(path: Path) -> BenchRecord:
    """Read ``chain.json``. Raises UserError, with the field, where it is not one."""
    try:
        return BenchRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}") from None
