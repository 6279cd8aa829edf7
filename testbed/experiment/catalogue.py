# SPDX-License-Identifier: MIT
"""Which experiments there are: the modules of ``experiments/`` without a leading underscore."""

from __future__ import annotations

import difflib
from importlib import import_module

from testbed.errors import UserError
from testbed.experiment.runner import Experiment
from testbed.paths import ROOT

__all__ = ["experiment_names", "load_experiment", "published_names"]


def experiment_names() -> tuple[str, ...]:
    """Names of all experiments, sorted."""
    stems = (path.stem for path in (ROOT / "experiments").glob("*.py"))
    return tuple(sorted(stem for stem in stems if not stem.startswith("_")))


def published_names() -> tuple[str, ...]:
    """Names of the experiments that the thesis published, sorted."""
    return tuple(name for name in experiment_names() if load_experiment(name).published)


def load_experiment(name: str) -> Experiment:
    """Import an experiment.

    :raises UserError: there is none of that name.
    """
    known = experiment_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        guess = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"there is no experiment {name}{guess} (there are: {', '.join(known)})")
    experiment: Experiment = import_module(f"experiments.{name}").EXPERIMENT
    return experiment
