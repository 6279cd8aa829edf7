# SPDX-License-Identifier: MIT
"""DAD with real packets in real time, against testbed/models/dad.py."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from testbed.chain import Policy
from testbed.models.dad import Dad, Verdict
from testbed.network import Network
from testbed.nf import load_descriptions
from tests.bpf.harness import policy_of
from tests.frames import udp
from tests.netns.wire import Wire
from tests.sandboxed import in_sandbox
from topologies.line import LEFT, RIGHT, Line

pytestmark = pytest.mark.needs(
    *("root", "namespaces", "veth", "bpffs", "objects", "tc_ingress", "bpf_timer", "nft"),
)

CLOCK_MONOTONIC_COARSE = 6  # the clock of bpf_ktime_get_coarse_ns()
WINDOW_S = 0.2
EDGE_NS = 25_000_000  # packets keep so far from a window's end: two ticks of the slowest clock
Step = tuple[float, int, int, int]  # wait_s, flow, packets, bytes of payload


class StoodStillError(Exception):
    """The machine stood still while a packet was sent: nobody knows when DAD saw it."""


def course_policy(forward: str, params: Mapping[str, Any]) -> Policy:
    """DAD for port 53."""
    nf = {"nf": "dad", "params": {"window_s": WINDOW_S, **params}}
    return policy_of({"rules": [{"dport": 53}], "forward": forward, "nfs": [nf]})


def coarse_ns() -> int:
    """Now, by the clock that DAD reads."""
    return time.clock_gettime_ns(CLOCK_MONOTONIC_COARSE)


@dataclass
class Course:
    """A course on its way: what was sent, and which of it the model lets through."""

    wire: Wire
    model: Dad
    sent: int = 0
    passed: list[int] = field(default_factory=list)

    def step(self, flow: int, count: int, size: int) -> None:
        """Send packets of one flow at once, away from the end of its window."""
        for _ in range(count):
            self._keep_away_from_the_edge(flow)
            packet = udp(
                src=LEFT, dst=RIGHT, sport=flow, payload=self.sent.to_bytes(4, "big") + bytes(size)
            )
            before = coarse_ns()
            self.wire.left.send(packet)
            if coarse_ns() - before > EDGE_NS:
                raise StoodStillError
            verdict = self.model.packet(flow, now_ns=before, ip_bytes=len(packet))
            if verdict is Verdict.ACCEPT:
                self.passed.append(self.sent)
            self.sent += 1

    def _keep_away_from_the_edge(self, flow: int) -> None:
        state = self.model.flows.get(flow)
        if state is None:
            return
        left_ns = state.window_start_ns + self.model.window_ns - coarse_ns()
        if abs(left_ns) < EDGE_NS:
            time.sleep((left_ns + EDGE_NS) / 1e9 + 0.001)


def run_course(wire: Wire, steps: Sequence[Step], forward: str, params: Mapping[str, Any]) -> int:
    """Assert that exactly those packets come out that the model lets through, in order.

    Returns how many were dropped.
    """
    policy = course_policy(forward, params)
    nf = policy.chains[0].nfs[0]
    wire.exchange([])  # what a course before has left
    course = Course(wire, Dad.of(load_descriptions()["dad"], nf.params))
    with wire.chains(policy) as status:
        with wire.one_core():
            for wait_s, flow, count, size in steps:
                time.sleep(wait_s)
                course.step(flow, count, size)
        frames = wire.exchange([])["right"]
        assert [int.from_bytes(frame[42:46], "big") for frame in frames] == course.passed
        dropped = status.stages()[0].dropped["over_threshold"]
        assert (status.stages()[0].seen.packets, dropped) == (
            course.sent,
            course.sent - len(course.passed),
        )
        return dropped


# Figure 7.2 in small: 10 packets a window are too many; half of that, one and a half, all of it.
RECORDED: list[Step] = [
    *[(WINDOW_S / 5, 1, 1, 100)] * 5,
    *[(WINDOW_S / 15, 1, 1, 100)] * 15,
    *[(WINDOW_S / 10, 1, 1, 100)] * 12,
    (2 * WINDOW_S, 1, 3, 100),  # a quiet time, and the flow is let through a window later
    (2 * WINDOW_S, 1, 3, 100),
    (0.05, 2, 15, 500),  # too many at once, however slow the machine is
    (WINDOW_S, 1, 2, 10),
    (0.05, 2, 3, 10),
    (WINDOW_S, 2, 3, 10),
]


@pytest.mark.parametrize("forward", ["stack", "direct"])
@pytest.mark.parametrize("params", [{"threshold_pps": 50}, {"threshold_mbps": 0.05}])
@in_sandbox
def test_recorded_course(forward: str, params: Mapping[str, Any]) -> None:
    """A course with all that DAD does: exactly the packets that the model accepts arrive."""
    with Network(Line()) as net:
        wire = Wire(*(net.node(name) for name in ("left", "node", "right")))
        for _attempt in range(5):
            with contextlib.suppress(StoodStillError):
                assert run_course(wire, RECORDED, forward, params) >= 2
                return
    pytest.fail("the machine stood still in each of five attempts")


steps = st.tuples(
    st.sampled_from([0.0, 0.0, 0.03, 0.07, 0.21, 0.43]),
    st.integers(1, 2),
    st.integers(1, 8),
    st.sampled_from([0, 100, 1000]),
)


@in_sandbox
def test_generated_courses() -> None:
    """The same for courses that nobody thought of."""

    @settings(max_examples=10, suppress_health_check=[HealthCheck.filter_too_much])
    @given(
        course=st.lists(steps, min_size=5, max_size=12),
        params=st.sampled_from([{"threshold_pps": 20}, {"threshold_mbps": 0.1}]),
    )
    def check(course: list[Step], params: Mapping[str, Any]) -> None:
        try:
            run_course(wire, course, "stack", params)
        except StoodStillError:
            reject()

    with Network(Line()) as net:
        wire = Wire(*(net.node(name) for name in ("left", "node", "right")))
        check()
