# SPDX-License-Identifier: MIT
"""``nfcbed reproduce`` around its runs: what is run, what goes on after a fault, how it ends.

The runs themselves are made up: each leaves the recorded result of its experiment, if there is one.
Figures are drawn in one test only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.cli import main
from testbed.commands import reproduce as command
from testbed.commands.run import lasts_s
from testbed.errors import RunError, UnsupportedError, UserError
from testbed.experiment.catalogue import experiment_names, load_experiment, published_names
from testbed.experiment.progress import Place
from testbed.experiment.runner import Options
from testbed.report import write
from testbed.results import read_result

RECORDED = Path(__file__).resolve().parents[1] / "figures/recorded"

Runs = list[tuple[str, Options, Place]]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runs]:
    """Replace the runs; those named end otherwise than well. Returns what was run."""

    def plot_one(folder: Path) -> list[Path]:
        path = folder / f"{read_result(folder).experiment}.svg"
        path.touch()
        return [path]

    def put(*, drawn: bool = False, **ends: int | Exception) -> Runs:
        runs: Runs = []
        if not drawn:
            monkeypatch.setattr(command, "plot_one", plot_one)
            monkeypatch.setattr(write, "draw", lambda _: "not in this test")

        def run_one(name: str, *, out: Path, options: Options, place: Place) -> int:
            runs.append((name, options, place))
            end = ends.get(name, 0)
            if isinstance(end, UnsupportedError | UserError):
                raise end
            data = _recorded(name)
            if isinstance(end, Exception):
                data |= {"state": "failed", "reason": str(end)}
            if end == 1:
                data["checks"] = [{**data["checks"][0], "pass": False}, *data["checks"][1:]]
            out.mkdir(parents=True)
            (out / "result.json").write_text(json.dumps(data))
            if isinstance(end, Exception):
                raise end
            return end

        monkeypatch.setattr(command, "run_one", run_one)
        return runs

    return put


def _recorded(name: str) -> dict[str, Any]:
    path = RECORDED / name / "result.json"
    data: dict[str, Any] = json.loads(
        (path if path.exists() else RECORDED / "fig7_2/result.json").read_text()
    )
    return data | {"experiment": name}


def test_all_that_was_published_is_run_drawn_and_reported(
    tmp_path: Path, made_up: Callable[..., Runs], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has a folder of its own with its figure; the report's path is the last line."""
    runs = made_up(drawn=True)
    assert main(["reproduce", "--out", str(tmp_path)]) == 0
    assert [name for name, *_ in runs] == list(published_names())
    for name in published_names():
        (folder,) = tmp_path.glob(f"{name}-*")
        assert (folder / f"{name}.png").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"report in {tmp_path / 'report.html'} and {tmp_path / 'report.md'}"
    assert (tmp_path / "report.html").exists()


def test_time_left_is_that_of_all(tmp_path: Path, made_up: Callable[..., Runs]) -> None:
    """Each run knows its number and what comes after it; the last one has nothing after it."""
    runs = made_up()
    assert main(["reproduce", "--out", str(tmp_path), "--quick"]) == 0
    names = published_names()
    quick = Options(quick=True)
    lengths_s = [lasts_s(name, quick) for name in names]
    assert [options for _, options, _ in runs] == [quick] * len(names)
    assert [place.number for *_, place in runs] == list(range(1, len(names) + 1))
    assert {place.count for *_, place in runs} == {len(names)}
    assert [place.later_s for *_, place in runs] == pytest.approx(
        [sum(lengths_s[i + 1 :]) for i in range(len(names))]
    )


def test_all_of_chapter_7_takes_less_than_15_minutes() -> None:
    """By what the experiments themselves say of how long they take."""
    assert sum(lasts_s(name, Options()) for name in published_names()) < 15 * 60


def test_all_runs_what_goes_beyond_chapter_7_as_well(
    tmp_path: Path, made_up: Callable[..., Runs]
) -> None:
    """After what was published, every other experiment."""
    runs = made_up()
    main(["reproduce", "--out", str(tmp_path), "--all"])
    names = [name for name, *_ in runs]
    assert sorted(names) == list(experiment_names())
    assert names[: len(published_names())] == list(published_names())
    assert not any(load_experiment(name).published for name in names[len(published_names()) :])


