# SPDX-License-Identifier: MIT
"""Aims that experiments of the evaluation measure: each is a row that the result compares."""

from __future__ import annotations

from pathlib import Path

from testbed.bench.targets import Finding, Found, Target, not_measured
from testbed.chain import Policy
from testbed.errors import RunError
from testbed.experiment.catalogue import load_experiment
from testbed.experiment.folder import ResultFolder
from testbed.experiment.runner import Experiment, Options, require, run_experiment
from testbed.policy import load_policy
from testbed.results import Result, read_result

__all__ = ["EXPERIMENTS", "TARGETS", "found_in", "lasts_s", "run_quietly"]

_RECEIVED = "2 × 1 Gbit/s received, NFC / routing"

TARGETS = (
    *(
        Target(
            key=f"{flow}, NFC / routing", part="table7_4", text=f"{_RECEIVED}: {flow}", bound=0.999
        )
        for flow in ("flow 1", "flow 2")
    ),
    *(
        Target(
            key=f"CPU time per packet, {way} / routing",
            part="table7_3",
            text=f"CPU time per packet, chain / routing: {way}",
            bound=bound,
            at_least=False,
        )
        for way, bound in (("forwarding", 0.75), ("in-stack", 1.15))
    ),
)
"""The key is the row's name in ``compared``."""

EXPERIMENTS = tuple(dict.fromkeys(target.part for target in TARGETS))


def lasts_s(name: str, *, quick: bool) -> float:
    """About how long an experiment takes."""
    experiment = load_experiment(name)
    return experiment.prepare(_policy_of(experiment), Options(quick=quick)).lasts_s


def _policy_of(experiment: Experiment) -> Policy:
    return Policy() if experiment.policy is None else load_policy(experiment.policy)


def run_quietly(name: str, folder: Path, *, quick: bool) -> Result:
    """Run an experiment as it is, and give its result, printing nothing but its progress.

    :raises UnsupportedError: this machine lacks something.
    :raises RunError: it failed; what was collected is in the folder.
    :raises KeyboardInterrupt: a signal ended it.
    """
    experiment, options = load_experiment(name), Options(quick=quick)
    given = _policy_of(experiment)
    prepared = experiment.prepare(given, options)
    require(*experiment.needs)
    code = run_experiment(
        experiment,
        prepared,
        given=given,
        options=options,
        folder=ResultFolder.prepare(folder, force=True),
        command="nfcbed bench" + (" --quick" if quick else ""),
    )
    if code:
        raise KeyboardInterrupt
    return read_result(folder)


def found_in(result: Result) -> Found:
    """What the table says of it."""
    findings = {t.key: _finding(t, result) for t in TARGETS if t.part == result.experiment}
    faults = (
        f"{result.experiment}: {check.name}: {check.value} {check.unit}, expected {check.expected}"
        for check in result.failed_checks
        if check.unit == "packets"
    )
    return Found(findings=findings, faults=tuple(faults))


def _finding(target: Target, result: Result) -> Finding:
    row = next((row for row in result.compared if row.name == target.key), None)
    if row is None or row.value is None:
        return not_measured(f"{result.experiment} has no such value")
    if row.aim != target.bound:
        raise RunError(
            f"{result.experiment} aims at {row.aim} for {row.name!r}, not {target.bound}"
        )
    limited = result.validity.state == "host-limited"
    note = result.validity.reasons[0] if limited and result.validity.reasons else None
    return Finding(value=row.value, low=row.low, high=row.high, note=note, limited=limited)
