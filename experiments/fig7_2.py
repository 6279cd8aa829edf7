# SPDX-License-Identifier: MIT
"""Figure 7.2 (thesis 7.2, experiment 1): DAD and DNAT chained on VM1.

The hypervisor sends two UDP flows to VM1, one to port 53 and one to port 123, at 50, 150 and
100 Mbit/s in turn, each for as long as a window of DAD. DNAT sends flow 1 on to VM2 and flow 2 to
VM3. DAD lets 100 Mbit/s pass: the second phase exceeds that, so the third is denied. At VM2 and
VM3 arrive 50, 150 and 0 Mbit/s.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments._course import (
    FLOWS,
    PUBLISHED,
    RATES_MBPS,
    SENDER,
    Guard,
    expected_mbps,
    five_tuple,
    guard_of,
    with_forward,
    with_windows_scaled,
)
from experiments._judged import accounts, judge, ledger, overload, validity
from experiments._measured import Course, Reading, Sample, offered_series
from experiments._player import LEAD_S, SPARE_S, Place, Player, Watch
from testbed.chain import Policy
from testbed.datapath import NfcNode
from testbed.datapath.status import NodeStatus
from testbed.errors import RunError, UserError
from testbed.experiment.counters import counters_now
from testbed.experiment.iperf import Sent
from testbed.experiment.meter import Meter, metered
from testbed.experiment.network import open_network, udp_counter
from testbed.experiment.procstat import idle_share, read_stat
from testbed.experiment.runner import Experiment, Options, Prepared, Session
from testbed.experiment.sampler import Sampler
from testbed.experiment.traffic import Traffic, traffic
from testbed.network import Network
from testbed.paths import ROOT
from testbed.results import Mean, Phase, Validity

__all__ = ["EXPERIMENT"]

NFC_NODE = "vm1"
RECEIVERS = tuple(flow.receiver for flow in FLOWS)
SAMPLE_S = 0.05
SETTLE_SHARE = 0.05  # of a window, left out at both ends of a phase's steady part
QUICK = 0.2
_CLOSE = 0.12  # the gaps between phases take up to 7 % of a quick window
_TAIL_S = 0.3
_AROUND_S = 1.0  # building the network, ending it


def prepare(policy: Policy, options: Options) -> Prepared:
    """Check that the policy fits and say what will be run; raises UserError."""
    if options.forward:
        policy = with_forward(policy, options.forward)
    if options.quick:
        policy = with_windows_scaled(policy, QUICK)
    guards = {flow.name: guard_of(policy, flow) for flow in FLOWS}
    windows_s = {guard.window_s for guard in guards.values()}
    if len(windows_s) > 1:
        raise UserError("the flows' dads have different window_s: the phases could not fit both")
    (window_s,) = windows_s
    for name, guard in guards.items():
        _refuse_close_call(name, guard)
    parameters = {
        "topology": "thesis",
        "rates_mbps": list(RATES_MBPS),
        "expected_mbps": {flow.name: list(expected_mbps(guards[flow.name])) for flow in FLOWS},
        "flows": {f.name: f"{five_tuple(f).src}:{f.cport} → {f.dst}:{f.dport} udp" for f in FLOWS},
        "receivers": {flow.name: flow.receiver for flow in FLOWS},
        "window_s": window_s,
        "threshold_mbps": {name: round(g.threshold_mbps, 3) for name, g in guards.items()},
        "threshold": {name: guard.threshold_in_words for name, guard in guards.items()},
        "sample_s": SAMPLE_S,
        "settle_s": SETTLE_SHARE * window_s,
        "lead_s": LEAD_S,
        "spare_s": SPARE_S,
    }
    return Prepared(
        policy=policy,
        lasts_s=window_s * len(RATES_MBPS) + _AROUND_S,
        parameters=parameters,
        measure=lambda session: _Run(session, guards).measure(),
    )


def _refuse_close_call(flow: str, guard: Guard) -> None:
    """Raise UserError where a threshold is so near a rate that the short gaps would decide."""
    for rate_mbps in RATES_MBPS[:-1]:  # what the last phase leads to is not seen
        if 1 - _CLOSE < guard.threshold_mbps / rate_mbps < 1 + _CLOSE / 2:
            raise UserError(
                f"dad's threshold for {flow} ({guard.threshold_in_words}) is too near the"
                f" {rate_mbps:g} Mbit/s that a phase offers: keep {_CLOSE:.0%} away"
            )


class _Run:
    """One run: builds everything, plays the phases, and knows at any time what it has seen."""

    def __init__(self, session: Session, guards: Mapping[str, Guard]) -> None:
        self._session, self._guards = session, guards
        self._sampler: Sampler[Sample] | None = None
        self._traffic: Traffic | None = None
        self._player: Player | None = None
        self._counters: dict[str, Any] = {}
        self._tuples: dict[str, int] = {}
        self._socket_errors: dict[str, int] = {}
        self._idle_share: float | None = None
        self._reports: dict[tuple[str, str], Sent] | None = None  # known once all is well

    def measure(self) -> None:
        """Run from the first node to the last sample."""
        session = self._session
        session.collects(self._fields, raw=self._raw)
        session.progress.step("building the network")
        with contextlib.ExitStack() as stack:
            network = stack.enter_context(open_network("thesis"))
            chain = NfcNode(network.node(NFC_NODE), session.policy, bpffs=session.sandbox.bpffs)
            stack.enter_context(chain)
            session.sandbox.describe(nfc={NFC_NODE: chain.describe()})
            session.environment(network=network.describe(), hook=chain.datapath.hook)
            meters = {n: stack.enter_context(metered(network.node(n))) for n in RECEIVERS}
            status = NodeStatus(chain.datapath.plan, chain.datapath.folder)
            self._traffic = stack.enter_context(
                traffic(
                    network,
                    FLOWS,
                    sender=SENDER,
                    folder=session.sandbox.folder / "iperf3",
                    buffer_bytes=session.buffer_bytes,
                )
            )
            self._play(network, Watch(status, self._places(status)), meters)
        self._reports = self._sent()

    def _places(self, status: NodeStatus) -> dict[str, Place]:
        chains = {plan.chain.id: plan for plan in status.plan.chains}
        places = {}
        for flow in FLOWS:
            guard, match = self._guards[flow.name], self._session.policy.match(five_tuple(flow))
            assert match is not None
            stage = chains[guard.chain_id].stages[guard.position]
            places[flow.name] = Place(five_tuple(flow).key()._asdict(), stage, match.order)
        return places

    def _play(self, network: Network, watch: Watch, meters: Mapping[str, Meter]) -> None:
        assert self._traffic is not None
        nodes = [network.node(name) for name in meters]
        before = {node.name: udp_counter(node, "RcvbufErrors") for node in nodes}
        self._counters["before"] = counters_now(network, meters, watch.status)
        cpu = read_stat()["cpu"]
        with Sampler(lambda: _sample(watch, meters), period_s=SAMPLE_S) as self._sampler:
            self._player = Player(self._traffic, FLOWS, self._guards, watch, self._idle)
            try:
                self._player.play(RATES_MBPS, self._session.progress.step)
                time.sleep(_TAIL_S)
            finally:
                self._idle_share = idle_share(cpu, read_stat()["cpu"])
                for node in nodes:
                    now = udp_counter(node, "RcvbufErrors")
                    self._socket_errors[node.name] = now - before[node.name]
                self._tuples = _five_tuples(watch.status)
                self._counters["after"] = counters_now(network, meters, watch.status)
        self._sampler.check()

    def _idle(self) -> None:
        assert self._sampler is not None
        assert self._traffic is not None
        self._sampler.check()
        self._traffic.check()
        self._session.progress.tick()

    # What there is so far, for the result ------------------------------------------------------

    def _raw(self) -> Mapping[str, Any]:
        samples = [sample.plain() for sample in self._sampler.samples] if self._sampler else []
        return {
            **(self._traffic.raw() if self._traffic else {}),
            "counters.json": self._counters,
            "samples.json": {"samples": samples},
        }

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"published": PUBLISHED}
        samples = list(self._sampler.samples) if self._sampler else []
        if not samples or self._player is None or not self._player.begun_ns:
            return fields
        zero_ns = self._player.begun_ns[0][2]
        phases = self._player.phases(zero_ns, now_ns=samples[-1].t_ns)
        course = Course(
            samples=samples,
            flows=FLOWS,
            nodes=RECEIVERS,
            guards=self._guards,
            zero_ns=zero_ns,
            settle_s=self._session.parameters["settle_s"],
        )
        sent = self._sent(partly=True) if self._reports is None else self._reports
        means = [course.mean(f, node, p) for p in phases for f in FLOWS for node in RECEIVERS]
        fields |= {
            "clock_start_ns": zero_ns,
            "phases": phases,
            "windows": [window for flow in FLOWS for window in course.windows(flow)],
            "series": course.series() + offered_series(FLOWS, phases, sent),
            "means": means,
        }
        if self._idle_share is not None and (why := overload(self._idle_share)):
            fields["validity"] = Validity(state="host-limited", reasons=tuple(why))
        if self._reports is not None:
            fields |= self._verdict(course, phases, means, sent)
        return fields

    def _sent(self, *, partly: bool = False) -> dict[tuple[str, str], Sent]:
        """What the clients report that have ended, by flow and phase.

        :param partly: leave out reports that are not whole, instead of raising RunError.
        """
        found = {}
        for client in self._traffic.clients if self._traffic else ():
            try:
                report = client.sent() if client.ended_ns else None
            except RunError:
                if not partly:
                    raise
                continue
            if report is not None:
                found[client.flow.name, client.phase] = report
        return found

    def _verdict(
        self,
        course: Course,
        phases: Sequence[Phase],
        means: Sequence[Mean],
        sent: Mapping[tuple[str, str], Sent],
    ) -> dict[str, Any]:
        assert self._traffic is not None
        assert self._idle_share is not None
        books = accounts(course, sent, self._socket_errors)
        cut_short = [client.who for client in self._traffic.clients if client.cut_short]
        return {
            "checks": judge(course, phases, means, sent, self._tuples),
            "validity": validity(books, sent, cut_short, idle_share=self._idle_share),
            "facts": {
                "packets": {
                    "sent": books.sent,
                    "arrived": books.arrived,
                    "denied_by_dad": books.denied,
                    "unaccounted": books.lost,
                },
                "ledger": ledger(books, **self._counters).plain(),
                "socket_buffer_errors": books.socket_errors,
                "socket_buffer_bytes": self._session.buffer_bytes,
                "cpu_left": round(self._idle_share, 4),
                "samples_per_s": round(course.samples_per_s, 3),
            },
        }


def _sample(watch: Watch, meters: Mapping[str, Meter]) -> Sample:
    """Read everything, the receivers first."""
    t_ns = time.monotonic_ns()
    readings = {name: Reading(time.monotonic_ns(), meter.read()) for name, meter in meters.items()}
    rules, stages = watch.status.rules(), watch.status.stages()
    judges = {place.dad.label for place in watch.places.values()}
    dropped: Counter[str] = Counter()
    for stage in stages:
        if stage.label in judges:
            dropped.update(stage.dropped)
    return Sample(
        t_ns=t_ns,
        readings=readings,
        entered={flow: rules[place.rule] for flow, place in watch.places.items()},
        dad={flow: watch.dad(flow) for flow in watch.places},
        dad_dropped=dropped,
        missed=sum(stage.missed for stage in stages),
    )


def _five_tuples(status: NodeStatus) -> dict[str, int]:
    """How many UDP 5-tuples of each flow the node's flow table holds, the way there only."""
    found = dict.fromkeys((flow.name for flow in FLOWS), 0)
    for key, entry in status.flows():
        for flow in FLOWS:
            mine = key["proto"] == 17 and key["dst"] == int(five_tuple(flow).dst)
            if mine and key["dport"] == flow.dport and not entry["reply"]:
                found[flow.name] += 1
    return found


EXPERIMENT = Experiment(
    name="fig7_2",
    title="Figure 7.2: DAD and DNAT chained on VM1, throughput of two flows at VM2 and VM3",
    policy=ROOT / "experiments/policies/thesis.yaml",
    prepare=prepare,
)
