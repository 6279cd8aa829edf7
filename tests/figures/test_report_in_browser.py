# SPDX-License-Identifier: MIT
"""The report's page in a real browser, on a phone and on a desk, light and dark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testbed.report.items import ITEMS
from testbed.report.write import write_report
from tests.browser import Seen, browser, look_at
from tests.reports import BAD, recorded

PHONE, DESK = 390, 1280
WIDTHS = (PHONE, DESK)
READABLE = 4.5  # WCAG 2, level AA

pytestmark = pytest.mark.skipif(
    browser() is None, reason="no Chromium here: make test installs it where it is a package"
)


def results(folder: Path) -> Path:
    """All items, one of them host-limited with a long reason, one with a failed check."""
    for item in ITEMS:
        data = recorded(item.experiment)
        if item.experiment == "fig7_3":
            data |= BAD["host-limited"]
            data["validity"]["reasons"].append("a_word_without_any_space_" * 9)
        if item.experiment == "fig7_2":
            data["checks"][0]["pass"] = False
        (folder / item.experiment).mkdir(parents=True)
        (folder / item.experiment / "result.json").write_text(json.dumps(data))
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of such results."""
    folder = tmp_path_factory.mktemp("report")
    write_report([results(folder / "results")], out=folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def light(page: Path) -> Seen:
    return look_at(page, widths=WIDTHS)


@pytest.fixture(scope="module")
def dark(page: Path) -> Seen:
    return look_at(page, widths=WIDTHS, dark=True)


def test_page_asks_for_nothing_and_complains_of_nothing(light: Seen, dark: Seen) -> None:
    """No address but its own file, no error on the console."""
    assert light.requests == dark.requests == []
    assert light.console == dark.console == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(light: Seen, width: int) -> None:
    """One scrolls down only; what is wide scrolls in a place of its own."""
    frame = light.frames[width]
    assert frame["scroll_width"] <= width
    assert frame["wide"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_figures_are_seen(light: Seen, width: int) -> None:
    """One an item, loaded and drawn."""
    images = light.frames[width]["images"]
    assert len(images) == len(ITEMS)
    assert min(images) > 0


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_are_there_with_their_captions(light: Seen, width: int) -> None:
    """Each has rows below its head, and a caption that says what it is."""
    frame = light.frames[width]
    assert len(frame["tables"]) == len(frame["captions"]) > 3 * len(ITEMS)
    assert min(frame["tables"]) >= 2
    assert all(frame["captions"])


@pytest.mark.parametrize("width", WIDTHS)
def test_warning_is_read_before_anything_else(light: Seen, width: int) -> None:
    """The host-limited item and its reason stand above the first table."""
    text = light.frames[width]["text"]
    top = text[: text.index("Every published value")]
    assert "Not to be published as it stands" in top
    assert "vm3: 159 packets lost" in top
    assert "not comparable: host-limited" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_every_text_can_be_read_by_day_and_by_night(light: Seen, dark: Seen, width: int) -> None:
    """Both schemes are used, and no text is fainter than WCAG's level AA asks for."""
    day, night = light.frames[width], dark.frames[width]
    assert day["background"] == "rgb(255, 255, 255)"
    assert night["background"] != day["background"]
    for frame in (day, night):
        contrast, text = frame["least_contrast"]
        assert contrast >= READABLE, text


@pytest.mark.parametrize(
    ("evil", "complains"),
    [
        ("<script>document.title = 1</script>", True),
        ('<img src="https://outside.example/x.png">', True),
        ('<p style="width: 2000px">wide</p>', False),
    ],
    ids=["script", "image", "wide"],
)
def test_faults_would_be_seen(
    page: Path, tmp_path: Path, evil: str, complains: bool, light: Seen
) -> None:
    """A script, an image from elsewhere and a wide line each make the checks above fail."""
    spoiled = tmp_path / "report.html"
    spoiled.write_text(page.read_text().replace("</header>", f"{evil}</header>"))
    seen = look_at(spoiled, widths=(PHONE,))
    assert bool(seen.console) == complains
    assert (seen.frames[PHONE]["scroll_width"] > PHONE) != complains
    assert seen.requests == []  # the page's own policy forbids it before it is asked for


def test_request_would_be_seen(tmp_path: Path) -> None:
    """Without that policy, an image from elsewhere is asked for, and counted."""
    plain = tmp_path / "plain.html"
    plain.write_text('<img src="http://outside.example/x.png">')
    assert look_at(plain, widths=(PHONE,)).requests == ["http://outside.example/x.png"]
