# SPDX-License-Identifier: MIT
"""From samples to what a result holds: series, windows, means. Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from typing import Any

from experiments._course import Guard
from testbed.chain import FiveTuple
from testbed.datapath.status import Count
from testbed.experiment.counters import plain_arrived
from testbed.experiment.iperf import Sent, UdpFlow
from testbed.experiment.meter import Arrived
from testbed.results import Mean, Phase, Series, Window

__all__ = ["Course", "Reading", "Sample", "mean_mbps", "offered_series"]

Point = tuple[float, int]  # seconds, bytes so far


@dataclass(frozen=True, slots=True)
class Reading:
    """What a node's meter showed; the time is that of the reading."""

    t_ns: int
    arrived: Mapping[FiveTuple, Arrived]

    def of(self, flow: UdpFlow) -> Arrived:
        """What arrived of a flow, whatever address it was translated to."""
        mine = [
            count
            for packet, count in self.arrived.items()
            if packet.proto == 17 and packet.sport == flow.cport
        ]
        return Arrived(sum(c.packets for c in mine), sum(c.payload_bytes for c in mine))


@dataclass(frozen=True, slots=True)
class Sample:
    """All counters at one time.

    :ivar readings: of the receivers, by node.
    :ivar entered: what the rule of each flow took, by flow's name.
    :ivar dad: state of each flow in DAD; None before its first packet.
    :ivar dad_dropped: packets that DAD dropped, all flows together, by reason.
    """

    t_ns: int
    readings: Mapping[str, Reading]
    entered: Mapping[str, Count]
    dad: Mapping[str, Mapping[str, int] | None]
    dad_dropped: Mapping[str, int]
    missed: int

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "t_ns": self.t_ns,
            "readings": {
                node: {"t_ns": reading.t_ns, "arrived": plain_arrived(reading.arrived)}
                for node, reading in self.readings.items()
            },
            "entered": {flow: asdict(count) for flow, count in self.entered.items()},
            "dad": dict(self.dad),
            "dad_dropped": dict(self.dad_dropped),
            "missed": self.missed,
        }


def mean_mbps(points: Sequence[Point], begin_s: float, end_s: float) -> float | None:
    """Mean rate between the first and the last point of a span; None if it has not two."""
    inside = [point for point in points if begin_s <= point[0] <= end_s]
    if len(inside) < 2:
        return None
    (first_s, first), (last_s, last) = inside[0], inside[-1]
    return (last - first) * 8e-6 / (last_s - first_s)


def _whole_mbps(points: Sequence[Point], begin_s: float, end_s: float) -> float | None:
    """All that came between the points around a span, over the span."""
    before = [count for t, count in points if t <= begin_s] or [0]
    after = [count for t, count in points if t >= end_s]
    if not after or end_s <= begin_s:
        return None
    return (after[0] - before[-1]) * 8e-6 / (end_s - begin_s)


