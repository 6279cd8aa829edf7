# SPDX-License-Identifier: MIT
"""Plays the phases of experiment 1 against DAD's own windows.

A phase is one iperf3 client per flow. Each must begin to send when a window of DAD opens, and a
window opens with a packet: so the clients start a short lead before the old window runs out, while
its verdict still lets the client's handshake through, and their stream opens the new one::

    window k ──────────────────────────────────────┤ window k+1 ──────────
    clients of phase k ───────────────┤ spare ├ lead ┤
                                              └ clients of phase k+1 start

The clients before have ended by then, because their source port is used again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experiments._course import Guard
from testbed.datapath.plan import Stage
from testbed.datapath.status import NodeStatus
from testbed.errors import RunError
from testbed.experiment.iperf import UdpFlow
from testbed.experiment.traffic import Client, Traffic
from testbed.results import Phase

__all__ = ["Place", "Player", "Watch"]

LEAD_S = 0.12  # iperf3 takes 10 ms from its start to its first packet, more on a busy machine
SPARE_S = 0.1
_LATE_S = 0.02  # before the next phase's start: time to tell a client to end
_END_S = 2.0
_BEGIN_S = 0.7
_STARTED_PACKETS = 3  # the handshake is one
_POLL_S = 0.002


@dataclass(frozen=True)
class Place:
    """Where a flow is found in the node's maps.

    :ivar key: its 5-tuple as numbers.
    :ivar dad: the stage that judges it.
    :ivar rule: place of its rule in first-match order.
    """

    key: Mapping[str, int]
    dad: Stage
    rule: int


class Watch:
    """Looks at the flows in the node's live maps, by their names."""

    def __init__(self, status: NodeStatus, places: Mapping[str, Place]) -> None:
        self.status, self.places = status, places
        self._numbers: dict[str, int] = {}

    def _number(self, flow: str) -> int | None:
        """The flow's number in the node's flow table; None before its first packet."""
        if flow not in self._numbers:
            wanted = self.places[flow].key
            for key, entry in self.status.flows():
                if all(key[name] == value for name, value in wanted.items()):
                    self._numbers[flow] = entry["number"]
        return self._numbers.get(flow)

    def dad(self, flow: str) -> Mapping[str, int] | None:
        """What DAD keeps of the flow now; None before its first packet."""
        number = self._number(flow)
        return None if number is None else self.status.state(self.places[flow].dad, number)

    def entered(self, flow: str) -> int:
        """Packets that the flow's rule has taken."""
        return self.status.rules()[self.places[flow].rule].packets


class Player:
    """Starts and ends the clients of all phases.

    :param idle: called again and again while waiting; raises to end the run.
    :ivar phases: those that have begun, the last one perhaps without its right end.
    """

    def __init__(
        self,
        traffic: Traffic,
        flows: Sequence[UdpFlow],
        guards: Mapping[str, Guard],
        watch: Watch,
        idle: Callable[[], None],
    ) -> None:
        self._traffic, self._flows, self._watch, self._idle = traffic, flows, watch, idle
        self._window_s = min(guard.window_s for guard in guards.values())
        self.begun_ns: list[tuple[str, float, int]] = []
        self.ended_ns: list[int] = []

    def play(self, rates_mbps: Sequence[float], step: Callable[[str], None]) -> None:
        """Play one phase per rate.

        :raises RunError: a client did not begin, failed, or did not end.
        """
        for index, rate_mbps in enumerate(rates_mbps):
            name = f"phase {index + 1}"
            if index:
                self._wait_until(self._window_end_s() - LEAD_S)
                self._wait_for_servers()
            step(f"{name} of {len(rates_mbps)}: {rate_mbps:g} Mbit/s each")
            duration_s = self._window_s - SPARE_S - (0.0 if index else LEAD_S)
            latest_s = time.monotonic() + duration_s + SPARE_S - _LATE_S
            self._finish(self._start(name, rate_mbps, duration_s), latest_s=latest_s)

    def phases(self, zero_ns: int, *, now_ns: int) -> list[Phase]:
        """What has been played so far; a phase that is under way ends now."""
        ends = [*self.ended_ns, now_ns]
        return [
            Phase(
                name=name,
                begin_s=round((begin_ns - zero_ns) / 1e9, 6),
                end_s=round((ends[index] - zero_ns) / 1e9, 6),
                offered_mbps={flow.name: rate_mbps for flow in self._flows},
            )
            for index, (name, rate_mbps, begin_ns) in enumerate(self.begun_ns)
        ]

    def _window_end_s(self) -> float:
        """When the first of the flows' windows runs out, CLOCK_MONOTONIC."""
        starts = []
        for flow in self._flows:
            state = self._watch.dad(flow.name)
            if not state or not state["window_start_ns"]:
                raise RunError(f"{flow.name}: dad knows nothing of it")
            starts.append(state["window_start_ns"] / 1e9)
        return min(starts) + self._window_s

    def _start(self, name: str, rate_mbps: float, duration_s: float) -> list[Client]:
        before = {flow.name: self._watch.entered(flow.name) for flow in self._flows}
        clients = [
            self._traffic.send(flow, phase=name, rate_mbps=rate_mbps, duration_s=duration_s)
            for flow in self._flows
        ]
        deadline = time.monotonic() + _BEGIN_S
        waiting = {client.flow.name: client for client in clients}
        while waiting:
            for flow_name, client in list(waiting.items()):
                if self._watch.entered(flow_name) - before[flow_name] >= _STARTED_PACKETS:
                    if len(waiting) == len(clients):
                        self.begun_ns.append((name, rate_mbps, time.monotonic_ns()))
                    del waiting[flow_name]
                elif time.monotonic() > deadline:
                    raise RunError(
                        f"{client.who} has not begun to send after {_BEGIN_S:g} s: {_HINT}"
                    )
            self._rest()
        return clients

    def _finish(self, clients: Sequence[Client], *, latest_s: float) -> None:
        """Wait until the clients have ended; those that are late are told to."""
        while not _ended(clients):
            if time.monotonic() > latest_s:
                for client in clients:
                    if not client.poll():
                        client.cut()
                break
            self._rest()
        deadline = time.monotonic() + _END_S
        while not _ended(clients):
            if time.monotonic() > deadline:
                raise RunError(f"{clients[0].who} or its like does not end")
            self._rest()
        self.ended_ns.append(max(client.ended_ns or 0 for client in clients))

    def _wait_for_servers(self) -> None:
        deadline = time.monotonic() + LEAD_S / 2
        while not all(self._traffic.listens(flow) for flow in self._flows):
            if time.monotonic() > deadline:
                raise RunError("a server of iperf3 does not take the next phase's client")
            self._rest()

    def _wait_until(self, due_s: float) -> None:
        while (left_s := due_s - time.monotonic()) > 0:
            self._rest(min(_POLL_S, left_s))

    def _rest(self, for_s: float = _POLL_S) -> None:
        self._idle()
        time.sleep(for_s)


_HINT = "the chain dropped its first datagram (dad's window had run out too early), or iperf3 hangs"


def _ended(clients: Sequence[Client]) -> bool:
    """Whether all have ended; asks each, so that each one's end gets its time."""
    return sum(client.poll() for client in clients) == len(clients)
