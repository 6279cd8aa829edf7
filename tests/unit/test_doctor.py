# SPDX-License-Identifier: MIT
"""Probes and doctor: each answer can come out yes, no and unknown, and nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from testbed import cli, doctor, probe_bpf
from testbed import probe as probe_module
from testbed.commands import doctor as command
from testbed.doctor import KEYS, Presence, Report, Row, check, examine
from testbed.doctor_needs import FEATURES, TOOLS, Tool
from testbed.probe import PROBES, Probe, State, probe, probe_all
from testbed.probe_base import Absent, CouldNotTell, ProbeSpec
from tests.conftest import is_surprising, kernel_version

NEEDS_ROOT = pytest.mark.needs("root")


def row(presence: Presence, *, required: bool = True, key: str = "veth") -> Row:
    return Row(key, "Group", "a thing", presence, "seen", "something", "get it", required)


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, ProbeSpec]], None]:
    """Put other probes in the place of the kernel's, and forget what was answered."""

    def put(specs: Mapping[str, ProbeSpec]) -> None:
        monkeypatch.setattr(probe_module, "PROBES", specs)
        monkeypatch.setattr(probe_module, "_cache", {})

    return put


@pytest.fixture
def fresh_checks() -> None:
    """Forget the rows of this process."""
    check.cache_clear()


def test_every_probe_has_its_row_and_every_row_its_probe() -> None:
    """What is probed and what doctor shows are the same set, each with a reason and a remedy."""
    assert {feature.key for feature in FEATURES} == set(PROBES)
    assert len(KEYS) == len(FEATURES) + len(TOOLS) + 7
    assert all(need.needed_for and need.get for need in FEATURES)


@pytest.mark.parametrize(
    ("presences", "can_run", "code"),
    [
        ([Presence.PRESENT], True, 0),
        ([Presence.PRESENT, Presence.UNKNOWN], None, 0),
        ([Presence.UNKNOWN, Presence.MISSING], False, 3),
    ],
)
def test_exit_code_says_whether_the_main_job_can_run(
    monkeypatch: pytest.MonkeyPatch, presences: list[Presence], can_run: bool | None, code: int
) -> None:
    """A missing required thing gives 3; one that could not be told, or an optional one, 0."""
    rows = [row(presence) for presence in presences] + [row(Presence.MISSING, required=False)]
    report = Report(tuple(rows))
    assert report.can_run is can_run
    monkeypatch.setattr(command, "examine", lambda: report)
    assert cli.main(["doctor"]) == code
    assert cli.main(["doctor", "--json"]) == code


def test_missing_row_tells_what_for_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table's row for a missing thing names it, its purpose and the remedy."""
    monkeypatch.setattr(command, "examine", lambda: Report((row(Presence.MISSING),)))
    cli.main(["doctor"])
    said = capsys.readouterr().out
    for part in ("✗ a thing", "required", "missing: seen", "for something", "→ get it"):
        assert part in said


def test_json_has_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    """--json is one JSON value with a version and one object for each key."""
    cli.main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["version"] == 1
    assert [entry["key"] for entry in report["rows"]] == list(KEYS)
    assert {entry["presence"] for entry in report["rows"]} <= {str(p) for p in Presence}


@pytest.mark.parametrize(
    ("script", "presence", "detail"),
    [
        ("echo 'tool 3.12 (cJSON 1.7)'", Presence.PRESENT, "3.12"),
        ("echo 'tool 3.9' >&2", Presence.PRESENT, "3.9"),
        ("echo 'tool 3.8.9'", Presence.MISSING, "3.8.9 is too old"),
        ("echo hello", Presence.UNKNOWN, ""),
        (None, Presence.MISSING, "not installed"),
    ],
)
def test_tools_are_judged_by_their_own_word(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    presence: Presence,
    detail: str,
) -> None:
    """A tool is present if it names a version that is new enough, on stdout or stderr."""
    if script is not None:
        path = tmp_path / "sometool"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    seen = doctor._tool(Tool("sometool", "tests", "somepackage", minimum=(3, 9)))
    assert seen.presence is presence
    assert detail in seen.detail
    assert "somepackage" in seen.get


def test_without_root_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, probes: Callable[[Mapping[str, ProbeSpec]], None]
) -> None:
    """A probe that needs root is not tried without it, and its answer is unknown."""
    tried: list[str] = []
    spec = ProbeSpec(lambda: tried.append("x") or "x")  # type: ignore[func-returns-value]
    probes({"thing": spec})
    monkeypatch.setattr(probe_module, "needs_root", lambda: True)
    assert probe("thing") == Probe(State.UNKNOWN, "needs root")
    assert not tried


def _raise(error: Exception) -> Callable[[], str]:
    def run() -> str:
        raise error

    return run


