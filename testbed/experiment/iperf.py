# SPDX-License-Identifier: MIT
"""iperf3's command lines and what its JSON says, as plain values.

iperf3 cannot change its rate while it runs: a flow whose rate changes is one client after the
other, all with the same ``--cport``. Its UDP "connection" is one datagram and an answer, without
which the client waits for 30 s; its control connection is TCP to the same port number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testbed.errors import RunError

__all__ = [
    "BLOCK_BYTES",
    "Sent",
    "UdpFlow",
    "client_command",
    "parse_sent",
    "read_documents",
    "server_command",
    "without_host_name",
]

BLOCK_BYTES = 1448
"""UDP payload of a packet: fits an MTU of 1500 with room for a tunnel's or options' 24 bytes."""

_PACING_US = 200
_CONNECT_MS = 3000
_REPORT_S = 0.1


@dataclass(frozen=True, kw_only=True)
class UdpFlow:
    """One UDP flow, the same 5-tuple however often its client starts.

    :ivar name: for people and for files.
    :ivar receiver: node where it should arrive.
    :ivar block_bytes: UDP payload of each packet.
    """

    name: str
    dst: str
    dport: int
    cport: int
    receiver: str
    block_bytes: int = BLOCK_BYTES


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a client says that it sent.

    :ivar port: source port that it had.
    :ivar rate_mbps: over the time that it sent.
    :ivar begin_s: always 0; ``ends_s`` and ``rates_mbps`` are its own report, interval by interval.
    """

    port: int
    seconds: float
    payload_bytes: int
    packets: int
    ends_s: tuple[float, ...] = ()
    rates_mbps: tuple[float, ...] = ()

    @property
    def rate_mbps(self) -> float:
        """Mean rate of UDP payload."""
        return self.payload_bytes * 8e-6 / self.seconds if self.seconds > 0 else 0.0


def server_command(port: int) -> list[str]:
    """Serve one client after the other until it is told to end; writes one JSON text per client."""
    return ["iperf3", "--server", "--port", str(port), "--json", "--forceflush"]


def client_command(
    flow: UdpFlow, *, rate_mbps: float, duration_s: float, buffer_bytes: int
) -> list[str]:
    """Send at a rate for a time, given as bytes since iperf3 takes whole seconds only.

    :param buffer_bytes: of both ends' sockets; at most what their kernel allows.
    """
    payload_bytes = max(flow.block_bytes, round(rate_mbps * 1e6 / 8 * duration_s))
    options = {
        "--client": flow.dst,
        "--port": flow.dport,
        "--cport": flow.cport,
        "--bitrate": round(rate_mbps * 1e6),
        "--bytes": payload_bytes,
        "--length": flow.block_bytes,
        "--window": buffer_bytes,
        "--pacing-timer": _PACING_US,
        "--interval": _REPORT_S,
        "--connect-timeout": _CONNECT_MS,
    }
    words = [str(word) for pair in options.items() for word in pair]
    return ["iperf3", "--udp", "--json", *words]


def read_documents(text: str) -> list[dict[str, Any]]:
    """The JSON texts that iperf3 wrote one after the other; one cut short is left out."""
    found, decoder, at = [], json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        try:
            document, at = decoder.raw_decode(text, at)
        except ValueError:
            break
        found.append(document)
    return found


def parse_sent(document: Mapping[str, Any], *, who: str) -> Sent:
    """What a client's JSON says that it sent.

    :param who: the client, for messages.
    :raises RunError: iperf3 reports an error, or its report lacks something.
    """
    if "error" in document:
        raise RunError(f"{who}: iperf3 reports: {document['error']}")
    try:
        total = document["end"].get("sum_sent", document["end"]["sum"])
        intervals = [interval["sum"] for interval in document["intervals"]]
        return Sent(
            port=document["start"]["connected"][0]["local_port"],
            seconds=float(total["seconds"]),
            payload_bytes=int(total["bytes"]),
            packets=int(total["packets"]),
            ends_s=tuple(float(interval["end"]) for interval in intervals),
            rates_mbps=tuple(float(interval["bits_per_second"]) / 1e6 for interval in intervals),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{who}: iperf3's report is not understood: no {error}") from None


def without_host_name(document: Mapping[str, Any]) -> dict[str, Any]:
    """The report without the host's name, which iperf3 puts into ``system_info`` (uname -a)."""
    start = dict(document.get("start") or {})
    words = str(start.get("system_info", "")).split()
    if len(words) > 2:
        start["system_info"] = " ".join([words[0], *words[2:]])
    return {**document, "start": start} if start else dict(document)
