# SPDX-License-Identifier: MIT
"""Measures all variants once a round, in another random order each time."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from testbed.bench.rig import Rig, Sent
from testbed.bench.variant import Variant

__all__ = ["Measurement", "measure"]

_LEAST_WARM_UP = 2_000


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One variant in one round.

    :ivar position: its place in the round's order, from 0.
    :ivar switch_s: how long it took to switch the way on: programs and rules loaded.
    :ivar warm_up: the frames before those that were timed.
    :ivar walked: packets that walked the way, those of the warm-up too, by its own counters; None
        where it has none.
    """

    round: int
    position: int
    variant: Variant
    switch_s: float
    warm_up: Sent
    outcome: Sent
    walked: int | None

    @property
    def lost(self) -> int:
        """Frames that should have arrived and did not."""
        return 0 if self.variant.to is None else self.outcome.sent - self.outcome.delivered


def measure(
    rig: Rig, variants: Sequence[Variant], *, rounds: int, packets: int, seed: int
) -> Iterator[Measurement]:
    """Measure, and give each measurement when it is made.

    :param packets: frames a measurement; a tenth of them, and at least two a flow, go first to
        warm up and are not timed.
    :param seed: of the orders.
    """
    order = random.Random(seed)
    for number in range(rounds):
        turn = list(variants)
        order.shuffle(turn)
        for position, variant in enumerate(turn):
            yield _measure(rig, variant, packets=packets, place=(number, position))


def _measure(rig: Rig, variant: Variant, *, packets: int, place: tuple[int, int]) -> Measurement:
    send = functools.partial(
        rig.send,
        to=variant.to,
        flows=variant.flows,
        frame_bytes=variant.frame_bytes,
        sender=variant.sender,
        to_the_end=variant.to_the_end,
    )
    count = variant.packets(packets)
    before_s = time.monotonic()
    with variant.on(rig) as counted:
        switch_s = time.monotonic() - before_s
        warm_up = send(max(variant.packets(_LEAST_WARM_UP), count // 10, 2 * variant.flows))
        outcome = send(count)
        walked = counted() if counted else None
    return Measurement(
        round=place[0],
        position=place[1],
        variant=variant,
        switch_s=round(switch_s, 6),
        warm_up=warm_up,
        outcome=outcome,
        walked=walked,
    )
