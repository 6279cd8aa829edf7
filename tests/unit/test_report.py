# SPDX-License-Identifier: MIT
"""``nfcbed report``: markings, what is missing, which result is shown, and nothing injected."""

from __future__ import annotations

import html as htmllib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.cli import main
from testbed.report import write
from testbed.report.items import ITEMS
from testbed.report.verdicts import compare, marks
from tests.reports import BAD, HOST_LIMITED, Page, recorded, recorded_result

Store = Callable[..., Path]
Texts = Callable[..., tuple[str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Store recorded results, with changes, each in a folder below results/."""

    def put(name: str, *, folder: str = "", **changes: Any) -> Path:
        path = tmp_path / "results" / (folder or name)
        path.mkdir(parents=True)
        (path / "result.json").write_text(json.dumps(recorded(name, **changes)))
        return path

    return put


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Texts:
    """Write the report of what was stored; gives HTML and Markdown. Figures only if asked for."""

    def write_both(*, drawn: bool = False) -> tuple[str, str]:
        if not drawn:
            monkeypatch.setattr(write, "draw", lambda _: "not in this test")
        out = tmp_path / "out"
        (tmp_path / "results").mkdir(exist_ok=True)
        assert main(["report", str(tmp_path / "results"), "--out", str(out)]) == 0
        return (out / "report.html").read_text(), (out / "report.md").read_text()

    return write_both


@pytest.mark.parametrize("mark", BAD)
def test_mark_stands_at_the_top_in_the_row_and_in_the_section(
    store: Store, texts: Texts, mark: str
) -> None:
    """In the page and in the Markdown: banner, each row's verdict, section, with the reason."""
    store("table7_4", **BAD[mark])
    html, markdown = texts()
    words = Page(html).words
    reasons = "; ".join(
        m for mk in marks(recorded_result("table7_4", **BAD[mark])) for m in mk.reasons
    )
    banner, _, rest = words.partition("Published beside ours")
    assert "Not to be published as it stands" in banner
    assert f"{mark} {reasons}".strip() in banner
    assert rest.count(f"not comparable: {mark}") == 6
    assert f"{mark} {reasons}".strip() in rest.partition("What was run")[2]
    assert markdown.count(f"**not comparable: {mark}**") == 6
    assert markdown.index(f"**{mark.upper()}**") < markdown.index("## Published beside ours")


def test_failed_checks_come_first_and_are_named(store: Store, texts: Texts) -> None:
    """At the top of the page by name, and before all other tables of the section."""
    data = recorded("fig7_2")
    data["checks"][7]["pass"] = False
    name = data["checks"][7]["name"]
    store("fig7_2", checks=data["checks"])
    html, markdown = texts()
    words = Page(html).words
    assert f"1 of 21 checks failed {name}" in words.partition("Published beside ours")[0]
    for text in (words, markdown):
        assert text.index("Checks that failed (1)") < text.index("Means of each phase")
        assert "Checks that passed (20)" in text


def test_missing_items_say_what_makes_them(store: Store, texts: Texts) -> None:
    """An item without a result is a row of its own, and no item is left out."""
    store("fig7_2")
    html, markdown = texts()
    words = Page(html).words
    for name in ("table7_3", "fig7_3", "table7_4"):
        assert f"missing Nothing to show yet; make it with sudo nfcbed run {name}" in words
        assert f"**missing** make it with sudo nfcbed run {name}" in markdown
    assert "1 of 4 published items with a result that counts" in words


def test_folder_without_results_gives_a_report_that_says_so(
    texts: Texts,
) -> None:
    """Everything is missing, and nothing fails."""
    assert "0 of 4 published items" in Page(texts()[0]).words


# ---------------------------------------------------------------- which result is shown


def test_newest_complete_full_result_is_shown(store: Store, texts: Texts) -> None:
    """Neither a newer quick one nor a newer one that was cut short takes its place."""
    old, new = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
    newer, newest = "2026-01-03T00:00:00+00:00", "2026-01-04T00:00:00+00:00"
    store("table7_4", folder="a", started=new, title="the one")
    store("table7_4", folder="b", started=old, title="older")
    store("table7_4", folder="c", started=newer, title="quick one", quick=True)
    store("table7_4", folder="d", started=newest, title="cut short", state="failed")
    markdown = texts()[1]
    assert "## the one" in markdown
    assert "3 more of this experiment" in markdown
    assert not re.search("^## (older|quick one|cut short)", markdown, re.MULTILINE)


def test_good_older_result_does_not_hide_a_host_limited_newer_one(
    store: Store, texts: Texts
) -> None:
    """Nobody gets a clean report by keeping the luckiest run."""
    store("table7_4", folder="a", started="2026-01-01T00:00:00+00:00")
    store("table7_4", folder="b", started="2026-01-02T00:00:00+00:00", **HOST_LIMITED)
    assert "not comparable: host-limited" in texts()[1]


def test_unreadable_result_is_named_and_stops_nothing(
    store: Store, texts: Texts, capsys: pytest.CaptureFixture[str]
) -> None:
    """Below a folder it is named in the report; given by name it is the user's mistake."""
    store("fig7_2")
    broken = store("table7_4", folder="broken")
    (broken / "result.json").write_text("{")
    assert "broken" in Page(texts()[0]).words
    assert main(["report", str(broken)]) == 2
    assert "is not JSON" in capsys.readouterr().err
    assert not (broken / "report.html").exists()


def test_folder_that_is_not_there_is_said_in_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, no traceback."""
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


# ---------------------------------------------------------------- what it is made of


def test_page_holds_all_it_needs(store: Store, texts: Texts) -> None:
    """No script, no link to a file or a host; figures are in it and described; tables titled."""
    for item in ITEMS:
        store(item.experiment)
    page = Page(texts(drawn=True)[0])
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(names)
    for tag, attributes in page.tags:
        for key in ("src", "href", "srcset", "background", "action"):
            value = attributes.get(key)
            if value is not None:
                assert value.startswith("#" if tag == "a" else "data:image/svg+xml;base64,")
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(ITEMS)
    assert all(len(image["alt"] or "") > 30 for image in images)
    assert names.count("caption") == names.count("table")
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    anchors = {attributes.get("id") for _, attributes in page.tags}
    assert {a["href"] for t, a in page.tags if t == "a"} <= {f"#{anchor}" for anchor in anchors}


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>![x](https://evil.example/x.png)|"


def test_nothing_in_a_result_becomes_markup(store: Store, texts: Texts) -> None:
    """Title, reasons, names, ledger and machine may say what they like: it is text."""
    data = recorded("table7_4")
    data["checks"][0]["name"] = data["compared"][0]["name"] = EVIL
    data["facts"]["ledger"]["lost"] = {EVIL: 3}
    folder = store(
        "table7_4",
        title=EVIL,
        checks=data["checks"],
        compared=data["compared"],
        facts=data["facts"],
        options={EVIL: EVIL},
        validity={"state": "host-limited", "reasons": [EVIL]},
    )
    (folder / "environment.json").write_text(
        json.dumps({"format": "nfcbed-environment", "version": 1, "command": EVIL, "system": EVIL})
    )
    html, markdown = texts(drawn=True)
    page = Page(html)
    assert "script" not in [tag for tag, _ in page.tags]
    assert [(a["alt"] or "")[:8] for t, a in page.tags if t == "img"] == [EVIL[:8]]  # the figure
    assert page.words.count("<script>alert(1)</script>") > 8
    assert "<script" not in markdown
    assert "<img" not in markdown
    assert not re.search(r"(?<!\\)\]\(https?:", markdown)
    rows = [line for line in markdown.splitlines() if line.startswith("| Table 7.4")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {9, 6}


def test_experiment_of_another_name_opens_no_file(
    store: Store, texts: Texts, tmp_path: Path
) -> None:
    """A name from elsewhere is neither imported nor used as a path."""
    store("table7_4", experiment="../../evil")
    html, markdown = texts(drawn=True)
    assert "no figure is known for experiment" in Page(html).words
    assert "no figure is known for experiment" in markdown
    assert not list(tmp_path.rglob("*evil*"))


def test_result_that_cannot_be_drawn_is_reported_all_the_same(store: Store, texts: Texts) -> None:
    """A figure that lacks what it shows is replaced by a sentence."""
    store("table7_4", parameters={})
    assert "There is no figure: it could not be drawn (KeyError" in Page(texts(drawn=True)[0]).words


def test_markdown_says_the_same_as_the_page(store: Store, texts: Texts, tmp_path: Path) -> None:
    """Every row of the comparison, every caption and every figure is in both."""
    for item in ITEMS:
        store(item.experiment)
    html, markdown = texts(drawn=True)
    words = Page(html).words
    lines = [line.split(" | ") for line in markdown.splitlines() if re.match(r"\| \w+ 7", line)]
    compared = [cells for cells in lines if len(cells) == 8]
    assert len(compared) == sum(
        len(compare(recorded_result(item.experiment), item)) for item in ITEMS
    )
    for _, name, unit, published, ours, interval, ratio, verdict in compared:
        said = htmllib.unescape(verdict.removesuffix(" |").replace("*", ""))
        row = f"{name} {published} {unit} {ours} {unit} {interval} {ratio} {said}"
        assert " ".join(row.split()) in words
    for caption in re.findall(r"^(\w.*):$", markdown, re.MULTILINE):
        if caption not in ("This run", "To repeat it"):
            assert caption in words
    figures = re.findall(r"!\[.*\]\((report-\w+\.svg)\)", markdown)
    assert len(figures) == len(ITEMS)
    assert all((tmp_path / "out" / name).stat().st_size > 10_000 for name in figures)


def test_same_results_give_the_same_files(store: Store, texts: Texts) -> None:
    """No time of its own, no order by chance."""
    store("table7_4")
    assert texts() == texts()


def test_curves_beyond_chapter_7_have_a_table_of_their_own(store: Store, texts: Texts) -> None:
    """One row a value of x, one column a way, interval in brackets; what is missing says why."""
    points = [{"x": 0, "value": 219.4, "low": 218, "high": 221}, {"x": 32, "value": 283.5}]
    none = [{"x": 0, "value": 500}, {"x": 32, "value": None, "note": "more than nft takes"}]
    common = {"quantity": "time per packet", "unit": "ns", "x_quantity": "NFs"}
    store(
        "table7_4",
        experiment="sweep_nfs",
        title="Number of NFs",
        compared=[],
        curves=[
            {"way": "chain", "text": "classify, then NFs", "points": points, **common},
            {"way": "nftables", "text": "as many rules", "points": none, **common},
        ],
    )
    html, markdown = texts()
    assert "Beyond chapter 7" in Page(html).words
    method = "what is seen is the way from one NF to the next"
    assert method in Page(html).words
    assert method in markdown
    assert "| 0 | 219.4 \\[218, 221\\] | 500 |" in markdown
    assert "| 32 | 283.5 | – |" in markdown
    assert "nftables, 32: more than nft takes" in markdown
    assert "nftables, 32: more than nft takes" in Page(html).words


def test_report_imports_nothing_that_needs_root() -> None:
    """It is written on a machine without Mininet, libbpf or iperf3."""
    program = (
        "import sys, testbed.commands.report;"
        "print([m for m in sys.modules if m.startswith(('mininet', 'pyroute2', 'testbed.bpf',"
        " 'testbed.network', 'testbed.sandbox', 'experiments'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as sudo has it")
def test_files_belong_to_who_called_sudo(
    store: Store, texts: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page, Markdown and figures; and the folder, if the report made it."""
    monkeypatch.setenv("SUDO_UID", "12345")
    monkeypatch.setenv("SUDO_GID", "12346")
    store("table7_4")
    texts(drawn=True)
    made = [tmp_path / "out", *(tmp_path / "out").iterdir()]
    assert len(made) == 4
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12345, 12346)}


