# SPDX-License-Identifier: MIT
"""Memory and CPU of one state of the testbed, and how they are compared with Table 7.3.

Pure values: no kernel, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import mean, median
from typing import Any

from testbed.bpf.held import BpfUse
from testbed.experiment import checks
from testbed.experiment.cputime import CpuTime
from testbed.experiment.procstat import CpuTicks
from testbed.experiment.vmstat import CpuLine
from testbed.probe_base import State
from testbed.results import Check, Compared, Series

__all__ = ["PUBLISHED_KB", "Reading", "Sample", "Usage", "compared", "exactness", "judge", "series"]

PUBLISHED_KB = {"idle": 766_664.0, "processing": 766_844.0}
"""Table 7.3: memory used."""
PUBLISHED_CPU = 0.0  # percent, in both states

_MOST_BYTES = 128 * 1024  # on two CPUs; each more has counters of its own
_MOST_BYTES_PER_CPU = _MOST_BYTES // 2
_EXACT: Mapping[State, bool | None] = {State.YES: True, State.NO: False, State.UNKNOWN: None}
_HELD_BYTES: Mapping[State, str] = {
    State.YES: "what maps and programs are charged now",
    State.NO: "of maps the size of their entries if they were full, in whole pages: this kernel"
    " (before 6.4) does not say what they hold",
    State.UNKNOWN: "it could not be told whether this kernel says what maps hold, or only the"
    " size of their entries if they were full",
}
_MOST_CPU_SHARE = 0.01  # of one CPU: what the published 0 % can mean


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Counters at one moment.

    :ivar cpu: None where tracing is refused.
    :ivar uses: of this process's BPF maps and programs.
    """

    t_ns: int
    stat: Mapping[str, CpuTicks]
    cpu: CpuTime | None
    uses: Mapping[tuple[str, int], BpfUse]
    arrived: int

    def plain(self, names: Mapping[int, str]) -> dict[str, Any]:
        """As JSON values.

        :param names: of programs, by kernel id.
        """
        return {
            "t_ns": self.t_ns,
            "arrived_packets": self.arrived,
            "proc_stat": {cpu: asdict(ticks) for cpu, ticks in self.stat.items()},
            "traced": None if self.cpu is None else asdict(self.cpu),
            "bpf": [
                {**asdict(use), "name": names.get(use.number) if use.kind == "program" else None}
                for use in self.uses.values()
            ],
        }


