# SPDX-License-Identifier: MIT
"""The testbed of experiment 2 in its two states: idle, and processing two flows of 1 Gbit/s."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from experiments._carried import IDLE_SHARE, RATE_MBPS, Ledger
from experiments._course import SENDER
from experiments._way import NFC_NODE
from testbed.bpf.held import objects_in_use
from testbed.chain import Policy
from testbed.datapath import NfcNode
from testbed.datapath.status import NodeStatus
from testbed.errors import RunError
from testbed.experiment import checks
from testbed.experiment.counters import counters_now
from testbed.experiment.iperf import UdpFlow
from testbed.experiment.kernelmemory import kernel_memory_of
from testbed.experiment.losses import SOCKET_PLACES, lost_so_far
from testbed.experiment.meter import Meter, metered
from testbed.experiment.network import open_network
from testbed.experiment.procstat import idle_share, read_stat
from testbed.experiment.runner import Session
from testbed.experiment.traffic import Client, Traffic, traffic
from testbed.network import Network
from testbed.results import Check, Phase, Validity

__all__ = ["MARGIN_S", "Books", "Scene", "open_scene", "validity"]

MARGIN_S = 0.5  # of a state, at its begin and at its end: not observed
SENT_SHARE, LOST_SHARE, OTHERS_SHARE = 0.99, 0.001, 0.2
_POLL_S = 0.01
_END_S = 5.0

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Books:
    """What became of the packets of one state; of both flows together, but for ``sent_mbps``.

    :ivar entered: packets that entered the chain; None where there is none.
    :ivar ended_early: the flows were over before the observation was.
    :ivar idle_share: of the machine's CPU time meanwhile.
    """

    name: str
    sent_mbps: Mapping[str, float]
    entered: int | None
    ledger: Ledger
    idle_share: float
    ended_early: bool = False

    def checks(self) -> list[Check]:
        """That the rate was offered, and that all of it went through the chain."""
        offered = [
            checks.within(
                f"{self.name}: {flow} offered",
                round(rate, 4),
                target=RATE_MBPS,
                by=RATE_MBPS * (1 - SENT_SHARE),
                unit="Mbit/s",
            )
            for flow, rate in self.sent_mbps.items()
        ]
        return [*offered, *self.packet_checks()]

    def packet_checks(self) -> list[Check]:
        """That all packets went through the chain, and that each is accounted for."""
        found: list[Check] = []
        sent, left_over = self.ledger.sent, self.ledger.unexplained
        if self.entered is not None:
            name = f"{self.name}: packets that entered the chain"
            found.append(checks.equal(name, self.entered, to=sent, unit="packets"))
        name = f"{self.name}: packets unexplained"
        return [*found, checks.equal(name, left_over, to=0, unit="packets")]

    def limits(self) -> list[str]:
        """Why the machine could not carry it; nothing if it could."""
        found = [
            f"{self.name}: iperf3 sent {rate:.1f} of {RATE_MBPS:g} Mbit/s of {flow}"
            for flow, rate in self.sent_mbps.items()
            if rate < SENT_SHARE * RATE_MBPS
        ]
        found += [
            f"{self.name}: {count} of {self.ledger.sent} packets lost ({place})"
            for place, count in self.ledger.lost.items()
            if count > LOST_SHARE * self.ledger.sent
        ]
        if self.ended_early:
            found.append(f"{self.name}: the flows were over before the observation was")
        if self.idle_share < IDLE_SHARE:
            found.append(f"{self.name}: {self.idle_share:.1%} of CPU time was left")
        return found

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "entered_chain": self.entered,
            "cpu_left": round(self.idle_share, 4),
            **self.ledger.plain(),
        }


def validity(books: Sequence[Books], *, idle_busy: float) -> Validity:
    """Tell whether the machine was the limit.

    :param idle_busy: share of all CPUs that other work had while the testbed was idle.
    """
    reasons = [reason for state in books for reason in state.limits()]
    if idle_busy > OTHERS_SHARE:
        reasons.append(f"idle: other work took {idle_busy:.0%} of the machine's CPU time")
    return Validity(state="host-limited" if reasons else "valid", reasons=tuple(reasons))


@dataclass
class Scene:
    """A network that runs, with servers, meters, and perhaps a chain.

    :ivar chain_objects: the chain's maps and programs, by kind and kernel id.
    :ivar kernel_bytes: kernel memory that the chain took when it was built; None if unknown.
    :ivar phases: states that were played, as ``begin`` and ``end`` of CLOCK_MONOTONIC in ns.
    """

    session: Session
    network: Network
    flows: Sequence[UdpFlow]
    traffic: Traffic
    meters: Mapping[str, Meter]
    chain: NfcNode | None
    chain_objects: frozenset[tuple[str, int]]
    kernel_bytes: int | None
    phases: dict[str, tuple[int, int, bool]] = field(default_factory=dict)
    _counters: dict[str, dict[str, Any]] = field(default_factory=dict)
    _lost_before: Mapping[str, int] = field(default_factory=dict)
    _ended_early: bool = False
    _idle_share: float = 0.0

    def idle(self) -> None:
        """To be called while waiting: raises RunError when something has gone wrong."""
        self.traffic.check()
        self.session.progress.tick()

    def wait(self, for_s: float) -> None:
        """Let time pass."""
        due_s = time.monotonic() + for_s
        while (left_s := due_s - time.monotonic()) > 0:
            self.idle()
            time.sleep(min(_POLL_S, left_s))

    def play(
        self,
        name: str,
        *,
        loaded: bool,
        duration_s: float,
        observe: Callable[[float], T],
        margin_s: float = MARGIN_S,
    ) -> T:
        """Play one state and observe its middle.

        :param margin_s: at its begin and at its end, not observed.
        :param observe: takes as many seconds as it is given, calling :meth:`idle`.
        :raises RunError: a client failed or does not end.
        """
        self.session.progress.step(name)
        counters = self._counters[f"counters-{_label(name)}.json"] = {"before": self._counted()}
        self._lost_before = counters["before"]["lost"]
        begin_ns = time.monotonic_ns()
        self.phases[name] = (begin_ns, begin_ns, loaded)
        clients = [
            self.traffic.send(flow, phase=name, rate_mbps=RATE_MBPS, duration_s=duration_s)
            for flow in (self.flows if loaded else ())
        ]
        self.wait(margin_s)
        cpu = read_stat()["cpu"]
        seen = observe(duration_s - 2 * margin_s)
        self._idle_share = idle_share(cpu, read_stat()["cpu"])
        self._ended_early = any(client.ended_ns for client in clients)
        self._wait_for(clients, begin_ns / 1e9 + duration_s + _END_S)
        self.phases[name] = (begin_ns, time.monotonic_ns(), loaded)
        counters["after"] = self._counted()
        return seen

    def _counted(self) -> dict[str, Any]:
        return counters_now(self.network, self.meters, self._status())

    def raw(self) -> dict[str, Any]:
        """What iperf3 wrote, and all counters around each state, by file name."""
        loaded = [name for name, (_, _, was_loaded) in self.phases.items() if was_loaded]
        written = self.traffic.raw() if loaded else {}
        for label in map(_label, loaded[-1:]):  # the servers are this scene's: others have theirs
            written = {n.replace("-server", f"-{label}-server"): v for n, v in written.items()}
        return {**written, **self._counters}

    def _wait_for(self, clients: Sequence[Client], latest_s: float) -> None:
        while sum(client.poll() for client in clients) < len(clients):
            if time.monotonic() > latest_s:
                raise RunError(f"{clients[0].who} or its like does not end")
            self.idle()
            time.sleep(_POLL_S)

    def phases_since(self, zero_ns: int) -> list[Phase]:
        """The states for the result."""
        return [
            Phase(
                name=name,
                begin_s=round((begin_ns - zero_ns) / 1e9, 6),
                end_s=round((end_ns - zero_ns) / 1e9, 6),
                offered_mbps={flow.name: RATE_MBPS for flow in self.flows} if loaded else {},
            )
            for name, (begin_ns, end_ns, loaded) in self.phases.items()
        ]

    def arrived(self) -> int:
        """Packets of the flows that have arrived at their receivers."""
        return sum(
            count.packets
            for flow in self.flows
            for key, count in self.meters[flow.receiver].read().items()
            if (key.proto, key.sport, key.dport) == (17, flow.cport, flow.dport)
        )

    def entered(self) -> int | None:
        """UDP packets that the chain's rules took; None where rules do not tell UDP apart."""
        status = self._status()
        if status is None:
            return None
        rules = [rule for _, rule in status.plan.policy.ordered_rules()]
        if any(rule.proto is None for rule in rules):
            return None
        counts = zip(rules, status.rules(), strict=True)
        return sum(count.packets for rule, count in counts if rule.proto == 17)

    def books(self, name: str) -> Books:
        """What became of the packets of the last state; the only one that was loaded.

        :raises RunError: a client's report is missing or not understood.
        """
        reports = {}
        for client in self.traffic.clients:
            sent = client.sent()
            if sent is None:
                raise RunError(f"{client.who}: iperf3 has not reported")
            reports[client.flow.name] = sent
        now = lost_so_far(self.network)
        lost = {place: count - self._lost_before.get(place, 0) for place, count in now.items()}
        if (status := self._status()) is not None:
            lost |= status.lost_in_user_space()
        in_sockets = sum(
            count for place, count in lost.items() if place.endswith(tuple(SOCKET_PLACES.values()))
        )
        return Books(
            name=name,
            sent_mbps={flow: report.rate_mbps for flow, report in reports.items()},
            entered=self.entered(),
            ledger=Ledger(
                sent=sum(report.packets + 1 for report in reports.values()),  # and the handshake
                received=self.arrived() - in_sockets,
                dropped=self._dropped(),
                lost=lost,
            ),
            ended_early=self._ended_early,
            idle_share=self._idle_share,
        )

    def _status(self) -> NodeStatus | None:
        if self.chain is None:
            return None
        return NodeStatus(self.chain.datapath.plan, self.chain.datapath.folder)

    def _dropped(self) -> dict[str, int]:
        """Packets that the chain dropped, by NF and reason."""
        status = self._status()
        dropped: Counter[str] = Counter()  # an NF may stand in several chains
        for stage in status.stages() if status else ():
            for reason, count in {**stage.dropped, "missed": stage.missed}.items():
                dropped[f"{stage.name}: {reason}"] += count
        return dropped


