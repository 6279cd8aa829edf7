# SPDX-License-Identifier: MIT
"""Measures all variants once a round, in another random order each time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from testbed.bench.rig import Rig, Sent
from testbed.bench.variants import Variant

__all__ = ["Measurement", "measure"]

_LEAST_WARM_UP = 2_000


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One variant in one round.

    :ivar position: its place in the round's order, from 0.
    """

    round: int
    position: int
    variant: Variant
    outcome: Sent

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
            warm_up = max(_LEAST_WARM_UP, packets // 10, 2 * variant.flows)
            with variant.on(rig):
                rig.send(warm_up, to=variant.to, flows=variant.flows)
                outcome = rig.send(packets, to=variant.to, flows=variant.flows)
            yield Measurement(round=number, position=position, variant=variant, outcome=outcome)
