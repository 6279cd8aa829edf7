# SPDX-License-Identifier: MIT
"""The datapath `netfilter` with real packets: beside `tc`, and what is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP

from testbed.bpf import BpfError, Program, attach_netfilter
from testbed.chain import Policy
from testbed.datapath.live import LiveNode
from testbed.datapath.status import NodeStatus
from testbed.errors import PolicyError
from testbed.probe_base import bpf_call
from testbed.results import read_result
from tests.bpf.harness import policy_of
from tests.frames import fragments, tcp, udp
from tests.netns.manyrules import COURSE, MANY_RULES, assert_all_arrived, two_wires
from tests.netns.twins import Sent, back, handshake, there
from tests.netns.wire import Offload, Wire
from tests.running import NFCBED
from tests.sandboxed import bpffs, in_sandbox
from topologies.line import LEFT, NODE_LEFT, RIGHT

pytestmark = pytest.mark.needs(
    *("root", "namespaces", "veth", "bpffs", "objects", "tc_ingress", "bpf_timer"),
    *("netfilter_link", "nft_nat", "nft"),
)
OF_KERNEL = ("replies", "icmp_errors")
"""What DNAT counts where it does it itself: at netfilter the way back is the kernel's."""


def at_netfilter(policy: Policy) -> Policy:
    """The same policy on the datapath netfilter."""
    return policy.model_copy(update={"datapath": "netfilter"})


@contextmanager
def both(policy: Policy) -> Iterator[tuple[tuple[Wire, NodeStatus], tuple[Wire, NodeStatus]]]:
    """A line with the policy at tc, and one with it at netfilter."""
    with (
        two_wires() as (one, other),
        one.chains(policy) as at_tc,
        other.chains(at_netfilter(policy)) as at_hook,
    ):
        yield (one, at_tc), (other, at_hook)


def assert_counted_alike(at_tc: NodeStatus, at_hook: NodeStatus) -> None:
    """Assert that rules, specials and NFs count the same, but for the NAT's way back."""
    assert at_hook.rules() == at_tc.rules()
    assert at_hook.specials() == at_tc.specials()
    for mine, other in zip(at_hook.stages(), at_tc.stages(), strict=True):
        for name in OF_KERNEL:
            mine.counters.pop(name, None)
            other.counters.pop(name, None)
        assert mine == other


@in_sandbox
def test_same_as_tc() -> None:
    """First match, translations, NFs before and behind them, replies, errors: all as at tc."""
    with both(MANY_RULES) as ((one, at_tc), (other, at_hook)):
        wanted, got = one.exchange(COURSE), other.exchange(COURSE)
        assert got == wanted
        assert_all_arrived(got)
        assert_counted_alike(at_tc, at_hook)
        assert at_hook.specials()["replies"].packets == 3


def dad_chain(place: str, **params: Any) -> Policy:
    """DAD before or behind DNAT to the server, or alone."""
    dad = {"nf": "dad", "priority": 30 if place == "behind" else 10, "params": params}
    room = {"max_flows": params.get("max_flows", 1024)}
    dnat = {"nf": "dnat", "priority": 20, "params": {"rules": [{"to": RIGHT}], **room}}
    nfs = [dad, *([] if place == "alone" else [dnat])]
    return policy_of({"rules": [{"dport": 53}], "nfs": nfs})


@pytest.mark.parametrize("place", ["alone", "before", "behind"])
@in_sandbox
def test_dad_denies(place: str) -> None:
    """DAD denies the window after the one that exceeded, before DNAT and behind it, as at tc.

    What it drops before DNAT opens no connection; dropped behind it, none is kept either.
    """
    window_s = 0.3
    policy = dad_chain(place, threshold_pps=10, window_s=window_s)
    dst = RIGHT if place == "alone" else NODE_LEFT
    packet = there(udp, dst=dst)
    with both(policy) as ((one, at_tc), (other, at_hook)):
        passed = {one: 0, other: 0}
        for count in (10, 5):
            for wire in passed:
                passed[wire] += len(wire.exchange([packet] * count)["right"])
            time.sleep(window_s + 0.05)
        assert passed == {one: 10, other: 10}
        assert_counted_alike(at_tc, at_hook)
        dad = next(stage for stage in at_hook.stages() if stage.name == "dad")
        assert (dad.seen.packets, dad.dropped["over_threshold"], dad.missed) == (15, 5, 0)