def _label(name: str) -> str:
    """A state in the names of files."""
    return name.replace(" ", "")


@contextlib.contextmanager
def open_scene(
    session: Session,
    topology: str,
    flows: Sequence[UdpFlow],
    *,
    mtu: int,
    policy: Policy | None,
    weigh: bool = False,
) -> Iterator[Scene]:
    """Build the testbed, meanwhile.

    :param policy: of VM1; None leaves it a plain router.
    :param weigh: build the chain a few times first, to see the kernel memory that it takes.
    """
    session.progress.step(f"building the network {topology}")
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(open_network(topology, mtu=mtu))
        chain, kernel_bytes, mine = None, None, frozenset[tuple[str, int]]()
        if policy is not None:

            def build(chains: Policy = policy) -> NfcNode:
                return NfcNode(network.node(NFC_NODE), chains, bpffs=session.sandbox.bpffs)

            kernel_bytes = kernel_memory_of(build) if weigh else None
            before = objects_in_use()
            chain = stack.enter_context(build())
            mine = frozenset(objects_in_use()) - frozenset(before)
            session.sandbox.describe(nfc={NFC_NODE: chain.describe()})
            session.environment(network=network.describe(), hook=chain.datapath.hook)
        else:
            session.environment(routing_network=network.describe())
        receivers = [flow.receiver for flow in flows]
        meters = {name: stack.enter_context(metered(network.node(name))) for name in receivers}
        running = stack.enter_context(
            traffic(
                network,
                flows,
                sender=SENDER,
                folder=session.sandbox.folder / f"iperf3-{topology}",
                buffer_bytes=session.buffer_bytes,
            )
        )
        yield Scene(session, network, flows, running, meters, chain, mine, kernel_bytes)
