# SPDX-License-Identifier: MIT
"""NFs in user space: order, overflow, a program that dies, several at once, and what is left."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP

from testbed.chain import Policy
from testbed.datapath.live import LiveNode
from testbed.datapath.node import NfcNode
from testbed.network import Network
from tests.frames import tcp, udp
from tests.netns.userspace import NEEDS, Running, line, policy, until
from tests.netns.wire import TwinLines, Wire
from tests.sandboxed import bpffs, in_sandbox
from topologies.line import LEFT, NODE_LEFT, RIGHT

pytestmark = pytest.mark.needs(*NEEDS)

PASS: dict[str, Any] = {"nf": "pass", "place": "user"}
TO_53 = ({"proto": "udp", "dport": 53},)
LIMIT = {"threshold_pps": 10, "window_s": 0.5}


def question(number: int = 0, *, sport: int = 1000) -> Any:
    """A packet of the chain, with a number in it."""
    return udp(src=LEFT, dst=RIGHT, sport=sport, payload=number.to_bytes(4, "big"))


def arrived(wire: Wire, *, quiet_s: float = 0.15) -> list[tuple[int, int]]:
    """Source port and number of the questions that come to the right until no more do."""
    found = []
    while (frame := wire.right.receive(quiet_s)) is not None:
        packet = IP(frame[14:])
        if packet.haslayer(UDP) and packet[UDP].dport == 53:
            found.append((packet[UDP].sport, int.from_bytes(bytes(packet[UDP].payload)[:4], "big")))
    return found


@pytest.mark.parametrize("forward", ["stack", "direct"])
@in_sandbox
def test_keeps_the_order_of_a_flow(forward: str) -> None:
    """With four queues, packets of each of 16 flows come out in the order they went in."""
    with line(policy(PASS, forward=forward, queues=4, length=4096)) as node:
        flows, each = range(2000, 2016), 100
        for number, sport in itertools.product(range(each), flows):
            node.wire.left.send(question(number, sport=sport))
        got = arrived(node.wire)
        assert len(got) == each * len(flows)
        for sport in flows:
            assert [number for port, number in got if port == sport] == list(range(each))
        queues = node.nfc.node.run(["cat", "/proc/net/netfilter/nfnetlink_queue"]).stdout
        used = [row for row in queues.splitlines() if int(row.split()[7]) > 0]
        assert len(used) == 4, "the flows were not spread"


@pytest.mark.parametrize("place", ["user", "python"])
@in_sandbox
def test_counts_what_finds_no_room(place: str) -> None:
    """While the program does not run on, `length` packets wait, and each one more is counted."""
    with line(policy({**PASS, "place": place}, rules=TO_53, length=50)) as node:
        node.kill(signal.SIGSTOP)
        for number in range(80):
            node.wire.left.send(question(number))
        until(lambda: node.way().sent == 80)
        assert arrived(node.wire) == []
        node.kill(signal.SIGCONT)
        got = arrived(node.wire)
        # Those that the program had taken before it was stopped found room as well.
        assert [number for _, number in got] == list(range(50))
        way = node.way()
        assert (way.sent, way.lost, way.arrived, way.returned) == (80, 30, 50, 50)
        (stage,) = node.status.stages()
        assert (stage.seen.packets, stage.accepted) == (50, 50)


@pytest.mark.parametrize("forward", ["stack", "direct"])
@pytest.mark.parametrize("place", ["user", "python"])
@in_sandbox
def test_closed_while_the_program_is_dead(place: str, forward: str) -> None:
    """kill -9: packets are dropped and counted, others pass; a restart takes up with the state."""
    dad = {"nf": "dad", "params": {**LIMIT, "window_s": 60}, "place": place}
    with line(policy(dad, rules=TO_53, forward=forward)) as node:
        node.wire.left.send(question())
        assert len(arrived(node.wire)) == 1
        (key, entry), *_ = node.status.flows()
        (stage,) = node.datapath.plan.stages()
        before = node.status.state(stage, entry["number"])
        node.kill(signal.SIGKILL)
        for number in range(20):
            node.wire.left.send(question(number))
        node.wire.left.send(udp(src=LEFT, dst=RIGHT, dport=7))
        assert arrived(node.wire) == []
        assert node.way().refused == 20
        assert node.status.specials()["unmatched"].packets == 1
        assert node.status.state(stage, entry["number"]) == before
        node.restart()
        for number in range(5):
            node.wire.left.send(question(number))
        assert [number for _, number in arrived(node.wire)] == list(range(5))
        way = node.way()
        assert (way.sent, way.lost, way.refused, way.passed_over) == (6, 0, 20, 0)
        if place == "user":
            state = node.status.state(stage, entry["number"])
            assert state is not None
            assert state["counter"] == 5
        assert key["dport"] == 53
        (seen,) = node.status.stages()
        assert seen.seen.packets == 6
        assert node.status.entered(node.datapath.plan.chains[0]).packets == 26
        assert node.status.forwarded()[0].packets == 6


@pytest.mark.parametrize("forward", ["stack", "direct"])
@in_sandbox
def test_open_while_the_program_is_dead(forward: str) -> None:
    """kill -9 with fail: open: packets pass the NFs in user space over, and no others, counted."""
    deny = {"nf": "dad", "priority": 1, "params": {"threshold_pps": 0.001, "window_s": 0.2}}
    to_right = {"nf": "dnat", "priority": 9, "params": {"rules": [{"to": RIGHT}]}}
    nfs = [{**deny, "place": "user"}, to_right]
    with line(policy(*nfs, rules=TO_53, forward=forward, fail="open")) as node:
        asked = udp(src=LEFT, dst=NODE_LEFT, payload=bytes(4))
        for _ in range(3):
            node.wire.left.send(asked)
        time.sleep(0.25)
        for _ in range(5):
            node.wire.left.send(asked)
        assert len(arrived(node.wire)) == 3  # the rest was denied, in user space
        node.kill(signal.SIGKILL)
        for _ in range(5):
            node.wire.left.send(asked)
        assert len(arrived(node.wire)) == 5  # not denied, but translated
        way = node.way()
        assert (way.passed_over, way.refused, way.lost) == (5, 0, 0)
        node.restart()
        node.wire.left.send(asked)
        assert arrived(node.wire) == []
        dad, dnat = node.status.stages()
        assert dad.dropped["over_threshold"] == 6
        assert (dad.seen.packets, dnat.seen.packets) == (9, 8)
        assert node.status.forwarded()[0].packets == 8


@in_sandbox
def test_what_dies_in_the_queue_is_counted() -> None:
    """Packets that wait when the program is killed are lost, and the counts say how many."""
    with line(policy(PASS, rules=TO_53)) as node:
        node.kill(signal.SIGSTOP)
        for number in range(30):
            node.wire.left.send(question(number))
        until(lambda: node.way().sent == 30)
        node.kill(signal.SIGKILL)
        node.restart()
        node.wire.left.send(question(99))
        assert arrived(node.wire) == [(1000, 99)]
        assert (node.way().sent, node.way().lost, node.way().returned) == (31, 30, 1)


CHAINS = Policy.model_validate(
    {
        "chains": [
            {
                "id": 1,
                "rules": [{"proto": "udp", "dport": 53}],
                "nfs": [{"nf": "dnat", "place": "user", "params": {"rules": [{"to": RIGHT}]}}],
            },
            {
                "id": 2,
                "rules": [{"proto": "udp", "dport": 54}],
                "forward": "direct",
                "nfs": [{"nf": "pass", "place": "python"}, {"nf": "pass"}],
            },
        ]
    }
)


def until_forwarded(node: Running, packets: int) -> None:
    """Wait until so many packets have gone through the node's chains."""
    until(lambda: node.status.forwarded()[0].packets == packets)