@in_sandbox
def test_dropped_before_the_nat() -> None:
    """A packet that an NF drops never gets to the NAT, wherever the NF stands in the chain."""
    for place, created in (("before", 0), ("behind", 1)):
        policy = dad_chain(place, threshold_pps=1, max_flows=1, on_full="drop")
        with both(policy) as (_, (wire, status)):
            wire.exchange([there(udp), there(udp, sport=2000)])
            dnat = next(stage for stage in status.stages() if stage.name == "dnat")
            assert dnat.counters["created"] == 1 + created


@pytest.mark.parametrize("make", [udp, tcp])
@in_sandbox
def test_merged_packet(make: Any) -> None:
    """A merged (GSO) packet counts as the packets that it is on the wire, as at tc."""
    policy = policy_of({"rules": [{"dport": 53}], "nfs": [{"nf": "pass"}]})
    course = [there(make, dst=RIGHT, payload=bytes(range(250)) * 12)]
    with both(policy) as ((one, at_tc), (other, at_hook)):
        offload = Offload(checksum=True, segment=1000)
        assert other.exchange(course, offload) == one.exchange(course, offload)
        assert_counted_alike(at_tc, at_hook)
        assert at_hook.forwarded() == at_tc.forwarded()
        assert at_hook.rules()[0].packets == 3


@in_sandbox
def test_fragments() -> None:
    """Without DNAT a fragment matches rules without ports only, the first piece included."""
    policy = policy_of(
        {"rules": [{"dport": 53}], "nfs": [{"nf": "pass"}]},
        {"rules": [{"proto": "udp", "dst": RIGHT}], "nfs": [{"nf": "pass"}]},
    )
    pieces: list[Sent] = [
        ("left", piece) for piece in fragments(udp(src=LEFT, dst=RIGHT, payload=bytes(64)))
    ]
    with both(policy) as ((one, at_tc), (other, at_hook)):
        assert other.exchange(pieces) == one.exchange(pieces)
        assert_counted_alike(at_tc, at_hook)
        assert [rule.packets for rule in at_hook.rules()] == [0, len(pieces) + 1]  # the marker


@in_sandbox
def test_difference_fragments_of_translated_flows() -> None:
    """With DNAT the kernel puts fragments together first, and the whole packet is translated."""
    pieces: list[Sent] = [
        ("left", piece) for piece in fragments(udp(src=LEFT, dst=NODE_LEFT, payload=bytes(64)))
    ]
    with both(dad_chain("before", threshold_pps=1000)) as ((one, _), (other, at_hook)):
        assert one.exchange(pieces)["right"] == []
        assert {IP(frame[14:]).dst for frame in other.exchange(pieces)["right"]} == {RIGHT}
        assert at_hook.rules()[0].packets == 1


@in_sandbox
def test_node_itself() -> None:
    """What the node says to itself enters no chain; what comes for it from outside does."""
    everything = policy_of({"rules": [{}], "nfs": [{"nf": "pass"}]})
    with two_wires() as (wire, _), wire.chains(at_netfilter(everything)) as status:
        wire.node.run(["ping", "-c", "1", "-W", "2", NODE_LEFT])
        assert (status.rules()[0].packets, status.specials()["left_alone"].packets) == (0, 2)
        wire.exchange([("left", IP(src=LEFT, dst=NODE_LEFT) / ICMP(id=7))])
        assert status.rules()[0].packets == 2  # and the marker


@in_sandbox
def test_tcp_connection() -> None:
    """A TCP connection is translated there and back, its end included."""
    policy = dad_chain("behind", threshold_pps=1000)
    course = [
        *handshake(),
        there(tcp, flags="FA", seq=101, ack=501, payload=b""),
        back(tcp, flags="FA", seq=501, ack=102, payload=b""),
    ]
    with both(policy) as ((one, at_tc), (other, at_hook)):
        assert other.exchange(course) == one.exchange(course)
        assert_counted_alike(at_tc, at_hook)


