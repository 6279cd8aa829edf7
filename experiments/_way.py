# SPDX-License-Identifier: MIT
"""One of the two ways from the hypervisor to VM2 and VM3, built anew and measured once.

Everything but the chain is the same in both: nodes, links, MTU, offloads, socket buffers, sizes
and pace of what iperf3 sends, and what is read meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments._carried import RATE_MBPS, Carried, Side
from experiments._course import FLOWS, SENDER, five_tuple
from testbed.datapath import NfcNode
from testbed.datapath.status import NodeStatus
from testbed.errors import RunError
from testbed.experiment.counters import counters_now
from testbed.experiment.iperf import BLOCK_BYTES, Sent, UdpFlow
from testbed.experiment.losses import SOCKET_PLACES, lost_so_far
from testbed.experiment.meter import Meter, metered
from testbed.experiment.network import open_network, udp_counter
from testbed.experiment.runner import Session
from testbed.experiment.traffic import Traffic, traffic
from testbed.network import Network

__all__ = ["NFC_NODE", "TOPOLOGIES", "Way", "flows_of"]

NFC_NODE = "vm1"
TOPOLOGIES: Mapping[Side, str] = {"routing": "thesis-routing", "nfc": "thesis"}
RECEIVERS = {"vm2": "10.10.9.4", "vm3": "10.10.9.6"}

_POLL_S = 0.05
_TAIL_S = 0.2
_LATE_S = 5.0
_AROUND_BYTES = 1500 - BLOCK_BYTES


def flows_of(side: Side, mtu: int) -> tuple[UdpFlow, ...]:
    """The flows: to VM1, which translates, or straight to their receivers by way of VM1.

    Packets leave as much room below the MTU as :data:`testbed.experiment.iperf.BLOCK_BYTES`.
    """
    sized = (replace(flow, block_bytes=mtu - _AROUND_BYTES) for flow in FLOWS)
    if side == "nfc":
        return tuple(sized)
    return tuple(replace(flow, dst=RECEIVERS[flow.receiver]) for flow in sized)


@dataclass
class Way:
    """One run on one side; what it collected stays readable when it is cut short.

    :ivar network: as ``environment.json`` describes it; None before it was built.
    """

    session: Session
    side: Side
    repeat: int
    mtu: int
    duration_s: float
    network: Mapping[str, Any] | None = None
    _traffic: Traffic | None = None
    _counters: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people and for files."""
        return f"{self.side} {self.repeat}" if self.repeat else f"calibration {self.mtu}"

    def raw(self) -> dict[str, Any]:
        """What iperf3 wrote, and all counters before and after, by file name."""
        label = self.name.replace(" ", "")
        found = self._traffic.raw() if self._traffic else {}
        found = {n.replace("-server", f"-{label}-server"): value for n, value in found.items()}
        return {**found, f"counters-{label}.json": self._counters}

    def measure(self, zero_ns: int) -> Carried:
        """Build, send, read, and take down.

        :param zero_ns: time 0 of the result.
        :raises RunError: iperf3 failed or did not end.
        """
        session, flows = self.session, flows_of(self.side, self.mtu)
        label = self.name.replace(" ", "")
        with contextlib.ExitStack() as stack:
            network = stack.enter_context(open_network(TOPOLOGIES[self.side], mtu=self.mtu))
            status = stack.enter_context(self._chain(network))
            self.network = network.describe()
            meters = {n: stack.enter_context(metered(network.node(n))) for n in RECEIVERS}
            self._traffic = stack.enter_context(
                traffic(
                    network,
                    flows,
                    sender=SENDER,
                    folder=session.sandbox.folder / f"iperf3-{label}",
                    buffer_bytes=session.buffer_bytes,
                )
            )
            self._counters["before"] = counters_now(network, meters, status)
            before = _Books.read(network, flows, meters, status)
            cpu, begin_ns = _cpu_ticks(), time.monotonic_ns()
            clients = [
                self._traffic.send(f, phase=label, rate_mbps=RATE_MBPS, duration_s=self.duration_s)
                for f in flows
            ]
            self._wait(lambda: sum(client.poll() for client in clients) == len(clients))
            end_ns, cpu_after = time.monotonic_ns(), _cpu_ticks()
            time.sleep(_TAIL_S)
            books = _Books.read(network, flows, meters, status) - before
            self._counters["after"] = counters_now(network, meters, status)
            self._counters["cpu_ticks"] = {"before": cpu, "after": cpu_after}
        sent = {client.flow.name: client.sent() for client in clients}
        return Carried(
            side=self.side,
            repeat=self.repeat,
            begin_s=round((begin_ns - zero_ns) / 1e9, 6),
            end_s=round((end_ns - zero_ns) / 1e9, 6),
            flows=flows,
            sent={flow: _known(report, flow) for flow, report in sent.items()},
            unread=books.unread(flows),
            idle_share=round(_idle_share(cpu, cpu_after), 4),
            **books.counts,
        )

    @contextlib.contextmanager
    def _chain(self, network: Network) -> Iterator[NodeStatus | None]:
        if self.side == "routing":
            yield None
            return
        session = self.session
        with NfcNode(network.node(NFC_NODE), session.policy, bpffs=session.sandbox.bpffs) as chain:
            session.sandbox.describe(nfc={NFC_NODE: chain.describe()})
            session.environment(hook=chain.datapath.hook)
            yield NodeStatus(chain.datapath.plan, chain.datapath.folder)

    def _wait(self, done: Callable[[], bool]) -> None:
        assert self._traffic is not None
        deadline = time.monotonic() + self.duration_s + _LATE_S
        while not done():
            self._traffic.check()
            self.session.progress.tick()
            if time.monotonic() > deadline:
                raise RunError(f"{self.name}: iperf3 is {_LATE_S:g} s late")
            time.sleep(_POLL_S)


