# SPDX-License-Identifier: MIT
"""``nfcbed results compare``: two results side by side, and what differs in their set-up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from testbed.cli import main
from testbed.results import read_result
from testbed.stored.comparison import Side, compare
from testbed.stored.surroundings import environment_differences, summary
from tests.stored import LIMITED, Store, environment, store

__all__ = ["store"]  # a fixture


def side(folder: Path, **changes: Any) -> Side:
    fields: dict[str, Any] = {"folder": folder.name, "result": read_result(folder), "policy": None}
    return Side(**({**fields, "environment": None} | changes))


def row(name: str, value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    return {"name": name, "unit": "ns", "value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("a", "b", "ratio", "overlap"),
    [
        ((10.0, 9.0, 11.0), (12.0, 11.5, 13.0), 1.2, False),
        ((10.0, 9.0, 11.0), (12.0, 11.0, 13.0), 1.2, True),
        ((12.0, 11.5, 13.0), (10.0, 9.0, 11.0), 10 / 12, False),
        ((10.0, 9.0, 11.0), (10.0, 9.9, 10.1), 1.0, True),
        ((10.0, None, None), (12.0, 11.0, 13.0), 1.2, None),
        ((0.0, 0.0, 0.0), (12.0, 11.0, 13.0), None, False),
        ((None, None, None), (12.0, 11.0, 13.0), None, None),
    ],
)
def test_values_are_divided_and_intervals_held_against_each_other(
    store: Store, a: Any, b: Any, ratio: float | None, overlap: bool | None
) -> None:
    """B / A where there is one; overlapping if the intervals have a value in common."""
    first, second = (store(n, compared=[row("v", *v)], means=[]) for n, v in (("a", a), ("b", b)))
    (value,) = compare(side(first), side(second)).values
    assert value.ratio == (None if ratio is None else pytest.approx(ratio))
    assert value.overlap is overlap


def test_curves_are_compared_point_by_point(store: Store) -> None:
    """By way and x; what only one of the two has stands there without a ratio."""

    def curve(way: str, **points: float) -> dict[str, Any]:
        return {
            "way": way,
            "text": way,
            "quantity": "time",
            "unit": "ns",
            "x_quantity": "NFs",
            "points": [{"x": float(x[1:]), "value": value} for x, value in points.items()],
        }

    a = store("a", compared=[], means=[], curves=[curve("chain", _1=10, _2=20), curve("old", _1=1)])
    b = store("b", compared=[], means=[], curves=[curve("chain", _1=11, _4=30)])
    found = compare(side(a), side(b)).values
    assert {(v.name, v.x): (v.a, v.b, v.ratio) for v in found} == {
        ("chain", 1): (10, 11, 1.1),
        ("chain", 2): (20, None, None),
        ("chain", 4): (None, 30, None),
        ("old", 1): (1, None, None),
    }
    assert {v.group for v in found} == {"time by NFs"}


def test_checks_that_changed_are_told(store: Store) -> None:
    """From passed to not, the other way round, and those that are in one of the two only."""

    def check(name: str, passed: bool, value: int = 1) -> dict[str, Any]:
        return {"name": name, "value": value, "expected": "2", "pass": passed}

    a = store("a", checks=[check("same", True), check("worse", True, 2), check("gone", True)])
    b = store("b", checks=[check("same", True, 7), check("worse", False), check("new", False)])
    found = {v.name: (v.a, v.b) for v in compare(side(a), side(b)).checks}
    assert found == {"worse": (True, False), "gone": (True, None), "new": (None, False)}


def test_what_differs_in_set_up(store: Store) -> None:
    """Options, parameters and policy lines; nothing else is named."""
    a = store("a", options={"mtu": None}, parameters={"x": {"y": [1, 2], "z": 1}})
    b = store("b", options={"mtu": 9000}, parameters={"x": {"y": [1, 3], "z": 1}})
    found = compare(side(a, policy="x: 1\ny: 2\n"), side(b, policy="x: 1\ny: 3\n"))
    assert {(d.what, str(d.a), str(d.b)) for d in found.settings} == {
        ("option.mtu", "None", "9000"),
        ("parameter.x.y", "[1, 2]", "[1, 3]"),
    }
    assert [line for line in found.policy if line[0] in "+-"] == ["-y: 2", "+y: 3"]


def test_machines_are_compared_by_what_bears_on_figures() -> None:
    """Alike differences of interfaces are one; load, MACs and hashes are not spelled out."""
    other = environment(
        kernel={"release": "6.8.0", "machine": "x86_64", "options": {"CONFIG_HZ": "1000"}},
        cpu={"model": "Fast", "count": 2, "usable": 2, "load": [9.0, 0.4, 0.3]},
        objects={"a.o": "99", "b.o": "98"},
        hook="tcx",
        command="nfcbed rerun x",
    )
    other["network"] = json.loads(json.dumps(other["network"]))
    for node in other["network"]["nodes"].values():
        node["interfaces"][0] |= {"mtu": 9000, "mac": "02:00:00:00:00:99"}
    found = environment_differences(environment(), other)
    assert {d["what"]: (d["a"], d["b"], d["times"]) for d in found} == {
        "kernel release": ("6.1.0", "6.8.0", 1),
        "kernel options CONFIG_HZ": ("250", "1000", 1),
        "objects (compiled BPF)": ("one build", "another", 2),
        "network mtu": (1500, 9000, 2),
        "hook": (None, "tcx", 1),
    }
    assert environment_differences(other, other) == []


def test_environment_from_elsewhere_may_be_odd() -> None:
    """Parts of another form are left out of the summary, not stumbled over."""
    odd = {"format": "nfcbed-environment", "kernel": 3, "cpu": [], "tools": None, "network": 5}
    assert ("nfcbed", "None, commit unknown") in summary(odd)
    assert environment_differences(odd, environment())


def test_compare_flags_what_nobody_may_publish(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of the two is host-limited, incomplete or quick is said before any figure."""
    a = store("a", quick=False)
    b = store("b", validity=LIMITED, state="failed", reason="iperf3 was killed", quick=False)
    assert main(["results", "compare", str(a), str(b)]) == 0
    text = capsys.readouterr().out
    at = text.index("flow 1, NFC")
    assert text.index("B is host-limited: the machine was the limit") < at
    assert text.index("B is incomplete: iperf3 was killed") < at
    assert "A is" not in text
    assert "1.0000" in text
    assert main(["results", "compare", str(a), str(b), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["a"]["cautions"]) == ("nfcbed-comparison", [])
    assert len(found["b"]["cautions"]) == 2
    assert all(value["ratio"] == 1 for value in found["values"])


def test_compare_refuses_another_experiment(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and both names."""
    assert main(["results", "compare", str(store("a")), str(store("b", "fig7_2"))]) == 2
    assert "a is of table7_4, " in (text := capsys.readouterr().err)
    assert "b of fig7_2: only results of the same experiment" in text