@contextlib.contextmanager
def two_nodes() -> Iterator[list[Running]]:
    """Two lines side by side with the same addresses, two chains in user space on each node."""
    with Network(TwinLines()) as net, contextlib.ExitStack() as stack:
        wires = [Wire(*(net.node(side + n) for side in "lnr")) for n in "12"]
        yield [
            Running(w, stack.enter_context(NfcNode(w.node, CHAINS, bpffs=bpffs()))) for w in wires
        ]


@in_sandbox
def test_several_chains_and_nodes_at_once() -> None:
    """Each step has a program of its own: chains and nodes do not touch each other's packets."""
    to_virtual = udp(src=LEFT, dst=NODE_LEFT)
    direct = udp(src=LEFT, dst=RIGHT, dport=54)
    with two_nodes() as (one, other):
        for node in (one, other):
            node.wire.left.send(to_virtual)
            node.wire.left.send(direct)
            until_forwarded(node, 2)
        one.kill(signal.SIGKILL, "2/0")
        for node in (one, other):
            node.wire.left.send(to_virtual)
            node.wire.left.send(direct)
        until_forwarded(other, 4)
        until_forwarded(one, 3)
        assert one.way("2/0").refused == 1
        assert one.way("1/0").returned == 2
        assert other.way("2/0").returned == other.way("1/0").returned == 2


