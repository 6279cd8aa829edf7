# SPDX-License-Identifier: MIT
"""Figure 7.3 (thesis 7.3, experiment 2): how long tasks stay on a CPU, idle and processing.

``cpudist`` counts every stretch that a task spends on a CPU, in bins of powers of two of
microseconds: once while the testbed is idle, once while two flows of 1 Gbit/s run through DAD
(which only counts) and DNAT on VM1. It sees the whole machine: here that is sender, switch and
receivers as well, where the thesis looked at VM1 alone.
"""

from __future__ import annotations

import time
from typing import Any

from experiments._gigabit import POLICY, loaded, parameters
from experiments._histogram import busy_share, compared, cpu_series, fullest, judge
from experiments._scene import Scene, validity
from experiments._states import States, run_tool, said
from testbed.chain import Policy
from testbed.errors import UnsupportedError
from testbed.experiment import cpudist
from testbed.experiment.procstat import PROC_STAT_FILE, CpuTicks, plain_stat, read_stat
from testbed.experiment.runner import Experiment, Options, Prepared, Session
from testbed.experiment.sampler import Sampler

__all__ = ["EXPERIMENT"]

SAMPLE_S = 0.25
_AROUND_S = 4.0


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
        self._states: States[list[cpudist.Bin]] = States(session)
        self._cpu: dict[str, list[tuple[int, CpuTicks]]] = {}

    def measure(self) -> None:
        """Play both states."""
        self._session.collects(self._fields, raw=self._raw)
        with self._states.scene("nfc", policy=self._session.policy) as scene:
            for name, busy in (("idle", False), ("processing", True)):
                self._states.play(scene, name, loaded=busy, observe=self._observe)

    def _observe(self, scene: Scene, name: str, for_s: float) -> list[cpudist.Bin]:
        """Run cpudist for so many whole seconds.

        :raises UnsupportedError: it cannot trace on this machine.
        """
        command = cpudist.command(int(for_s))
        sampler = Sampler(lambda: (time.monotonic_ns(), read_stat()["cpu"]), period_s=SAMPLE_S)
        self._cpu[name] = sampler.samples
        code, text = run_tool(scene, command, sampler)
        self._states.texts[f"cpudist-{name}.json"] = said(command, text)
        if code:
            raise UnsupportedError(_refusal(code, text))
        return cpudist.parse(text)

    def _raw(self) -> dict[str, Any]:
        return {**self._states.raw(), PROC_STAT_FILE: plain_stat(self._cpu)}

    def _fields(self) -> dict[str, Any]:
        """What there is so far, for the result."""
        fields, seen = self._states.fields(), self._states.seen
        fields |= {"series": cpu_series(self._cpu, self._states.zero_ns)}
        fields |= {"compared": compared(seen)}
        fields["facts"] |= {
            "histograms": {
                name: [[b.low_us, b.high_us, b.count] for b in bins] for name, bins in seen.items()
            },
            "fullest_us": {name: fullest(bins).low_us for name, bins in seen.items()},
        }
        if "processing" in self._states.books:
            books = self._states.books["processing"]
            fields["checks"] = [*books.checks(), *judge(seen)]
            fields["validity"] = validity([books], idle_busy=busy_share(self._cpu["idle"]))
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