@dataclass(frozen=True)
class Course:
    """The samples of a run, seen with its phases.

    :ivar zero_ns: time 0 of the result.
    :ivar settle_s: left out at both ends of a phase's steady part.
    """

    samples: Sequence[Sample]
    flows: Sequence[UdpFlow]
    nodes: Sequence[str]
    guards: Mapping[str, Guard]
    zero_ns: int
    settle_s: float

    def seconds(self, t_ns: int) -> float:
        """Time since the zero."""
        return round((t_ns - self.zero_ns) / 1e9, 6)

    def points(self, flow: UdpFlow, node: str) -> list[Point]:
        """Payload bytes of a flow that had arrived at a node, reading by reading."""
        readings = (sample.readings[node] for sample in self.samples)
        return [(self.seconds(r.t_ns), r.of(flow).payload_bytes) for r in readings]

    def series(self) -> list[Series]:
        """Received bytes and throughput of each flow at each receiver, and what entered VM1."""
        found = []
        for flow in self.flows:
            for node in self.nodes:
                found += _received(self.points(flow, node), flow=flow.name, node=node)
            found.append(
                Series(
                    quantity="entered chain",
                    unit="byte (IP)",
                    flow=flow.name,
                    node="vm1",
                    t_s=tuple(self.seconds(sample.t_ns) for sample in self.samples),
                    values=tuple(sample.entered[flow.name].bytes for sample in self.samples),
                )
            )
        return found

    def windows(self, flow: UdpFlow) -> list[Window]:
        """DAD's windows of a flow, as they were seen."""
        guard = self.guards[flow.name]
        states = [state for sample in self.samples if (state := sample.dad[flow.name])]
        found = []
        for start_ns, group in groupby(states, key=lambda state: state["window_start_ns"]):
            seen = list(group)
            if not start_ns:
                continue
            counted = max(state["counter"] for state in seen)
            begin_s = self.seconds(start_ns)
            found.append(
                Window(
                    flow=flow.name,
                    begin_s=begin_s,
                    end_s=round(begin_s + guard.window_s, 6),
                    verdict="DROP" if seen[-1]["present"] else "ACCEPT",
                    counted=counted,
                    unit=guard.unit,
                    counted_mbps=_rounded(counted * 8e-6 / guard.window_s)
                    if guard.model.in_bytes
                    else None,
                )
            )
        return found

    def mean(self, flow: UdpFlow, node: str, phase: Phase) -> Mean:
        """A flow's means at a node in a phase.

        The steady one is over what lies in the one window that covers most of the phase.
        """
        points, cut_s = self.points(flow, node), self.settle_s
        spans = [
            (max(w.begin_s, phase.begin_s) + cut_s, min(w.end_s, phase.end_s) - cut_s)
            for w in self.windows(flow)
        ]
        span = max(spans, key=lambda s: s[1] - s[0], default=None)
        steady = mean_mbps(points, *span) if span and span[1] > span[0] else None
        return Mean(
            phase=phase.name,
            flow=flow.name,
            node=node,
            unit="Mbit/s",
            steady=_rounded(steady),
            steady_s=None
            if steady is None or span is None
            else (round(span[0], 6), round(span[1], 6)),
            whole=_rounded(_whole_mbps(points, phase.begin_s, phase.end_s)),
        )

    @property
    def samples_per_s(self) -> float:
        """How often the counters were read."""
        times = [sample.t_ns for sample in self.samples]
        return (len(times) - 1) * 1e9 / (times[-1] - times[0]) if len(times) > 1 else 0.0


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _received(points: Sequence[Point], *, flow: str, node: str) -> list[Series]:
    if len(points) < 2:
        return []
    rates = [(now - last) * 8e-6 / (t - t0) for (t0, last), (t, now) in pairwise(points)]
    times = tuple(t for t, _ in points)
    return [
        Series(
            quantity="received",
            unit="byte (UDP payload)",
            flow=flow,
            node=node,
            t_s=times,
            values=tuple(count for _, count in points),
        ),
        Series(
            quantity="throughput",
            unit="Mbit/s",
            flow=flow,
            node=node,
            begin_s=times[0],
            t_s=times[1:],
            values=tuple(round(rate, 4) for rate in rates),
        ),
    ]


def offered_series(
    flows: Sequence[UdpFlow], phases: Sequence[Phase], sent: Mapping[tuple[str, str], Sent]
) -> list[Series]:
    """What iperf3's clients report that they sent, interval by interval; 0 between phases."""
    found = []
    for flow in flows:
        points: list[tuple[float, float]] = []
        for phase in phases:
            report = sent.get((flow.name, phase.name))
            if report is None:
                continue
            if points:
                points.append((phase.begin_s, 0.0))
            ends = [round(phase.begin_s + end_s, 6) for end_s in report.ends_s]
            points += zip(ends, (round(rate, 4) for rate in report.rates_mbps), strict=True)
        if points:
            found.append(
                Series(
                    quantity="offered",
                    unit="Mbit/s",
                    flow=flow.name,
                    node="hv",
                    begin_s=phases[0].begin_s,
                    t_s=tuple(t for t, _ in points),
                    values=tuple(rate for _, rate in points),
                )
            )
    return found