@pytest.mark.parametrize("forward", ["stack", "direct"])
@in_sandbox
def test_nothing_of_it_leaves_the_node(forward: str) -> None:
    """No packet bears a mark when it is out of user space, be it changed or untouched."""
    rules = """table ip marks {{
        counter marked {{}}
        chain here {{
            type filter hook {hook} priority -500
            meta mark != 0 counter name marked
        }}
    }}
    """
    nat = {"nf": "dnat", "place": "user", "params": {"rules": [{"dport": 53, "to": RIGHT}]}}
    with line(policy(nat, forward=forward)) as node:
        # A mark ends where a packet crosses to another namespace, but not where it skips a queue.
        places = {"forward": node.nfc.node, "prerouting": node.wire.right.node}
        for hook, place in places.items():
            place.run(["nft", "-f", "-"], stdin=rules.format(hook=hook))
        course = [
            ("left", udp(src=LEFT, dst=NODE_LEFT)),
            ("left", udp(src=LEFT, dst=RIGHT, sport=1001)),
        ]
        course.append(("left", tcp(src=LEFT, dst=RIGHT, dport=7)))
        assert len(node.wire.exchange(course)["right"]) == 3
        for place in places.values():
            assert "packets 0 bytes 0" in place.run(["nft", "list", "counters"]).stdout


@in_sandbox
def test_takes_everything_away() -> None:
    """After the chains are closed there is no rule, interface or program; packets are routed."""
    with line(policy(PASS, {**PASS, "place": "kernel", "priority": 200})) as node:
        programs = list(node.datapath.programs.values())
        rules = ["iptables-save", "-t", "raw"]
        assert "NFQUEUE" in node.nfc.node.run(rules).stdout
        assert "nfcbed-user" in node.nfc.node.run(["ip", "link"]).stdout
        node.nfc.close()
        assert [program.pid for program in programs] == [None]
        assert "NFCBED" not in node.nfc.node.run(rules).stdout
        assert "nfcbed-user" not in node.nfc.node.run(["ip", "link"]).stdout
        assert not (bpffs() / "node").exists()
        assert len(node.wire.exchange([("left", question())])["right"]) == 1
        node.nfc.start()


@in_sandbox
def test_denies_signatures() -> None:
    """The web application firewall between kernel NFs: what it denies ends, the rest goes on."""
    waf = {"nf": "waf", "place": "user", "params": {"signatures": [r"\.\./"]}}
    behind = {"nf": "dnat", "priority": 200, "params": {"rules": [{"dport": 80, "to": RIGHT}]}}

    def get(path: bytes, sport: int) -> Any:
        ends: dict[str, Any] = {"src": LEFT, "dst": NODE_LEFT, "sport": sport, "dport": 80}
        return "left", tcp(**ends, flags="PA", payload=b"GET " + path)

    with line(policy({"nf": "pass"}, waf, behind)) as node:
        course = [get(b"/", 1), get(b"/%2e%2e/", 1), get(b"/", 1), get(b"/fine", 2)]
        got = node.wire.exchange(course)["right"]
        assert [bytes(IP(frame[14:]).payload.payload) for frame in got] == [
            b"GET /",
            b"GET /fine",
        ]
        dropped = node.status.stages()[1].dropped
        assert dropped == {"signature": 1, "denied": 1}


@in_sandbox
def test_own_packets_do_not_go_to_user_space() -> None:
    """The node's own ICMP error about a packet that user space translated is not translated back.

    In the kernel it is. It stands here for what user space does not see: the node's own packets.
    """
    nat = {"nf": "dnat", "place": "user", "params": {"rules": [{"dport": 53, "to": RIGHT}]}}
    with line(policy(nat)) as node:
        ttl = udp(src=LEFT, dst=NODE_LEFT, ip={"ttl": 1})
        (error,) = node.wire.exchange([("left", ttl)])["left"]
        assert IP(error[14:])["IPerror"].dst == RIGHT
        assert node.status.steps()[0].replies[0].own == 1


@in_sandbox
def test_its_chain_can_be_walked_from_outside() -> None:
    """What `nfcbed explain` follows in the kernel leads into user space and on behind it."""
    nfs = [{"nf": "pass", "priority": 1}, PASS, {"nf": "pass", "priority": 200}]
    with line(policy(*nfs, forward="direct")) as node:
        plan = node.datapath.plan
        live = LiveNode("run", "node", "tcx ingress", ("node-eth0",), plan, bpffs() / "node")
        assert [place for _, place in live.walk(plan.chains[0])] == [
            *("chains/1/0-pass/nf", "user/0/to_user", "chains/1/2-pass/nf", "forward/to_wire")
        ]
