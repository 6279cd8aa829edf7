# SPDX-License-Identifier: MIT
"""Packets that a node's kernel drops are found, each once, at the place where it dropped them."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace
from typing import cast

import pytest

from testbed.experiment import losses
from testbed.experiment.losses import lost_so_far
from testbed.experiment.network import open_network
from testbed.network import Network
from tests.sandboxed import in_sandbox

PORT = 4321

pytestmark = pytest.mark.needs("namespaces", "veth", "bridge")


def send(network: Network, address: str, count: int, payload_bytes: int = 100) -> None:
    with network.node("hv").netns():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        for _ in range(count):
            sock.sendto(bytes(payload_bytes), (address, PORT))
    time.sleep(0.2)


def gained(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {place: n - before[place] for place, n in after.items() if n != before[place]}


@in_sandbox
def test_each_drop_is_counted_once_at_its_place() -> None:
    """No socket, a full socket, no way on, a full queue: the numbers are those of packets sent."""
    with open_network("thesis-routing") as network:
        vm1, vm2 = network.node("vm1"), network.node("vm2")
        before = lost_so_far(network)
        send(network, "10.10.9.4", 3)
        now = lost_so_far(network)
        assert gained(before, now) == {"vm2: no socket at the port": 3}

        with vm2.netns():
            full = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with full:
            full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            full.bind(("", PORT))
            before = now
            send(network, "10.10.9.4", 50, 1000)
            now = lost_so_far(network)
            full.setblocking(False)
            read = 0
            while True:
                try:
                    full.recv(2000)
                except BlockingIOError:
                    break
                read += 1
        assert gained(before, now) == {"vm2: no room in the socket's buffer": 50 - read}
        assert read < 50

        vm1.run(["ip", "route", "add", "throw", "10.10.9.6/32"])
        before = now
        send(network, "10.10.9.6", 4)
        now = lost_so_far(network)
        assert gained(before, now) == {"vm1: no route on arrival": 4}

        words = "qdisc add dev vm1-eth0 root tbf rate 8kbit burst 1600 limit 1600"
        vm1.run(["tc", *words.split()])
        before = now
        send(network, "10.10.9.4", 20, 1000)
        now = lost_so_far(network)
        assert set(gained(before, now)) <= {"vm1: queue full", "vm2: no socket at the port"}
        assert gained(before, now)["vm1: queue full"] >= 15


def test_backlog_is_counted_once_though_both_ends_count_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One end says that it could not send 5, the other that it did not take 7: 7 are gone."""
    ends = {"a": ("a-eth0", ("b", "b-eth0")), "b": ("b-eth0", ("a", "a-eth0"))}
    devices = {"a": {"a-eth0": (0, 5)}, "b": {"b-eth0": (7, 0)}}
    nodes = {
        name: SimpleNamespace(name=name, interfaces=[SimpleNamespace(name=port, peer=peer)])
        for name, (port, peer) in ends.items()
    }
    monkeypatch.setattr(losses, "_devices", lambda node: devices[node.name])
    monkeypatch.setattr(losses, "_counts", lambda *_: {})
    monkeypatch.setattr(losses, "_queue_drops", lambda _: 0)
    found = lost_so_far(cast("Network", SimpleNamespace(nodes=nodes)))
    assert {place: n for place, n in found.items() if n} == {"a-eth0 to b-eth0": 7}
