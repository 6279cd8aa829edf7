# SPDX-License-Identifier: MIT
"""Table 7.3 (thesis 7.3, experiment 2): memory and CPU, idle and with 2 × 1 Gbit/s.

The chain DAD (which only counts), DNAT stands on VM1. It is observed idle, then while two flows
run through it, by ``vmstat`` as in the thesis. vmstat sees the whole machine, here sender, switch
and receivers as well, so beside it stands what is really used: bytes charged for the chain's maps
and programs, their run time, and the exact CPU time of softirqs and tasks. A third state, the same
flows through plain routing, says what the packets cost without a chain; short rounds of plain
routing and of the chain with either last step, in turn, say it with an interval.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from experiments._course import with_forward
from experiments._gigabit import POLICY, loaded, parameters
from experiments._perpacket import FORWARDS, Spent, order
from experiments._perpacket import compared as per_packet
from experiments._perpacket import plain as plain_spent
from experiments._scene import Books, Scene, validity
from experiments._states import States, run_tool, said
from experiments._usage import Reading, Sample, Usage, compared, exactness, judge, series
from testbed.bpf.held import objects_in_use, run_time_counted
from testbed.chain import Policy
from testbed.datapath import Datapath
from testbed.errors import RunError
from testbed.experiment.cputime import CpuTimes, cpu_time_traced
from testbed.experiment.procstat import PROC_STAT_FILE, plain_stat, read_stat, tick_s
from testbed.experiment.runner import Experiment, Options, Prepared, Session
from testbed.experiment.sampler import Sampler
from testbed.experiment.vmstat import MEMORY_COMMAND, cpu_command, parse_cpu, parse_memory
from testbed.probe import probe

__all__ = ["EXPERIMENT"]

SAMPLE_S = 0.5
SEED = 73
ROUNDS, ROUND_S, QUICK_ROUNDS, QUICK_ROUND_S = 7, 2.5, 2, 1.0
ROUND_MARGIN_S = 0.2
_AROUND_S, _AROUND_ROUND_S = 9.0, 0.7

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
    rounds, round_s = (QUICK_ROUNDS, QUICK_ROUND_S) if options.quick else (ROUNDS, ROUND_S)
    facts |= {"sample_s": SAMPLE_S, "tick_s": tick_s(), "seed": SEED}
    facts |= {
        "rounds": rounds,
        "round_s": round_s,
        "observed_round_s": round_s - 2 * ROUND_MARGIN_S,
    }
    return Prepared(
        policy=policy,
        lasts_s=3 * facts["duration_s"]
        + _AROUND_S
        + rounds * len(FORWARDS) * (round_s + _AROUND_ROUND_S),
        parameters=facts,
        measure=lambda session: _Run(session).measure(),
    )


class _Run:
    """One run: plays the states and the rounds, and knows at any time what it has seen."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._states: States[Usage] = States(session)
        self._spent: list[Spent] = []
        self._round_books: list[Books] = []
        self._names: dict[int, str] = {}
        self._cpu: CpuTimes | None = None
        self._kernel_bytes: int | None = None
        self._exactness = exactness(probe("map_memory").state)

    def measure(self) -> None:
        """Play all states, then the rounds."""
        self._session.collects(self._fields, raw=self._raw)
        with contextlib.ExitStack() as stack:
            if probe("tp_btf").state == "yes":
                self._cpu = stack.enter_context(cpu_time_traced())
            with run_time_counted():
                self._chained()
                with self._states.scene("routing", policy=None) as scene:
                    self._states.play(scene, "routing", loaded=True, observe=self._observe)
            if self._cpu is not None:
                self._rounds(self._cpu)

    def _chained(self) -> None:
        policy = self._session.policy
        with self._states.scene("nfc", policy=policy, weigh=True) as scene:
            self._kernel_bytes = scene.kernel_bytes
            assert scene.chain is not None
            self._names = _names(scene.chain.datapath)
            for name, busy in (("idle", False), ("processing", True)):
                self._states.play(scene, name, loaded=busy, observe=self._observe)

    def _rounds(self, cpu: CpuTimes) -> None:
        """Every way once a round, each built anew: CPU time and packets, nothing else read."""
        for number, position, way in order(self._session.parameters["rounds"], seed=SEED):
            forward = FORWARDS[way]
            policy = with_forward(self._session.policy, forward) if forward else None
            name = f"{way} {number}"
            with (
                self._states.scene("nfc" if forward else "routing", policy=policy) as scene,
                self._states.kept(scene, name, loaded=True),
            ):
                spent = scene.play(
                    name,
                    loaded=True,
                    duration_s=self._session.parameters["round_s"],
                    margin_s=ROUND_MARGIN_S,
                    observe=partial(spend, scene, cpu),
                )
            self._round_books.append(self._states.books[name])
            self._spent.append(Spent(way=way, round=number, position=position, **spent))

    def _observe(self, scene: Scene, name: str, for_s: float) -> Usage:
        """Observe for so many whole seconds."""
        command = cpu_command(int(for_s))
        sampler = Sampler(self._sample, period_s=SAMPLE_S)
        first = self._reading(scene)
        code, text = run_tool(scene, command, sampler)
        last = self._reading(scene)
        self._states.texts[f"vmstat-{name}.json"] = said(command, text)
        if code:
            raise RunError(f"vmstat ended with {code}")
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
        kept = self._states.texts.setdefault(
            "vmstat-memory.json", {"command": [*MEMORY_COMMAND], "samples": []}
        )
        kept["samples"].append({"t_ns": t_ns, "lines": text.splitlines()})
        return Sample(t_ns, parse_memory(text), stat)

    # What there is so far, for the result ------------------------------------------------------

    def _raw(self) -> Mapping[str, Any]:
        seen = self._states.seen.items()
        stat = {
            name: [(sample.t_ns, sample.stat["cpu"]) for sample in use.samples]
            for name, use in seen
        }
        usage = {
            f"usage-{name}.json": {
                when: reading.plain(self._names)
                for when, reading in (("first", use.first), ("last", use.last))
            }
            for name, use in seen
        }
        rounds = {"rounds.json": {"rounds": plain_spent(self._spent)}} if self._spent else {}
        return {**self._states.raw(), **usage, **rounds, PROC_STAT_FILE: plain_stat(stat)}

    def _fields(self) -> dict[str, Any]:
        fields, seen = self._states.fields(), self._states.seen
        fields |= {
            "series": series(seen, self._states.zero_ns),
            "compared": [
                *compared(seen, kernel_bytes=self._kernel_bytes),
                *per_packet(self._spent),
            ],
        }
        fields["facts"] |= {
            "states": {name: use.plain(self._names) for name, use in seen.items()},
            "kernel_memory": {"byte": self._kernel_bytes, "what": KERNEL_MEMORY},
            "held_bytes": self._exactness,
            "run_time": "a tail call counts as the program that made it: the classifier's run"
            " time is that of the whole chain, about 20 ns of it the counting itself",
            "rounds": plain_spent(self._spent),
        }
        if {"processing", "routing"} <= set(self._states.books):
            states = [self._states.books[name] for name in ("processing", "routing")]
            fields["checks"] = [
                *(check for books in states for check in books.checks()),
                *(check for books in self._round_books for check in books.packet_checks()),
                *judge(seen),
            ]
            fields["validity"] = validity(
                [*states, *self._round_books], idle_busy=seen["idle"].share("busy")
            )
        return fields


def spend(scene: Scene, cpu: CpuTimes, for_s: float) -> dict[str, Any]:
    """Let traffic run for so long: the CPU time and the packets of it."""
    begin_ns, before, arrived = time.monotonic_ns(), cpu.read(), scene.arrived()
    scene.wait(for_s)
    seconds, after = (time.monotonic_ns() - begin_ns) / 1e9, cpu.read()
    return {
        "seconds": seconds,
        "packets": scene.arrived() - arrived,
        "cpu": after.since(before),
    }


def _names(datapath: Datapath) -> dict[int, str]:
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