@dataclass(frozen=True)
class Sample:
    """Memory in use by ``vmstat -s``, and the CPUs' ticks."""

    t_ns: int
    used_kb: int
    stat: Mapping[str, CpuTicks]


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was seen of one state.

    :ivar chain: the chain's maps and programs, by kind and kernel id; none in plain routing.
    :ivar classifier: kernel id of the program that packets enter; its run time is the chain's.
    """

    name: str
    first: Reading
    last: Reading
    vmstat: Sequence[CpuLine]
    samples: Sequence[Sample]
    chain: frozenset[tuple[str, int]]
    classifier: int | None

    @property
    def seconds(self) -> float:
        """How long it was observed."""
        return (self.last.t_ns - self.first.t_ns) / 1e9

    @property
    def packets(self) -> int:
        """That arrived meanwhile."""
        return self.last.arrived - self.first.arrived

    @property
    def used_kb(self) -> float:
        """Memory in use, by ``vmstat -s``: the median."""
        return median(sample.used_kb for sample in self.samples)

    @property
    def vmstat_cpu(self) -> float:
        """CPU in use by ``vmstat``, in percent of all CPUs."""
        return mean(line.used for line in self.vmstat)

    def held_bytes(self, kind: str) -> int:
        """Memory of the chain's maps or programs, at the end."""
        return sum(
            use.held_bytes
            for key, use in self.last.uses.items()
            if key in self.chain and use.kind == kind
        )

    @property
    def chain_run(self) -> tuple[int, int] | None:
        """Run time of the chain in ns, and packets that it ran for; None without a chain."""
        key = ("program", self.classifier or 0)
        if key not in self.first.uses or key not in self.last.uses:
            return None
        first, last = self.first.uses[key], self.last.uses[key]
        return last.run_time_ns - first.run_time_ns, last.runs - first.runs

    @property
    def chain_share(self) -> float | None:
        """Run time of the chain as a share of one CPU."""
        run = self.chain_run
        return None if run is None else run[0] / 1e9 / self.seconds

    def share(self, field: str) -> float:
        """Share of all CPUs' time by ``/proc/stat``; a field of :class:`CpuTicks`."""
        return _share(self.first.stat["cpu"], self.last.stat["cpu"], field)

    @property
    def traced(self) -> CpuTime | None:
        """CPU time of tasks and softirqs, as traced."""
        if self.first.cpu is None or self.last.cpu is None:
            return None
        return self.last.cpu.since(self.first.cpu)

    def share_of(self, ns: int) -> float:
        """Share of all CPUs' time."""
        cpus = len(self.first.stat) - 1
        return ns / 1e9 / self.seconds / cpus

    def plain(self, names: Mapping[int, str]) -> dict[str, Any]:
        """As JSON values.

        :param names: of programs, by kernel id.
        """
        run, traced = self.chain_run, self.traced
        return {
            "seconds": round(self.seconds, 3),
            "packets": self.packets,
            "vmstat": {"used_kb": self.used_kb, "cpu_percent": round(self.vmstat_cpu, 2)},
            "held_bytes": {kind: self.held_bytes(kind) for kind in ("map", "program")},
            "programs": self._programs(names),
            "chain": None
            if run is None
            else {
                "run_time_ns": run[0],
                "packets": run[1],
                "share_of_all_cpus": round(self.share_of(run[0]), 7),
            },
            "proc_stat": {
                name: round(self.share(name), 5)
                for name in ("user", "nice", "system", "irq", "softirq", "idle", "busy")
            },
            "traced": None
            if traced is None
            else {
                "task_share": round(self.share_of(traced.task_ns), 5),
                "softirq_share": round(self.share_of(sum(traced.softirq_ns.values())), 5),
                "busy_share": round(self.share_of(traced.busy_ns), 5),
                "softirq_ns": traced.softirq_ns,
                "switches": traced.switches,
            },
        }

    def _programs(self, names: Mapping[int, str]) -> dict[str, dict[str, int]]:
        """Run time of each program that this process has loaded, meters included."""
        found = {}
        for key, last in self.last.uses.items():
            if last.kind != "program" or key not in self.first.uses:
                continue
            first = self.first.uses[key]
            found[names.get(last.number, f"program {last.number}")] = {
                "run_time_ns": last.run_time_ns - first.run_time_ns,
                "runs": last.runs - first.runs,
                "held_bytes": last.held_bytes,
            }
        return found


def _per_packet(usage: Usage, kind: str) -> float | None:
    """CPU time in ns per packet that arrived: of receiving softirqs, or of all that was busy."""
    traced = usage.traced
    if traced is None or usage.packets == 0:
        return None
    return (traced.softirq_ns["net_rx"] if kind == "net_rx" else traced.busy_ns) / usage.packets


def _row(name: str, unit: str, value: float | None, published: float | None = None) -> Compared:
    shown = None if value is None else round(value, 4)
    return Compared(name=name, unit=unit, value=shown, published=published)


def compared(states: Mapping[str, Usage], *, kernel_bytes: int | None = None) -> list[Compared]:
    """Table 7.3, and below it what is really used; of the states that there are so far.

    :param kernel_bytes: kernel memory that the chain took when it was built.
    """
    found = []
    pair = [states[name] for name in ("idle", "processing") if name in states]
    for state in pair:
        name = f"{state.name}: memory used (vmstat)"
        found.append(_row(name, "KB", state.used_kb, PUBLISHED_KB[state.name]))
    if len(pair) == 2:
        more_kb, published = pair[1].used_kb - pair[0].used_kb, PUBLISHED_KB
        by = published["processing"] - published["idle"]
        found.append(_row("processing − idle: memory used (vmstat)", "KB", more_kb, by))
    found += [
        _row(f"{state.name}: CPU (vmstat, whole machine)", "%", state.vmstat_cpu, PUBLISHED_CPU)
        for state in pair
    ]
    for state in pair:
        share = state.chain_share
        found.append(_row(f"{state.name}: CPU of the chain", "% of one", share and share * 100))
    found.append(_row("chain: kernel memory to build it (cgroup)", "byte", kernel_bytes))
    found += _really(pair)
    for name in ("processing", "routing"):
        if name in states:
            what = "chain" if name == "processing" else "plain routing"
            for kind, text in (("net_rx", "softirq"), ("busy", "the machine's CPU")):
                value = _per_packet(states[name], kind)
                found.append(_row(f"{what}: {text} time per packet", "ns", value))
    return found