@in_sandbox
def test_explained_from_the_kernel() -> None:
    """The pointers in the kernel lead along the policy's NFs, the translation among them."""
    with two_wires() as (wire, _), wire.chains(at_netfilter(MANY_RULES)) as status:
        live = LiveNode(
            run_id="this",
            name=wire.node.name,
            hook="netfilter",
            interfaces=(),
            plan=status.plan,
            folder=status.folder,
        )
        for chain in status.plan.chains:
            places = [place for _, place in live.walk(chain)]
            assert len(places) == len(chain.stages) + 1
            assert places[-1] == "forward/to_stack"


@in_sandbox
def test_direct_is_refused() -> None:
    """A chain that is to forward by itself cannot run here: one message says so."""
    policy = policy_of({"rules": [{}], "forward": "direct", "nfs": [{"nf": "pass"}]})
    with (
        two_wires() as (wire, _),
        pytest.raises(PolicyError, match=r"chains\[0\].forward: datapath netfilter hands"),
        wire.chains(at_netfilter(policy)),
    ):
        pytest.fail("it ran")


@in_sandbox
def test_nothing_stays_behind() -> None:
    """When the node is closed its programs are detached and the NAT's rules are gone."""
    with two_wires() as (wire, _):
        with wire.chains(at_netfilter(MANY_RULES)):
            assert "dnat to" in wire.node.run(["nft", "list", "ruleset"]).stdout
            program = Program.from_pin(bpffs() / wire.node.name / "classifier" / "classify")
            with wire.node.netns(), pytest.raises(BpfError, match="EBUSY"):
                attach_netfilter(program, priority=-175)
        assert wire.node.run(["nft", "list", "ruleset"]).stdout == ""
        with wire.node.netns():
            attach_netfilter(program, priority=-175).close()
        os.close(program.fd)
        assert not (bpffs() / wire.node.name).exists()


def netfilter_links() -> set[int]:
    """Kernel ids of all netfilter links of this machine."""
    found: set[int] = set()
    number = 0
    while True:
        try:
            _, after = bpf_call(31, number.to_bytes(4, "little"))  # BPF_LINK_GET_NEXT_ID
        except FileNotFoundError:
            return found
        number = int.from_bytes(after[4:8], "little")
        try:
            fd, _ = bpf_call(30, number.to_bytes(4, "little"))  # BPF_LINK_GET_FD_BY_ID
        except FileNotFoundError:
            continue
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        os.close(fd)
        if "link_type:\tnetfilter" in lines:
            found.add(number)


PROGRAM = """
import time
from testbed.sandbox import run_in_sandbox
from tests.bpf.harness import policy_of
from tests.netns.manyrules import MANY_RULES, two_wires
from tests.netns.test_netfilter import at_netfilter

def main(sandbox):
    with two_wires() as (wire, _), wire.chains(at_netfilter(MANY_RULES)):
        print("ready", flush=True)
        time.sleep(60)
    return 0

run_in_sandbox(main, command="test")
"""


def test_sigkill_leaves_nothing() -> None:
    """A run that is killed with SIGKILL leaves no link: its pins go with its mount namespace."""
    before = netfilter_links()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(netfilter_links() - before) >= 2
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (left := netfilter_links() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == set()


@pytest.mark.needs("bridge", "iperf3", "mnexec", "sched_cls")
def test_course_of_figure_7_2(tmp_path: Path) -> None:
    """The experiment's course is the thesis's on this datapath, and every packet is accounted."""
    words = ["run", "fig7_2", "--quick", "--datapath", "netfilter", "--out", str(tmp_path / "out")]
    done = subprocess.run([NFCBED, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "out")
    assert len(result.checks) == 21
    assert all(check.passed for check in result.checks)
    assert "0 unexplained" in done.stdout


def test_course_is_what_the_policy_is_for() -> None:
    """The policy has NFs before a translation and behind one: else the order is not tried."""
    places: Mapping[int, list[str]] = {c.id: [nf.name for nf in c.nfs] for c in MANY_RULES.chains}
    assert ["pass", "dnat", "pass"] in places.values()
