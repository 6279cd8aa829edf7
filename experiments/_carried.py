# SPDX-License-Identifier: MIT
"""What one run of two flows carried, where its packets went, and what a run of runs is worth.

Pure values: no kernel, no clock.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from testbed.bench.stats import Interval, ratio
from testbed.experiment import checks
from testbed.experiment.iperf import Sent, UdpFlow
from testbed.results import Check, Compared, Mean, Phase, Validity

__all__ = [
    "AIM",
    "IDLE_SHARE",
    "PUBLISHED_MBPS",
    "PUBLISHED_RATIO",
    "QUICK_AIM",
    "RATE_MBPS",
    "SIDES",
    "Carried",
    "Ledger",
    "Side",
    "compared",
    "judge",
    "limits",
    "means",
    "order",
    "ratio_of",
    "total",
    "validity",
]

Side = Literal["routing", "nfc"]
SIDES: tuple[Side, Side] = ("routing", "nfc")
RATE_MBPS = 1000.0

PUBLISHED_MBPS: Mapping[str, Mapping[Side, float]] = {
    "flow 1": {"routing": 801.6, "nfc": 797.0},
    "flow 2": {"routing": 804.0, "nfc": 800.0},
}
"""Table 7.4; printed as Kbps there, meant as Mbit/s."""
PUBLISHED_RATIO = {"flow 1": 0.9943, "flow 2": 0.9950}

AIM = 0.999
QUICK_AIM = 0.98  # what happens at the ends of a run weighs ten times as much in a second
LATE_S = 0.010  # that a client may need longer: 0.1 % of 10 s
TAIL_S = 0.005  # of the stream that may lie unread when iperf3 ends
LOST_SHARE = 0.0005  # half of what the aim allows
IDLE_SHARE = 0.02
_TITLES: Mapping[Side, str] = {"routing": "plain routing", "nfc": "NFC"}
_HANDSHAKE = 1  # datagram of iperf3's client before its stream


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Where every packet of a run went.

    :ivar dropped: by NF and reason.
    :ivar lost: by place outside of the chain.
    """

    sent: int
    received: int
    dropped: Mapping[str, int]
    lost: Mapping[str, int]

    @property
    def unexplained(self) -> int:
        """What is left over: less than 0 if more packets were found than sent."""
        return self.sent - self.received - sum(self.dropped.values()) - sum(self.lost.values())

    def plain(self) -> dict[str, Any]:
        """As JSON values; places where nothing was lost are left out."""
        return {
            "sent": self.sent,
            "received": self.received,
            "dropped": {reason: n for reason, n in self.dropped.items() if n},
            "lost": {place: n for place, n in self.lost.items() if n},
            "unexplained": self.unexplained,
        }


@dataclass(frozen=True, kw_only=True)
class Carried:
    """One run: both flows at their rate for a time, one way.

    :ivar repeat: from 1; 0 is a calibration.
    :ivar sent: what the clients report, by flow.
    :ivar received: datagrams that the servers read, by flow; the handshake's is one.
    :ivar arrived: packets of a flow at the interface of its receiver.
    :ivar strayed: packets of a flow at the other receiver.
    :ivar entered: packets of a flow that the chain's rule took; none in plain routing.
    :ivar lost: packets by place, as the kernel counts them, the receivers' sockets included.
    :ivar unread: datagrams that still lay in a socket when iperf3 closed it, by receiver.
    :ivar idle_share: of all cores' time.
    """

    side: Side
    repeat: int
    begin_s: float
    end_s: float
    flows: Sequence[UdpFlow]
    sent: Mapping[str, Sent]
    received: Mapping[str, int]
    arrived: Mapping[str, int]
    strayed: Mapping[str, int]
    entered: Mapping[str, int]
    dropped: Mapping[str, int]
    lost: Mapping[str, int]
    unread: Mapping[str, int]
    idle_share: float

    @property
    def name(self) -> str:
        """For people and files."""
        return f"{self.side} {self.repeat}" if self.repeat else "calibration"

    def received_mbps(self, flow: str) -> float:
        """UDP payload that the flow's server read, over the time that its client sent."""
        report = self.sent[flow]
        (mine,) = (f for f in self.flows if f.name == flow)
        return (self.received[flow] - _HANDSHAKE) * mine.block_bytes * 8e-6 / report.seconds

    def packets_sent(self, flow: str) -> int:
        """Packets of the flow, the handshake's included."""
        return self.sent[flow].packets + _HANDSHAKE

    @property
    def packets_a_second(self) -> float:
        """What one flow should be."""
        return RATE_MBPS * 1e6 / 8 / self.flows[0].block_bytes

    @property
    def ledger(self) -> Ledger:
        """Both flows together."""
        unread = {f"{node}: unread when iperf3 closed": n for node, n in self.unread.items()}
        return Ledger(
            sent=sum(map(self.packets_sent, self.sent)),
            received=sum(self.received.values()),
            dropped=self.dropped,
            lost={**self.lost, **unread},
        )


