# SPDX-License-Identifier: MIT
"""``nfcbed run`` around a run: exit codes, messages, the table. The run itself is made up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.cli import main
from testbed.commands import run as command
from testbed.errors import RunError
from testbed.experiment.folder import ResultFolder
from testbed.experiment.summary import print_summary
from testbed.results import read_result

RECORDED = Path(__file__).resolve().parents[1] / "figures/recorded/fig7_2"
FAILED = {"name": "flow 1, phase 3: at vm2", "value": 99.9, "expected": "< 0.1", "unit": "Mbit/s"}


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the run by one that ends in a given way, having written the recorded result."""

    def put(*, code: int = 0, error: Exception | None = None, **changes: Any) -> None:
        def run_experiment(*_: Any, folder: ResultFolder, **__: Any) -> int:
            result = read_result(RECORDED)
            folder.write_result(type(result).model_validate(result.model_dump() | changes))
            if error is not None:
                raise error
            return code

        monkeypatch.setattr(command, "run_experiment", run_experiment)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(command, "require", lambda *_: None)
    return put


def run(tmp_path: Path, *words: str) -> int:
    return main(["run", "fig7_2", "--out", str(tmp_path / "out"), *words])


def test_good_run_prints_its_means(
    tmp_path: Path, made_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """One row a phase: offered, measured at each node, published; then checks and folder."""
    made_up()
    assert run(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("  ")[0].strip(): line.split() for line in lines if "phase" in line}
    assert rows["phase 2"][2:4] == ["150", "each"]
    assert float(rows["phase 2"][4]) == pytest.approx(150, abs=3)
    assert rows["phase 2"][5:7] == ["0.00", "0.00"]
    assert rows["phase 3"][-1] == "0"
    assert "21 of 21 checks passed" in lines
    assert f"result in {tmp_path / 'out'}" in "".join(lines)


def test_failed_check_is_named_and_ends_with_1(
    tmp_path: Path, made_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Which check, what was measured, what was expected."""
    made_up(checks=[{**FAILED, "passed": False}])
    assert run(tmp_path) == 1
    text = capsys.readouterr().out
    assert "✗ flow 1, phase 3: at vm2: 99.9000 Mbit/s, expected < 0.1" in text
    assert "0 of 1 checks passed" in text


def test_host_limited_run_says_why(
    tmp_path: Path, made_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no failure of the chain, and not silent either."""
    made_up(validity={"state": "host-limited", "reasons": ["vm2: 500 datagrams"]})
    assert run(tmp_path) == 0
    text = capsys.readouterr().out
    assert "host-limited: this machine was the limit" in text
    assert "vm2: 500 datagrams" in text


def test_run_that_fails_says_where_its_data_are(
    tmp_path: Path, made_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """One message of what went wrong, one of what is kept; exit code 1."""
    made_up(error=RunError("iperf3 was killed"))
    assert run(tmp_path) == 1
    errors = capsys.readouterr().err
    assert "iperf3 was killed" in errors
    assert f"what was collected until then is in {tmp_path / 'out'}" in errors


def test_interrupted_run_hands_its_exit_code_on(
    tmp_path: Path, made_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """130, and no table of half a run."""
    made_up(code=130)
    assert run(tmp_path) == 130
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "which experiment? There are: fig7_2"),
        (["run", "fig72"], "did you mean fig7_2"),
        (["run", "fig7_2", "--policy", "no.yaml"], "no.yaml: cannot be read"),
        (["run", "fig7_2", "--forward", "up"], "'up'"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str],
    message: str,
    made_up: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code 2, one message, and no folder is made for it."""
    monkeypatch.chdir(tmp_path)
    made_up()
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_root_is_asked_for_before_a_folder_is_made(
    tmp_path: Path,
    made_up: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 and the word sudo."""
    made_up()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(tmp_path) == 2
    assert "sudo" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_list_names_the_experiments(capsys: pytest.CaptureFixture[str]) -> None:
    """Name and title, without root."""
    assert main(["run", "--list"]) == 0
    assert "fig7_2      Figure 7.2" in capsys.readouterr().out


def test_summary_of_a_result_without_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An experiment may have none, and a run that failed early has none yet."""
    shutil.copy(RECORDED / "result.json", tmp_path)
    print_summary(read_result(tmp_path).model_copy(update={"means": ()}), tmp_path)
    assert "21 of 21" in capsys.readouterr().out


def test_mtu_is_refused_where_an_experiment_has_its_own(
    tmp_path: Path, made_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """An option that would do nothing is not taken; no folder is made for it."""
    made_up()
    assert run(tmp_path, "--mtu", "9000") == 2
    assert "leave --mtu out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_published_table_is_printed_beside_ours(
    tmp_path: Path, made_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """One row a value: measured, interval, published; a value that is not there is a dash."""
    row = {"name": "flow 1", "value": 0.99951, "low": 0.9991, "high": 0.9999, "published": 0.9943}
    large = {"name": "used", "value": 2939764.0}
    made_up(compared=[{**row, "aim": 0.999}, {"name": "memory", "value": None}, large])
    assert run(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    (first,) = (line.split() for line in lines if line.strip().startswith("flow 1 "))
    assert first[2:] == "0.99951 0.9991 … 0.9999 0.9943 aim ≥ 0.999".split()
    (second,) = (line.split() for line in lines if line.strip().startswith("memory"))
    assert second[1:] == ["–", "–", "–"]
    assert "2939764" in next(line for line in lines if line.strip().startswith("used"))


def test_ledger_is_printed_with_what_it_cannot_explain(
    tmp_path: Path, made_up: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where every packet went, in one line."""
    books = {"sent": 9, "received": 4, "dropped": {"dad: over": 2}, "lost": {"vm2: full": 1}}
    made_up(facts={"ledger": {**books, "unexplained": 2}})
    assert run(tmp_path) == 0
    wanted = "9 sent = 4 received + 2 dropped by NFs + 1 lost elsewhere + 2 unexplained"
    assert wanted in capsys.readouterr().out
