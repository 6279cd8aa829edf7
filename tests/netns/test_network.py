# SPDX-License-Identifier: MIT
"""The topologies built from namespaces, with real packets."""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import NfcbedError, RunError, UnsupportedError
from testbed.network import NetNode, Network
from testbed.sandbox import run_in_sandbox
from topologies import load_topologies
from topologies.parts import NfcTopo
from topologies.thesis import Thesis, ThesisRouting

PORT = 4321
IP_RECVTTL, SO_SNDBUFFORCE = 12, 32  # <linux/in.h>, <asm-generic/socket.h>

pytestmark = pytest.mark.needs("namespaces", "veth", "bridge")


def with_network(topo: NfcTopo, body: Callable[[Network], None]) -> None:
    """Run ``body`` with the network, in a sandbox; what it raises is raised here."""

    def main(_: object) -> int:
        with Network(topo) as net:
            body(net)
        return 0

    assert run_in_sandbox(main, command="test") == 0


def udp_socket(node: NetNode, port: int = 0) -> socket.socket:
    """Open a UDP socket in a node; it tells the TTL of what it receives."""
    with node.netns():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", port))
    sock.settimeout(2)
    sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    return sock


def receive(sock: socket.socket) -> tuple[int, tuple[str, int]]:
    """Return TTL and sender of the next packet."""
    _, ancillary, _, sender = sock.recvmsg(2048, socket.CMSG_SPACE(4))
    return int.from_bytes(ancillary[0][2], "little"), sender


def routers_on_the_way(net: Network, source: str, target: str) -> tuple[int, int]:
    """Count the routers that a packet passes to the target, and its answer on the way back."""
    there = net.node(target)
    with udp_socket(net.node(source)) as client, udp_socket(there, PORT) as server:
        client.sendto(b"?", (str(there.address.ip), PORT))
        ttl, sender = receive(server)
        server.sendto(b"!", sender)
        return 64 - ttl, 64 - receive(client)[0]


def counters(net: Network) -> dict[tuple[str, str], dict[str, Any]]:
    """Link counters of every interface of every node, ``lo`` included."""
    found = {}
    for node in net.nodes.values():
        for link in json.loads(node.run(["ip", "-s", "-j", "link", "show"]).stdout):
            found[node.name, link["ifname"]] = link["stats64"]
    return found


@pytest.mark.parametrize("name", ["thesis", "thesis-routing", "line"])
def test_every_node_reaches_every_other(name: str) -> None:
    """A packet and its answer pass between all pairs of machines, at any MTU."""

    def body(net: Network) -> None:
        machines = [node.name for node in net.nodes.values() if node.kind == "Vm"]
        for source, target in itertools.permutations(machines, 2):
            routers_on_the_way(net, source, target)

    with_network(load_topologies()[name](mtu=9000), body)


def test_thesis_answers_come_back_through_vm1() -> None:
    """The hypervisor reaches VM2 and VM3 directly, and their answers pass VM1."""

    def body(net: Network) -> None:
        assert routers_on_the_way(net, "hv", "vm2") == (0, 1)
        assert routers_on_the_way(net, "hv", "vm3") == (0, 1)
        assert routers_on_the_way(net, "hv", "vm1") == (0, 0)
        assert routers_on_the_way(net, "vm2", "vm3") == (0, 0)

    with_network(Thesis(), body)


def test_routing_twin_passes_vm1_both_ways() -> None:
    """In the routing case VM1 is on the way to VM2 and VM3 as well as on the way back."""

    def body(net: Network) -> None:
        assert routers_on_the_way(net, "hv", "vm2") == (1, 1)
        assert routers_on_the_way(net, "hv", "vm3") == (1, 1)

    with_network(ThesisRouting(), body)


def test_vm1_sends_no_redirects() -> None:
    """VM1 sends packets out where they came in and does not tell the sender of a shorter way."""

    def body(net: Network) -> None:
        with udp_socket(net.node("vm2")) as sock, udp_socket(net.node("hv"), PORT) as server:
            for _ in range(5):
                sock.sendto(b"x", ("10.10.9.1", PORT))
                assert receive(server)[0] == 63
        lines = net.node("vm1").run(["cat", "/proc/net/snmp"]).stdout.splitlines()
        names, values = [line.split() for line in lines if line.startswith("Icmp:")]
        assert dict(zip(names, values, strict=True))["OutRedirects"] == "0"

    with_network(Thesis(), body)


@pytest.mark.parametrize("name", ["thesis", "line"])
def test_idle_network_is_silent(name: str) -> None:
    """Nobody sends a single packet on his own, neither after the build nor for 3 s."""

    def body(net: Network) -> None:
        time.sleep(3)
        packets = {
            place: (stats["rx"]["packets"], stats["tx"]["packets"])
            for place, stats in counters(net).items()
        }
        assert {place: seen for place, seen in packets.items() if seen != (0, 0)} == {}

    with_network(load_topologies()[name](), body)


