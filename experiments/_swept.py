# SPDX-License-Identifier: MIT
"""A sweep: one thing is varied, and each value of it is measured on several ways through the node.

All ways at all values are measured once a round, in another random order each round, by the
bench's generator on one core (:mod:`testbed.bench.rig`). So whatever happened to the machine in a
round happened to all of them, and a ratio is taken between values of the same rounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments._swept_curves import Rounds, compared_of, curves_of
from experiments._swept_plan import Plan
from testbed.bench.rig import FRAME_BYTES, default_cpu, open_rig
from testbed.bench.rounds import Measurement, measure
from testbed.chain import Policy
from testbed.errors import UserError
from testbed.experiment import checks
from testbed.experiment.losses import lost_so_far
from testbed.experiment.runner import Experiment, Options, Prepared, Session
from testbed.results import Check, Validity

__all__ = ["judge", "ledger", "sweep", "swept", "used_rounds", "validity"]

_NEEDS = ("mnexec", "ethtool", "objects", "veth", "xdp_live_frames")
SEED = 1
_MOST_DISTURBED = 0.5  # of the measurements


def swept(name: str, title: str, plan: Callable[[bool], Plan]) -> Experiment:
    """Make an experiment, beyond the thesis's, of its plan."""
    return Experiment(
        name=name,
        title=title,
        policy=None,
        prepare=sweep(plan),
        published=False,
        needs=_NEEDS,
    )


def sweep(plan: Callable[[bool], Plan]) -> Callable[[Policy, Options], Prepared]:
    """Make an experiment's ``prepare`` of its plan (which is told whether it has to be quick)."""

    def prepare(_: Policy, options: Options) -> Prepared:
        """Say what will be run; raises UserError."""
        if options.forward is not None:
            raise UserError("a sweep measures both ways to forward: leave --forward out")
        made = plan(options.quick)
        return Prepared(
            lasts_s=made.lasts_s,
            parameters={
                "values": list(made.xs),
                "rounds": made.rounds,
                "packets": made.packets,
                "frame_bytes": None if made.sizes else FRAME_BYTES,
                "seed": SEED,
                "mtu": made.mtu,
            },
            measure=lambda session: _Run(session, made).measure(),
        )

    return prepare


class _Run:
    """One run; knows at any time what it has measured."""

    def __init__(self, session: Session, plan: Plan) -> None:
        self._session, self._plan = session, plan
        self._measurements: list[Measurement] = []
        self._lost: dict[str, int] = {}
        variants = plan.variants()
        lacking = {name: variant.lacking() for name, variant in variants.items()}
        self._skipped = {name: lack for name, lack in lacking.items() if lack}
        self._variants = [v for name, v in variants.items() if name not in self._skipped]
        self._cpu = default_cpu()

    def measure(self) -> None:
        """Measure all rounds."""
        session, plan = self._session, self._plan
        session.collects(self._fields, raw=self._raw)
        with open_rig(bpffs=session.sandbox.bpffs, cpu=self._cpu, mtu=plan.mtu) as rig:
            session.environment(networks={"line": rig.network.describe()})
            before = lost_so_far(rig.network)
            try:
                self._play(
                    measure(
                        rig, self._variants, rounds=plan.rounds, packets=plan.packets, seed=SEED
                    )
                )
            finally:
                now = lost_so_far(rig.network)
                self._lost = {place: n - before.get(place, 0) for place, n in now.items()}

    def _play(self, measurements: Iterable[Measurement]) -> None:
        plan, progress = self._plan, self._session.progress
        progress.step(f"round 1 of {plan.rounds}")
        for measurement in measurements:
            self._measurements.append(measurement)
            done, rest = divmod(len(self._measurements), len(self._variants))
            if rest == 0 and done < plan.rounds:
                progress.step(f"round {done + 1} of {plan.rounds}")
            progress.tick()

    # What there is so far, for the result ------------------------------------------------------

    def _raw(self) -> dict[str, Any]:
        return {
            "measurements.json": [plain(measurement) for measurement in self._measurements],
            "ways.json": {
                way.name: {str(x): variant.name for x, variant in way.at.items()}
                for way in self._plan.ways
            },
        }

    def _fields(self) -> dict[str, Any]:
        rounds = used_rounds(self._measurements)
        if not rounds:
            return {}
        books = ledger(self._measurements, self._lost)
        return {
            "curves": curves_of(self._plan, rounds, self._measurements, self._skipped),
            "compared": compared_of(self._plan, rounds),
            "checks": judge(self._measurements, books),
            "validity": validity(self._measurements),
            "facts": {
                "ledger": books,
                "cpu": self._cpu,
                "measurements": len(self._measurements),
                "disturbed_measurements": disturbed(self._measurements),
                "disturbances": dict(disturbances(self._measurements)),
                "left_out": self._skipped,
                **self._plan.facts,
            },
        }


