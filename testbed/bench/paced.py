# SPDX-License-Identifier: MIT
"""An offered rate: one core sends at it, another one is the node, a queue lies between them.

The rig's own generator takes each packet all the way before it makes the next one, so it never
offers more than the way carries. Here the sender's core puts packets into the queue of the node's
core as a network card does (an XDP CPU map, ``testbed/bpf/paced.xdp.bpf.c``), and they come in by
``node-eth0``: the node's core does all that is done with them. What comes while the queue is full
is dropped and counted; so is the time that programs of others took of the node's core.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from testbed.bench.rig import DPORT, FRAME_BYTES, Rig
from testbed.bpf import BpfObject, Map, Program, possible_cpus
from testbed.bpf.library import check, libbpf
from testbed.bpf.maps import object_info
from testbed.errors import UnsupportedError
from testbed.experiment.losses import lost_so_far
from testbed.paths import BUILD

__all__ = ["BURST", "LATE_US", "QUEUE_PACKETS", "Lane", "PacedSender", "Trial", "choose_cores"]

QUEUE_PACKETS = 1024
BURST = 32  # packets that leave together, and LATE_US: as the BPF program has them
LATE_US = 200
_BATCH = 64  # frames that the kernel makes at once
_QUIET_S = 0.5  # nothing has arrived for so long: nothing is on its way any more
_REACHED = 0.98
_LONGEST_S, _MOST_OTHERS = 200e-6, 0.01
_BEGINNING = {"due_ns": 0, "packets": 0, "begin_ns": 0, "end_ns": 0, "late_ns": 0}


def choose_cores() -> tuple[int, int]:
    """Cores for the sender and for the node, of those that this process may use.

    The node has the last one. The sender's is no second thread of the node's where that can be.

    :raises UnsupportedError: there is only one.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise UnsupportedError("needs two processor cores: one that sends, one that is the node")
    node = usable[-1]
    threads = _threads_of(node)
    return next((core for core in usable if core not in threads), usable[0]), node


def _threads_of(core: int) -> set[int]:
    """The core and those that are the same piece of hardware; the core alone if not known."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        ranges = [part.split("-") for part in path.read_text().strip().split(",")]
        return {n for ends in ranges for n in range(int(ends[0]), int(ends[-1]) + 1)} | {core}
    except (OSError, ValueError):
        return {core}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Packets that were offered at one rate for a time, and what became of them.

    :ivar asked_pps: rate that was to be offered, in packets per second; ``offered_pps`` that was.
    :ivar queue_full: dropped in front of the node.
    :ivar dropped: in the chain, as far as its last step tells.
    :ivar lost: elsewhere, by place.
    :ivar walked: packets that walked the whole chain; None where the way has no counter.
    :ivar late_share: of the time, by which the sender put its schedule off.
    :ivar others_share: of the time, that others had the node's core: programs, other threads of
        the kernel. ``others_longest_s`` at once.
    """

    asked_pps: float
    offered_pps: float
    seconds: float
    sent: int
    received: int
    queue_full: int
    dropped: Mapping[str, int]
    lost: Mapping[str, int]
    walked: int | None
    late_share: float
    others_share: float
    others_longest_s: float

    @property
    def loss_ratio(self) -> float:
        """Share of the packets sent that did not arrive."""
        return (self.sent - self.received) / self.sent

    @property
    def unexplained(self) -> int:
        """Packets that neither arrived nor are known to be lost; less than 0: too many known."""
        gone = self.queue_full + sum(self.dropped.values()) + sum(self.lost.values())
        return self.sent - self.received - gone

    @property
    def reached(self) -> bool:
        """Whether the sender offered what was asked for."""
        return self.offered_pps >= _REACHED * self.asked_pps

    @property
    def disturbed(self) -> bool:
        """Whether others had the node's core for so long that a loss may be of their making."""
        return self.others_longest_s > _LONGEST_S or self.others_share > _MOST_OTHERS


@dataclass(frozen=True)
class Lane:
    """One way through the node, switched on, that packets can be offered to.

    :param walked: packets that walked the chain so far; None where the way does not count.
    """

    sender: PacedSender
    to: str
    walked: Callable[[], int] | None = None

    def offer(self, pps: float, seconds: float) -> Trial:
        """Send at a rate for a time, then wait for what is on its way."""
        sender = self.sender
        before, walked = sender.lost_before(), self.walked() if self.walked else 0
        arrived = sender.rig.received()
        run = sender.run(self.to, pps, seconds, arrived)
        received = sender.rig.received() - arrived
        if self.walked:
            walked = self.walked() - walked
        stopped = run.sent - run.queue_full - walked if self.walked else 0
        gone: dict[str, int] = {}
        if run.sent != received + run.queue_full:
            gone = _grown(sender.lost_now(), before)
        elapsed_ns = max(1, run.end_ns - run.begin_ns)
        return Trial(
            asked_pps=pps,
            offered_pps=(run.sent - BURST) * 1e9 / elapsed_ns,
            seconds=elapsed_ns / 1e9,
            sent=run.sent,
            received=received,
            queue_full=run.queue_full,
            dropped={"before the chain's last step": stopped} if stopped > 0 else {},
            lost=gone,
            walked=walked if self.walked else None,
            late_share=run.late_ns / elapsed_ns,
            others_share=run.others_ns / elapsed_ns,
            others_longest_s=run.others_longest_ns / 1e9,
        )


