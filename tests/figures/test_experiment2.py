# SPDX-License-Identifier: MIT
"""Table 7.3 and Figure 7.3 drawn from recorded quick runs, without root and without a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from plots import fig7_3, table7_3
from testbed.cli import main
from testbed.results import Compared, Result, Validity, read_result
from tests.drawn import RECORDED, imports_that_need_root, words

DRAWINGS = {"table7_3": table7_3.draw, "fig7_3": fig7_3.draw}
NAMES = tuple(DRAWINGS)


def recorded(name: str) -> Result:
    return read_result(RECORDED / name)


@pytest.mark.parametrize("name", NAMES)
def test_both_files_lie_beside_the_data_and_depend_on_it_alone(name: str, tmp_path: Path) -> None:
    """PNG and SVG; the same data gives the same SVG."""
    (tmp_path / "result.json").write_text((RECORDED / name / "result.json").read_text())
    texts = []
    for _ in range(2):
        assert main(["plot", str(tmp_path)]) == 0
        texts.append((tmp_path / f"{name}.svg").read_text())
    assert texts[0] == texts[1]
    assert {path.name for path in tmp_path.iterdir()} == {
        *("result.json", f"{name}.png", f"{name}.svg")
    }


def test_table_has_ours_beside_the_published_values() -> None:
    """Both states, memory and CPU, as measured and as published."""
    result = recorded("table7_3")
    figure = table7_3.draw(result)
    (table,) = figure.axes[2].tables
    rows: dict[str, list[str]] = {}
    for (row, _), cell in sorted(table.get_celld().items()):
        rows.setdefault(str(row), []).append(cell.get_text().get_text())
    lines = {cells[0]: cells[1:] for cells in rows.values()}
    memory = {row.name: row.value for row in result.compared if row.value is not None}
    assert lines["memory used (vmstat), KB"] == [
        f"{memory['idle: memory used (vmstat)']:,.0f}",
        f"{memory['processing: memory used (vmstat)']:,.0f}",
        "766,664",
        "766,844",
    ]
    assert lines["CPU (vmstat, whole machine), %"][2:] == ["0", "0"]
    assert lines["processing − idle: memory used (vmstat), KB"][3] == "180"
    held = memory["processing: the chain's maps hold"]
    assert lines["the chain's maps hold, byte"][1] == f"{held:,.0f}"


def test_memory_is_drawn_against_idle() -> None:
    """Every sample of both states, in MB more or less than the median when idle."""
    result = recorded("table7_3")
    lines = table7_3.draw(result).axes[0].lines
    zero_kb = result.facts["states"]["idle"]["vmstat"]["used_kb"]
    for line, name in zip(lines, ("idle", "processing"), strict=False):
        (course,) = (s for s in result.series if (s.quantity, s.node) == ("memory used", name))
        assert list(np.asarray(line.get_ydata())) == pytest.approx(
            [(kb - zero_kb) / 1024 for kb in course.values]
        )


def test_histogram_has_the_counts_of_each_bin() -> None:
    """One bar a bin, the same bins in both states, and the published fullest one marked."""
    result = recorded("fig7_3")
    figure = fig7_3.draw(result)
    for axes, name in zip(figure.axes, ("idle", "processing"), strict=True):
        counts = [row[2] for row in result.facts["histograms"][name]]
        (bars,) = axes.containers
        assert [bar.get_height() for bar in bars] == counts
        assert f"{sum(counts):,} stretches" in axes.get_title(loc="left")
    ticks = [[t.get_text() for t in axes.get_xticklabels()] for axes in figure.axes]
    assert ticks[0] == ticks[1]
    assert "2,048" in ticks[0]
    assert "published:\nfullest bin" in words(figure)


@pytest.mark.parametrize("name", NAMES)
def test_host_limited_run_is_stamped_and_a_valid_one_is_not(name: str) -> None:
    """A busy machine's figure cannot pass for a good one; it says why."""
    limited = Validity(state="host-limited", reasons=("idle: other work took 93%",))
    for validity, stamped in ((limited, True), (Validity(state="valid"), False)):
        text = words(DRAWINGS[name](recorded(name).model_copy(update={"validity": validity})))
        assert ("HOST-LIMITED" in text) is stamped
        assert ("other work took 93%" in text) is stamped


