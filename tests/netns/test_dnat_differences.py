# SPDX-License-Identifier: MIT
"""Where DNAT differs from nftables' on purpose, as ARCHITECTURE.md says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Packet, Raw

from tests.frames import CPORT, fragments, ip_cut, tcp, udp
from tests.netns.twins import (
    AT_SERVER,
    FAR,
    MODES,
    NEEDS,
    SERVICE,
    UDP_OPEN,
    Sent,
    chain_of,
    from_server,
    there,
    twins,
)
from tests.sandboxed import in_sandbox
from topologies.line import LEFT, RIGHT

pytestmark = pytest.mark.needs(*NEEDS)

Frames = dict[str, list[bytes]]


@contextmanager
def both(
    course: Sequence[Sent],
) -> Iterator[tuple[list[dict[str, list[bytes]]], dict[str, list[bytes]]]]:
    """What our modes give for a course, and what nftables gives."""
    with twins() as (ours, theirs):
        wanted, got = theirs.exchange(course), []
        for state, forward in MODES:
            with ours.chains(chain_of(state, forward)):
                got.append(ours.exchange(course))
            ours.node.run(["conntrack", "-F"])
        yield got, wanted


def destinations(frames: Sequence[bytes]) -> list[str]:
    return [IP(frame[14:]).dst for frame in frames]


@in_sandbox
def test_difference_fragments() -> None:
    """nftables puts fragments together and translates them; DNAT here drops them."""
    course: list[Sent] = [("left", p) for p in fragments(there(udp, payload=bytes(64))[1])]
    with both(course) as (ours, theirs):
        assert set(destinations(theirs["right"])) == {RIGHT}
        assert all(frames["right"] == [] for frames in ours)


NOT_BY_NFTABLES: dict[str, Sent] = {
    "udp, wrong checksum": there(udp, chksum=0x1234),
    "tcp, wrong checksum": there(tcp, chksum=0x1234),
    "udp, length lies": there(udp, len=4),
    "tcp, no flags": there(tcp, flags=0),
    "tcp, syn and fin": there(tcp, flags="SF"),
}


@pytest.mark.parametrize("sent", NOT_BY_NFTABLES.values(), ids=NOT_BY_NFTABLES)
@in_sandbox
def test_difference_invalid_packets(sent: Sent) -> None:
    """What connection tracking takes for invalid nftables does not translate; here it is."""
    with both([sent]) as (ours, theirs):
        assert theirs["right"] == []
        assert all(destinations(frames["right"]) == [RIGHT] for frames in ours)


@pytest.mark.parametrize(("make", "length"), [(udp, 7), (tcp, 19)])
@in_sandbox
def test_difference_cut_header(make: Any, length: int) -> None:
    """A packet whose transport header is cut nftables leaves as it is: here for nobody's address.

    So its sender is told that there is no way to it. DNAT here drops it.
    """
    side, whole = there(make, dst=FAR)
    assert isinstance(whole, Packet)
    with both([(side, dict(ip_cut(whole))[length])]) as (ours, theirs):
        assert theirs["right"] == []
        assert IP(theirs["left"][0][14:])[ICMP].payload.dst == FAR
        assert all(frames == {"left": [], "right": []} for frames in ours)


@in_sandbox
def test_difference_clash() -> None:
    """Of two connections with the same replies nftables changes the second one's source port.

    Here it is dropped.
    """
    with both([there(udp), there(udp, dst=FAR)]) as (ours, theirs):
        first, second = (IP(frame[14:]) for frame in theirs["right"])
        assert (first.dst, second.dst) == (RIGHT, RIGHT)
        assert first[UDP].sport == CPORT != second[UDP].sport
        assert all(frames["right"] == [bytes(theirs["right"][0])] for frames in ours)


@in_sandbox
def test_difference_echo() -> None:
    """A row without a port translates ICMP echoes in nftables; here TCP and UDP only."""
    ping = IP(src=LEFT, dst=FAR) / ICMP(id=7) / Raw(b"ping")
    with both([("left", ping)]) as (ours, theirs):
        assert destinations(theirs["right"]) == [RIGHT]
        assert all(frames["right"] == [] for frames in ours)


@in_sandbox
def test_difference_error_with_wrong_checksum() -> None:
    """An ICMP error with a wrong checksum nftables does not translate; here it is, still wrong."""
    side, error = from_server(udp(**AT_SERVER))
    assert isinstance(error, Packet)
    error[ICMP].chksum = 0x1234
    with both([*UDP_OPEN, (side, error)]) as (ours, theirs):
        assert IP(theirs["left"][1][14:]).src == RIGHT
        for frames in ours:
            assert IP(frames["left"][1][14:]).src == SERVICE