def _grown(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: n - before.get(name, 0) for name, n in now.items() if n != before.get(name, 0)}


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What the programs counted of one run; times by the kernel's clock."""

    sent: int
    begin_ns: int
    end_ns: int
    late_ns: int
    queue_full: int
    others_ns: int
    others_longest_ns: int


class PacedSender:
    """Sends from this thread's core to the node's; see :meth:`open`."""

    def __init__(self, rig: Rig, *, node_cpu: int, stack: contextlib.ExitStack) -> None:
        self.rig = rig
        self.node_cpu = node_cpu
        self._stack = stack
        self._programs: dict[str, tuple[Program, Map, Map]] = {}
        self._lost: dict[str, int] = lost_so_far(rig.network)

    @classmethod
    @contextlib.contextmanager
    def open(cls, rig: Rig, *, node_cpu: int) -> Iterator[PacedSender]:
        """A sender for a rig that is open on another core, meanwhile.

        All threads of this process keep off the node's core.

        :raises BpfError: the kernel refused a program (see ``nfcbed doctor``: tp_btf).
        """
        with contextlib.ExitStack() as stack:
            for thread in (int(path.name) for path in Path("/proc/self/task").iterdir()):
                cores = os.sched_getaffinity(thread) - {node_cpu}
                os.sched_setaffinity(thread, cores or {rig.cpu})
            yield cls(rig, node_cpu=node_cpu, stack=stack)

    def lost_before(self) -> Mapping[str, int]:
        """Packets lost by place, as read the last time: reading takes longer than a trial."""
        return self._lost

    def lost_now(self) -> Mapping[str, int]:
        """Packets lost by place, read now."""
        self._lost = lost_so_far(self.rig.network)
        return self._lost

    def run(self, to: str, pps: float, seconds: float, arrived: int) -> _Run:
        """Send, and wait until all that was sent has arrived or is lost.

        :param arrived: packets at the far end before.
        """
        program, paces, seen = self._program(to)
        count = max(2, round(pps * seconds / BURST)) * BURST
        paces.set(0, {"gap_ns": round(BURST * 1e9 / pps), **_BEGINNING})
        before = {**_only(seen), "others_longest_ns": 0}
        seen.set(0, before)
        with self.rig.node.netns():
            program.send_frames(
                bytes(FRAME_BYTES),
                count=count,
                ifindex=self.rig.node.interface("node-eth0").index,
                batch=_BATCH,
            )
        self._settle(arrived, count, lambda: _only(seen)["dropped"] - before["dropped"])
        pace, after = _only(paces), _only(seen)
        return _Run(
            sent=pace["packets"],
            begin_ns=pace["begin_ns"],
            end_ns=pace["end_ns"],
            late_ns=pace["late_ns"],
            queue_full=after["dropped"] - before["dropped"],
            others_ns=after["others_ns"] - before["others_ns"],
            others_longest_ns=after["others_longest_ns"],
        )

    def _settle(self, arrived: int, count: int, dropped: Callable[[], int]) -> None:
        last, since = -1, time.monotonic()
        while True:
            known = self.rig.received() - arrived + dropped()
            if known != last:
                last, since = known, time.monotonic()
            if known >= count or time.monotonic() - since > _QUIET_S:
                return
            time.sleep(0.001)

    def _program(self, to: str) -> tuple[Program, Map, Map]:
        if to not in self._programs:
            bpf = BpfObject(BUILD / "testbed/paced.xdp.bpf.o")
            self._stack.callback(bpf.close)
            bpf.constants(self._headers(to))
            bpf.resize("queue", possible_cpus())
            bpf.load()
            queue, seen = bpf.map("queue"), bpf.map("seen")
            queue.set(_u32(self.node_cpu), _u32(QUEUE_PACKETS) + _u32(0))
            queue_id = int.from_bytes(object_info(queue.fd)[4:8], "little")
            seen.set(0, {**_only(seen), "queue_id": queue_id})
            for name in ("on_enqueue", "on_switch"):
                fd = libbpf().bpf_raw_tracepoint_open(None, bpf.program(name).fd)
                self._stack.callback(os.close, check(fd, f"attach {name}"))
            self._programs[to] = (bpf.program("send_paced"), bpf.map("paces"), seen)
        return self._programs[to]

    def _headers(self, to: str) -> dict[str, object]:
        left, node = self.rig.left, self.rig.node
        macs = (left.interface("left-eth0").mac, node.interface("node-eth0").mac)
        src_mac, dst_mac = (bytes.fromhex(mac.replace(":", "")) for mac in macs)
        return {
            "node_cpu": self.node_cpu,
            "src_mac": src_mac,
            "dst_mac": dst_mac,
            "src": int(left.address.ip),
            "dst": int(IPv4Address(to)),
            "dport": DPORT,
        }


def _only(counters: Map) -> dict[str, int]:
    """The one value of an array."""
    value: dict[str, int] = counters.get(0) or {}
    return value


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")
