# SPDX-License-Identifier: MIT
"""sockperf's command lines and what its full log says, as plain values.

A client in ping-pong mode sends a datagram, waits for the answer, and sends the next one. Both
ends poll their sockets (``--nonblocked``), so that no time of sleeping and waking is in a
round-trip time; each keeps a core of its own busy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import RunError

__all__ = [
    "BEGINS",
    "ENDS",
    "PAYLOAD_BYTES",
    "READY",
    "Pinged",
    "client_command",
    "parse_full_log",
    "server_command",
]

PAYLOAD_BYTES = 18
"""UDP payload of a datagram, which makes a frame of 60 bytes; sockperf needs 14."""

READY, BEGINS, ENDS = "[ 0] IP =", "Starting test", "Test end"
"""What a client writes before it sleeps for 2 s, when it begins, and when it has measured."""

_COLUMNS = "packet, txTime(sec), rxTime(sec), rtt(usec)"
_NUMBERS = {
    "sent": r"\[Total Run\].* SentMessages=(\d+)",
    "received": r"\[Total Run\].* ReceivedMessages=(\d+)",
    "lost": r"# dropped messages = (\d+)",
    "duplicated": r"# duplicated messages = (\d+)",
    "out_of_order": r"# out-of-order messages = (\d+)",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Pinged:
    """What a client measured.

    :ivar sent: datagrams of the whole run; ``received`` answers. Those of its beginning and end
        are in no other figure.
    :ivar lost: datagrams without an answer, as sockperf sees it; so ``duplicated``,
        ``out_of_order``.
    :ivar rtt_us: round-trip times, in the order of sending.
    :ivar head: the log's text in front of them.
    """

    sent: int
    received: int
    lost: int
    duplicated: int
    out_of_order: int
    rtt_us: NDArray[np.float64]
    head: tuple[str, ...]

    def percentiles(self, wanted: tuple[float, ...]) -> Mapping[float, float]:
        """Round-trip times in µs, by percentile; 100 is the longest."""
        return dict(zip(wanted, map(float, np.percentile(self.rtt_us, wanted)), strict=True))

    def thinned(self, count: int) -> tuple[int, list[float]]:
        """Every n-th time, so that there are about ``count``; n first."""
        every = max(1, len(self.rtt_us) // count)
        return every, [round(float(rtt), 3) for rtt in self.rtt_us[::every]]


def server_command(address: str, port: int) -> list[str]:
    """Answer every datagram."""
    return ["sockperf", "server", "--ip", address, "--port", str(port), "--nonblocked"]


def client_command(address: str, port: int, *, seconds: int, log: str) -> list[str]:
    """Ping-pong for some time.

    :param seconds: whole ones; of them the first 0.4 and the last 0.05 are not in the log.
    :param log: file for the full log.
    """
    options = {
        "--ip": address,
        "--port": port,
        "--time": seconds,
        "--msg-size": PAYLOAD_BYTES,
        "--full-log": log,
    }
    words = [str(word) for pair in options.items() for word in pair]
    return ["sockperf", "ping-pong", "--full-rtt", "--nonblocked", "--dontwarmup", *words]


def parse_full_log(text: str, *, who: str) -> Pinged:
    """What stands in a client's full log.

    :param who: the client, for messages.
    :raises RunError: it holds no round-trip time, or is not understood.
    """
    head, _, rows = text.partition(_COLUMNS)
    if not rows:
        raise RunError(f"{who}: sockperf measured nothing: {_last_words(head)}")
    found = {name: re.search(pattern, head) for name, pattern in _NUMBERS.items()}
    missing = [name for name, match in found.items() if match is None]
    if missing:
        raise RunError(f"{who}: sockperf's log is not understood: no {missing[0]} messages")
    try:
        times = [float(row.split(",")[3]) for row in rows.splitlines() if "," in row]
    except (IndexError, ValueError) as error:
        raise RunError(f"{who}: sockperf's log is not understood: {error}") from None
    if not times:
        raise RunError(f"{who}: sockperf measured nothing: {_last_words(head)}")
    numbers = {name: int(match[1]) for name, match in found.items() if match}
    lines = (re.sub(r"\x1b\[[\d;]*m", "", line).strip() for line in head.splitlines())
    return Pinged(
        rtt_us=np.array(times, dtype=np.float64), head=tuple(filter(None, lines)), **numbers
    )


def _last_words(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip("- ") for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "its log is empty")