def test_unicast_reaches_its_receiver_only() -> None:
    """The bridge floods nothing, not even to a receiver that has never sent a packet."""

    def body(net: Network) -> None:
        before = counters(net)
        with udp_socket(net.node("hv")) as sock:
            for _ in range(10):
                sock.sendto(b"x", ("10.10.9.6", PORT))
        time.sleep(0.2)
        after = counters(net)

        def received(name: str) -> int:
            place = (name, f"{name}-eth0")
            return int(after[place]["rx"]["packets"] - before[place]["rx"]["packets"])

        assert received("vm3") == 10
        assert received("vm2") == 0

    with_network(Thesis(), body)


@pytest.mark.needs("tbf")
@pytest.mark.parametrize(("rate_mbps", "mtu"), [(20, 1500), (300, 9000)])
def test_link_holds_its_rate(rate_mbps: float, mtu: int) -> None:
    """UDP at twice the rate comes out at the rate (frames) within 3 %, and the rest is dropped."""

    def body(net: Network) -> None:
        done = threading.Event()
        payload = bytes(mtu - 28)

        def send() -> None:
            gap_s = (mtu + 14) * 8 / (2 * rate_mbps * 1e6)
            # What waits in the queue counts as the socket's: with less the sender would block.
            sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 24)
            begin, sent = time.monotonic(), 0
            while not done.is_set():
                while begin + sent * gap_s <= time.monotonic() and not done.is_set():
                    sock.sendto(payload, ("10.10.9.4", PORT))
                    sent += 1
                time.sleep(0.001)

        def received_bytes() -> tuple[float, int]:
            vm2 = net.node("vm2").run(["ip", "-s", "-j", "link", "show", "vm2-eth0"])
            return time.monotonic(), json.loads(vm2.stdout)[0]["stats64"]["rx"]["bytes"]

        with udp_socket(net.node("hv")) as sock, udp_socket(net.node("vm2"), PORT):
            thread = threading.Thread(target=send)
            thread.start()
            try:
                time.sleep(0.5)
                begin, first = received_bytes()
                time.sleep(2)
                end, last = received_bytes()
                queue = json.loads(net.node("hv").run(["tc", "-s", "-j", "qdisc"]).stdout)
            finally:
                done.set()
                thread.join()
        seen_mbps = (last - first) * 8 / (end - begin) / 1e6
        assert seen_mbps == pytest.approx(rate_mbps, rel=0.03)
        (pfifo,) = [qdisc for qdisc in queue if qdisc["kind"] == "pfifo"]
        assert pfifo["qlen"] <= 40
        assert pfifo["drops"] > 0

    with_network(Thesis(rate_mbps=rate_mbps, mtu=mtu, queue_packets=40), body)


def test_description_is_plain_and_true() -> None:
    """``describe`` gives plain JSON with what was asked for, as the kernel has it."""

    def body(net: Network) -> None:
        facts = net.describe()
        assert json.loads(json.dumps(facts)) == facts
        vm1 = facts["nodes"]["vm1"]
        (link,) = vm1["interfaces"]
        assert (link["addresses"], link["mtu"]) == (["10.10.9.5/24"], 1400)
        assert [q["kind"] for q in link["qdiscs"]] == ["tbf", "pfifo"]
        assert link["qdiscs"][0]["options"]["rate"] == 50e6 / 8
        assert link["peer"] == ["s1", "s1-eth2"]
        assert vm1["sysctls"]["ipv4/ip_forward"] == "1"
        assert facts["nodes"]["vm2"]["sysctls"]["ipv4/ip_forward"] == "0"
        assert vm1["pid"] == net.node("vm1").pid
        assert net.nfc_nodes == ("vm1",)

    with_network(Thesis(rate_mbps=50, mtu=1400), body)


def test_offloads_can_be_set_for_one_node() -> None:
    """``offload`` changes the named features of the one interface; a wrong name is refused."""

    def body(net: Network) -> None:
        def offloads(name: str) -> dict[str, str]:
            return dict(net.describe()["nodes"][name]["interfaces"][0]["offloads"])

        before = offloads("vm2")
        net.node("vm2").offload("vm2-eth0", gro=True, tx=False)
        after = offloads("vm2")
        assert after["generic-receive-offload"] == "on"
        assert after["tx-checksumming"] == "off"
        assert offloads("vm3") == before
        with pytest.raises(RunError, match="vm2: `ethtool -K vm2-eth0 no-such on`"):
            net.node("vm2").offload("vm2-eth0", no_such=True)

    with_network(Thesis(), body)


def test_programs_in_a_node() -> None:
    """``run`` returns output, and fails with the node, the command and what it said."""

    def body(net: Network) -> None:
        vm1 = net.node("vm1")
        assert "10.10.9.5" in vm1.run(["ip", "address"]).stdout
        assert vm1.run(["cat"], stdin="text").stdout == "text"
        assert vm1.run(["false"], check=False).returncode == 1
        with pytest.raises(RunError, match=r"vm1: `ls /nowhere` ended with 2: .*No such file"):
            vm1.run(["ls", "/nowhere"])
        with pytest.raises(RunError, match=r"vm1: `sleep 60` took more than 0.2 s"):
            vm1.run(["sleep", "60"], timeout_s=0.2)
        with pytest.raises(UnsupportedError, match="no-such-program"):
            vm1.run(["no-such-program"])
        with pytest.raises(RunError, match=r"no node vm9 here .*vm1"):
            net.node("vm9")

    with_network(Thesis(), body)