def total(ledgers: Sequence[Ledger]) -> Ledger:
    """All ledgers in one."""
    dropped: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for books in ledgers:
        dropped.update(books.dropped)
        lost.update(books.lost)
    return Ledger(
        sent=sum(books.sent for books in ledgers),
        received=sum(books.received for books in ledgers),
        dropped=dropped,
        lost=lost,
    )


def order(repeats: int, *, seed: int) -> list[tuple[int, Side]]:
    """Which way when: each repeat has both, the first one of a repeat changes every time."""
    first = random.Random(seed).choice(SIDES)
    sides = SIDES if first == SIDES[0] else (SIDES[1], SIDES[0])
    return [
        (repeat, side)
        for repeat in range(1, repeats + 1)
        for side in (sides if repeat % 2 else reversed(sides))
    ]


def limits(run: Carried) -> list[str]:
    """Why the machine could not carry this run; nothing if it could."""
    found = [
        f"{run.name}: iperf3 sent {report.rate_mbps:.1f} of {RATE_MBPS:g} Mbit/s of {flow}"
        for flow, report in run.sent.items()
        if report.rate_mbps < RATE_MBPS - _slack_mbps(report)
    ]
    sent = run.ledger.sent
    found += [
        f"{run.name}: {n} of {sent} packets lost ({place})"
        for place, n in run.lost.items()
        if n > LOST_SHARE * sent
    ]
    found += [
        f"{run.name}: {node} had not read {n} of {sent} packets when iperf3 ended"
        for node, n in run.unread.items()
        if n > TAIL_S * run.packets_a_second
    ]
    if run.idle_share < IDLE_SHARE:
        found.append(f"{run.name}: {run.idle_share:.1%} of CPU time was left")
    return found


def _slack_mbps(report: Sent) -> float:
    """How far a client's rate may be off if it may end a little late."""
    return RATE_MBPS * LATE_S / max(report.seconds, LATE_S)


def validity(chosen: Carried | None, runs: Sequence[Carried]) -> Validity:
    """Tell whether the machine was the limit, by what was found before and during the runs.

    :param chosen: the calibration with the MTU that was taken.
    """
    reasons = limits(chosen) if chosen else []
    for run in runs:
        reasons += limits(run)
    return Validity(state="host-limited" if reasons else "valid", reasons=tuple(reasons))


def whole_repeats(runs: Sequence[Carried]) -> dict[Side, list[Carried]]:
    """The runs of the repeats that have both ways, by way; the n-th ones are of one repeat."""
    by_side = {side: {run.repeat: run for run in runs if run.side == side} for side in SIDES}
    both = sorted(set.intersection(*(set(found) for found in by_side.values())))
    return {side: [found[repeat] for repeat in both] for side, found in by_side.items()}


