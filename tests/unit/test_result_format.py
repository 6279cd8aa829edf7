# SPDX-License-Identifier: MIT
"""The format of results: whole in its documentation, and the same after writing and reading."""

from __future__ import annotations

import json
import platform
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.cli import main
from testbed.experiment.environment import describe_environment
from testbed.experiment.folder import GIVEN_POLICY_FILE, ResultFolder
from testbed.results import (
    Check,
    Compared,
    Curve,
    Mean,
    Point,
    Result,
    Validity,
    dump_result,
    read_result,
)
from tests.documented import TABLES, undocumented

ROOT = Path(__file__).resolve().parents[2]

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
values = st.none() | numbers
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
facts = st.dictionaries(texts, json_values, max_size=3)
points = st.builds(Point, x=numbers, value=values, low=values, high=values)
curves = st.builds(Curve, points=st.lists(points, max_size=4).map(tuple))
results = st.builds(
    Result,
    version=st.just(2),
    format=st.just("nfcbed-result"),
    options=facts,
    parameters=facts,
    facts=facts,
    checks=st.lists(st.builds(Check, value=values | texts), max_size=2).map(tuple),
    compared=st.lists(
        st.builds(Compared, value=values, low=values, high=values, published=values, aim=values),
        max_size=2,
    ).map(tuple),
    means=st.lists(
        st.builds(
            Mean, steady=values, steady_s=st.none() | st.tuples(numbers, numbers), whole=values
        ),
        max_size=2,
    ).map(tuple),
    curves=st.lists(curves, max_size=2).map(tuple),
    validity=st.builds(Validity),
    phases=st.just(()),
    windows=st.just(()),
    series=st.just(()),
    published=st.just(()),
)


@given(results)
def test_any_result_is_read_back_as_it_was(result: Result) -> None:
    """Curves, tables, options and facts of any content survive the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = ResultFolder.prepare(Path(name) / "new")
        folder.write_result(result)
        assert read_result(folder.path) == result
    assert json.loads(dump_result(result))["version"] == 2


@given(json_values)
def test_any_raw_value_is_read_back_as_it_was(value: Any) -> None:
    """The files of raw/ are laid out for people, and are JSON all the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = ResultFolder.prepare(Path(name) / "new")
        folder.write_json("raw/x.json", value)
        assert json.loads((folder.path / "raw/x.json").read_text(encoding="utf-8")) == value


def test_what_fits_a_line_has_a_line(tmp_path: Path) -> None:
    """A raw file with many samples has a line a sample: neither one line nor one a number."""
    samples = [{"t_ns": n, "rows": [[1, 2, 3]] * 10} for n in range(20)]
    ResultFolder.prepare(tmp_path / "new").write_json("x.json", {"samples": samples})
    assert len((tmp_path / "new/x.json").read_text().splitlines()) == 20 + 4


def test_every_field_is_documented() -> None:
    """The tables name all files, fields and keys that there are, and none besides."""
    files, fields, keys, _ = TABLES
    assert {"``result.json``", "``environment.json``", f"``{GIVEN_POLICY_FILE}``"} <= set(files)
    assert fields == list(Result.model_fields)
    later = {"hook", "network", "networks", "routing_network"}  # by the experiments
    assert set(keys) == set(describe_environment(command="x")) | later


def test_file_that_is_not_documented_would_be_seen() -> None:
    """The patterns of the documentation fit what they are for and nothing else."""
    assert undocumented(["flow1-phase1-client.json", "counters-nfc1.json"]) == []
    assert undocumented(["surprise.json"]) == ["surprise.json"]


def test_every_raw_file_of_an_experiment_is_documented() -> None:
    """Also those that no test runs for: by the names in the experiments' sources."""
    sources = [path.read_text() for path in (ROOT / "experiments").glob("*.py")]
    found = {name for text in sources for name in re.findall(r'"([^\s"]+\.json)"', text)}
    names = {re.sub(r"\{[^}]*\}", "x", name) for name in found}
    assert {"samples.json", "usage-x.json"} <= names
    assert undocumented(sorted(names)) == []


def test_format_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The text for people, and a JSON schema that names the field as the file does."""
    assert main(["results", "format"]) == 0
    text = capsys.readouterr().out
    assert "clock_start_ns" in text
    assert "policy-given.yaml" in text
    assert main(["results", "format", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(Result.model_fields)
    assert "pass" in schema["$defs"]["Check"]["properties"]


def test_environment_knows_the_machine_and_not_its_name() -> None:
    """What bears on figures is there; the host's name is not."""
    found = describe_environment(command="nfcbed run x")
    assert found["kernel"]["release"] == platform.release()
    assert found["kernel"]["build"]
    assert found["cpu"]["count"] >= found["cpu"]["usable"] >= 1
    assert "net/core/bpf_jit_enable" in found["sysctls"]
    assert all(len(digest) == 64 for digest in found["objects"].values())
    words = set(json.dumps(found).replace('"', " ").replace("/", " ").split())
    assert platform.node() not in words