def test_prompt_takes_commands_and_keeps_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Piped commands run at the prompt; what they say is standard output; the home stays."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "script").write_text("vm1 echo $((6 * 7))\nvm2 ip -br address\n")

    def body(net: Network) -> None:
        with (tmp_path / "script").open() as script:
            sys.stdin = script
            net.cli()

    with_network(Thesis(), body)
    output = capfd.readouterr().out
    assert "42" in output
    assert "10.10.9.4/24" in output
    assert [path.name for path in tmp_path.iterdir()] == ["script"]


def test_netns_moves_one_thread_for_a_while() -> None:
    """Inside ``netns()`` only this thread is in the node, and afterwards nobody is."""

    def body(net: Network) -> None:
        def where() -> str:
            return str(Path("/proc/thread-self/ns/net").readlink())

        home, seen = where(), []
        with net.node("vm1").netns():
            inside = where()
            thread = threading.Thread(target=lambda: seen.append(where()))
            thread.start()
            thread.join()
        node = Path(f"/proc/{net.node('vm1').pid}/ns/net").readlink()
        assert (inside, where()) == (str(node), home)
        assert inside != home
        # A thread starts where its maker is; the others stay.
        assert Path(f"/proc/{os.getpid()}/ns/net").readlink() == Path(home)

    with_network(Thesis(), body)


def processes() -> set[str]:
    """Process numbers of this pid namespace."""
    return {path.name for path in Path("/proc").glob("[0-9]*")}


def test_leaving_ends_all_that_ran_in_the_nodes() -> None:
    """After the block no process of a node is left, daemons included; a second network works."""

    def main(_: object) -> int:
        before = processes()
        for _attempt in range(2):
            with Network(Thesis()) as net:
                net.node("vm1").popen(["sleep", "1000"])
                net.node("vm2").run(["setsid", "-f", "sh", "-c", "exec >&- 2>&-; sleep 1000"])
                net.node("vm3").run(["sh", "-c", "(sleep 1000) >/dev/null 2>&1 &"])
                assert len(processes() - before) >= 8
            left = processes() - before
            deadline = time.monotonic() + 2
            while left and time.monotonic() < deadline:  # init reaps the orphans
                time.sleep(0.02)
                left = processes() - before
            assert not left
        return 0

    assert run_in_sandbox(main, command="test") == 0


class Broken(NfcTopo):
    """A topology whose second machine names a next hop that is nowhere."""

    def layout(self) -> None:
        self.vm("good")
        self.vm("lost", routes=[("default", "192.0.2.1")])
        self.wire("good", "lost", ip1="10.0.0.1/24", ip2="10.0.0.2/24")


class Twice(NfcTopo):
    """A topology that gives a link a name that an interface cannot have."""

    def layout(self) -> None:
        self.vm("good")
        self.vm("a-name-that-is-too-long")
        self.wire("good", "a-name-that-is-too-long")


@pytest.mark.parametrize(
    ("topo", "named"),
    [
        (Broken, "failed at configuring the hosts: lost: `ip route replace default"),
        (Twice, "failed at making the link good - a-name-that-is-too-long"),
    ],
)
def test_failed_build_names_the_step_and_ends_its_nodes(topo: type[NfcTopo], named: str) -> None:
    """Where building fails midway the message has the step, and no node stays behind."""

    def main(_: object) -> int:
        before = processes()
        with pytest.raises(RunError, match=named), Network(topo()):
            pass
        time.sleep(0.2)
        assert processes() - before == set()
        return 0

    assert run_in_sandbox(main, command="test") == 0


def test_network_needs_a_sandbox() -> None:
    """Without a sandbox nothing is built: the host's own namespaces stay untouched."""
    with pytest.raises(RunError, match="sandbox"), Network(Thesis()):
        pass


@pytest.mark.parametrize(("tool", "package"), [("mnexec", "mininet"), ("ip", "iproute2")])
def test_missing_tool_names_its_package(
    tool: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that is not installed is an unsupported machine, and the message says what to get."""
    for name in {"mnexec", "ip", "tc", "bridge", "ifconfig", "ethtool"} - {tool}:
        (tmp_path / name).symlink_to("/bin/true")

    def main(_: object) -> int:
        monkeypatch.setenv("PATH", str(tmp_path))
        with Network(Thesis()):
            return 1

    with pytest.raises(NfcbedError, match=f"{tool}.*{package}") as caught:
        run_in_sandbox(main, command="test")
    assert caught.value.exit_code == UnsupportedError.exit_code
