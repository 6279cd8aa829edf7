# SPDX-License-Identifier: MIT
"""Exact CPU time of tasks and softirqs, by ``testbed/bpf/cputime.bpf.c``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from testbed.bpf import BpfObject, Map
from testbed.bpf.library import check, libbpf
from testbed.paths import BUILD

__all__ = ["VECTORS", "CpuTime", "CpuTimes", "cpu_time_traced"]

VECTORS = (
    *("hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer"),
    "rcu",
)
"""Kinds of softirqs, in the kernel's order."""


@dataclass(frozen=True, kw_only=True)
class CpuTime:
    """Time of all CPUs together, in ns.

    :ivar task_ns: of tasks, what interrupted them included, up to each CPU's last switch.
    :ivar idle_softirq_ns: of softirqs that found their CPU idle.
    :ivar softirq_ns: of softirqs, by kind.
    """

    task_ns: int
    idle_softirq_ns: int
    softirq_ns: dict[str, int]
    switches: int

    @property
    def busy_ns(self) -> int:
        """All that kept CPUs busy."""
        return self.task_ns + self.idle_softirq_ns

    def since(self, before: CpuTime) -> CpuTime:
        """What came since an earlier reading."""
        return CpuTime(
            task_ns=self.task_ns - before.task_ns,
            idle_softirq_ns=self.idle_softirq_ns - before.idle_softirq_ns,
            softirq_ns={k: n - before.softirq_ns[k] for k, n in self.softirq_ns.items()},
            switches=self.switches - before.switches,
        )


class CpuTimes:
    """The counters of a trace that runs."""

    def __init__(self, times: Map) -> None:
        self._times = times

    def read(self) -> CpuTime:
        """What there was since the trace began."""
        cpus = self._times.get(0) or []
        return CpuTime(
            task_ns=sum(cpu["task_ns"] for cpu in cpus),
            idle_softirq_ns=sum(cpu["idle_softirq_ns"] for cpu in cpus),
            softirq_ns={
                name: sum(cpu["softirq_ns"][i] for cpu in cpus) for i, name in enumerate(VECTORS)
            },
            switches=sum(cpu["switches"] for cpu in cpus),
        )


@contextlib.contextmanager
def cpu_time_traced() -> Iterator[CpuTimes]:
    """Trace all CPUs of the machine meanwhile; it ends with its descriptors.

    :raises BpfError: the kernel refused a program (see ``nfcbed doctor``: tp_btf).
    """
    with contextlib.ExitStack() as stack:
        bpf = stack.enter_context(BpfObject(BUILD / "testbed/cputime.bpf.o"))
        bpf.load()
        for name in bpf.program_names:
            fd = libbpf().bpf_raw_tracepoint_open(None, bpf.program(name).fd)
            stack.callback(os.close, check(fd, f"attach {name}"))
        yield CpuTimes(bpf.map("times"))
