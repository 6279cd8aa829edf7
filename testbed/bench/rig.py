# SPDX-License-Identifier: MIT
"""The bench's network: `left` sends, `node` forwards, `right` counts and drops; on one core.

The generator is an XDP program run on live frames (BPF_F_TEST_XDP_LIVE_FRAMES): it writes a
60-byte UDP frame and redirects it out of `left`. The frame's whole way up to the counter then
runs on the same core before the next batch starts, so that the time per frame is the generator's
plus that of the way.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

from testbed.bench.noise import Noise, Watch
from testbed.bench.socketsender import SocketSender
from testbed.bpf import BpfObject, Program, attach_tc
from testbed.errors import RunError, UnsupportedError, UserError
from testbed.network import Network
from testbed.paths import BUILD
from testbed.probe import probe
from topologies.line import NODE_LEFT, RIGHT, Line

__all__ = [
    "DPORT",
    "ETHERNET_BYTES",
    "FIRST_PORT",
    "FRAME_BYTES",
    "PORTS",
    "RIGHT",
    "VIRTUAL",
    "Rig",
    "Sender",
    "Sent",
    "default_cpu",
    "open_rig",
]

Sender = Literal["live-frames", "socket"]
"""Who makes the frames: the XDP program, as above, or a packet socket, which can send frames
longer than a page (:mod:`testbed.bench.socketsender`). Both are timed with the way behind them."""

FRAME_BYTES = 60
FIRST_PORT, PORTS = 10_000, 50_000  # source ports, as in generator.xdp.bpf.c
ETHERNET_BYTES = 14
DPORT = 53
VIRTUAL = NODE_LEFT  # where translated traffic is sent to, as the thesis sends it to VM1
_NOWHERE = 0x7FFF_FFF0  # no interface has this index: the frame comes straight back
_TRIAL_FRAMES = 1_000
_SETTLE_S = 0.5
_FOLLOW_S = 0.001


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What one call of the generator gave.

    :ivar ns_per_packet: by the kernel's clock, generator included, set-up of the call left out.
    """

    ns_per_packet: int
    sent: int
    delivered: int
    noise: Noise


