# SPDX-License-Identifier: MIT
"""What has to hold in Figure 7.2, and whether the machine could carry the run. Pure values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments._carried import IDLE_SHARE, Ledger
from experiments._course import RATES_MBPS, Guard, expected_mbps
from experiments._measured import Course, mean_mbps
from testbed.experiment import checks
from testbed.experiment.iperf import Sent, UdpFlow
from testbed.experiment.losses import SOCKET_PLACES
from testbed.results import Check, Mean, Phase, Validity

__all__ = ["Accounts", "accounts", "judge", "ledger", "overload", "validity"]

TOLERANCE = 0.02  # 50 ± 1, 150 ± 3
DENIED_MBPS = 0.1
ELSEWHERE_MBPS = 0.001
SAMPLES_PER_S = 10.0
SENT_SHARE = 0.99
LOST_SHARE = 0.001


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """Where the packets of the flows went.

    :ivar sent: by flow, handshakes included.
    :ivar arrived: by flow, at its receiver.
    :ivar denied: dropped by DAD, all flows together.
    :ivar socket_errors: by node: datagrams that found no room in a socket's buffer.
    """

    sent: Mapping[str, int]
    arrived: Mapping[str, int]
    denied: int
    socket_errors: Mapping[str, int]

    @property
    def lost(self) -> int:
        """Packets that nothing accounts for."""
        return sum(self.sent.values()) - self.denied - sum(self.arrived.values())


def accounts(
    course: Course, sent: Mapping[tuple[str, str], Sent], socket_errors: Mapping[str, int]
) -> Accounts:
    """Add up what was sent, by flow and phase, and what became of it."""
    last = course.samples[-1]
    total = {flow.name: 0 for flow in course.flows}
    for (flow_name, _), report in sent.items():
        total[flow_name] += report.packets + 1  # the handshake's datagram
    return Accounts(
        sent=total,
        arrived={f.name: last.readings[f.receiver].of(f).packets for f in course.flows},
        denied=last.dad_dropped["over_threshold"],
        socket_errors=dict(socket_errors),
    )


def ledger(books: Accounts, before: Mapping[str, Any], after: Mapping[str, Any]) -> Ledger:
    """Where every packet went.

    :param before: all counters, see :func:`testbed.experiment.counters.counters_now`.
    """
    lost = {place: n - before["lost"].get(place, 0) for place, n in after["lost"].items()}
    refused = sum(n for p, n in lost.items() if p.endswith(tuple(SOCKET_PLACES.values())))
    dropped: Counter[str] = Counter()
    for nf in after["chain"]["nfs"]:
        for reason, count in {**nf["dropped"], "missed": nf["missed"]}.items():
            dropped[f"{nf['name']}: {reason}"] += count
    return Ledger(
        sent=sum(books.sent.values()),
        received=sum(books.arrived.values()) - refused,
        dropped=dropped,
        lost=lost,
    )


def judge(
    course: Course,
    phases: Sequence[Phase],
    means: Sequence[Mean],
    sent: Mapping[tuple[str, str], Sent],
    tuples: Mapping[str, int],
) -> list[Check]:
    """All checks of a finished run.

    :param tuples: how many 5-tuples the node's flow table holds, by flow.
    """
    found: list[Check] = []
    for flow in course.flows:
        guard = course.guards[flow.name]
        mine = {m.phase: m.steady for m in means if (m.flow, m.node) == (flow.name, flow.receiver)}
        found += _levels(flow, phases, mine, expected_mbps(guard))
        found += _elsewhere(course, flow, phases)
        found += _offered(flow, phases, sent)
        found.append(checks.equal(f"{flow.name}: 5-tuples", tuples.get(flow.name, 0), to=1))
        found.append(_verdicts(course, flow, guard))
    last = course.samples[-1]
    if any(0.0 in expected_mbps(guard) for guard in course.guards.values()):
        denied = last.dad_dropped["over_threshold"]
        found.append(checks.above("packets denied by DAD", denied, limit=0, unit="packets"))
    found.append(checks.equal("packets that missed a program", last.missed, to=0, unit="packets"))
    rate = course.samples_per_s
    found.append(checks.above("samples a second", round(rate, 2), limit=SAMPLES_PER_S, unit="1/s"))
    return found


def _levels(
    flow: UdpFlow,
    phases: Sequence[Phase],
    measured: Mapping[str, float | None],
    expected: Sequence[float],
) -> Iterator[Check]:
    for phase, level in zip(phases, expected, strict=False):
        name = f"{flow.name}, {phase.name}: at {flow.receiver}"
        value = measured.get(phase.name)
        if level:
            yield checks.within(name, value, target=level, by=level * TOLERANCE, unit="Mbit/s")
        else:
            yield checks.below(name, value, limit=DENIED_MBPS, unit="Mbit/s")


def _elsewhere(course: Course, flow: UdpFlow, phases: Sequence[Phase]) -> Iterator[Check]:
    for node in course.nodes:
        if node == flow.receiver:
            continue
        value = mean_mbps(course.points(flow, node), phases[0].begin_s, phases[-1].end_s)
        yield checks.below(f"{flow.name}: at {node}", value, limit=ELSEWHERE_MBPS, unit="Mbit/s")


def _offered(
    flow: UdpFlow, phases: Sequence[Phase], sent: Mapping[tuple[str, str], Sent]
) -> Iterator[Check]:
    for phase in phases:
        report = sent.get((flow.name, phase.name))
        rate = phase.offered_mbps[flow.name]
        yield checks.within(
            f"{flow.name}, {phase.name}: offered",
            None if report is None else round(report.rate_mbps, 4),
            target=rate,
            by=rate * (1 - SENT_SHARE),
            unit="Mbit/s",
        )


def _verdicts(course: Course, flow: UdpFlow, guard: Guard) -> Check:
    expected = ["DROP" if level == 0.0 else "ACCEPT" for level in expected_mbps(guard)]
    seen = [window.verdict for window in course.windows(flow)]
    return checks.equal(f"{flow.name}: DAD's verdicts", ", ".join(seen), to=", ".join(expected))


def overload(idle_share: float) -> list[str]:
    """That the machine had no CPU time left; nothing if it had."""
    return [f"{idle_share:.1%} of CPU time was left"] if idle_share < IDLE_SHARE else []


def validity(
    books: Accounts,
    sent: Mapping[tuple[str, str], Sent],
    cut_short: Sequence[str],
    rates_mbps: Sequence[float] = RATES_MBPS,
    *,
    idle_share: float,
) -> Validity:
    """Tell whether the machine was the limit; the reasons say the numbers.

    :param sent: by flow and phase; phases in order.
    :param cut_short: clients that had not sent all when their phase was over.
    :param idle_share: of the machine's CPU time while the phases were played.
    """
    reasons = [f"{label}: iperf3 had not sent all when the phase was over" for label in cut_short]
    phases = list(dict.fromkeys(phase for _, phase in sent))
    asked = dict(zip(phases, rates_mbps, strict=False))
    reasons += [
        f"{flow}, {phase}: iperf3 sent {report.rate_mbps:.1f} of {asked[phase]:g} Mbit/s"
        for (flow, phase), report in sent.items()
        if report.rate_mbps < SENT_SHARE * asked[phase]
    ]
    total = max(1, sum(books.sent.values()))
    reasons += [
        f"{node}: {count} datagrams found no room in the receiver's socket buffer"
        for node, count in books.socket_errors.items()
        if count > LOST_SHARE * total
    ]
    if abs(books.lost) > LOST_SHARE * total:
        arrived = sum(books.arrived.values())
        reasons.append(
            f"{books.lost} packets are unaccounted for: {total} sent, {books.denied} denied by DAD,"
            f" {arrived} arrived"
        )
    reasons += overload(idle_share)
    return Validity(state="host-limited" if reasons else "valid", reasons=tuple(reasons))