def _known(report: Sent | None, flow: str) -> Sent:
    if report is None:
        raise RunError(f"client of {flow}: iperf3 has written no report")
    return report


@dataclass(frozen=True)
class _Books:
    """Counters by the names that :class:`Carried` has for them."""

    counts: Mapping[str, Mapping[str, int]]

    @classmethod
    def read(
        cls,
        network: Network,
        flows: Sequence[UdpFlow],
        meters: Mapping[str, Meter],
        status: NodeStatus | None,
    ) -> _Books:
        arrived: dict[str, int] = {}
        strayed: dict[str, int] = {}
        seen = {name: meter.read() for name, meter in meters.items()}
        for flow in flows:
            for node, found in seen.items():
                packets = sum(
                    count.packets
                    for packet, count in found.items()
                    if packet.proto == 17 and packet.sport == flow.cport
                )
                (arrived if node == flow.receiver else strayed)[flow.name] = packets
        received = {f.name: udp_counter(network.node(f.receiver), "InDatagrams") for f in flows}
        counts = {"arrived": arrived, "strayed": strayed, "received": received}
        counts |= {"lost": lost_so_far(network), "entered": {}, "dropped": {}}
        if status is not None:
            counts |= _in_chain(status, flows)
        return cls(counts)

    def __sub__(self, before: _Books) -> _Books:
        return _Books(
            {
                what: {key: n - before.counts[what].get(key, 0) for key, n in now.items()}
                for what, now in self.counts.items()
            }
        )

    def unread(self, flows: Sequence[UdpFlow]) -> dict[str, int]:
        """Datagrams that were put into a socket and not read.

        What the interface took has been read, or dropped at a place with a counter, or lies there.
        """
        found = {}
        for flow in flows:
            here = [f"{flow.receiver}: {text}" for text in SOCKET_PLACES.values()]
            refused = sum(self.counts["lost"].get(place, 0) for place in here)
            gone = self.counts["received"][flow.name] + refused
            found[flow.receiver] = max(0, self.counts["arrived"][flow.name] - gone)
        return found


def _in_chain(status: NodeStatus, flows: Sequence[UdpFlow]) -> dict[str, dict[str, int]]:
    """What the flows' rules took, and what became of the packets that did not get through."""
    rules, entered = status.rules(), {}
    for flow in flows:
        match = status.plan.policy.match(five_tuple(flow))
        assert match is not None
        entered[flow.name] = rules[match.order].packets
    dropped = {}
    for stage in status.stages():
        for reason, packets in {**stage.dropped, "missed": stage.missed}.items():
            dropped[f"{stage.label}: {reason}"] = packets
    return {"entered": entered, "dropped": dropped}


def _cpu_ticks() -> list[int]:
    """Time of all cores so far by kind; guests' is within user's."""
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def _idle_share(before: Sequence[int], after: Sequence[int]) -> float:
    spent = [now - then for then, now in zip(before, after, strict=True)]
    return (spent[3] + spent[4]) / max(1, sum(spent))
