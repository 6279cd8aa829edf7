# SPDX-License-Identifier: MIT
"""DAD in Python gives the model's verdicts."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from testbed.models.dad import Dad, Verdict
from testbed.nf import load_descriptions
from testbed.user.packet import Packet
from tests.frames import udp
from tests.pythonnf import PythonNF

COURSES = st.lists(
    st.tuples(st.integers(0, 400_000_000), st.integers(0, 3), st.integers(0, 100)), max_size=80
)


@given(
    COURSES,
    st.sampled_from(
        [{"threshold_pps": 5, "window_s": 1}, {"threshold_mbps": 0.001, "window_s": 0.5}]
    ),
    st.sampled_from(["accept", "drop"]),
)
def test_same_as_the_model(
    course: list[tuple[int, int, int]], limits: dict[str, float], on_full: str
) -> None:
    """Any course of packets of three flows, and of one without room, has the model's verdicts."""
    params = {**limits, "on_full": on_full}
    model = Dad.of(load_descriptions()["dad"], {**params, "max_flows": 3})
    nf, now_ns = PythonNF("dad", params), 10**12
    for number in (1, 2, 3):  # the model's table is full with these
        _judge(nf, model, number, now_ns, b"")
    for step_ns, flow, size in course:
        now_ns += step_ns
        _judge(nf, model, flow, now_ns, bytes(size))
    assert nf.counted("untracked") == model.untracked


def _judge(nf: PythonNF, model: Dad, flow: int, now_ns: int, payload: bytes) -> None:
    packet = bytes(udp(payload=payload))
    with mock.patch.object(Packet, "now_ns", staticmethod(lambda: now_ns)):
        outcome = nf.run(packet, flow=flow)
    wanted = model.packet(flow, now_ns=now_ns, ip_bytes=len(packet))
    assert (outcome.dropped is None) == (wanted is Verdict.ACCEPT)
    assert outcome.packet == packet
