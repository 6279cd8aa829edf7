# SPDX-License-Identifier: MIT
"""Table 7.3 (thesis 7.3, experiment 2): memory and CPU, idle and with 2 × 1 Gbit/s.

The chain DAD (which only counts), DNAT stands on VM1. It is observed idle, then while two flows
run through it, by ``vmstat`` as in the thesis. vmstat sees the whole machine, here sender, switch
and receivers as well, so beside it stands what is really used: bytes charged for the chain's maps
and programs, their run time, and the exact CPU time of softirqs and tasks. A third state, the same
flows through plain routing, says what the packets cost without a chain.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from experiments._gigabit import POLICY, loaded, parameters
from experiments._scene import Books, Scene, open_scene, validity
from experiments._usage import Reading, Sample, Usage, compared, exactness, judge, series
from experiments._way import NFC_NODE, flows_of
from testbed.bpf.held import objects_in_use, run_time_counted
from testbed.chain import Policy
from testbed.datapath.tc import TcDatapath
from testbed.errors import RunError
from testbed.experiment.cputime import CpuTimes, cpu_time_traced
from testbed.experiment.procstat import PROC_STAT_FILE, plain_stat, read_stat, tick_s
from testbed.experiment.runner import Experiment, Options, Prepared, Session
from testbed.experiment.sampler import Sampler
from testbed.experiment.vmstat import MEMORY_COMMAND, cpu_command, parse_cpu, parse_memory
from testbed.probe import probe
from testbed.results import Phase

__all__ = ["EXPERIMENT"]

SAMPLE_S = 0.5
_SETTLE_S = 0.5  # between building and observing
_AROUND_S = 11.0
_POLL_S = 0.01

KERNEL_MEMORY = (
    "charged to the run's memory cgroup while the chain is built, beyond its maps and programs also"
    " what the kernel needs around them; null where the kernel does not say. The cgroup is the one"
    " that the run was started in: one of its own would have to be made in the host's hierarchy,"
    " and would outlive a run that is killed"
)


def prepare(policy: Policy, options: Options) -> Prepared:
    """Check that the policy fits and say what will be run; raises UserError."""
    policy = loaded(policy, options)
    facts = parameters(options, ("idle", "processing", "routing"))
    facts |= {"sample_s": SAMPLE_S, "tick_s": tick_s()}
    return Prepared(
        policy=policy,
        lasts_s=3 * facts["duration_s"] + _AROUND_S,
        parameters=facts,
        measure=lambda session: _Run(session).measure(),
    )


class _Run:
    """One run: plays the states, and knows at any time what it has seen."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._duration_s: float = session.parameters["duration_s"]
        self._mtu: int = session.parameters["mtu"]
        self._zero_ns = time.monotonic_ns()
        self._states: dict[str, Usage] = {}
        self._books: list[Books] = []
        self._phases: list[Phase] = []
        self._names: dict[int, str] = {}
        self._texts: dict[str, Any] = {}
        self._scenes: dict[str, Any] = {}
        self._cpu: CpuTimes | None = None
        self._kernel_bytes: int | None = None
        self._exactness = exactness(probe("map_memory").state)

    def measure(self) -> None:
        """Play all states."""
        self._session.collects(self._fields, raw=self._raw)
        with contextlib.ExitStack() as stack:
            stack.enter_context(run_time_counted())
            if probe("tp_btf").state == "yes":
                self._cpu = stack.enter_context(cpu_time_traced())
            self._chained()
            self._routed()

    def _chained(self) -> None:
        policy, flows = self._session.policy, flows_of("nfc", self._mtu)
        with open_scene(
            self._session, "thesis", flows, mtu=self._mtu, policy=policy, weigh=True
        ) as scene:
            self._kernel_bytes = scene.kernel_bytes
            assert scene.chain is not None
            self._names = _names(scene.chain.datapath)
            self._play(scene, "idle", loaded=False)
            self._play(scene, "processing", loaded=True)

    def _routed(self) -> None:
        flows = flows_of("routing", self._mtu)
        with open_scene(
            self._session, "thesis-routing", flows, mtu=self._mtu, policy=None
        ) as scene:
            self._play(scene, "routing", loaded=True)

    def _play(self, scene: Scene, name: str, *, loaded: bool) -> None:
        scene.wait(_SETTLE_S)
        try:
            self._states[name] = scene.play(
                name,
                loaded=loaded,
                duration_s=self._duration_s,
                observe=lambda for_s: self._observe(scene, name, for_s),
            )
        finally:
            self._phases += [p for p in scene.phases_since(self._zero_ns) if p.name == name]
            self._scenes |= scene.raw()
        if loaded:
            self._books.append(scene.books(name))

    def _observe(self, scene: Scene, name: str, for_s: float) -> Usage:
        """Observe for so many whole seconds."""
        command = cpu_command(int(for_s))
        sampler = Sampler(self._sample, period_s=SAMPLE_S)
        first = self._reading(scene)
        vmstat = scene.network.node(NFC_NODE).popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        with sampler:
            while vmstat.poll() is None:
                sampler.check()
                scene.idle()
                time.sleep(_POLL_S)
        sampler.check()
        last = self._reading(scene)
        text = vmstat.communicate()[0]
        self._texts[f"vmstat-{name}.json"] = {"command": command, "lines": text.splitlines()}
        if vmstat.returncode:
            raise RunError(f"vmstat ended with {vmstat.returncode}")
        classifier = scene.chain.datapath.classifier.program("classify") if scene.chain else None
        return Usage(
            name=name,
            first=first,
            last=last,
            vmstat=parse_cpu(text),
            samples=tuple(sampler.samples),
            chain=scene.chain_objects,
            classifier=classifier.id if classifier else None,
        )

    def _reading(self, scene: Scene) -> Reading:
        return Reading(
            t_ns=time.monotonic_ns(),
            stat=read_stat(),
            cpu=self._cpu.read() if self._cpu else None,
            uses=objects_in_use(),
            arrived=scene.arrived(),
        )

    def _sample(self) -> Sample:
        t_ns, stat = time.monotonic_ns(), read_stat()
        text = subprocess.run(MEMORY_COMMAND, capture_output=True, text=True, check=True).stdout
        kept = self._texts.setdefault("vmstat-memory.json", {"command": [*MEMORY_COMMAND]})
        kept.setdefault("samples", []).append({"t_ns": t_ns, "lines": text.splitlines()})
        return Sample(t_ns, parse_memory(text), stat)

    # What there is so far, for the result ------------------------------------------------------

    def _raw(self) -> Mapping[str, Any]:
        stat = {
            name: [(sample.t_ns, sample.stat["cpu"]) for sample in use.samples]
            for name, use in self._states.items()
        }
        usage = {
            f"usage-{name}.json": {
                when: reading.plain(self._names)
                for when, reading in (("first", use.first), ("last", use.last))
            }
            for name, use in self._states.items()
        }
        return {**self._texts, **self._scenes, **usage, PROC_STAT_FILE: plain_stat(stat)}

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "clock_start_ns": self._zero_ns,
            "phases": self._phases,
            "series": series(self._states, self._zero_ns),
            "compared": compared(self._states, kernel_bytes=self._kernel_bytes),
            "facts": {
                "states": {name: use.plain(self._names) for name, use in self._states.items()},
                "packets": {books.name: books.plain() for books in self._books},
                "kernel_memory": {"byte": self._kernel_bytes, "what": KERNEL_MEMORY},
                "held_bytes": self._exactness,
                "run_time": "a tail call counts as the program that made it: the classifier's run"
                " time is that of the whole chain, about 20 ns of it the counting itself",
            },
        }
        if self._books:
            fields["facts"]["ledger"] = self._books[0].ledger.plain()
        if len(self._books) == 2:
            found = [check for books in self._books for check in books.checks()]
            fields["checks"] = [*found, *judge(self._states)]
            fields["validity"] = validity(self._books, idle_busy=self._states["idle"].share("busy"))
        return fields


def _names(datapath: TcDatapath) -> dict[int, str]:
    """What the chain's programs are called, by kernel id."""
    objects = {"classifier": datapath.classifier, "forward": datapath.last, **datapath.stages}
    return {
        bpf.program(name).id: f"{label}: {name}"
        for label, bpf in objects.items()
        for name in bpf.program_names
    }


EXPERIMENT = Experiment(
    name="table7_3",
    title="Table 7.3: memory and CPU, idle and with 2 × 1 Gbit/s through DAD and DNAT",
    policy=POLICY,
    prepare=prepare,
    takes_mtu=True,
    needs=("iperf3", "mnexec", "ethtool", "objects", "vmstat", "bpf_stats"),
)
