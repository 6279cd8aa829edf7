# SPDX-License-Identifier: MIT
"""How far a run is, and how far all are of several."""

from __future__ import annotations

import pytest

from testbed.experiment.progress import Place, in_words, show_progress


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min  0 s"), (200, "3 min 20 s"), (-5, "0 s")],
)
def test_lengths_of_time_are_in_words(seconds: float, words: str) -> None:
    """Seconds, or minutes and seconds; what is overdue is no time."""
    assert in_words(seconds) == words


def test_single_run_tells_its_own_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a step where nobody looks at a terminal, on standard error."""
    with show_progress("fig7_2", 31.0) as progress:
        progress.step("phase 1")
    assert capsys.readouterr() == ("", "fig7_2: phase 1 (31 s left)\n")


def test_one_of_several_tells_the_time_left_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Which one it is, its own time, and that with those after it."""
    place = Place(number=2, count=4, later_s=170)
    with show_progress("fig7_3", 30.0, place=place) as progress:
        progress.step("idle [1]")
    line = "2 of 4: fig7_3: idle [1] (30 s left, 3 min 20 s in all)\n"
    assert capsys.readouterr().err == line
