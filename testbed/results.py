# SPDX-License-Identifier: MIT
"""A result of an experiment: a folder, and what its files hold.

========================= ========================================================================
file                      what it holds
========================= ========================================================================
``result.json``           the result, below; figures are drawn from it alone
``environment.json``      the machine and the software that it was made on, below
``policy.yaml``           the policy that ran; none where an experiment makes its own
``policy-given.yaml``     the same before the options: what ``nfcbed rerun`` begins with
``raw/``                  what tools and counters said, below
``<experiment>.png .svg`` the figure, once it was drawn
========================= ========================================================================

``result.json``, version 2. Times are seconds since ``clock_start_ns`` (CLOCK_MONOTONIC); numbers
are plain. A field is never renamed or given another meaning within a version. Version 1 had no
``curves`` and no ``options`` and is read as well.

=============== ==================================================================================
field           meaning
=============== ==================================================================================
format          ``nfcbed-result``
version         of this format; a reader refuses one that is newer than itself
experiment      its name, such as ``fig7_2``; also the stem of its figure
title           for people
state           ``running`` (then the run was killed), ``complete``, or ``failed``
reason          why it failed; none otherwise
quick           whether time was scaled down for a quick run
started         when, UTC, ISO 8601
clock_start_ns  zero of all times here
options         what the run was asked for, as ``nfcbed run`` takes it; ``{}`` in older files
parameters      what came of it and of the policy, with units in the names
phases          what was sent when: a name, begin and end, the offered rate per flow
windows         a measuring window of an NF and its verdict on a flow; ``end_s`` is when it may end
series          values over time: a rate ``values[i]`` is that between ``t_s[i-1]`` (of the first:
                ``begin_s``) and ``t_s[i]``, a count is that at ``t_s[i]``
means           one value per phase, flow and node; ``steady_s`` is the part of the phase that
                ``steady`` is the mean over, ``whole`` is that of all of it
checks          name, value, expected (in words), unit, pass
validity        ``valid``, ``host-limited`` or ``unknown`` with reasons: was the machine the limit?
published       the series of the publication that the figure is drawn beside
compared        the rows of the published table: value, its interval, and what was published
curves          values over something else than time: one curve a way through the node and quantity
facts           counters and whatever else an experiment wants to keep, by name
=============== ==================================================================================

``facts.ledger`` says where the packets of a run went: ``sent`` = ``received`` + ``dropped`` (by NF
and reason) + ``lost`` (by place) + ``unexplained``. ``facts.ledgers`` has one a part of the run.

``environment.json``, version 1; what could not be read is null or left out:

=============== ==================================================================================
key             meaning
=============== ==================================================================================
format          ``nfcbed-environment``
version         of this file's format
command         what was called, without paths
nfcbed          version, git commit, and whether files differed from it (``dirty``)
kernel          release, machine, build, words of its command line and options that bear on speed
cpu             model, CPUs, caches, whether virtual, governor, SMT, load before, mitigations
memory_kb       of the machine
clocksource     of the kernel
system          distribution
sysctls         of the host, those that bear on figures
objects         SHA-256 of each compiled BPF object
tools           versions of the programs that were there, and of libbpf
python          versions of Python, its C library and packages
hook            where the chain was attached
network         nodes of the run: interfaces with MTU, queues and offloads, routes, sysctls
networks        the same, by way, where an experiment builds several
routing_network the same of the plain routing beside the chain
=============== ==================================================================================

``raw/``; what an experiment does not use it does not have:

========================== =======================================================================
file                       what wrote it
========================== =======================================================================
``*-client.json``          iperf3, one a flow and phase; without the host's name
``*-server.json``          iperf3 at a flow's receiver, a list with one report a client
``counters*.json``         all counters ``before`` and ``after``: meters at the receivers, losses
                           by place, and of the chain rules, NFs and last step
``samples.json``           Figure 7.2: every reading of meters, rules and DAD's state of a flow
``vmstat-*.json``          vmstat's lines, and the command
``cpudist-*.json``         cpudist's lines, and the command
``sockperf-*.json``        sockperf's head, and round-trip times in µs, one in ``every``
``proc-stat.json``         ``/proc/stat`` over time by state, in ticks
``usage-*.json``           Table 7.3: ``/proc/stat``, traced CPU time, and the kernel's account of
                           each BPF map and program (bpf_stats), first and last
``measurements.json``      sweeps of what a packet costs: every measurement, in the order made
``ways.json``              the same: what was measured of each way at each x
``rounds.json``            Table 7.3: CPU time and packets of chain and routing, round by round
``trials.json``            the sweep of rates: what was offered and received in every trial
``searches.json``          the same: the searches for a rate without loss
========================== =======================================================================

``nfcbed results format --schema`` prints ``result.json`` as a JSON schema.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.errors import UserError

__all__ = [
    "FORMAT",
    "RESULT_FILE",
    "VERSION",
    "Check",
    "Compared",
    "Curve",
    "Mean",
    "Phase",
    "Point",
    "Result",
    "Series",
    "Validity",
    "Window",
    "dump_result",
    "read_json",
    "read_result",
]

FORMAT = "nfcbed-result"
VERSION = 2
RESULT_FILE = "result.json"
_DEEPEST = 40


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Phase(_Part):
    """A stretch of time with one offered rate per flow."""

    name: str
    begin_s: float
    end_s: float
    offered_mbps: dict[str, float] = {}


class Window(_Part):
    """A window of an NF for one flow.

    :ivar counted_mbps: what the NF counted in it, over its whole length; None if not in bytes.
    """

    flow: str
    begin_s: float
    end_s: float
    verdict: Literal["ACCEPT", "DROP"]
    counted: int
    unit: Literal["byte", "packet"]
    counted_mbps: float | None = None


class Series(_Part):
    """Values over time of one quantity."""

    quantity: str
    unit: str
    flow: str | None = None
    node: str | None = None
    begin_s: float = 0.0
    t_s: tuple[float, ...]
    values: tuple[float, ...]


class Mean(_Part):
    """A flow's mean at a node in one phase; None where there was nothing to take it of."""

    phase: str
    flow: str
    node: str
    unit: str
    steady: float | None
    steady_s: tuple[float, float] | None
    whole: float | None


