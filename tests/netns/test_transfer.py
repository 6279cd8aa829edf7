# SPDX-License-Identifier: MIT
"""Whole TCP transfers by the kernel's own sockets through DAD and DNAT, content compared."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from testbed.chain import Policy
from testbed.datapath.plan import make_plan
from testbed.datapath.status import NodeStatus
from testbed.datapath.tc import TcDatapath
from testbed.datapath.ways import ways_out
from testbed.netnode import NetNode
from testbed.network import Network
from tests.bpf.harness import policy_of
from tests.sandboxed import bpffs, in_sandbox
from topologies.line import RIGHT, Line

pytestmark = pytest.mark.needs(
    *("root", "namespaces", "veth", "bpffs", "objects", "tc_ingress", "bpf_timer", "ethtool"),
)

SERVICE = "203.0.113.5"  # nobody's address
DATA = random.Random(1).randbytes(12_000_000)
SEGMENT = 1448  # bytes of content in a segment of 1,500 bytes, with timestamps
BOTH_HOOKS = pytest.mark.parametrize(
    "tcx",
    [
        pytest.param(True, marks=pytest.mark.needs("tcx"), id="tcx"),
        pytest.param(False, marks=pytest.mark.needs("clsact"), id="clsact"),
    ],
)
BOTH_MODES = pytest.mark.parametrize(
    "state", ["table", pytest.param("conntrack", marks=pytest.mark.needs("conntrack_kfuncs"))]
)


def chain(forward: str, state: str) -> Policy:
    """DAD that only counts, then DNAT to another port of ``right``."""
    row = {"dst": SERVICE, "dport": 80, "to": RIGHT, "to_port": 8080}
    nfs = [
        {"nf": "dad", "params": {"threshold_mbps": 1e6}},
        {"nf": "dnat", "params": {"rules": [row], "state": state}},
    ]
    return policy_of({"rules": [{"dst": SERVICE}], "forward": forward, "nfs": nfs})


@contextlib.contextmanager
def chains_at(node: NetNode, policy: Policy, *, tcx: bool) -> Iterator[NodeStatus]:
    """Run the chains at one of the two hooks."""
    with node.netns():
        plan = make_plan(policy)
        datapath = TcDatapath(plan, folder=bpffs() / "node", ways=ways_out(), tcx=tcx)
        try:
            datapath.attach({i.name: i.index for i in node.interfaces})
            yield NodeStatus(plan, datapath.folder)
        finally:
            datapath.close()


def received(sock: socket.socket) -> str:
    """Digest of all that comes until the other side has no more."""
    digest = hashlib.sha256()
    while data := sock.recv(1 << 18):
        digest.update(data)
    return digest.hexdigest()


def transfer(client: NetNode, server: NetNode) -> tuple[str, str]:
    """Send DATA to the service and get it back at the same time; digests at server and client."""
    at_server = []
    with server.netns():
        listener = socket.create_server(("", 8080))

    def serve() -> None:
        with listener, listener.accept()[0] as sock:
            sock.settimeout(20)
            sender = threading.Thread(target=_send_all, args=(sock,))
            sender.start()
            at_server.append(received(sock))
            sender.join()

    thread = threading.Thread(target=serve)
    thread.start()
    with client.netns():
        sock = socket.create_connection((SERVICE, 80), timeout=20)
    with sock:
        sender = threading.Thread(target=_send_all, args=(sock,))
        sender.start()
        at_client = received(sock)
        sender.join()
    thread.join()
    return at_server[0], at_client


def _send_all(sock: socket.socket) -> None:
    sock.sendall(DATA)
    sock.shutdown(socket.SHUT_WR)


def switch_offloads_off(net: Network) -> None:
    """Have every kernel finish its own checksums and cut its own segments."""
    for node in net.nodes.values():
        for interface in node.interfaces:
            node.offload(interface.name, tx=False, tso=False, gso=False, gro=False, sg=False)


@BOTH_MODES
@pytest.mark.parametrize("forward", ["stack", "direct"])
@pytest.mark.parametrize("offloads", [True, False], ids=["offloads on", "offloads off"])
@BOTH_HOOKS
@in_sandbox
def test_content_arrives(tcx: bool, offloads: bool, forward: str, state: str) -> None:
    """Megabytes arrive as they were sent, both ways, and DAD counts them as on the wire.

    With offloads on a packet at the node is up to 64 KB, and its checksum is not there yet.
    """
    digest = hashlib.sha256(DATA).hexdigest()
    with Network(Line()) as net:
        if not offloads:
            switch_offloads_off(net)
        policy = chain(forward, state)
        with chains_at(net.node("node"), policy, tcx=tcx) as status:
            assert transfer(net.node("left"), net.node("right")) == (digest, digest)
            dad, dnat = status.stages()
            replies = status.specials()["replies"]
    assert dnat.counters["created"] == 1
    assert dnat.counters["replies"] == replies.packets
    for seen in (dad.seen, replies):
        assert seen.packets >= len(DATA) / SEGMENT
        content = seen.bytes - 52 * seen.packets - 8  # headers; the SYN's are 8 bytes longer
        assert len(DATA) - 64 <= content <= 1.25 * len(DATA)  # a busy machine sends twice


@BOTH_HOOKS
@in_sandbox
def test_detached_node_is_as_before(tcx: bool) -> None:
    """After the chains are gone no filter, link or pin of them is left at the node."""
    with Network(Line()) as net:
        node = net.node("node")
        with chains_at(node, chain("stack", "table"), tcx=tcx):
            assert _filters(node) == ([] if tcx else ["classify"] * 2)
            assert (bpffs() / "node").is_dir()
        assert _filters(node) == []
        assert not (bpffs() / "node").exists()


def _filters(node: NetNode) -> list[Any]:
    """Names of the BPF filters at the ingress of the node's interfaces."""
    shown = [node.run(["tc", "filter", "show", "dev", i.name, "ingress"]) for i in node.interfaces]
    return ["classify" for done in shown if "classify" in done.stdout]
