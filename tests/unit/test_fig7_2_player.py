# SPDX-License-Identifier: MIT
"""The phases against DAD's windows: a made-up DAD and made-up clients, in real time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import pytest

from experiments._course import FLOWS, Guard
from experiments._player import LEAD_S, SPARE_S, Player, Watch
from testbed.errors import RunError
from testbed.experiment.iperf import UdpFlow
from testbed.experiment.traffic import Traffic
from testbed.models.dad import Dad

WINDOW_S = 0.5
MODEL = Dad(threshold=1, window_ns=int(WINDOW_S * 1e9))
GUARDS = {flow.name: Guard(1, 0, MODEL) for flow in FLOWS}
STARTUP_S = 0.01


@dataclass
class FakeClient:
    """Sends from 10 ms after its start; ends when it should, or ``late_s`` later, or when cut."""

    flow: UdpFlow
    phase: str
    begun_s: float
    end_s: float
    cut_short: bool = False
    ended_ns: int | None = None

    @property
    def who(self) -> str:
        return f"client of {self.flow.name}, {self.phase}"

    def poll(self) -> bool:
        if not self.cut_short and time.monotonic() < self.end_s:
            return False
        self.ended_ns = self.ended_ns or time.monotonic_ns()
        return True

    def cut(self) -> None:
        self.cut_short = True


@dataclass
class FakeWorld:
    """Both traffic and what is seen of it: a window opens with a packet after the last ran out."""

    late_s: float = 0.0
    mute_phase: str = ""
    clients: list[FakeClient] = field(default_factory=list)
    window_s: float = 0.0

    def send(self, flow: UdpFlow, *, phase: str, rate_mbps: float, duration_s: float) -> FakeClient:
        now = time.monotonic()
        client = FakeClient(flow, phase, now, now + STARTUP_S + duration_s + self.late_s)
        self.clients.append(client)
        return client

    def listens(self, flow: UdpFlow) -> bool:
        return True

    def entered(self, flow: str) -> int:
        sending = [
            client
            for client in self.clients
            if client.flow.name == flow
            and client.phase != self.mute_phase
            and time.monotonic() > client.begun_s + STARTUP_S
        ]
        if sending and not self.window_s:
            self.window_s = sending[0].begun_s + STARTUP_S
        return 3 * len(sending)

    def pass_time(self) -> None:
        """Open the next window if it is time and somebody sends."""
        now = time.monotonic()
        sending = any(c.begun_s + STARTUP_S <= now <= c.end_s for c in self.clients)
        if self.window_s and now >= self.window_s + WINDOW_S and sending:
            self.window_s += WINDOW_S

    def dad(self, flow: str) -> dict[str, int]:
        return {"window_start_ns": int(self.window_s * 1e9)}


def play(world: FakeWorld) -> tuple[Player, list[str]]:
    steps: list[str] = []
    player = Player(
        cast("Traffic", world), FLOWS, GUARDS, cast("Watch", world), lambda: world.pass_time()
    )
    player.play((50.0, 150.0, 100.0), steps.append)
    return player, steps


def test_each_phase_begins_a_short_lead_before_its_window_opens() -> None:
    """Late by nothing, so that its first datagram meets the old verdict; early by little."""
    world = FakeWorld()
    player, steps = play(world)
    assert [step.split(":")[0] for step in steps] == [f"phase {i} of 3" for i in (1, 2, 3)]
    first_s = world.clients[0].begun_s + STARTUP_S
    for index, client in enumerate(world.clients[2:], start=2):
        opens_s = first_s + WINDOW_S * (index // 2)
        assert opens_s - LEAD_S - 0.01 <= client.begun_s <= opens_s - LEAD_S / 2
    phases = player.phases(player.begun_ns[0][2], now_ns=time.monotonic_ns())
    assert [phase.offered_mbps["flow 1"] for phase in phases] == [50.0, 150.0, 100.0]
    for phase, following in pairwise(phases):
        assert 0 < following.begin_s - phase.end_s < 0.3
        assert phase.end_s - phase.begin_s > WINDOW_S - 2 * SPARE_S - LEAD_S


def test_client_that_is_late_is_told_to_end_before_the_next_begins() -> None:
    """Its source port has to be free, or the next phase would have another 5-tuple."""
    world = FakeWorld(late_s=0.3)
    play(world)
    assert all(client.cut_short for client in world.clients)
    for client, following in zip(world.clients, world.clients[2:], strict=False):
        assert client.ended_ns is not None
        assert client.ended_ns / 1e9 <= following.begun_s


def test_client_in_time_is_left_alone() -> None:
    """No client is cut that ends within the spare time."""
    world = FakeWorld(late_s=SPARE_S / 2)
    play(world)
    assert not any(client.cut_short for client in world.clients)


def test_client_that_does_not_begin_ends_the_run_at_once() -> None:
    """iperf3 would hang for 30 s; the message names the client and the likely cause."""
    begin_s = time.monotonic()
    with pytest.raises(RunError, match="client of flow 1, phase 2 has not begun to send") as caught:
        play(FakeWorld(mute_phase="phase 2"))
    assert "dropped its first datagram" in str(caught.value)
    assert time.monotonic() - begin_s < 3


def test_phase_under_way_ends_now() -> None:
    """A run that is cut short tells of the phase that it was in."""
    world: Any = FakeWorld()

    def stop() -> None:
        world.pass_time()
        if len(world.clients) == 4 and time.monotonic() > world.clients[-1].begun_s + 0.2:
            raise KeyboardInterrupt

    player = Player(cast("Traffic", world), FLOWS, GUARDS, cast("Watch", world), stop)
    with pytest.raises(KeyboardInterrupt):
        player.play((50.0, 150.0, 100.0), lambda _: None)
    now_ns = time.monotonic_ns()
    phases = player.phases(0, now_ns=now_ns)
    assert [phase.name for phase in phases] == ["phase 1", "phase 2"]
    assert phases[-1].end_s == pytest.approx(now_ns / 1e9, abs=1e-5)