class Check(_Part):
    """One thing that has to hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    value: float | int | str | None
    expected: str
    unit: str = ""
    passed: Annotated[bool, Field(alias="pass")]


class Compared(_Part):
    """One value of a published table beside ours.

    :ivar low: lower end of the bootstrap 95 % interval of ``value``; None where there is none.
    :ivar aim: what the value should be at least; None where nothing is aimed at.
    :ivar at_most: whether the aim is what the value should be at most instead.
    """

    name: str
    unit: str = ""
    value: float | None
    low: float | None = None
    high: float | None = None
    published: float | None = None
    aim: float | None = None
    at_most: bool = False


class Point(_Part):
    """One value of a curve.

    :ivar low: lower end of the bootstrap 95 % interval of ``value``; None where there is none.
    :ivar note: why there is no value, or what has to be known of it.
    """

    x: float
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str | None = None


class Curve(_Part):
    """One quantity of one way through the node, over what was varied.

    :ivar way: its name: that of a chain, or of a reference (``routing``, ``nftables`` …).
    :ivar text: the way in words.
    """

    way: str
    text: str
    quantity: str
    unit: str
    x_quantity: str
    x_unit: str = ""
    points: tuple[Point, ...]


class Validity(_Part):
    """Whether the machine could carry the run; reasons with numbers."""

    state: Literal["valid", "host-limited", "unknown"] = "unknown"
    reasons: tuple[str, ...] = ()


class Result(_Part):
    """A whole result; the module's text tells what the fields mean."""

    format: Literal["nfcbed-result"] = "nfcbed-result"
    version: Literal[1, 2] = 2
    experiment: str
    title: str
    state: Literal["running", "complete", "failed"]
    reason: str | None = None
    quick: bool = False
    started: str
    clock_start_ns: int
    options: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    phases: tuple[Phase, ...] = ()
    windows: tuple[Window, ...] = ()
    series: tuple[Series, ...] = ()
    means: tuple[Mean, ...] = ()
    checks: tuple[Check, ...] = ()
    validity: Validity = Validity()
    published: tuple[Series, ...] = ()
    compared: tuple[Compared, ...] = ()
    curves: tuple[Curve, ...] = ()
    facts: dict[str, Any] = {}

    @property
    def failed_checks(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def find(self, quantity: str, *, flow: str, node: str) -> Series | None:
        """The series of a quantity, or None."""
        wanted = (quantity, flow, node)
        return next((s for s in self.series if (s.quantity, s.flow, s.node) == wanted), None)


def dump_result(result: Result) -> str:
    """Give the text of ``result.json``; :func:`read_result` reads it back."""
    data = result.model_dump(mode="json", by_alias=True)
    return _compact(data) + "\n"


def _compact(data: dict[str, Any]) -> str:
    """JSON with one line a value of the lists at the top, so that series do not fill pages."""
    lines = []
    for key, value in data.items():
        if isinstance(value, list) and value:
            rows = ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f"  {json.dumps(key)}: [\n    {rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}"


def read_result(folder: Path) -> Result:
    """Read a folder's result.

    :raises UserError: there is none, or it is not one of ours; the message says which field.
    """
    path = folder / RESULT_FILE
    if not os.path.lexists(path):
        raise UserError(f"{folder}: holds no result ({RESULT_FILE} is not there)")
    return parse_result(read_json(path), path)


def read_json(path: Path) -> Any:
    """Read a JSON file that may come from anybody.

    :raises UserError: it cannot be read, is no file, no JSON, or nested deeper than anything here.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no file")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON: {error}") from None
    level = [data]
    for _ in range(_DEEPEST):
        level = [entry for value in level for entry in _entries(value)]
    if level:
        raise UserError(f"{path}: is nested more than {_DEEPEST} deep")
    return data


def _entries(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def parse_result(data: Any, path: Path) -> Result:
    """Check what stands in a result file; raises UserError as :func:`read_result` does."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{path}: is not a result of nfcbed (no format {FORMAT!r})")
    version = data.get("version")
    if type(version) is int and version > VERSION:
        raise UserError(
            f"{path}: has version {version} of the format, this nfcbed reads up to {VERSION}:"
            " use the nfcbed that wrote it, or a newer one"
        )
    try:
        return Result.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {where}: {first['msg']}") from None
