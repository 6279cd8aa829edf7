# SPDX-License-Identifier: MIT
"""Table 7.4 and Figure 7.4 (thesis, chapter 7): what NFC takes from the throughput of two flows.

Both flows are offered 1 Gbit/s for 10 s. In plain routing they go from the hypervisor by way of
VM1 to VM2 and VM3, by destination prefix. In NFC they go to VM1, whose chain counts them (DAD)
and sends them on (DNAT). Both ways are measured in turn, several times, and what the receivers
read by NFC is divided by what they read by routing.

A rate that the machine cannot carry would measure the machine: before, plain routing is tried
with one MTU after the other, and the first that carries the flows is taken for both ways.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

from experiments._carried import (
    AIM,
    QUICK_AIM,
    RATE_MBPS,
    SIDES,
    Carried,
    compared,
    judge,
    limits,
    means,
    order,
    total,
    validity,
)
from experiments._course import FLOWS, SENDER_ADDRESS, five_tuple, with_forward
from experiments._way import TOPOLOGIES, Way, flows_of
from testbed.chain import Policy
from testbed.errors import UserError
from testbed.experiment.iperf import BLOCK_BYTES
from testbed.experiment.runner import Experiment, Options, Prepared, Session
from testbed.models.dad import Dad
from testbed.nf import load_descriptions
from testbed.paths import ROOT

__all__ = ["EXPERIMENT"]

MTUS = (1500, 9000)
IDLE_BEFORE = 0.5  # CPU time that has to be left in a calibration: runs are longer, others may come
SEED = 74
REPEATS, DURATION_S, CALIBRATION_S = 5, 10.0, 1.5
QUICK_REPEATS, QUICK_DURATION_S, QUICK_CALIBRATION_S = 2, 1.0, 0.7
_AROUND_S = 0.8  # of a run: building the network, ending it
_HEADROOM = 1.5


def prepare(policy: Policy, options: Options) -> Prepared:
    """Check that the policy fits and say what will be run; raises UserError."""
    if options.forward:
        policy = with_forward(policy, options.forward)
    _refuse_denial(policy)
    mtus = (options.mtu,) if options.mtu else MTUS
    repeats = QUICK_REPEATS if options.quick else REPEATS
    duration_s = QUICK_DURATION_S if options.quick else DURATION_S
    calibration_s = QUICK_CALIBRATION_S if options.quick else CALIBRATION_S
    parameters = {
        "topologies": dict(TOPOLOGIES),
        "rate_mbps": RATE_MBPS,
        "duration_s": duration_s,
        "repeats": repeats,
        "least_ratio": QUICK_AIM if options.quick else AIM,
        "order": [f"{side} {repeat}" for repeat, side in order(repeats, seed=SEED)],
        "seed": SEED,
        "mtus": list(mtus),
        "mtu_asked": options.mtu,
        "calibration_s": calibration_s,
        "flows": {
            side: {
                f.name: f"{SENDER_ADDRESS}:{f.cport} → {f.dst}:{f.dport} udp"
                for f in flows_of(side, MTUS[0])
            }
            for side in SIDES
        },
        "receivers": {flow.name: flow.receiver for flow in FLOWS},
    }
    return Prepared(
        policy=policy,
        lasts_s=len(mtus) * (calibration_s + _AROUND_S)
        + repeats * len(SIDES) * (duration_s + _AROUND_S),
        parameters=parameters,
        measure=lambda session: _Run(session).measure(),
    )


def _refuse_denial(policy: Policy) -> None:
    """Raise UserError where no chain takes a flow, or a DAD in it would deny the flow."""
    dad = load_descriptions()["dad"]
    for flow in FLOWS:
        match = policy.match(five_tuple(flow))
        if match is None:
            raise UserError(f"the policy has no rule for {flow.name} (to {flow.dst}:{flow.dport})")
        for nf in match.chain.nfs:
            if nf.name != "dad":
                continue
            model = Dad.of(dad, nf.params)
            packet_bits = 8 if model.in_bytes else 8 * BLOCK_BYTES
            allowed_mbps = model.threshold * packet_bits * 1e3 / model.window_ns
            if allowed_mbps < _HEADROOM * RATE_MBPS:
                raise UserError(
                    f"dad would deny {flow.name}: it allows {allowed_mbps:.4g} Mbit/s, and"
                    f" {RATE_MBPS:g} are offered; here it may only count"
                )


class _Run:
    """All runs, one after the other, and what is known so far."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._zero_ns = time.monotonic_ns()
        self._ways: list[Way] = []
        self._calibrations: dict[int, Carried] = {}
        self._mtu: int | None = None
        self._runs: list[Carried] = []
        self._complete = False

    def measure(self) -> None:
        """Find an MTU, then measure both ways in turn."""
        session, parameters = self._session, self._session.parameters
        session.collects(self._fields, raw=self._raw)
        self._mtu = self._calibrate()
        for repeat, side in order(parameters["repeats"], seed=SEED):
            session.progress.step(
                f"repeat {repeat} of {parameters['repeats']}: {side}, MTU {self._mtu}"
            )
            way = Way(session, side, repeat, self._mtu, parameters["duration_s"])
            self._ways.append(way)
            self._runs.append(way.measure(self._zero_ns))
        networks = {way.side: way.network for way in self._ways}
        session.environment(networks=networks)
        self._complete = True

    def _calibrate(self) -> int:
        """The first MTU at which plain routing carries the flows with CPU time to spare.

        Where there is none: the largest, since a byte costs least in it.
        """
        session, parameters = self._session, self._session.parameters
        for mtu in parameters["mtus"]:
            session.progress.step(f"calibration: plain routing, MTU {mtu}")
            way = Way(session, "routing", 0, mtu, parameters["calibration_s"])
            self._ways.append(way)
            run = self._calibrations[mtu] = way.measure(self._zero_ns)
            if not limits(run) and run.idle_share >= IDLE_BEFORE:
                return int(mtu)
        return max(self._calibrations)

    # What there is so far, for the result ------------------------------------------------------

    def _raw(self) -> Mapping[str, Any]:
        return {name: value for way in self._ways for name, value in way.raw().items()}

    def _fields(self) -> dict[str, Any]:
        phases, received = means(self._runs)
        fields: dict[str, Any] = {
            "clock_start_ns": self._zero_ns,
            "phases": phases,
            "means": received,
            "compared": compared(self._runs, FLOWS),
            "facts": self._facts(),
        }
        if self._complete:
            chosen = self._calibrations[self._mtu] if self._mtu else None
            fields["checks"] = judge(
                self._runs, FLOWS, least=self._session.parameters["least_ratio"]
            )
            fields["validity"] = validity(chosen, self._runs)
        return fields

    def _facts(self) -> dict[str, Any]:
        idle = {side: [run.idle_share for run in self._runs if run.side == side] for side in SIDES}
        return {
            "mtu": self._mtu,
            "block_bytes": flows_of("nfc", self._mtu)[0].block_bytes if self._mtu else None,
            "socket_buffer_bytes": self._session.buffer_bytes,
            "calibrations": {
                str(mtu): {
                    "received_share": round(_share(run), 6),
                    "cpu_left": run.idle_share,
                    "offered_mbps": _offered(run),
                    "why_not": limits(run),
                }
                for mtu, run in self._calibrations.items()
            },
            "ledger": total([run.ledger for run in self._runs]).plain(),
            "ledgers": {run.name: run.ledger.plain() for run in self._runs},
            "offered_mbps": {run.name: _offered(run) for run in self._runs},
            "cpu_left": {side: median(shares) for side, shares in idle.items() if shares},
        }


def _share(run: Carried) -> float:
    """Received of what was asked for: what was not sent counts as not received."""
    return sum(run.received_mbps(f.name) for f in run.flows) / (RATE_MBPS * len(run.flows))


def _offered(run: Carried) -> dict[str, float]:
    return {flow: round(report.rate_mbps, 3) for flow, report in run.sent.items()}


EXPERIMENT = Experiment(
    name="table7_4",
    title="Table 7.4: received throughput of two flows of 1 Gbit/s, plain routing against NFC",
    policy=ROOT / "experiments/policies/counting.yaml",
    prepare=prepare,
    takes_mtu=True,
)