def bench(folder: Path, **changes: Any) -> None:
    """Store a bench of two aims: one reached, one missed."""
    target = {"key": "a", "part": "chain", "bound": 1.5}
    rows = [
        {
            "target": {**target, "text": text},
            "finding": {"value": value, "low": value - 0.01, "high": value + 0.01},
            "judged": value - 0.01,
            "reached": value > 1.51,
            "verdict": "reached" if value > 1.51 else "missed by 20 %",
        }
        for text, value in ((f"chain / routing {EVIL}", 1.61), ("chain / nftables", 1.21))
    ]
    data = {
        "format": "nfcbed-bench",
        "version": 1,
        "quick": False,
        "started": "2026-11-25T04:00:00+00:00",
        "parts": [],
        "rows": rows,
        "faults": [],
        "environment": {},
    }
    folder.mkdir(parents=True)
    (folder / "bench.json").write_text(json.dumps(data | changes))


def test_bench_is_shown_with_its_aims(tmp_path: Path, texts: Texts) -> None:
    """Value, interval, what was asked, and whether it was reached; text stays text."""
    bench(tmp_path / "results/bench")
    html, markdown = texts()
    words = Page(html).words
    assert "<script>alert(1)</script>" in words
    assert "<script" not in html.partition("</style>")[2]
    assert "chain / nftables 1.21 1.2 … 1.22 ≥ 1.5 missed by 20 %" in words
    assert "| chain / nftables | 1.21 | 1.2 … 1.22 | ≥ 1.5 | missed by 20 % |" in markdown
    assert "1 of 2 aims reached, 1 missed" in words


@pytest.mark.parametrize(
    ("changes", "mark"),
    [({"quick": True}, "quick run"), ({"faults": ["3 packets lost"]}, "failed 3 packets lost")],
)
def test_bench_that_is_no_evidence_is_marked_at_the_top(
    tmp_path: Path, texts: Texts, changes: dict[str, Any], mark: str
) -> None:
    """Like a result; a quick one is not judged and gets no summary."""
    bench(tmp_path / "results/bench", **changes)
    words = Page(texts()[0]).words
    assert f"What a packet costs {mark}" in words.partition("Published beside ours")[0]
    assert ("not judged: quick run" in words) == ("quick" in changes)
    assert ("aims reached" in words) == ("quick" not in changes)


def test_bench_of_another_format_is_named(tmp_path: Path, texts: Texts) -> None:
    """It stops nothing, and is not silently left out."""
    bench(tmp_path / "results/bench", format="something-else")
    assert "bench.json: cannot be read: format is not as it should be" in Page(texts()[0]).words
