# SPDX-License-Identifier: MIT
"""What a sweep measures: values, and ways through the node at each of them. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.bench.variant import Variant

__all__ = ["Asked", "Plan", "Slope", "Way", "chain_text", "flat"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way through the node, at the values that are measured.

    :ivar name: of its curves.
    :ivar text: in words.
    :ivar at: value of what is varied to what is measured there; may be the same at all of them.
    :ivar notes: value to why there is nothing at it.
    :ivar against: name of a reference to the way that is this one's: what its rate is divided by.
    :ivar generator: the way that is the generator alone; its time is in this one's.
    :ivar loaded: whether each value has something of its own to be loaded.
    """

    name: str
    text: str
    at: Mapping[int, Variant]
    notes: Mapping[int, str] = field(default_factory=dict)
    against: Mapping[str, str] = field(default_factory=dict)
    generator: str = "generator"
    loaded: bool = True


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A ratio that is told for itself: packets per second of ``way`` by those of ``reference``.

    :ivar aim: what it should be at least, at the lower end of its interval.
    """

    name: str
    x: int
    way: str
    reference: str
    aim: float | None = None


@dataclass(frozen=True, kw_only=True)
class Slope:
    """What one more of what is varied costs on a way, from the values up to ``most``."""

    name: str
    way: str
    most: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that one sweep measures.

    :ivar packets: of each measurement.
    :ivar sizes: whether what is varied is the size of packets in bytes; then there are curves of
        throughput as well.
    :ivar lasts_s: about how long it takes.
    """

    x_quantity: str
    x_unit: str
    xs: tuple[int, ...]
    ways: tuple[Way, ...]
    rounds: int
    packets: int
    lasts_s: float
    asked: tuple[Asked, ...] = ()
    slopes: tuple[Slope, ...] = ()
    sizes: bool = False
    mtu: int = 1500
    facts: Mapping[str, Any] = field(default_factory=dict)

    def variants(self) -> dict[str, Variant]:
        """All that is measured once a round, by name."""
        return {variant.name: variant for way in self.ways for variant in way.at.values()}


def flat(variant: Variant, xs: tuple[int, ...]) -> Way:
    """A way that is the same whatever is varied: measured once a round."""
    return Way(name=variant.name, text=variant.text, at=dict.fromkeys(xs, variant), loaded=False)


def chain_text(nfs: str, forward: str) -> str:
    """A chain in words."""
    last = {"direct": "forwards by itself", "stack": "then the kernel's routing"}[forward]
    return f"chain of {nfs}, {last} (forward: {forward})"
