# SPDX-License-Identifier: MIT
"""The last step with real packets: what ``forward: direct`` sends on, and what the kernel does."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP

from testbed.datapath.node import NfcNode
from testbed.network import Network
from tests.bpf.harness import policy_of
from tests.frames import fragments, tcp, udp
from tests.netns.wire import Wire, status_of
from tests.sandboxed import bpffs, in_sandbox
from topologies.line import LEFT, RIGHT, Line

pytestmark = pytest.mark.needs(
    *("root", "namespaces", "veth", "bpffs", "objects", "tc_ingress", "fib_lookup"),
    *("redirect_peer", "nft"),
)

DIRECT = {"rules": [{"dport": 53}], "forward": "direct", "nfs": [{"nf": "pass"}]}
RATE_MBPS = 20


@contextlib.contextmanager
def line(**topo: Any) -> Iterator[tuple[Wire, NfcNode]]:
    """A line whose node runs one chain with ``forward: direct``."""
    with Network(Line(**topo)) as net:
        wire = Wire(*(net.node(name) for name in ("left", "node", "right")))
        with NfcNode(wire.node, policy_of(DIRECT), bpffs=bpffs()) as nfc:
            yield wire, nfc


def handed(nfc: NfcNode) -> dict[str, int]:
    """Packets that the kernel got after all, by reason."""
    counts = status_of(nfc.node, nfc.policy).forwarded()[1]
    return {reason: packets for reason, packets in counts.items() if packets}


def queue_sent(wire: Wire) -> int:
    """Packets that went through the queue towards ``right``."""
    queues = json.loads(
        wire.node.run(["tc", "-s", "-j", "qdisc", "show", "dev", "node-eth1"]).stdout
    )
    return int(queues[0]["packets"])


@in_sandbox
def test_sends_on_what_the_kernel_would() -> None:
    """A packet comes out exactly as the kernel's routing, without a chain, sends it."""
    course = [
        ("left", udp(src=LEFT, dst=RIGHT)),
        ("left", tcp(src=LEFT, dst=RIGHT, payload=bytes(1400))),
        ("left", udp(src=LEFT, dst=RIGHT, ip={"ttl": 2, "tos": 0xB8, "flags": "DF"})),
        ("left", udp(src=LEFT, dst=RIGHT, chksum=0x1234)),
    ]
    with line() as (wire, nfc):
        mine = wire.exchange(course)
        assert handed(nfc) == {}
        nfc.close()
        assert wire.exchange(course) == mine
        assert len(mine["right"]) == 4
        nfc.start()


@in_sandbox
def test_ttl_runs_out() -> None:
    """A packet whose TTL ends at the node is not sent on; its sender is told, by the kernel."""
    with line() as (wire, nfc):
        packet = udp(src=LEFT, dst=RIGHT, ip={"ttl": 1})
        arrived = wire.exchange([("left", packet)])
        (answer,) = (IP(frame[14:]) for frame in arrived["left"])
        assert arrived["right"] == []
        assert (answer.dst, answer[ICMP].type, answer[ICMP].code) == (LEFT, 11, 0)
        assert bytes(answer[ICMP].payload) == bytes(packet)
        assert handed(nfc) == {"ttl": 1}


@in_sandbox
def test_too_long_for_the_next_link() -> None:
    """A packet that must not be cut is answered with the MTU; others the kernel cuts."""
    with line() as (wire, nfc):
        wire.node.run(["ip", "link", "set", "node-eth1", "mtu", "1000"])
        whole = udp(src=LEFT, dst=RIGHT, payload=bytes(1200), ip={"flags": "DF", "id": 1})
        arrived = wire.exchange([("left", whole)])
        (answer,) = (IP(frame[14:]) for frame in arrived["left"])
        assert arrived["right"] == []
        assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, 1000)
        whole.flags = 0
        pieces = [IP(frame[14:]) for frame in wire.exchange([("left", whole)])["right"]]
        assert [(len(piece), piece.frag) for piece in pieces] == [(996, 0), (252, 122)]
        assert handed(nfc) == {"too_long": 2}


