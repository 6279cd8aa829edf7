# SPDX-License-Identifier: MIT
"""The same chain in the kernel, in user space and in both: the same packets come out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.packet import Raw

from testbed.chain import Policy
from testbed.network import Network
from tests.frames import fragments, ip_cut, shown, tcp, udp
from tests.netns.test_dnat_nftables import COURSES
from tests.netns.twins import ROWS, UDP_OPEN, Sent, back, handshake, there
from tests.netns.userspace import NEEDS, policy
from tests.netns.wire import Offload, Wire
from tests.sandboxed import in_sandbox
from topologies.line import LEFT, NODE_LEFT, RIGHT, Line

pytestmark = pytest.mark.needs(*NEEDS)

DAD: dict[str, Any] = {"nf": "dad", "priority": 10, "params": {"threshold_pps": 10_000}}
PASS: dict[str, Any] = {"nf": "pass", "priority": 20}
DNAT: dict[str, Any] = {"nf": "dnat", "priority": 30, "params": {"rules": ROWS}}


def placed(dad: str | None, passing: str | None, dnat: str | None, **settings: Any) -> Policy:
    """DAD, pass-through and DNAT, each in its place."""
    nfs = [{**nf, "place": p} for nf, p in ((DAD, dad), (PASS, passing), (DNAT, dnat))]
    return policy(*nfs, **settings)


VARIANTS = {
    "native": ("user", "user", "user"),
    "python": ("python", "python", "user"),
    "hybrid": ("kernel", "user", "kernel"),
    "python between": ("kernel", "python", "kernel"),
    "kernel between": ("user", "kernel", "user"),
}

ODD: list[Sent] = [
    *(("left", piece) for piece in fragments(udp(src=LEFT, dst=NODE_LEFT, payload=bytes(80)))),
    *(("left", piece) for piece in fragments(udp(src=LEFT, dst=RIGHT, dport=7, payload=bytes(80)))),
    *(("left", cut) for _, cut in ip_cut(udp(src=LEFT, dst=NODE_LEFT, payload=b""))),
    *(("left", cut) for _, cut in ip_cut(tcp(src=LEFT, dst=RIGHT, dport=7, payload=b""))),
    ("left", IP(src=LEFT, dst=RIGHT, proto=47) / Raw(b"anything")),
    ("left", IP(src=LEFT, dst=RIGHT, proto=132) / Raw(b"\x00\x07\x00\x09rest")),
    there(udp, chksum=0x1234),
    there(udp, payload=bytes(1400)),
]
"""Fragments (of a packet that DNAT would drop, and of one that it lets be), packets cut short,
protocols that are not translated, a wrong checksum."""


Frames = dict[str, list[bytes]]


def exchange(wire: Wire, course: list[Sent], offload: Offload | None = None) -> Frames:
    """Send a course packet by packet: an answer is only sent once the question has arrived."""
    got: Frames = {"left": [], "right": []}
    for packet in course:
        for side, frames in wire.exchange([packet], offload).items():
            got[side] += frames
    return got


def compare(
    wire: Wire, variant: Policy, reference: list[Frames], courses: list[list[Sent]]
) -> None:
    """Assert that a variant gives the same frames as the reference, course by course."""
    with wire.chains(variant):
        for course, wanted in zip(courses, reference, strict=True):
            got = exchange(wire, course)
            for side, frames in wanted.items():
                if got[side] != frames:
                    assert [shown(f) for f in got[side]] == [shown(f) for f in frames], course


@pytest.mark.parametrize("forward", ["stack", "direct"])
@in_sandbox
def test_same_frames_as_in_the_kernel(forward: str) -> None:
    """Every course of DNAT, and odd packets, come out byte for byte as from the chain at tc."""
    courses = [*COURSES.values(), ODD]
    with Network(Line()) as net:
        wire = Wire(*(net.node(name) for name in ("left", "node", "right")))
        with wire.chains(placed(None, None, None, forward=forward)):
            reference = [exchange(wire, course) for course in courses]
        assert sum(len(frames) for one in reference for frames in one.values()) > 150
        for places in VARIANTS.values():
            compare(wire, placed(*places, forward=forward), reference, courses)


UNFINISHED: dict[str, tuple[Offload, list[Sent]]] = {
    "checksum": (Offload(checksum=True), [*UDP_OPEN, *handshake()]),
    "udp to cut up": (
        Offload(checksum=True, segment=1000),
        [there(udp, payload=bytes(range(256)) * 20), *UDP_OPEN, back(udp, payload=bytes(2500))],
    ),
    "tcp to cut up": (
        Offload(checksum=True, segment=1400),
        [
            there(tcp, flags="A", seq=101, ack=501, payload=bytes(range(256)) * 50),
            back(tcp, flags="PA", seq=501, ack=101, payload=bytes(5000)),
        ],
    ),
    "long": (
        Offload(checksum=True, segment=1448),
        [there(tcp, flags="A", seq=101, ack=501, payload=bytes(60_000))],
    ),
    "another destination alone": (
        Offload(checksum=True, segment=1000),
        [("left", udp(src=LEFT, dst=RIGHT, dport=7, payload=bytes(4000)))],
    ),
}


@pytest.mark.parametrize("forward", ["stack", "direct"])
@in_sandbox
def test_finishes_what_senders_leave(forward: str) -> None:
    """Checksums left to be done and merged packets leave the node as they do from tc.

    So it is whether the kernel cuts merged packets up before user space (gso: false) or after it;
    and what is counted is what the wire carries.
    """
    with Network(Line()) as net:
        wire = Wire(*(net.node(name) for name in ("left", "node", "right")))
        for interface in wire.node.interfaces:  # what is sent on must be finished
            wire.node.offload(interface.name, tx=False, tso=False, gso=False, sg=False)
        with wire.chains(placed(None, None, None, forward=forward)) as status:
            reference = {
                name: exchange(wire, course, how) for name, (how, course) in UNFINISHED.items()
            }
            seen = [stage.seen for stage in status.stages()]
        for variant, gso in itertools.product(("native", "hybrid", "python"), (False, True)):
            with wire.chains(placed(*VARIANTS[variant], forward=forward, gso=gso)) as status:
                for name, (how, course) in UNFINISHED.items():
                    assert exchange(wire, course, how) == reference[name], (variant, gso, name)
                assert [stage.seen for stage in status.stages()] == seen
