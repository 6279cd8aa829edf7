# SPDX-License-Identifier: MIT
"""Real packets for the tests: whole frames in at one peer, and out at the other.

The peers' own kernels are kept quiet, so that all that arrives is what a test sent or the node
between them made.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scapy.layers.inet import IP
from scapy.packet import Packet

from testbed.chain import Policy
from testbed.datapath.node import NfcNode
from testbed.datapath.plan import make_plan
from testbed.datapath.status import NodeStatus
from testbed.netnode import Interface, NetNode
from tests.frames import bytes_of, udp
from tests.sandboxed import bpffs
from topologies.line import LEFT, NODE_LEFT, NODE_RIGHT, RIGHT
from topologies.parts import NfcTopo

__all__ = ["Offload", "TwinLines", "Wire", "partial", "status_of"]

SOL_PACKET, PACKET_AUXDATA, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 8, 15, 23
ETH_P_ALL, TP_STATUS_VLAN_VALID = 3, 1 << 4
NEEDS_CSUM, GSO_TCPV4, GSO_UDP_L4 = 1, 1, 5  # <linux/virtio_net.h>
PAGE_BYTES = 4096
MARKER = b"the last one"
_QUIET = """
table ip quiet {
    chain everything {
        type filter hook prerouting priority raw
        policy drop
    }
}
"""


class TwinLines(NfcTopo):
    """Two lines side by side that know nothing of each other and have the same addresses."""

    def layout(self) -> None:
        """Add ``l1 ── n1 ── r1`` and ``l2 ── n2 ── r2``."""
        for number in "12":
            left, node, right = (f"{side}{number}" for side in "lnr")
            self.vm(left, routes=[("default", NODE_LEFT)])
            self.vm(node, forward=True, nfc=True)
            self.vm(right, routes=[("default", NODE_RIGHT)])
            self.wire(left, node, ip1=f"{LEFT}/24", ip2=f"{NODE_LEFT}/24")
            self.wire(node, right, ip1=f"{NODE_RIGHT}/24", ip2=f"{RIGHT}/24")


@dataclass(frozen=True, kw_only=True)
class Offload:
    """What a sender leaves to its interface, as a kernel does with its own packets.

    :ivar checksum: the transport checksum is left to whoever sends the packet on a wire.
    :ivar segment: bytes of payload in each packet that this one is to become; 0: it is one.
    :ivar linear: bytes that lie together at the start of the packet buffer. It holds for frames
        above a page; with 0 these have only their Ethernet header there.
    """

    checksum: bool = False
    segment: int = 0
    linear: int = 0

    def header(self, frame: bytes) -> bytes:
        """Give the frame's ``struct virtio_net_hdr``."""
        flags = kind = start = offset = 0
        length = self.linear if len(frame) > PAGE_BYTES else 0
        if self.checksum:
            data, start, offset = partial(frame[14:])
            flags, start, udp = NEEDS_CSUM, start + 14, offset == 6
            length = start + (8 if udp else (data[start - 2] >> 4) * 4)
            kind = (GSO_UDP_L4 if udp else GSO_TCPV4) if self.segment else 0
        return struct.pack("=BBHHHH", flags, kind, length, self.segment, start, offset)


def partial(packet: bytes) -> tuple[bytes, int, int]:
    """Give an IP packet with its transport checksum left to be done, where that begins and is."""
    whole = IP(packet)
    start, offset = whole.ihl * 4, 6 if whole.proto == socket.IPPROTO_UDP else 16
    addresses = socket.inet_aton(whole.src) + socket.inet_aton(whole.dst)
    pseudo = addresses + struct.pack("!HH", whole.proto, whole.len - start)
    total = sum(struct.unpack("!6H", pseudo))
    total = (total & 0xFFFF) + (total >> 16)
    data = bytearray(packet)
    struct.pack_into("!H", data, start + offset, (total & 0xFFFF) + (total >> 16))
    return bytes(data), start, offset


