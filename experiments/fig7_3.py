# SPDX-License-Identifier: MIT
"""Figure 7.3 (thesis 7.3, experiment 2): how long tasks stay on a CPU, idle and processing.

``cpudist`` counts every stretch that a task spends on a CPU, in bins of powers of two of
microseconds: once while the testbed is idle, once while two flows of 1 Gbit/s run through DAD
(which only counts) and DNAT on VM1. It sees the whole machine: here that is sender, switch and
receivers as well, where the thesis looked at VM1 alone.
"""

from __future__ import annotations

import subprocess
import time
from typing import Any

from experiments._gigabit import POLICY, loaded, parameters
from experiments._histogram import busy_share, compared, cpu_series, fullest, judge
from experiments._scene import Books, Scene, open_scene, validity
from experiments._way import NFC_NODE, flows_of
from testbed.chain import Policy
from testbed.errors import UnsupportedError
from testbed.experiment import cpudist
from testbed.experiment.procstat import PROC_STAT_FILE, CpuTicks, plain_stat, read_stat
from testbed.experiment.runner import Experiment, Options, Prepared, Session
from testbed.experiment.sampler import Sampler
from testbed.results import Phase

__all__ = ["EXPERIMENT"]

SAMPLE_S = 0.25
_SETTLE_S = 0.5
_AROUND_S = 4.0
_POLL_S = 0.01


def prepare(policy: Policy, options: Options) -> Prepared:
    """Check that the policy fits and say what will be run; raises UserError."""
    policy = loaded(policy, options)
    facts = parameters(options, ("idle", "processing"))
    return Prepared(
        policy=policy,
        lasts_s=2 * facts["duration_s"] + _AROUND_S,
        parameters=facts,
        measure=lambda session: _Run(session).measure(),
    )


class _Run:
    """One run: plays both states, and knows at any time what it has seen."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._duration_s: float = session.parameters["duration_s"]
        self._mtu: int = session.parameters["mtu"]
        self._zero_ns = time.monotonic_ns()
        self._bins: dict[str, list[cpudist.Bin]] = {}
        self._cpu: dict[str, list[tuple[int, CpuTicks]]] = {}
        self._phases: list[Phase] = []
        self._texts: dict[str, Any] = {}
        self._scene: dict[str, Any] = {}
        self._books: Books | None = None

    def measure(self) -> None:
        """Play both states."""
        self._session.collects(self._fields, raw=self._raw)
        flows, policy = flows_of("nfc", self._mtu), self._session.policy
        with open_scene(self._session, "thesis", flows, mtu=self._mtu, policy=policy) as scene:
            for name in ("idle", "processing"):
                scene.wait(_SETTLE_S)
                self._play(scene, name)
            self._books = scene.books("processing")

    def _play(self, scene: Scene, name: str) -> None:
        try:
            self._bins[name] = scene.play(
                name,
                loaded=name == "processing",
                duration_s=self._duration_s,
                observe=lambda for_s: self._observe(scene, name, for_s),
            )
        finally:
            self._phases = scene.phases_since(self._zero_ns)
            self._scene = scene.raw()

    def _observe(self, scene: Scene, name: str, for_s: float) -> list[cpudist.Bin]:
        """Run cpudist for so many whole seconds.

        :raises UnsupportedError: it cannot trace on this machine.
        """
        command = cpudist.command(int(for_s))
        process = scene.network.node(NFC_NODE).popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with Sampler(
            lambda: (time.monotonic_ns(), read_stat()["cpu"]), period_s=SAMPLE_S
        ) as sampler:
            self._cpu[name] = sampler.samples
            while process.poll() is None:
                sampler.check()
                scene.idle()
                time.sleep(_POLL_S)
        text = process.communicate()[0]
        self._texts[f"cpudist-{name}.json"] = {"command": command, "lines": text.splitlines()}
        if process.returncode:
            raise UnsupportedError(_refusal(process.returncode, text))
        return cpudist.parse(text)

    def _raw(self) -> dict[str, Any]:
        return {**self._texts, **self._scene, PROC_STAT_FILE: plain_stat(self._cpu)}

    def _fields(self) -> dict[str, Any]:
        """What there is so far, for the result."""
        fields: dict[str, Any] = {
            "clock_start_ns": self._zero_ns,
            "phases": self._phases,
            "series": cpu_series(self._cpu, self._zero_ns),
            "compared": compared(self._bins),
            "facts": {
                "histograms": {
                    name: [[b.low_us, b.high_us, b.count] for b in bins]
                    for name, bins in self._bins.items()
                },
                "fullest_us": {name: fullest(bins).low_us for name, bins in self._bins.items()},
            },
        }
        if self._books is not None:
            fields["checks"] = [*self._books.checks(), *judge(self._bins)]
            fields["validity"] = validity([self._books], idle_busy=busy_share(self._cpu["idle"]))
            fields["facts"]["ledger"] = self._books.ledger.plain()
        return fields


def _refusal(code: int, text: str) -> str:
    said = text.strip().splitlines() or ["it says nothing"]
    return f"cpudist cannot trace on this machine (it ended with {code}): {said[-1]}"


EXPERIMENT = Experiment(
    name="fig7_3",
    title="Figure 7.3: on-CPU time of tasks, idle and with 2 × 1 Gbit/s through DAD and DNAT",
    policy=POLICY,
    prepare=prepare,
    takes_mtu=True,
    needs=("iperf3", "mnexec", "ethtool", "objects", "cpudist"),
)
