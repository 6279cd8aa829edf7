# SPDX-License-Identifier: MIT
"""Offered rate against loss, and the rates without loss (NDR) and with at most 0.5 % (PDR).

Plain routing, the chain of DAD and DNAT with both last steps, and the same policy in nftables. One
core sends 60-byte UDP packets at a rate, whatever becomes of them; another core is the node
(:mod:`testbed.bench.paced`). First MLRsearch looks for both rates on each way, all ways once a
round, in another random order each round. Then a grid of rates around what was found is offered to
each way, in the same manner.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments import _offered
from experiments._offered import Offered, Searched
from testbed.bench.noise import cpu_ticks
from testbed.bench.paced import (
    BURST,
    LATE_US,
    QUEUE_PACKETS,
    Lane,
    PacedSender,
    Trial,
    choose_cores,
)
from testbed.bench.rig import FRAME_BYTES, VIRTUAL, open_rig
from testbed.bench.throughput import GOALS, Effort, search
from testbed.bench.variants import VARIANTS
from testbed.chain import Policy
from testbed.errors import UserError
from testbed.experiment.runner import Experiment, Options, Prepared, Session

__all__ = ["EXPERIMENT"]

WAYS = ("routing", "chain-stack", "chain-direct", "nftables")
SEED = 4
LEAST_PPS, MOST_PPS = 50e3, 6e6
EFFORT = Effort(first_s=0.05, last_s=0.1, sum_s=0.5, width=0.01, limit_s=6.0)
QUICK_EFFORT = Effort(first_s=0.02, last_s=0.04, sum_s=0.08, width=0.03, limit_s=1.5)
ROUNDS, CURVE_ROUNDS, RATES, TRIAL_S = 5, 5, 14, 0.1
QUICK_ROUNDS, QUICK_CURVE_ROUNDS, QUICK_RATES, QUICK_TRIAL_S = 2, 1, 8, 0.04
_PATIENCE_S, _QUICK_PATIENCE_S = 30.0, 2.0
_AGAIN = 4  # tries of a trial that others disturbed, while there is patience
_PAUSE_S = 0.02
_SEARCH_S, _QUICK_SEARCH_S = 3.5, 1.0  # what a search usually takes
_AROUND_S = 0.05  # of a trial: making the frames, waiting for the last of them


def prepare(_: Policy, options: Options) -> Prepared:
    """Say what will be run; raises UserError."""
    if options.forward is not None:
        raise UserError("sweep_rate measures both ways to forward: leave --forward out")
    quick = options.quick
    effort, rounds = (QUICK_EFFORT, QUICK_ROUNDS) if quick else (EFFORT, ROUNDS)
    curve_rounds = QUICK_CURVE_ROUNDS if quick else CURVE_ROUNDS
    rates, trial_s = (QUICK_RATES, QUICK_TRIAL_S) if quick else (RATES, TRIAL_S)
    parameters = {
        "ways": list(WAYS),
        "frame_bytes": FRAME_BYTES,
        "queue_packets": QUEUE_PACKETS,
        "burst_packets": BURST,
        "late_us": LATE_US,
        "goals": {name: f"at most {100 * loss:g} % lost" for name, loss in GOALS.items()},
        "search": asdict(effort) | {"least_pps": LEAST_PPS, "most_pps": MOST_PPS},
        "rounds": rounds,
        "curve": {"rounds": curve_rounds, "rates": rates, "trial_s": trial_s},
        "patience_s": _QUICK_PATIENCE_S if quick else _PATIENCE_S,
        "seed": SEED,
    }
    curve_s = curve_rounds * rates * (trial_s + _AROUND_S)
    search_s = rounds * (_QUICK_SEARCH_S if quick else _SEARCH_S)
    return Prepared(
        lasts_s=2 + len(WAYS) * (search_s + curve_s),
        parameters=parameters,
        measure=lambda session: _Run(session, effort).measure(),
    )


class _Run:
    """One run; knows at any time what it has measured."""

    def __init__(self, session: Session, effort: Effort) -> None:
        self._session, self._effort = session, effort
        self._cores = choose_cores()
        self._offered: list[Offered] = []
        self._searches: list[Searched] = []
        self._xs: tuple[float, ...] = ()
        self._patience_s: float = session.parameters["patience_s"]
        self._ticks = _ticks()
        lacking = {way: VARIANTS[way].lacking() for way in WAYS}
        self._left_out = {way: lack for way, lack in lacking.items() if lack}
        self._ways = [way for way in WAYS if way not in self._left_out]
        self._order = random.Random(SEED)

    def measure(self) -> None:
        """Search, then offer the grid."""
        session = self._session
        session.collects(self._fields, raw=self._raw)
        sender_cpu, node_cpu = self._cores
        with (
            open_rig(bpffs=session.sandbox.bpffs, cpu=sender_cpu) as rig,
            PacedSender.open(rig, node_cpu=node_cpu) as sender,
        ):
            session.environment(networks={"line": rig.network.describe()})
            self._each(session.parameters["rounds"], sender, self._search, "search")
            curve = session.parameters["curve"]
            self._xs = _offered.grid(self._searches, count=curve["rates"])
            self._each(curve["rounds"], sender, self._curve, "curve")

    def _each(
        self,
        rounds: int,
        sender: PacedSender,
        step: Callable[[str, int, Lane], None],
        stage: str,
    ) -> None:
        """Do something on each way once a round, in random order."""
        for number in range(1, rounds + 1):
            turn = list(self._ways)
            self._order.shuffle(turn)
            for way in turn:
                self._session.progress.step(f"{stage} {number} of {rounds}: {way}")
                with _on(sender, way) as lane:
                    self._offer(lane, way, "warm-up", number, LEAST_PPS, 0.01)
                    step(way, number, lane)

    def _search(self, way: str, number: int, lane: Lane) -> None:
        begin_s = time.monotonic()
        found = search(
            lambda pps, seconds: self._offer(lane, way, "search", number, pps, seconds),
            least_pps=LEAST_PPS,
            most_pps=MOST_PPS,
            effort=self._effort,
        )
        seconds = round(time.monotonic() - begin_s, 3)
        self._searches.append(Searched(way=way, round=number, found=found, seconds=seconds))

    def _curve(self, way: str, number: int, lane: Lane) -> None:
        xs = list(self._xs)
        self._order.shuffle(xs)
        for x in xs:
            trial_s = self._session.parameters["curve"]["trial_s"]
            self._offer(lane, way, "curve", number, x * 1e6, trial_s)

    def _offer(
        self, lane: Lane, way: str, stage: str, number: int, pps: float, seconds: float
    ) -> Trial:
        """Make a trial; again where others disturbed one that lost packets, while it may be."""
        for attempt in range(_AGAIN):
            begin_s = time.monotonic()
            trial = lane.offer(pps, seconds)
            self._session.progress.tick()
            again = (
                trial.disturbed
                and trial.received < trial.sent
                and attempt + 1 < _AGAIN
                and self._patience_s > 0
            )
            entry = Offered(way=way, stage=stage, round=number, trial=trial, used=not again)
            self._offered.append(entry)
            if not again:
                break
            time.sleep(_PAUSE_S)
            self._patience_s -= time.monotonic() - begin_s
        return trial

    # What there is so far, for the result ------------------------------------------------------

    def _raw(self) -> Mapping[str, Any]:
        return {
            "trials.json": [_offered.plain(entry) for entry in self._offered],
            "searches.json": [asdict(searched) for searched in self._searches],
        }

    def _fields(self) -> dict[str, Any]:
        if not self._searches:
            return {}
        texts = {way: VARIANTS[way].text for way in self._ways}
        stolen = _stolen(self._ticks, _ticks(), self._cores)
        return {
            "curves": _offered.curves_of(texts, self._offered, self._xs),
            "compared": _offered.compared_of(self._ways, self._searches),
            "checks": _offered.judge(self._ways, self._searches, self._offered),
            "validity": _offered.limits(self._searches, self._offered, stolen),
            "facts": {
                **_offered.books_of(self._offered),
                "cores": dict(zip(("sender", "node"), self._cores, strict=True)),
                "stolen": stolen,
                "trials": self._trials(),
                "left_out": self._left_out,
            },
        }

    def _trials(self) -> dict[str, Any]:
        trials = [entry.trial for entry in self._offered if entry.stage == "curve"]
        return {
            "all": len(self._offered),
            "repeated": sum(not entry.used for entry in self._offered),
            "disturbed": sum(entry.trial.disturbed for entry in self._offered),
            "curve": len(trials),
            "curve_reached": sum(trial.reached for trial in trials),
            "curve_least_offered": min((t.offered_pps / t.asked_pps for t in trials), default=None),
        }


@contextlib.contextmanager
def _on(sender: PacedSender, way: str) -> Iterator[Lane]:
    variant = VARIANTS[way]
    with variant.on(sender.rig) as walked:
        yield Lane(sender, variant.to or VIRTUAL, walked)


def _ticks() -> dict[int, dict[str, int]]:
    return cpu_ticks(Path("/proc/stat").read_text())


def _stolen(
    before: Mapping[int, Mapping[str, int]],
    now: Mapping[int, Mapping[str, int]],
    cores: tuple[int, int],
) -> dict[int, float]:
    """Share of the time that the hypervisor took of these cores."""
    found = {}
    for core in cores:
        grown = {kind: n - before[core][kind] for kind, n in now[core].items()}
        found[core] = round(grown.get("steal", 0) / max(1, sum(grown.values())), 4)
    return found


EXPERIMENT = Experiment(
    name="sweep_rate",
    title="Offered rate against loss: the chain beside plain routing and nftables",
    policy=None,
    prepare=prepare,
    published=False,
    needs=("mnexec", "ethtool", "objects", "veth", "xdp_live_frames", "tp_btf"),
)