def ratio_of(runs: Sequence[Carried], flow: str) -> Interval | None:
    """Received by NFC over received by routing, of medians; None before both were measured."""
    pairs = whole_repeats(runs)
    if not pairs["nfc"]:
        return None
    nfc, routing = ([run.received_mbps(flow) for run in pairs[side]] for side in ("nfc", "routing"))
    return ratio(nfc, routing)


def compared(runs: Sequence[Carried], flows: Sequence[UdpFlow]) -> list[Compared]:
    """Table 7.4: received throughput of each flow, both ways, and their ratio."""
    found = []
    pairs = whole_repeats(runs)
    if not pairs["nfc"]:
        return []
    for flow in (flow.name for flow in flows):
        for side in SIDES:
            values = [run.received_mbps(flow) for run in pairs[side]]
            middle = ratio(values, [1.0] * len(values))
            found.append(
                Compared(
                    name=f"{flow}, {_TITLES[side]}",
                    unit="Mbit/s",
                    **_rounded(middle),
                    published=PUBLISHED_MBPS[flow][side],
                )
            )
        both = ratio_of(runs, flow)
        assert both is not None
        found.append(
            Compared(
                name=f"{flow}, NFC / routing",
                **_rounded(both),
                published=PUBLISHED_RATIO[flow],
                aim=AIM,
            )
        )
    return found


def _rounded(interval: Interval) -> dict[str, float]:
    return {key: round(getattr(interval, key), 6) for key in ("value", "low", "high")}


def means(runs: Sequence[Carried]) -> tuple[list[Phase], list[Mean]]:
    """One phase a run, and one mean a flow in it."""
    phases = [
        Phase(
            name=run.name,
            begin_s=run.begin_s,
            end_s=run.end_s,
            offered_mbps={flow.name: RATE_MBPS for flow in run.flows},
        )
        for run in runs
    ]
    received = [
        Mean(
            phase=run.name,
            flow=flow.name,
            node=flow.receiver,
            unit="Mbit/s",
            steady=None,
            steady_s=None,
            whole=round(run.received_mbps(flow.name), 4),
        )
        for run in runs
        for flow in run.flows
    ]
    return phases, received


def judge(runs: Sequence[Carried], flows: Sequence[UdpFlow], *, least: float) -> list[Check]:
    """All checks of finished runs.

    :param least: what the lower end of a ratio's interval has to exceed.
    """
    found = []
    for flow in (flow.name for flow in flows):
        both = ratio_of(runs, flow)
        low = both.low if both else None
        name = f"{flow}: NFC / routing, lower end"
        found.append(checks.above(name, low, limit=least, unit=""))
    for run in runs:
        found += _run_checks(run)
    for side in SIDES:
        idle = [run.idle_share for run in runs if run.side == side]
        name = f"{_TITLES[side]}: CPU time left"
        value = round(median(idle), 4) if idle else None
        found.append(checks.above(name, value, limit=IDLE_SHARE, unit=""))
    return found


def _run_checks(run: Carried) -> list[Check]:
    found = [
        checks.within(
            f"{run.name}: {flow} offered",
            round(report.rate_mbps, 4),
            target=RATE_MBPS,
            by=round(_slack_mbps(report), 3),
            unit="Mbit/s",
        )
        for flow, report in run.sent.items()
    ]
    books, unit = run.ledger, "packets"
    found.append(checks.equal(f"{run.name}: unexplained", books.unexplained, to=0, unit=unit))
    strayed = sum(run.strayed.values())
    found.append(checks.equal(f"{run.name}: at the other node", strayed, to=0, unit=unit))
    if run.side == "nfc":
        dropped = sum(run.dropped.values())
        found.append(checks.equal(f"{run.name}: dropped by the chain", dropped, to=0, unit=unit))
        entered = sum(run.entered.values())
        found.append(
            checks.equal(f"{run.name}: through the chain", entered, to=books.sent, unit=unit)
        )
    return found