def used_rounds(measurements: Sequence[Measurement]) -> Rounds:
    """Variant to round to ns per packet, of the measurements that lost nothing."""
    found: dict[str, dict[int, float]] = {}
    for entry in measurements:
        if entry.lost == 0:
            mine = found.setdefault(entry.variant.name, {})
            mine[entry.round] = float(entry.outcome.ns_per_packet)
    return found


def plain(entry: Measurement) -> dict[str, Any]:
    """A measurement as JSON values."""
    return {
        "round": entry.round,
        "position": entry.position,
        "variant": entry.variant.name,
        "ns_per_packet": entry.outcome.ns_per_packet,
        "sent": entry.outcome.sent,
        "delivered": entry.outcome.delivered,
        "warm_up_sent": entry.warm_up.sent,
        "warm_up_delivered": entry.warm_up.delivered,
        "walked": entry.walked,
        "switch_s": entry.switch_s,
        "noise": asdict(entry.outcome.noise),
        "disturbed_by": list(entry.outcome.noise.reasons),
    }


def ledger(measurements: Sequence[Measurement], lost: Mapping[str, int]) -> dict[str, Any]:
    """Where every packet went that was sent to the far end, those of the warm-ups too.

    :param lost: by place, as the kernel counts it.
    """
    sent = received = stopped = 0
    for entry in measurements:
        if entry.variant.to is None:
            continue
        mine = entry.warm_up.sent + entry.outcome.sent
        sent += mine
        received += entry.warm_up.delivered + entry.outcome.delivered
        if entry.walked is not None:
            stopped += mine - entry.walked
    dropped = {"before the chain's last step": stopped} if stopped else {}
    places = {place: n for place, n in lost.items() if n}
    gone = sum(dropped.values()) + sum(places.values())
    return {
        "sent": sent,
        "received": received,
        "dropped": dropped,
        "lost": places,
        "unexplained": sent - received - gone,
    }


def judge(measurements: Sequence[Measurement], books: Mapping[str, Any]) -> list[Check]:
    """Nothing may get lost, and each chain was walked to its end by all packets."""
    unit = "packets"
    lost = sum(entry.lost for entry in measurements)
    walked = [entry for entry in measurements if entry.walked is not None]
    strayed = sum(
        abs(entry.warm_up.sent + entry.outcome.sent - (entry.walked or 0)) for entry in walked
    )
    return [
        checks.equal("lost while measured", lost, to=0, unit=unit),
        checks.equal("unexplained", books["unexplained"], to=0, unit=unit),
        checks.equal("did not walk their whole chain", strayed, to=0, unit=unit),
        checks.above("measurements of chains", len(walked), limit=0, unit=""),
    ]


def disturbances(measurements: Sequence[Measurement]) -> Counter[str]:
    """How many measurements were disturbed, by what."""
    return Counter(reason for entry in measurements for reason in entry.outcome.noise.reasons)


def disturbed(measurements: Sequence[Measurement]) -> int:
    """How many measurements were disturbed."""
    return sum(1 for entry in measurements if entry.outcome.noise.reasons)


def validity(measurements: Sequence[Measurement]) -> Validity:
    """Whether the machine left the measurements alone."""
    if not measurements:
        return Validity()
    bad = disturbed(measurements)
    if bad <= _MOST_DISTURBED * len(measurements):
        return Validity(state="valid")
    why = ", ".join(f"{reason} ({n})" for reason, n in disturbances(measurements).most_common())
    reason = f"{bad} of {len(measurements)} measurements were disturbed: {why}"
    return Validity(state="host-limited", reasons=(reason,))