def _really(pair: Sequence[Usage]) -> list[Compared]:
    """Bytes held and CPU time, exactly."""
    found = []
    found += [
        _row(f"{state.name}: the chain's {kind}s hold", "byte", state.held_bytes(kind))
        for state in pair
        for kind in ("map", "program")
    ]
    for state in pair:
        found.append(
            _row(f"{state.name}: softirq (/proc/stat)", "% of all", state.share("softirq") * 100)
        )
        traced = state.traced
        softirq = busy = None
        if traced is not None:
            softirq = state.share_of(sum(traced.softirq_ns.values())) * 100
            busy = state.share_of(traced.busy_ns) * 100
        found.append(_row(f"{state.name}: softirq (traced)", "% of all", softirq))
        found.append(_row(f"{state.name}: tasks and softirqs (traced)", "% of all", busy))
    run = pair[-1].chain_run if pair else None
    per_packet = run[0] / run[1] if run and run[1] else None
    found.append(_row("chain: run time per packet (bpf_stats)", "ns", per_packet))
    return found


def exactness(map_memory: State) -> dict[str, Any]:
    """Whether the bytes that maps hold are exact on this kernel, and what they are.

    :param map_memory: what the probe of that name says.
    """
    return {"exact": _EXACT[map_memory], "what": _HELD_BYTES[map_memory]}


def judge(states: Mapping[str, Usage]) -> list[Check]:
    """What has to hold once all states were seen."""
    idle, busy = states["idle"], states["processing"]
    held = {s.name: s.held_bytes("map") + s.held_bytes("program") for s in (idle, busy)}
    more = held["processing"] - held["idle"]
    by = (PUBLISHED_KB["processing"] - PUBLISHED_KB["idle"]) * 1024
    share = busy.chain_share
    run = busy.chain_run or (0, 0)
    most = max(_MOST_BYTES, _MOST_BYTES_PER_CPU * (len(busy.first.stat) - 1))
    return [
        checks.below("bytes that the chain holds", held["processing"], limit=most + 1, unit="byte"),
        checks.below("bytes more than idle", more, limit=by, unit="byte"),
        checks.above("packets that the chain ran for", run[1], limit=0, unit="packets"),
        checks.below("CPU of the chain", share, limit=_MOST_CPU_SHARE, unit="CPUs"),
    ]


def series(states: Mapping[str, Usage], zero_ns: int) -> list[Series]:
    """Memory and CPU over time, state by state (``node`` names the state)."""
    found = []
    for name, usage in states.items():
        times = tuple(round((sample.t_ns - zero_ns) / 1e9, 6) for sample in usage.samples)
        used = tuple(float(sample.used_kb) for sample in usage.samples)
        found.append(Series(quantity="memory used", unit="KB", node=name, t_s=times, values=used))
        found += [_shares(usage.samples, field, times, name) for field in ("softirq", "busy")]
    return found


def _shares(samples: Sequence[Sample], field: str, times: tuple[float, ...], state: str) -> Series:
    shares = (_share(a.stat["cpu"], b.stat["cpu"], field) for a, b in pairwise(samples))
    return Series(
        quantity=field,
        unit="% of all CPUs",
        node=state,
        begin_s=times[0],
        t_s=times[1:],
        values=tuple(round(share * 100, 3) for share in shares),
    )


def _share(first: CpuTicks, last: CpuTicks, field: str) -> float:
    passed = last.total - first.total
    return (getattr(last, field) - getattr(first, field)) / passed if passed else 0.0