class Rig:
    """A running line network with its generator and its counter; see :func:`open_rig`."""

    def __init__(
        self, network: Network, *, bpffs: Path, cpu: int, stack: contextlib.ExitStack
    ) -> None:
        self.network = network
        self.left, self.node, self.right = (network.node(n) for n in ("left", "node", "right"))
        self.bpffs = bpffs
        self.cpu = cpu
        self.tcx = probe("tcx").state == "yes"
        self._stack = stack
        self._generators: dict[tuple[str | None, int, int], Program] = {}
        self._sockets: dict[tuple[str | None, int], SocketSender] = {}
        self._sink = self._open("testbed/sink.tc.bpf.o")
        self._sink.constants({"peer_ifindex": self.node.interface("node-eth1").index})
        self._sink.load()
        self._received = self._sink.map("received")

    def start(self) -> None:
        """Make frames arrive, count them at the far end, and try.

        :raises RunError: frames get lost.
        """
        # A veth takes redirected frames only where it polls (NAPI), which GRO switches on. At the
        # far end it is on as well, because that is the faster way for plain routing.
        self.node.offload("node-eth0", gro=True)
        self.right.offload("right-eth0", gro=True)
        with self.right.netns():
            link = attach_tc(
                self._sink.program("sink"), self.right.interface("right-eth0").index, tcx=self.tcx
            )
        self._stack.callback(link.close)
        trial = self.send(_TRIAL_FRAMES, to=RIGHT)
        if trial.delivered != trial.sent:
            raise RunError(
                f"the bench loses frames: {trial.delivered} of {trial.sent} routed ones arrived"
            )

    @contextlib.contextmanager
    def attached(self, program: Program) -> Iterator[None]:
        """Let a tc program have the packets that come to the node from `left`, meanwhile."""
        with self.node.netns():
            link = attach_tc(program, self.node.interface("node-eth0").index, tcx=self.tcx)
        try:
            yield
        finally:
            with self.node.netns():
                link.close()

    @property
    def redirect_peer(self) -> Program:
        """The limit: a program that does nothing but redirect to `right`."""
        return self._sink.program("redirect_peer")

    def send(
        self,
        count: int,
        *,
        to: str | None,
        flows: int = 1,
        frame_bytes: int = FRAME_BYTES,
        sender: Sender = "live-frames",
        to_the_end: bool = False,
    ) -> Sent:
        """Send frames and wait for those on the way.

        :param to: destination address; None: the generator alone, its frames go nowhere.
        :param flows: how many 5-tuples, in turn; they differ in the source port and address.
        :param frame_bytes: Ethernet header included.
        :param to_the_end: the way does not end with the sender's call, since frames wait for a
            program: timed is until the last one has arrived, by this process's clock, less what
            a call with one frame takes.
        """
        if sender == "socket":
            run = self._socket(to, frame_bytes).send
        else:
            program = self._generator(to, flows, frame_bytes)
            ifindex, frame = self.left.interface("left-eth0").index, bytes(frame_bytes)
            run = functools.partial(program.send_frames, frame, ifindex=ifindex)
        empty_ns = self._empty_call_ns(run) if to_the_end else 0
        before, started_ns = self.received(), time.perf_counter_ns()
        with self.left.netns(), self._going(to, sender), Watch(self.cpu) as watch:
            ns = run(count=count)
            if to_the_end:
                delivered, ended_ns = self._follow(before, count)
                ns = max(1, (ended_ns - started_ns - empty_ns) // count)
        if not to_the_end:
            delivered = self._settle(before, 0 if to is None else count)
        return Sent(ns_per_packet=ns, sent=count, delivered=delivered, noise=watch.noise)

    @contextlib.contextmanager
    def _going(self, to: str | None, sender: Sender) -> Iterator[None]:
        """Let a socket's frames that go nowhere end where they leave `left`."""
        if sender != "socket" or to is not None:
            yield
            return
        index = self.left.interface("left-eth0").index
        link = attach_tc(self._sink.program("discard"), index, tcx=self.tcx, egress=True)
        try:
            yield
        finally:
            link.close()

    def received(self) -> int:
        """Packets that came to the far end, since the rig was opened."""
        return int(self._received.total(0))

    def _empty_call_ns(self, run: Callable[..., int]) -> int:
        """How long a call takes that sends one frame, which arrives before this returns."""
        before, started_ns = self.received(), time.perf_counter_ns()
        with self.left.netns():
            run(count=1)
        took_ns = time.perf_counter_ns() - started_ns
        self._settle(before, 1)
        return took_ns

    def _follow(self, before: int, wanted: int) -> tuple[int, int]:
        """Wait as long as frames arrive; give how many did, and when the last one had."""
        arrived, moved_ns = 0, time.perf_counter_ns()
        while arrived < wanted and time.perf_counter_ns() - moved_ns < _SETTLE_S * 10**9:
            time.sleep(_FOLLOW_S)
            if (now := self.received() - before) != arrived:
                arrived, moved_ns = now, time.perf_counter_ns()
        return arrived, moved_ns

    def _settle(self, before: int, wanted: int) -> int:
        deadline = time.monotonic() + _SETTLE_S
        while (arrived := self.received() - before) < wanted:
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        return arrived

    def _open(self, name: str) -> BpfObject:
        bpf = BpfObject(BUILD / name)
        self._stack.callback(bpf.close)
        return bpf

    def _generator(self, to: str | None, flows: int, frame_bytes: int) -> Program:
        key = (to, flows, frame_bytes)
        if key not in self._generators:
            bpf = self._open("testbed/generator.xdp.bpf.o")
            bpf.constants(self._headers(to, flows, frame_bytes))
            bpf.load()
            self._generators[key] = bpf.program("generate")
        return self._generators[key]

    def _headers(self, to: str | None, flows: int, frame_bytes: int) -> dict[str, object]:
        out, into = self.left.interface("left-eth0"), self.node.interface("node-eth0")
        return {
            "out_ifindex": _NOWHERE if to is None else out.index,
            "src_mac": _mac(out.mac),
            "dst_mac": _mac(into.mac),
            "src": int(self.left.address.ip),
            "dst": int(IPv4Address(to or RIGHT)),
            "dport": DPORT,
            "flows": flows,
            "ip_length": frame_bytes - ETHERNET_BYTES,
        }

    def _socket(self, to: str | None, frame_bytes: int) -> SocketSender:
        key = (to, frame_bytes)
        if key not in self._sockets:
            out, into = self.left.interface("left-eth0"), self.node.interface("node-eth0")
            with self.left.netns():
                self._sockets[key] = SocketSender(
                    out.name,
                    macs=(_mac(into.mac), _mac(out.mac)),
                    src=str(self.left.address.ip),
                    dst=to or RIGHT,
                    dport=DPORT,
                    frame_bytes=frame_bytes,
                )
            self._stack.callback(self._sockets[key].close)
        return self._sockets[key]


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def default_cpu() -> int:
    """The core to measure on: the last that this process may use, the first is often busier."""
    return max(os.sched_getaffinity(0))


@contextlib.contextmanager
def _pinned(cpu: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    if cpu not in before:
        allowed = ", ".join(map(str, sorted(before)))
        raise UserError(f"--cpu {cpu}: this process may use {allowed}")
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def open_rig(*, bpffs: Path, cpu: int, mtu: int = 1500) -> Iterator[Rig]:
    """Build the network in this sandbox, keep this thread on one core, and send a first trial.

    :raises UnsupportedError: the kernel has no XDP live frames.
    :raises UserError: this process may not use that core.
    :raises RunError: frames get lost.
    """
    answer = probe("xdp_live_frames")
    if answer.state == "no":
        raise UnsupportedError(
            f"needs XDP live frames (Linux 5.18): {answer.detail} (see nfcbed doctor)"
        )
    with Network(Line(mtu=mtu)) as network, _pinned(cpu), contextlib.ExitStack() as stack:
        rig = Rig(network, bpffs=bpffs, cpu=cpu, stack=stack)
        rig.start()
        yield rig
