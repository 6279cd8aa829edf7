# SPDX-License-Identifier: MIT
"""What is asked of the ways through the node: ratios and slopes. Pure values.

Each is judged on the unfavourable end of its interval. An aim names its variants; where one of
them was not measured, or is none of ``variants.py``'s, there is no outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from testbed.bench.stats import Interval, ratio, slope

__all__ = ["AIMS", "Aim", "Outcome", "Rounds", "hops", "judge"]

GENERATOR = "generator"

Rounds = Mapping[str, Mapping[int, float]]
"""Variant to round to ns per packet; rounds that are not used are left out."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    """One line of the table of aims.

    :ivar kind: ``speed`` (packets per second of ``variant`` by those of ``reference``), ``time``
        (ns per packet, the same way round) or ``hop`` (ns for one more pass-through NF).
    :ivar at_least: whether more is better; otherwise less is.
    :ivar bound: None where the figure is only reported.
    """

    name: str
    text: str
    kind: str = "speed"
    variant: str = ""
    reference: str = ""
    at_least: bool = True
    bound: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an aim.

    :ivar judged: the end of the interval that counts.
    :ivar reached: None where there is no bound.
    :ivar without_generator: the same with the generator's own time taken off each packet.
    """

    aim: Aim
    rounds: int
    interval: Interval
    without_generator: Interval | None

    @property
    def judged(self) -> float:
        """The end of the interval that counts."""
        return self.interval.low if self.aim.at_least else self.interval.high

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached; None where there is none."""
        if self.aim.bound is None:
            return None
        if self.aim.at_least:
            return self.judged >= self.aim.bound
        return self.judged <= self.aim.bound


def _pair(text: str, variant: str, reference: str, bound: float | None) -> Aim:
    return Aim(
        name=f"{variant}/{reference}", text=text, variant=variant, reference=reference, bound=bound
    )


_RULES = ("rules-1000-direct", "iptables-rules-1000")

AIMS: tuple[Aim, ...] = (
    _pair("forwarding chain / plain routing", "chain-direct", "routing", 1.5),
    _pair("forwarding chain / the same in nftables", "chain-direct", "nftables", 2.2),
    _pair("forwarding chain / the redirect_peer limit", "chain-direct", "limit", 0.80),
    _pair("chain, then the kernel's routing / plain routing", "chain-stack", "routing", 0.90),
    Aim(
        name="hop",
        text="one more pass-through NF, ns",
        kind="hop",
        at_least=False,
        bound=2.0,
    ),
    Aim(
        name="chain-direct-65536/chain-direct",
        text="65,536 flows / 1 flow, time per packet",
        kind="time",
        variant="chain-direct-65536",
        reference="chain-direct",
        at_least=False,
        bound=1.6,
    ),
    _pair("1,000 flow rules / the same as iptables rules", *_RULES, 6.0),
    _pair("same NF in the kernel / NFQUEUE in C", "pass-1", "nfqueue-c", 8.0),
    _pair("same NF in the kernel / NFQUEUE in Python", "pass-1", "nfqueue-python", 40.0),
    _pair("chain, then routing / the same in nftables", "chain-stack", "nftables", None),
    _pair("two stateless nftables rules / plain routing", "nftables-stateless", "routing", None),
    _pair(
        "DNAT in its table / in conntrack, direct", "chain-direct", "chain-direct-conntrack", None
    ),
    _pair("DNAT in its table / in conntrack, stack", "chain-stack", "chain-stack-conntrack", None),
)


def hops(rounds: Rounds) -> dict[int, str]:
    """Number of pass-through NFs to the variant that has so many."""
    prefix = "pass-"
    found = [name for name in rounds if name.startswith(prefix)]
    return {int(name.removeprefix(prefix)): name for name in found}


def judge(rounds: Rounds, *, seed: int = 0) -> list[Outcome]:
    """Work out every aim whose variants were measured in a round that can be used."""
    outcomes = (_judge(aim, rounds, seed) for aim in AIMS)
    return [outcome for outcome in outcomes if outcome is not None]


def _columns(rounds: Rounds, names: Sequence[str]) -> list[list[float]]:
    """Values of the rounds that all these variants have, in order."""
    if not names or any(name not in rounds for name in names):
        return []
    shared = sorted(set.intersection(*(set(rounds[name]) for name in names)))
    return [[rounds[name][number] for number in shared] for name in names] if shared else []


def _judge(aim: Aim, rounds: Rounds, seed: int) -> Outcome | None:
    if aim.kind == "hop":
        by_hops = hops(rounds)
        columns = _columns(rounds, list(by_hops.values()))
        if len(columns) < 2:
            return None
        interval = slope(dict(zip(by_hops, columns, strict=True)), seed=seed)
        return Outcome(aim=aim, rounds=len(columns[0]), interval=interval, without_generator=None)
    names = [aim.variant, aim.reference]
    if aim.kind == "speed":
        names.reverse()  # packets per second are one by ns
    columns = _columns(rounds, names)
    if not columns:
        return None
    without = None
    three = _columns(rounds, [*names, GENERATOR])
    if three:
        without = ratio(three[0], three[1], off=three[2], seed=seed)
    return Outcome(
        aim=aim,
        rounds=len(columns[0]),
        interval=ratio(columns[0], columns[1], seed=seed),
        without_generator=without,
    )
