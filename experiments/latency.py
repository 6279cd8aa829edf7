# SPDX-License-Identifier: MIT
"""Round-trip times through the chain, beside plain routing and nftables, with and without load.

sockperf sends a small UDP datagram from `left`, `right` answers it, and so on; both poll, each on
a core of its own. On the way lie plain routing, the chain of DAD and DNAT (with both last steps),
or the same policy in nftables; the latter three translate the datagrams there and the answers
back. With load, iperf3 sends a UDP flow the same way meanwhile. All ways are measured once a
repeat, with and without load, in another random order each time.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from typing import Any

from experiments import _pinged
from experiments._pinged import LOADS, PERCENTILES, Books, Measured
from experiments._pinging import LOAD_MBPS, opened
from testbed.bench.paced import choose_cores
from testbed.chain import Policy
from testbed.errors import UserError
from testbed.experiment.runner import Experiment, Options, Prepared, Session
from testbed.experiment.sockperf import PAYLOAD_BYTES

__all__ = ["EXPERIMENT"]

WAYS = {
    "routing": "the kernel's routing alone",
    "chain-stack": "DAD, DNAT, forward: stack",
    "chain-direct": "DAD, DNAT, forward: direct",
    "nftables": "the same policy in nftables",
}
SEED = 5
REPEATS, SECONDS = 6, 2
QUICK_REPEATS, QUICK_SECONDS = 1, 1
KEPT_TIMES = 2_000  # of each measurement, in raw/
_START_S, _AROUND_S = 3.0, 0.8


def prepare(_: Policy, options: Options) -> Prepared:
    """Say what will be run; raises UserError."""
    if options.forward is not None:
        raise UserError("latency measures both ways to forward: leave --forward out")
    repeats = QUICK_REPEATS if options.quick else REPEATS
    seconds = QUICK_SECONDS if options.quick else SECONDS
    return Prepared(
        lasts_s=repeats * (_START_S + len(WAYS) * len(LOADS) * (seconds + _AROUND_S)),
        parameters={
            "topology": "line",
            "ways": list(WAYS),
            "datagram_bytes": PAYLOAD_BYTES,
            "load_mbps": LOAD_MBPS,
            "loads": dict(LOADS),
            "repeats": repeats,
            "seconds": seconds,
            "percentiles": list(PERCENTILES),
            "seed": SEED,
        },
        measure=lambda session: _Run(session).measure(),
    )


class _Run:
    """One run; knows at any time what it has measured."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cores = choose_cores()
        self._runs: list[Measured] = []
        self._books: list[Books] = []
        self._iperf: dict[str, Any] = {}
        self._order = random.Random(SEED)

    def measure(self) -> None:
        """Measure all repeats."""
        session, repeats = self._session, self._session.parameters["repeats"]
        session.collects(self._fields, raw=self._raw)
        for repeat in range(1, repeats + 1):
            session.progress.step(f"repeat {repeat} of {repeats}")
            self._repeat(repeat)

    def _repeat(self, repeat: int) -> None:
        session, seconds = self._session, self._session.parameters["seconds"]
        with contextlib.ExitStack() as stack:
            ways = {
                name: stack.enter_context(
                    opened(session, name, loads=tuple(LOADS), seconds=seconds, cores=self._cores)
                )
                for name in WAYS
            }
            if repeat == 1:
                networks = {name: way.network.describe() for name, way in ways.items()}
                session.environment(networks=networks)
            for way in ways.values():
                way.hold()
            turn = [(way, load) for way in ways.values() for load in LOADS]
            self._order.shuffle(turn)
            for way, load in turn:
                self._runs.append(way.measure(load, repeat, seconds))
            for name, way in ways.items():
                self._books.append(way.books())
                for file, document in way.traffic.raw().items():
                    self._iperf[file.replace("-server", f"-{name}{repeat}-server")] = document

    # What there is so far, for the result ------------------------------------------------------

    def _raw(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for run in self._runs:
            every, times = run.pinged.thinned(KEPT_TIMES)
            found[f"sockperf-{run.name}.json"] = {
                "head": list(run.pinged.head),
                "every": every,
                "rtt_us": times,
            }
        return {**found, **self._iperf}

    def _fields(self) -> dict[str, Any]:
        if not self._runs:
            return {}
        return {
            "curves": _pinged.curves_of(WAYS, self._runs),
            "compared": _pinged.compared_of(WAYS, self._runs),
            "checks": _pinged.judge(self._runs, self._books),
            "validity": _pinged.limits(self._runs, LOAD_MBPS),
            "facts": {
                **_pinged.books_of(self._books),
                "cores": dict(zip(("left", "right"), self._cores, strict=True)),
                "round_trips": {run.name: len(run.pinged.rtt_us) for run in self._runs},
                "waited_s": {run.name: round(run.waited_s, 6) for run in self._runs},
                "load_mbps": {
                    run.name: round(run.load_mbps, 2)
                    for run in self._runs
                    if run.load_mbps is not None
                },
            },
        }


EXPERIMENT = Experiment(
    name="latency",
    title="Round-trip times: the chain beside plain routing and nftables",
    policy=None,
    prepare=prepare,
    published=False,
    needs=("mnexec", "ethtool", "objects", "veth", "iperf3", "sockperf", "nft", "conntrack"),
)
