# SPDX-License-Identifier: MIT
"""``nfcbed run``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import typer

from testbed.chain import Policy
from testbed.datapath.choice import DatapathName, on_datapath
from testbed.datapath.datapaths import check_datapath
from testbed.datapath.plan import make_plan
from testbed.errors import NfcbedError, UserError
from testbed.experiment.catalogue import experiment_names, load_experiment
from testbed.experiment.folder import ResultFolder, default_folder
from testbed.experiment.progress import Place
from testbed.experiment.runner import Experiment, Options, require, run_experiment
from testbed.experiment.summary import print_summary
from testbed.policy import load_policy
from testbed.results import read_result

__all__ = ["app", "lasts_s", "run_one"]

app = typer.Typer()


def run_one(
    name: str,
    *,
    out: Path,
    force: bool = False,
    policy: Path | None = None,
    options: Options,
    command: str | None = None,
    place: Place | None = None,
) -> int:
    """Run an experiment into a folder and print its table; returns the exit code.

    Everything that can be checked is checked before the folder is touched.

    :param command: for ``environment.json``, if another one than ``nfcbed run`` was called.
    :param place: where it stands among several runs.
    """
    experiment = load_experiment(name)
    if os.geteuid() != 0:
        raise UserError("needs root, to build networks and load programs: run it with sudo")
    if options.mtu is not None and not experiment.takes_mtu:
        raise UserError(f"{name} runs with an MTU of its own: leave --mtu out")
    given = _given_policy(experiment, policy)
    prepared = experiment.prepare(_on_datapath(experiment, given, options), options)
    check_datapath(make_plan(prepared.policy))
    require(*experiment.needs)
    folder = ResultFolder.prepare(out, force=force)
    words = ["nfcbed", "run", name, *(["--policy", policy.name] if policy else ())]
    try:
        code = run_experiment(
            experiment,
            prepared,
            given=given,
            options=options,
            folder=folder,
            command=command or " ".join([*words, *_words(options)]),
            place=place,
        )
    except NfcbedError:
        typer.echo(f"what was collected until then is in {out}", err=True)
        raise
    if code:
        typer.echo(f"stopped; what was collected until then is in {out}", err=True)
        return code
    result = read_result(out)
    print_summary(result, out)
    return 1 if result.failed_checks else 0


def lasts_s(name: str, options: Options) -> float:
    """About how long an experiment takes with its own policy, in seconds."""
    experiment = load_experiment(name)
    given = _on_datapath(experiment, _given_policy(experiment, None), options)
    return experiment.prepare(given, options).lasts_s


def _given_policy(experiment: Experiment, policy: Path | None) -> Policy:
    if experiment.policy is not None:
        return load_policy(policy or experiment.policy)
    if policy is not None:
        raise UserError(f"{experiment.name} makes its own policies: leave --policy out")
    return Policy()


def _on_datapath(experiment: Experiment, policy: Policy, options: Options) -> Policy:
    if options.datapath is None:
        return policy
    if experiment.policy is None:
        raise UserError(f"{experiment.name} makes its own policies: leave --datapath out")
    return on_datapath(policy, options.datapath)


def _words(options: Options) -> Iterator[str]:
    """Options as they were typed."""
    for option in fields(options):
        value = getattr(options, option.name)
        if value != option.default:
            yield f"--{option.name.replace('_', '-')}"
            if value is not True:
                yield str(value)


def _print_list() -> None:
    for name in experiment_names():
        typer.echo(f"{name:<11} {load_experiment(name).title}")


@app.command()
def run(
    name: Annotated[str | None, typer.Argument(help="Such as fig7_2.", show_default=False)] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the result; else results/NAME-<UTC time>.", metavar="DIR"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace DIR's earlier result.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="The same course in a fifth of the time.")
    ] = False,
    policy: Annotated[
        Path | None, typer.Option(help="Another policy than the experiment's.", metavar="FILE")
    ] = None,
    forward: Annotated[
        Literal["stack", "direct"] | None,
        typer.Option(help="Last hop of the chains; else as the policy says."),
    ] = None,
    mtu: Annotated[
        int | None,
        typer.Option(
            min=576, max=65_535, help="MTU of all links; else what this machine can carry."
        ),
    ] = None,
    datapath: Annotated[
        DatapathName | None,
        typer.Option(help="What carries the chains; else as the policy says."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the experiments.")] = False,
) -> int:
    """Run an experiment and keep its result: result.json, environment.json, policy.yaml, raw/.

    Ends with 1 if a check does not pass, or if the run fails; what was collected is kept.
    """
    if show_list:
        _print_list()
        return 0
    if name is None:
        raise UserError(f"which experiment? There are: {', '.join(experiment_names())}")
    options = Options(quick=quick, forward=forward, mtu=mtu, datapath=datapath)
    return run_one(
        name, out=out or default_folder(name), force=force, policy=policy, options=options
    )
