# SPDX-License-Identifier: MIT
"""What the report says of a value beside the published one, by values known by hand."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.experiment.catalogue import published_names
from testbed.report.items import ITEMS, differences_of
from testbed.report.verdicts import Verdict, Word, aim_in_words, compare, marks
from testbed.results import Compared
from tests.reports import BAD, recorded, recorded_result


def verdicts(name: str, **changes: Any) -> dict[str, Verdict]:
    (item,) = (item for item in ITEMS if item.experiment == name)
    return {
        verdict.row.name: verdict for verdict in compare(recorded_result(name, **changes), item)
    }


def row(name: str, value: float | None, published: float, **more: Any) -> dict[str, Any]:
    return Compared(name=name, value=value, published=published, **more).model_dump(mode="json")


def test_items_are_what_the_thesis_published() -> None:
    """No published experiment is left out of the report, and none is there twice."""
    assert sorted(item.experiment for item in ITEMS) == list(published_names())


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.experiment)
def test_every_published_value_has_a_rule(item: Any) -> None:
    """What a run of today compares is judged on purpose, not left to chance."""
    found = compare(recorded_result(item.experiment), item)
    assert found
    for verdict in found:
        assert any(rule.takes(verdict.row.name) for rule in item.rules), verdict.row.name


def test_figure_7_2_is_judged_level_by_level_by_the_runs_own_checks() -> None:
    """Six values beside 50, 150 and 0; a ratio only where the published one is not 0."""
    data = recorded("fig7_2")
    for check in data["checks"]:
        if check["name"] == "flow 2, phase 2: at vm3":
            check["pass"] = False
    found = verdicts("fig7_2", checks=data["checks"])
    assert len(found) == 6
    assert [v.row.published for v in found.values()] == [50, 50, 150, 150, 0, 0]
    first = found["flow 1, phase 1: at vm2"]
    assert first.row.value == 49.991049
    assert first.ratio == pytest.approx(0.99982098)
    assert (first.word, first.because) == (Word.AGREES, "wanted: 50 ± 1 Mbit/s")
    assert found["flow 1, phase 3: at vm2"].ratio is None
    assert found["flow 1, phase 3: at vm2"].word is Word.AGREES
    assert found["flow 2, phase 2: at vm3"].word is Word.DIFFERS


RATIO = "flow 1, NFC / routing"


@pytest.mark.parametrize(
    ("low", "high", "word", "because"),
    [
        (0.9991, 0.9999, Word.BETTER, "aim ≥ 0.999 reached"),
        (0.9960, 0.9999, Word.BETTER, "aim ≥ 0.999 not reached"),
        (0.9930, 0.9999, Word.AGREES, "aim ≥ 0.999 not reached"),
        (0.9930, 0.9942, Word.DIFFERS, "aim ≥ 0.999 not reached"),
    ],
)
def test_ratio_of_table_7_4_is_judged_by_its_interval(
    low: float, high: float, word: Word, because: str
) -> None:
    """Against 0.9943: better if all of it lies above, different if all of it lies below."""
    ours = row(RATIO, (low + high) / 2, 0.9943, low=low, high=high, aim=0.999)
    found = verdicts("table7_4", compared=[ours])[RATIO]
    assert (found.word, found.because) == (word, because)


@pytest.mark.parametrize(
    ("low", "high", "at_most", "text"),
    [
        (0.70, 0.75, True, "≤ 0.75 reached"),
        (0.70, 0.76, True, "≤ 0.75 not reached"),
        (0.75, 0.90, False, "≥ 0.75 reached"),
        (0.74, 0.90, False, "≥ 0.75 not reached"),
    ],
)
def test_aim_is_judged_on_the_unfavourable_end(
    low: float, high: float, at_most: bool, text: str
) -> None:
    """Of what should be small the upper end, of what should be large the lower one."""
    ours = Compared(name="ratio", value=0.75, low=low, high=high, aim=0.75, at_most=at_most)
    assert aim_in_words(ours) == text
    assert aim_in_words(ours, evidence=False) == f"{text[:6]} not judged"


def test_absolute_rates_of_table_7_4_are_not_praised() -> None:
    """1,000 Mbit/s on another machine is no better than 801.6: for context."""
    found = verdicts("table7_4")["flow 1, plain routing"]
    assert found.word is Word.CONTEXT
    assert found.ratio == pytest.approx(999.882201 / 801.6)


@pytest.mark.parametrize(
    ("value", "word"),
    [(1.49, Word.DIFFERS), (1.5, Word.AGREES), (2.5, Word.AGREES), (2.51, Word.DIFFERS)],
)
def test_about_twice_of_figure_7_3_is_1_5_to_2_5(value: float, word: Word) -> None:
    """The thesis says no more than about twice."""
    name = "processing / idle: stretches"
    assert verdicts("fig7_3", compared=[row(name, value, 2.0)])[name].word is word


@pytest.mark.parametrize(("value", "word"), [(2048.0, Word.AGREES), (1024.0, Word.DIFFERS)])
def test_fullest_bin_of_figure_7_3_is_the_published_one_or_not(value: float, word: Word) -> None:
    """There is no nearly the same bin."""
    name = "idle: fullest bin, from"
    assert verdicts("fig7_3", compared=[row(name, value, 2048.0)])[name].word is word


def test_memory_of_table_7_3_says_what_the_chain_holds() -> None:
    """Memory of a machine is context; the bytes that are the chain's stand beside it."""
    found = verdicts("table7_3")["processing − idle: memory used (vmstat)"]
    assert found.word is Word.CONTEXT
    assert found.ratio is None  # −174,044 by 180 would say nothing
    assert "the chain's maps hold 67,720 byte" in found.because
    assert "the chain's programs hold 57,344 byte" in found.because


def test_value_that_was_not_measured_is_not_nought() -> None:
    """It has no ratio, and the verdict says that it is missing."""
    name = "processing / idle: stretches"
    found = verdicts("fig7_3", compared=[row(name, None, 2.0)])[name]
    assert (found.word, found.ratio) == (Word.MISSING, None)


@pytest.mark.parametrize("name", [item.experiment for item in ITEMS])
@pytest.mark.parametrize("mark", BAD)
def test_no_ratio_is_given_of_what_is_no_evidence(name: str, mark: str) -> None:
    """Not one value of a host-limited, quick or unfinished run is judged or set in relation."""
    found = verdicts(name, **BAD[mark])
    assert found
    assert {v.word for v in found.values()} == {Word.NOT_COMPARABLE}
    assert {v.ratio for v in found.values()} == {None}
    assert {v.because for v in found.values()} == {mark}


def test_good_result_has_no_mark() -> None:
    """The markings mean something."""
    assert marks(recorded_result("table7_4")) == ()


def test_differences_name_the_runs_own_values() -> None:
    """MTU and the like come from the result; what it does not hold is said to be missing."""
    (item,) = (item for item in ITEMS if item.experiment == "table7_4")
    texts = " ".join(d.here for d in differences_of(item, {"mtu": 9000}))
    assert "MTU 9000" in texts
    assert "{" not in texts
    assert "(not stored)" in " ".join(d.here for d in differences_of(item, {}))