def test_one_that_fails_stops_no_other(
    tmp_path: Path, made_up: Callable[..., Runs], capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest is run, the report is written and shows the failed one; it ends with 1."""
    runs = made_up(fig7_3=RunError("iperf3 was killed"))
    assert main(["reproduce", "--out", str(tmp_path)]) == 1
    assert len(runs) == len(published_names())
    assert "fig7_3 failed: iperf3 was killed" in capsys.readouterr().err
    text = (tmp_path / "report.md").read_text()
    assert "**FAILED** (iperf3 was killed)" in text
    assert "**not comparable: failed" in text


def test_fault_of_a_figure_stops_no_run(
    tmp_path: Path,
    made_up: Callable[..., Runs],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever goes wrong in drawing is said at the end; what was measured is reported."""
    runs = made_up()

    def plot_one(folder: Path) -> list[Path]:
        raise KeyError("threshold")

    monkeypatch.setattr(command, "plot_one", plot_one)
    assert main(["reproduce", "--out", str(tmp_path)]) == 1
    assert len(runs) == len(published_names())
    assert "the figure of fig7_2 was not drawn: unexpected KeyError" in capsys.readouterr().err
    assert (tmp_path / "report.html").exists()


def test_failed_check_ends_with_1(tmp_path: Path, made_up: Callable[..., Runs]) -> None:
    """The figure is drawn all the same: it shows what went wrong."""
    made_up(fig7_2=1)
    assert main(["reproduce", "--out", str(tmp_path)]) == 1
    assert list(tmp_path.glob("fig7_2-*/fig7_2.svg"))
    assert "1 OF 21 CHECKS FAILED" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("code", [130, 143])
def test_signal_stops(tmp_path: Path, made_up: Callable[..., Runs], code: int) -> None:
    """Nothing more is run, no report is written, and the code is the signal's."""
    runs = made_up(**{published_names()[1]: code})
    assert main(["reproduce", "--out", str(tmp_path)]) == code
    assert len(runs) == 2
    assert not (tmp_path / "report.html").exists()


def test_what_the_user_has_to_mend_stops(tmp_path: Path, made_up: Callable[..., Runs]) -> None:
    """Without root, say, the second one would do no better."""
    runs = made_up(**{published_names()[0]: UserError("needs root")})
    assert main(["reproduce", "--out", str(tmp_path)]) == 2
    assert len(runs) == 1


@pytest.mark.parametrize(("refused", "code"), [(("fig7_3",), 0), (published_names(), 3)])
def test_what_the_machine_cannot_run_is_left_out(
    tmp_path: Path,
    made_up: Callable[..., Runs],
    capsys: pytest.CaptureFixture[str],
    refused: tuple[str, ...],
    code: int,
) -> None:
    """The others run, and it is said which did not and why; 3 only where none could."""
    made_up(**dict.fromkeys(refused, UnsupportedError("no cpudist")))
    assert main(["reproduce", "--out", str(tmp_path)]) == code
    drawn = {path.stem for path in tmp_path.glob("*-*Z/*.svg")}
    assert drawn == set(published_names()) - set(refused)
    assert "fig7_3 cannot run on this machine: no cpudist" in capsys.readouterr().err
    if code == 0:
        assert (
            "**missing** make it with sudo nfcbed run fig7_3"
            in (tmp_path / "report.md").read_text()
        )


def test_report_shows_these_runs_and_no_earlier_ones(
    tmp_path: Path, made_up: Callable[..., Runs]
) -> None:
    """A better result of last week does not take the place of what was just found."""
    made_up()
    earlier = tmp_path / "fig7_2-20200101T000000Z"
    earlier.mkdir()
    data = _recorded("fig7_2") | {"quick": False, "title": "last week's"}
    (earlier / "result.json").write_text(json.dumps(data))
    assert main(["reproduce", "--out", str(tmp_path), "--quick"]) == 0
    assert "last week's" not in (tmp_path / "report.md").read_text()