@in_sandbox
def test_neighbour_is_asked_for() -> None:
    """Right after the neighbours are forgotten not one packet is lost; then it is direct again."""
    packets = [("left", udp(src=LEFT, dst=RIGHT, payload=bytes([i]))) for i in range(5)]
    with line() as (wire, nfc):
        wire.node.run(["ip", "neigh", "flush", "nud", "permanent", "dev", "node-eth1"])
        frames = wire.exchange(packets)["right"]
        ours = [frame for frame in frames if frame[12:14] == b"\x08\x00"]
        assert [frame[42] for frame in ours] == list(range(5))
        wire.node.run(["ip", "neigh", "flush", "all", "dev", "node-eth1"])
        time.sleep(0.02)  # what was looked up holds for one tick of the clock
        frames = wire.exchange(packets)["right"]
        assert [f[42] for f in frames if f[12:14] == b"\x08\x00"] == list(range(5))
        counts = handed(nfc)
        assert set(counts) == {"neighbour"}
        wire.exchange(packets)
        assert handed(nfc) == counts


@in_sandbox
def test_fragments_go_by_the_kernel() -> None:
    """Fragments show no ports: a rule with one takes none of them, and they go by the kernel."""
    pieces = [("left", piece) for piece in fragments(udp(src=LEFT, dst=RIGHT, payload=bytes(64)))]
    with line() as (wire, nfc):
        assert len(wire.exchange(pieces)["right"]) == len(pieces)
        assert status_of(nfc.node, nfc.policy).forwarded()[0].packets == 0


@in_sandbox
def test_frames_cut_anywhere() -> None:
    """A frame that ends anywhere in its headers does no harm, and nothing of it comes out."""
    with line() as (wire, nfc):
        whole = wire.left.frame(tcp(src=LEFT, dst=RIGHT))
        arrived = wire.exchange([("left", whole[:length]) for length in range(15, len(whole))])
        assert arrived == {"left": [], "right": []}
        status = status_of(nfc.node, nfc.policy)
        assert status.specials()["left_alone"].packets == len(whole) - 15
        assert [frame[14:] for frame in wire.exchange([("left", whole)])["right"]] == [
            bytes(tcp(src=LEFT, dst=RIGHT, ip={"ttl": 63}))
        ]


@pytest.mark.needs("tbf")
@pytest.mark.parametrize("later", [False, True], ids=["from the start", "added later"])
@in_sandbox
def test_rate_of_the_link_holds(later: bool) -> None:
    """A link's rate limit holds: what comes in four times as fast goes out through its queue."""
    shaped: dict[str, Any] = {} if later else {"rate_mbps": RATE_MBPS, "queue_packets": 50}
    with line(**shaped) as (wire, nfc):
        if later:
            wire.exchange([("left", udp(src=LEFT, dst=RIGHT))])
            shaper = f"root tbf rate {RATE_MBPS}mbit burst 15k limit 75k"
            wire.node.run(["tc", "qdisc", "add", "dev", "node-eth1", *shaper.split()])
            nfc.refresh_ways()
        else:
            wire.left.node.run(["tc", "qdisc", "del", "dev", "left-eth0", "root"])
        before, begin = queue_sent(wire), time.monotonic()
        packet = udp(src=LEFT, dst=RIGHT, payload=bytes(1400))
        gap_s, sent = len(packet) * 8 / (4 * RATE_MBPS * 1e6), 0
        arrived = 0
        while (now := time.monotonic() - begin) < 1.5:
            while sent * gap_s <= now:
                wire.left.send(packet)
                sent += 1
            while wire.right.receive(0) is not None:
                arrived += 1
            time.sleep(0.001)
        mbps = arrived * (len(packet) + 14) * 8 / now / 1e6
        assert 0.3 * RATE_MBPS < mbps < 1.08 * RATE_MBPS  # a busy machine sends less
        assert queue_sent(wire) - before >= arrived
        assert handed(nfc) == {}


@in_sandbox
def test_no_queue_is_skipped_but_an_empty_one() -> None:
    """Without a queue packets go straight to the peer: the interface itself sees none."""
    with line() as (wire, _nfc):

        def sent() -> int:
            shown = wire.node.run(["ip", "-s", "-j", "link", "show", "node-eth1"]).stdout
            return int(json.loads(shown)[0]["stats64"]["tx"]["packets"])

        before = sent()
        assert len(wire.exchange([("left", udp(src=LEFT, dst=RIGHT))] * 5)["right"]) == 5
        assert sent() - before == 1  # the marker, which no chain takes