def test_a_probe_ends_in_one_of_three_answers(
    probes: Callable[[Mapping[str, ProbeSpec]], None],
) -> None:
    """A return is yes, Absent and OSError are no, CouldNotTell is unknown, each with its reason."""
    ends = {
        "there": lambda: "seen",
        "absent": _raise(Absent("gone")),
        "refused": _raise(PermissionError(1, "Operation not permitted")),
        "unclear": _raise(CouldNotTell("no tool")),
    }
    probes({name: ProbeSpec(run, isolated=False) for name, run in ends.items()})
    assert probe_all(ends) == {
        "there": Probe(State.YES, "seen"),
        "absent": Probe(State.NO, "gone"),
        "refused": Probe(State.NO, "Operation not permitted"),
        "unclear": Probe(State.UNKNOWN, "no tool"),
    }


@NEEDS_ROOT
def test_a_probe_that_hangs_or_dies_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, probes: Callable[[Mapping[str, ProbeSpec]], None]
) -> None:
    """The stuck and the dead one are unknown; those before and after them are answered."""
    monkeypatch.setattr(probe_module, "_TIMEOUT_S", 0.3)

    def hang() -> str:
        subprocess.run(["sleep", "60"], check=True)
        return "woke"

    def die() -> str:
        os._exit(9)

    ends = {"a": lambda: "1", "hang": hang, "b": lambda: "2", "die": die, "c": lambda: "3"}
    probes({name: ProbeSpec(run) for name, run in ends.items()})
    answers = probe_all(ends)
    assert {name: answer.state for name, answer in answers.items()} == {
        "a": State.YES,
        "hang": State.UNKNOWN,
        "b": State.YES,
        "die": State.UNKNOWN,
        "c": State.YES,
    }
    assert "within" in answers["hang"].detail
    assert "died" in answers["die"].detail


@NEEDS_ROOT
def test_without_namespaces_only_their_own_probe_says_no(
    monkeypatch: pytest.MonkeyPatch, probes: Callable[[Mapping[str, ProbeSpec]], None]
) -> None:
    """Where no namespace can be made, namespaces are missing and the rest cannot be told."""

    def refuse(flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    names = ("namespaces", "veth")
    probes({name: PROBES[name] for name in names})
    monkeypatch.setattr(probe_module, "unshare", refuse)
    assert probe_all(names) == {
        "namespaces": Probe(State.NO, "Operation not permitted"),
        "veth": Probe(State.UNKNOWN, "no namespace to try it in"),
    }


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("name", "target", "value"),
    [
        ("sched_cls", "_returning", lambda _: b"\xff" * 16),  # no such instruction
        ("redirect_peer", "_REDIRECT_PEER", 9999),  # no such helper
        ("bpf_timer", "_TIMER_INIT", 9999),
        ("conntrack_kfuncs", "_CONNTRACK_KFUNCS", ("bpf_no_such_function",)),
        ("tcx", "LOOPBACK", 4242),  # no such interface
        ("tail_call", "_TAIL_CALL", 7),  # another helper: no call is made
    ],
)
def test_probes_say_no_where_the_kernel_refuses(
    monkeypatch: pytest.MonkeyPatch, name: str, target: str, value: object
) -> None:
    """A probe whose request the kernel must refuse answers no: its yes is the kernel's."""
    monkeypatch.setattr(probe_bpf, target, value)
    monkeypatch.setattr(probe_module, "_cache", {})
    assert probe(name).state is State.NO


@NEEDS_ROOT
def test_doctor_is_quick_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, fresh_checks: None
) -> None:
    """All of it takes under 3 s; interfaces, mounts and bpffs pins are afterwards as before."""

    def host() -> tuple[list[Path], str, list[Path]]:
        pins = sorted(Path("/sys/fs/bpf").rglob("*"))
        return sorted(Path("/sys/class/net").iterdir()), Path("/proc/mounts").read_text(), pins

    before = host()
    monkeypatch.setattr(probe_module, "_cache", {})
    start_s = time.perf_counter()
    report = examine()
    assert time.perf_counter() - start_s < 3
    assert host() == before
    assert not [r for r in report.rows if r.detail.startswith("no answer")]


@pytest.mark.parametrize(
    ("key", "release", "root", "surprising"),
    [
        ("tcx", "6.6.0", True, True),
        ("tcx", "6.1.0-18-amd64", True, False),
        ("tcx", "6.18.44", False, False),
        ("nft_queue", "6.18.44", True, False),
        ("iperf3", "6.1.0", True, True),
        ("bpftool", "6.1.0", True, False),
        ("root", "6.1.0", False, False),
    ],
)
def test_a_skip_never_hides_what_should_have_been_there(
    key: str, release: str, root: bool, surprising: bool
) -> None:
    """The skip policy fails a test where the kernel's age or make deps promises the thing."""
    lacking = row(Presence.MISSING, key=key)
    assert is_surprising(lacking, release=release, root=root) is surprising


def test_kernel_release_is_read_as_numbers() -> None:
    """6.10 is newer than 6.6, and a strange release is older than all."""
    assert kernel_version("6.10.3-generic") > kernel_version("6.6.1")
    assert kernel_version("strange") == (0, 0)
