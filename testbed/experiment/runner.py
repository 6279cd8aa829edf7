# SPDX-License-Identifier: MIT
"""Runs one experiment in a sandbox; whatever ends it, what it collected is in its folder.

An experiment is a module ``experiments/<name>.py`` with a value ``EXPERIMENT``::

    def prepare(policy: Policy, options: Options) -> Prepared: ...   # pure: checks everything
    EXPERIMENT = Experiment(name=…, title=…, policy=…, prepare=prepare)

``Prepared.measure`` gets a :class:`Session`. It tells the session where its results are found
(:meth:`Session.collects`) before it begins, so that they are kept when it is cut short.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from testbed import doctor
from testbed.chain import Policy
from testbed.datapath.choice import DatapathName
from testbed.errors import NfcbedError, RunError, UnsupportedError
from testbed.experiment.environment import describe_environment, socket_buffer_bytes
from testbed.experiment.folder import (
    ENVIRONMENT_FILE,
    GIVEN_POLICY_FILE,
    POLICY_FILE,
    RAW,
    ResultFolder,
)
from testbed.experiment.progress import Place, Progress, show_progress
from testbed.policy import dump_policy
from testbed.results import Result
from testbed.sandbox import Sandbox, run_in_sandbox

__all__ = ["Experiment", "Options", "Prepared", "Session", "require", "run_experiment"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user can ask of any experiment; kept in its result, so that it can be repeated.

    A value has to survive JSON. Limits stand in the types: they hold for a stored file as well.

    :ivar forward: the chains' last hop; None: as the policy says.
    :ivar mtu: of all links, in bytes; None: as the experiment chooses.
    :ivar datapath: that carries the chains; None: as the policy says.
    """

    quick: bool = False
    forward: Literal["stack", "direct"] | None = None
    mtu: Annotated[int, Field(ge=576, le=65_535)] | None = None
    datapath: DatapathName | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An experiment that can begin.

    :ivar policy: as it will run, after the options; empty where the experiment makes its own.
    :ivar lasts_s: about how long.
    :ivar parameters: for the result.
    """

    policy: Policy = field(default_factory=Policy)
    lasts_s: float
    parameters: Mapping[str, Any]
    measure: Callable[[Session], None]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One table or figure of the evaluation.

    :ivar policy: the policy file that it runs with if none is given; None: it makes its own
        policies, and takes none.
    :ivar published: whether the thesis published it; the others go beyond it.
    :ivar takes_mtu: whether it can be run with another MTU than its own.
    :ivar needs: what it needs, by ``nfcbed doctor``'s keys.
    :ivar prepare: raises UserError where policy or options do not fit the experiment.
    """

    name: str
    title: str
    policy: Path | None
    prepare: Callable[[Policy, Options], Prepared]
    published: bool = True
    takes_mtu: bool = False
    needs: tuple[str, ...] = ("iperf3", "mnexec", "ethtool", "objects")


@dataclass
class Session:
    """One run of an experiment, from inside the sandbox.

    :ivar buffer_bytes: that sockets can have on this host.
    """

    sandbox: Sandbox
    folder: ResultFolder
    progress: Progress
    policy: Policy
    buffer_bytes: int
    _head: dict[str, Any]
    _environment: dict[str, Any]
    _collect: Callable[[], Mapping[str, Any]] = field(default=dict)
    _raw: Callable[[], Mapping[str, Any]] = field(default=dict)

    def collects(
        self, fields: Callable[[], Mapping[str, Any]], *, raw: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Say where results are found.

        :param fields: gives fields of :class:`testbed.results.Result`, from what there is so far.
        :param raw: gives files for ``raw/``: name and JSON value.
        """
        self._collect, self._raw = fields, raw

    @property
    def parameters(self) -> Mapping[str, Any]:
        """As they stand in the result."""
        parameters: Mapping[str, Any] = self._head["parameters"]
        return parameters

    def environment(self, **facts: Any) -> None:
        """Add facts to ``environment.json``."""
        self._environment |= facts
        self.folder.write_json(ENVIRONMENT_FILE, self._environment)

    def save(
        self, state: Literal["running", "complete", "failed"] = "running", reason: str | None = None
    ) -> None:
        """Write what there is so far."""
        for name, value in self._raw().items():
            self.folder.write_json(f"{RAW}/{name}", value)
        self.folder.write_result(
            Result(**{**self._head, "state": state, "reason": reason, **self._collect()})
        )


def require(*keys: str) -> None:
    """Raise UnsupportedError where one of these is missing, by ``nfcbed doctor``'s keys."""
    for key in keys:
        row = doctor.check(key)
        if row.presence is doctor.Presence.MISSING:
            raise UnsupportedError(f"needs {row.title}: {row.detail}; get it with: {row.get}")


def run_experiment(
    experiment: Experiment,
    prepared: Prepared,
    *,
    given: Policy,
    options: Options,
    folder: ResultFolder,
    command: str,
    place: Place | None = None,
) -> int:
    """Run it and return its exit code: 0, or 128 + n where a signal ended it.

    Failed checks are not its business: they stand in the result.

    :param given: the policy before the options, for whoever repeats the run.
    :param command: for ``environment.json``.
    :param place: where it stands among several runs.
    :raises RunError: it failed; what it had collected is kept, marked ``failed``.
    """
    environment = describe_environment(command=command)
    buffer_bytes = socket_buffer_bytes()  # the sandbox may not see the host's limits
    head = {
        "experiment": experiment.name,
        "title": experiment.title,
        "quick": options.quick,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "clock_start_ns": time.monotonic_ns(),
        "options": asdict(options),
        "parameters": dict(prepared.parameters),
    }
    if experiment.policy is not None:
        folder.write(POLICY_FILE, dump_policy(prepared.policy))
        folder.write(GIVEN_POLICY_FILE, dump_policy(given))
    folder.write_json(ENVIRONMENT_FILE, environment)

    def main(sandbox: Sandbox) -> int:
        with show_progress(experiment.name, prepared.lasts_s, place=place) as progress:
            session = Session(
                sandbox, folder, progress, prepared.policy, buffer_bytes, head, environment
            )
            try:
                session.save()
                prepared.measure(session)
                session.save("complete")
            except BaseException as error:
                _keep(session, error)
                raise
        return 0

    return run_in_sandbox(main, command=f"run {experiment.name}")


def _keep(session: Session, error: BaseException) -> None:
    """Write what was collected before the fault."""
    reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    if not isinstance(error, NfcbedError | KeyboardInterrupt):
        reason = f"unexpected {type(error).__name__}: {error}"
    try:
        session.save("failed", reason)
    except Exception as second:
        # What ended the run matters more; a result without the latest data is better than none.
        session._collect = session._raw = dict
        with contextlib.suppress(RunError):
            session.save("failed", f"{reason} (its data could not be kept: {second})")
