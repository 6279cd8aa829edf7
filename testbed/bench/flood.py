# SPDX-License-Identifier: MIT
"""What a flood that DAD drops takes from the goodput of a flow that keeps to the threshold.

Two iperf3 flows take the same chain, DAD then DNAT, on the node of the line network. The good one
stays below DAD's threshold; the flood offers three times as much as the good one and is above it.
With and without the flood are measured in turn, each pair in another order. In every flood a new
source port begins, so that its first window passes, as a new attacker's does; the measured span
begins when DAD denies it.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.bench.floodrecord import FloodCounts, FloodRecord, FloodRun, FloodSettings, make_record
from testbed.chain import NF, Chain, FlowRule, Policy
from testbed.datapath import NfcNode
from testbed.datapath.status import NodeStatus
from testbed.errors import RunError
from testbed.experiment.iperf import UdpFlow
from testbed.experiment.losses import lost_so_far
from testbed.experiment.meter import Meter, metered
from testbed.experiment.network import open_network
from testbed.experiment.progress import Progress
from testbed.experiment.traffic import Client, Traffic, traffic
from testbed.network import Network
from testbed.sandbox import Sandbox
from topologies.line import NODE_LEFT, RIGHT

__all__ = ["flood_policy", "measure_flood"]

_GOOD_PORT, _FLOOD_PORT = 53, 123  # as in the thesis; both are translated to `right`
_GOOD_SOURCE, _FLOOD_SOURCE = 50_053, 40_000
_DENIED_WINDOWS = 2.5  # that pass before the span is measured: the first one, and room
_END_S = 0.3  # that the clients send beyond the span
_PATIENCE_S = 5.0
_SETTLE_S = 0.2
_POLL_S = 0.01


def flood_policy(settings: FloodSettings) -> Policy:
    """DAD with the threshold, then DNAT to `right`; TCP too, which iperf3 controls itself by."""
    rules = tuple(
        FlowRule.model_validate({"proto": proto, "dst": NODE_LEFT, "dport": port})
        for port in (_GOOD_PORT, _FLOOD_PORT)
        for proto in ("udp", "tcp")
    )
    flows = {"max_flows": settings.max_flows}
    limit = {"threshold_mbps": settings.threshold_mbps, "window_s": settings.window_s}
    ways = [{"dport": port, "to": RIGHT} for port in (_GOOD_PORT, _FLOOD_PORT)]
    nfs = (
        NF(name="dad", priority=10, params={**limit, **flows}),
        NF(name="dnat", priority=20, params={"rules": ways, **flows}),
    )
    chain = {"id": 1, "name": "flood", "forward": settings.forward, "rules": rules, "nfs": nfs}
    return Policy(chains=(Chain.model_validate(chain),))


@dataclass
class _Scene:
    """The network that runs, and what its flows have come to."""

    settings: FloodSettings
    network: Network
    traffic: Traffic
    meter: Meter
    status: NodeStatus
    progress: Progress

    def counts(self) -> FloodCounts:
        """Read all counters."""
        arrived = self.meter.read()
        udp = [(key.sport == _GOOD_SOURCE, n) for key, n in arrived.items() if key.proto == 17]
        good, flood = ([count for mine, count in udp if mine is which] for which in (True, False))
        rules = [rule for _, rule in self.status.plan.policy.ordered_rules()]
        entered = {
            rule.dport: count.packets
            for rule, count in zip(rules, self.status.rules(), strict=True)
            if rule.proto == 17
        }
        return FloodCounts(
            goodput_bytes=sum(count.payload_bytes for count in good),
            good_arrived=sum(count.packets for count in good),
            flood_arrived=sum(count.packets for count in flood),
            good_entered=entered[_GOOD_PORT],
            flood_entered=entered[_FLOOD_PORT],
            denied=sum(stage.dropped.get("over_threshold", 0) for stage in self.status.stages()),
        )

    def measure(self, number: int, *, flooded: bool) -> FloodRun:
        """One span of the good flow, with the flood or without it.

        :raises RunError: iperf3 failed, or does not end.
        """
        settings = self.settings
        settle_s = _DENIED_WINDOWS * settings.window_s
        lasts_s = settle_s + settings.span_s + _END_S
        rates = {_good(): settings.good_mbps}
        if flooded:
            rates[_flood(number)] = settings.flood_mbps
        phase = f"round {number}, {'flood' if flooded else 'calm'}"
        self.progress.step(phase)
        clients = [
            self.traffic.send(flow, phase=phase, rate_mbps=rate, duration_s=lasts_s)
            for flow, rate in rates.items()
        ]
        self._wait(settle_s)
        begin_ns, first = time.monotonic_ns(), self.counts()
        self._wait(settings.span_s)
        end_ns, last = time.monotonic_ns(), self.counts()
        self._end(clients)
        seconds = round((end_ns - begin_ns) / 1e9, 9)
        return FloodRun(round=number, flooded=flooded, seconds=seconds, **last.since(first))

    def _wait(self, for_s: float) -> None:
        due_s = time.monotonic() + for_s
        while (left_s := due_s - time.monotonic()) > 0:
            self.traffic.check()
            self.progress.tick()
            time.sleep(min(_POLL_S, left_s))

    def _end(self, clients: Sequence[Client]) -> None:
        latest_s = time.monotonic() + _PATIENCE_S
        while sum(client.poll() for client in clients) < len(clients):
            if time.monotonic() > latest_s:
                raise RunError(f"{clients[0].who} or its like does not end")
            self._wait(_POLL_S)

    def unexplained(self, lost_before: Mapping[str, int]) -> tuple[int, dict[str, int]]:
        """Packets that nothing accounts for, of all that was sent, and what was lost where."""
        reports = [(client.who, client.sent()) for client in self.traffic.clients]
        silent = next((who for who, sent in reports if sent is None), None)
        if silent is not None:
            raise RunError(f"{silent}: iperf3 has not reported")
        sent = sum(report.packets + 1 for _, report in reports if report)  # and the handshake
        now = self.counts()
        lost = {p: n - lost_before.get(p, 0) for p, n in lost_so_far(self.network).items()}
        # A socket's losses are behind the meter, which has counted them as arrived.
        before_meter = {p: n for p, n in lost.items() if n and not p.startswith("right:")}
        gone = now.denied + now.good_arrived + now.flood_arrived + sum(before_meter.values())
        return sent - gone, {place: n for place, n in lost.items() if n}


def _good() -> UdpFlow:
    return UdpFlow(
        name="good", dst=NODE_LEFT, dport=_GOOD_PORT, cport=_GOOD_SOURCE, receiver="right"
    )


def _flood(number: int) -> UdpFlow:
    port = _FLOOD_SOURCE + number
    return UdpFlow(name="flood", dst=NODE_LEFT, dport=_FLOOD_PORT, cport=port, receiver="right")


def measure_flood(
    sandbox: Sandbox, settings: FloodSettings, *, buffer_bytes: int, progress: Progress
) -> FloodRecord:
    """Measure all rounds in this sandbox.

    :param buffer_bytes: that sockets can have on this host.
    :raises RunError: iperf3 failed.
    """
    order, runs = random.Random(settings.seed), []
    with _scene(sandbox, settings, buffer_bytes=buffer_bytes, progress=progress) as scene:
        before = lost_so_far(scene.network)
        for number in range(settings.rounds):
            pair = [False, True]
            order.shuffle(pair)
            runs += [scene.measure(number, flooded=flooded) for flooded in pair]
        time.sleep(_SETTLE_S)
        left_over, lost = scene.unexplained(before)
    return make_record(settings, runs, unexplained=left_over, lost=lost)


@contextlib.contextmanager
def _scene(
    sandbox: Sandbox, settings: FloodSettings, *, buffer_bytes: int, progress: Progress
) -> Iterator[_Scene]:
    progress.step("building the network line")
    folder: Path = sandbox.folder / "iperf3-flood"
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(open_network("line"))
        policy = flood_policy(settings)
        chain = stack.enter_context(NfcNode(network.node("node"), policy, bpffs=sandbox.bpffs))
        meter = stack.enter_context(metered(network.node("right")))
        running = stack.enter_context(
            traffic(
                network,
                (_good(), _flood(0)),
                sender="left",
                folder=folder,
                buffer_bytes=buffer_bytes,
            )
        )
        status = NodeStatus(chain.datapath.plan, chain.datapath.folder)
        yield _Scene(settings, network, running, meter, status, progress)