@pytest.mark.parametrize("name", NAMES)
def test_run_that_was_cut_short_is_drawn_as_far_as_it_came(name: str) -> None:
    """One state alone still makes a figure, with a stamp."""
    data = json.loads((RECORDED / name / "result.json").read_text())
    for fact in ("states", "histograms"):
        data["facts"].get(fact, {}).pop("processing", None)
    data["series"] = [s for s in data["series"] if s["node"] == "idle"]
    data["compared"] = [row for row in data["compared"] if row["name"].startswith("idle")]
    data |= {"state": "failed", "reason": "interrupted", "checks": []}
    assert "INCOMPLETE RUN" in words(DRAWINGS[name](Result.model_validate(data)))


@pytest.mark.parametrize("name", NAMES)
def test_drawing_imports_nothing_that_needs_root(name: str) -> None:
    """A figure is drawn on a machine without Mininet, libbpf or iperf3."""
    assert imports_that_need_root(f"plots.{name}") == []


def result_with_rounds() -> Result:
    """The recorded result of Table 7.3 and two made-up rounds of its three ways."""
    ns = {"routing": (1000.0, 1100.0), "in-stack": (1200.0, 1210.0), "forwarding": (700.0, 720.0)}
    texts = ("plain routing", "chain, in-stack", "chain, forwarding")
    rows = [
        Compared(name=f"CPU time per packet, {text}", unit="ns", value=low + 1, low=low, high=high)
        for text, (low, high) in zip(texts, ns.values(), strict=True)
    ]
    rows += [
        Compared(
            name=f"CPU time per packet, {way} / routing",
            value=value,
            low=value - 0.01,
            high=value + 0.02,
            aim=aim,
            at_most=True,
        )
        for way, value, aim in (("in-stack", 1.17, 1.15), ("forwarding", 0.66, 0.75))
    ]
    rounds = [
        {"way": way, "round": number, "softirq_ns_per_packet": values[number]}
        for way, values in ns.items()
        for number in (0, 1)
    ]
    result = recorded("table7_3")
    kept = [row for row in result.compared if not row.name.startswith("CPU time per packet")]
    facts = {**result.facts, "rounds": rounds}
    return result.model_copy(update={"compared": (*kept, *rows), "facts": facts})


def test_cost_of_a_packet_is_drawn_with_its_interval_and_every_round() -> None:
    """One bar a way, a dot a round, and the ratio to routing with interval and aim."""
    figure = table7_3.draw(result_with_rounds())
    (axes,) = (a for a in figure.axes if "What a packet costs" in a.get_title(loc="left"))
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [bar.get_width() for bar in bars] == [1001.0, 1201.0, 701.0]
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    dots = [float(x) for line in lines for x in np.asarray(line.get_xdata())]
    assert sorted(dots) == [700.0, 720.0, 1000.0, 1100.0, 1200.0, 1210.0]
    text = words(figure)
    assert "1.170 of routing [1.160, 1.190], aim ≤ 1.15" in text
    assert "0.660 of routing [0.650, 0.680], aim ≤ 0.75" in text
    assert "2 rounds in turn" in text


def test_table_without_rounds_has_no_such_drawing() -> None:
    """Older results, and machines that cannot trace, are drawn as far as they go."""
    result = recorded("table7_3")
    rows = [row for row in result.compared if not row.name.startswith("CPU time per packet")]
    figure = table7_3.draw(result.model_copy(update={"compared": tuple(rows)}))
    assert "What a packet costs" not in words(figure)