class Port:
    """A peer's interface: whole frames in and out."""

    def __init__(self, node: NetNode, *, towards: Interface) -> None:
        self.node = node
        self._mac = towards.mac
        (interface,) = node.interfaces
        with node.netns():
            self._sock = self._open(interface, ETH_P_ALL)
            self._out = self._open(interface, 0)
        self._sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._out.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.mac = interface.mac

    def _open(self, interface: Interface, protocol: int) -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind((interface.name, protocol))
        return sock

    def close(self) -> None:
        """Close the sockets."""
        self._sock.close()
        self._out.close()

    def frame(self, packet: Packet | bytes) -> bytes:
        """Give the frame that takes an IP packet to the node; a frame stays what it is."""
        return (
            packet if isinstance(packet, bytes) else bytes_of(packet, dst=self._mac, src=self.mac)
        )

    def send(self, packet: Packet | bytes, offload: Offload | None = None) -> None:
        """Send an IP packet or a whole frame."""
        frame = self.frame(packet)
        offload = offload or Offload()
        virtio = offload.header(frame)
        if offload.checksum:
            frame = frame[:14] + partial(frame[14:])[0]
        self._out.send(virtio + frame)

    def receive(self, timeout_s: float) -> bytes | None:
        """Give the next frame that arrived, with its VLAN tag, or None."""
        if not select.select([self._sock], [], [], timeout_s)[0]:
            return None
        data, ancillary, _, _ = self._sock.recvmsg(1 << 16, socket.CMSG_SPACE(20))
        status, *_, tag, protocol = struct.unpack("=IIIHHHH", ancillary[0][2])
        if status & TP_STATUS_VLAN_VALID:
            return data[:12] + struct.pack("!HH", protocol, tag) + data[12:]
        return data


class Wire:
    """One line ``left ── node ── right`` with a port at each end."""

    def __init__(self, left: NetNode, node: NetNode, right: NetNode, *, quiet: bool = True) -> None:
        self.node = node
        to_left, to_right = node.interfaces
        for peer in (left, right) if quiet else ():
            peer.run(["nft", "-f", "-"], stdin=_QUIET)
        self.left = Port(left, towards=to_left)
        self.right = Port(right, towards=to_right)

    def exchange(
        self, sent: Sequence[tuple[str, Packet | bytes]], offload: Offload | None = None
    ) -> dict[str, list[bytes]]:
        """Send frames in order, each from its side; give those that arrive, by side.

        All happens on one core, where what was sent first is done first: when the marker that is
        sent last has arrived, nothing is on its way any more.
        """
        with self.one_core():
            for side, packet in sent:
                (self.left if side == "left" else self.right).send(packet, offload)
            self.left.send(udp(src=LEFT, dst=RIGHT, sport=9, dport=9, payload=MARKER))
            arrived: dict[str, list[bytes]] = {"left": [], "right": self._until_marker()}
            while (frame := self.left.receive(0)) is not None:
                arrived["left"].append(frame)
        return arrived

    def _until_marker(self) -> list[bytes]:
        frames: list[bytes] = []
        deadline = time.monotonic() + 5
        while (frame := self.right.receive(deadline - time.monotonic())) is not None:
            if frame.endswith(MARKER):
                return frames
            frames.append(frame)
        raise AssertionError(f"the marker did not arrive, but {len(frames)} other frames did")

    @staticmethod
    @contextlib.contextmanager
    def one_core() -> Iterator[None]:
        """Keep this thread, and so what it sends on its whole way, on one core meanwhile."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(before)})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    @contextlib.contextmanager
    def chains(self, policy: Policy) -> Iterator[NodeStatus]:
        """Run a policy's chains on the node meanwhile."""
        with NfcNode(self.node, policy, bpffs=bpffs()):
            yield status_of(self.node, policy)


def status_of(node: NetNode, policy: Policy) -> NodeStatus:
    """Counters of a policy that runs on a node."""
    return NodeStatus(make_plan(policy), bpffs() / node.name)
