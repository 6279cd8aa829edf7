# SPDX-License-Identifier: MIT
"""`nfcbed bench` for real, in short: it must not rot. The figures are not judged here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testbed.bench.floodrecord import FloodRecord
from testbed.bench.memory import TARGETS as MEMORY_TARGETS
from testbed.bench.parts import PARTS
from testbed.bench.record import BenchRecord, read_record
from testbed.bench.table import BenchTable
from testbed.bench.variants import VARIANTS
from testbed.cli import main
from testbed.errors import UserError
from testbed.netnode import NetNode
from tests.netns.conftest import QuickBench

pytestmark = pytest.mark.needs("namespaces", "veth", "xdp_live_frames", "redirect_peer")

ALL = (
    *("conntrack_kfuncs", "nft_nat", "nft", "conntrack", "map_memory", "iperf3", "vmstat"),
    *("bpf_stats", "tp_btf"),
)


@pytest.fixture(scope="module")
def folder(quick_bench: QuickBench) -> Path:
    """One quick run of all parts."""
    assert quick_bench.code == 0
    return quick_bench.folder


@pytest.fixture(scope="module")
def record(folder: Path) -> BenchRecord:
    """What its part chain measured."""
    return read_record(folder / "chain.json")


def medians(record: BenchRecord) -> dict[str, float]:
    return {v.name: v.ns_per_packet.median for v in record.variants if v.ns_per_packet}


@pytest.mark.needs(*ALL)
def test_every_aim_has_a_row(folder: Path) -> None:
    """One table with every aim: a value and its interval, or why there is none."""
    table = BenchTable.model_validate_json((folder / "bench.json").read_bytes())
    assert table.quick
    assert table.faults == ()
    assert [part.name for part in table.parts] == [part.name for part in PARTS]
    assert all(part.file and (folder / part.file).is_file() for part in table.parts)
    rows = {row.target.key: row for row in table.rows}
    assert list(rows) == [target.key for part in PARTS for target in part.targets]
    assert {key for key, row in rows.items() if row.finding.value is None} == set()
    exact = {key for key, row in rows.items() if row.finding.low is None}
    assert exact == {target.key for target in MEMORY_TARGETS}
    text = (folder / "bench.md").read_text()
    assert all(f"| {row.target.text} |" in text and row.verdict in text for row in table.rows)


@pytest.mark.needs(*ALL)
def test_flood_is_denied_and_takes_nothing(folder: Path) -> None:
    """DAD dropped the flood, packet by packet, and every packet of all runs is accounted for."""
    flood = FloodRecord.model_validate_json((folder / "flood.json").read_bytes())
    assert flood.unexplained == 0
    assert [run.flooded for run in flood.runs].count(True) == flood.settings.rounds
    for run in flood.runs:
        assert run.good_arrived > 1000
        if run.flooded:
            assert run.flood_entered > 2.5 * run.good_entered
            assert run.denied >= 0.99 * run.flood_entered
        else:
            assert (run.flood_entered, run.denied) == (0, 0)


def test_options_before_a_part_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """They would be lost without a word otherwise: exit code 2, and where they go."""
    assert main(["bench", "--quick", "chain"]) == 2
    assert "options go behind the part: nfcbed bench chain" in capfd.readouterr().err


@pytest.mark.needs("conntrack_kfuncs", "nft_nat", "nft", "conntrack")
def test_every_variant_delivers_everything(record: BenchRecord) -> None:
    """Every variant was measured in every round, and not one packet of any got lost."""
    assert [v.name for v in record.variants] == list(VARIANTS)
    assert {v.name: v.skipped for v in record.variants if v.skipped} == {}
    assert len(record.rounds) == record.settings.rounds * len(VARIANTS)
    assert all(entry.used for entry in record.rounds)
    assert {v.delivered for v in record.variants} == {1.0, None}
    generator = [entry for entry in record.rounds if entry.variant == "generator"]
    assert {entry.delivered for entry in generator} == {0}


def test_figures_are_sane(record: BenchRecord) -> None:
    """What does more costs more, where that is beyond doubt."""
    ns = medians(record)
    assert 0 < ns["generator"] < ns["limit"] < ns["routing"] < ns["nftables"]
    assert ns["limit"] < ns["chain-direct"] < ns["chain-stack"]
    assert all(ns["limit"] < value < 100_000 for name, value in ns.items() if "chain" in name)


def test_rounds_are_interleaved(record: BenchRecord) -> None:
    """Each round has each variant once, in an order of its own."""
    orders: dict[int, list[str]] = {}
    for entry in record.rounds:
        orders.setdefault(entry.round, []).append(entry.variant)
    assert all(sorted(order) == sorted(VARIANTS) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == record.settings.rounds


def test_aims_are_told(record: BenchRecord) -> None:
    """Every aim has its interval and the rounds it stands on."""
    assert len(record.aims) == 13
    for entry in record.aims:
        assert entry.rounds == record.settings.rounds
        # With so few rounds the value itself may lie outside.
        assert entry.interval.low <= entry.interval.high
        assert entry.judged in (entry.interval.low, entry.interval.high)


def test_json_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """--json prints the file's text, here of two variants that were named."""
    arguments = ["--rounds", "2", "--packets", "2000", "--variants", "limit,routing", "--json"]
    assert main(["bench", "chain", *arguments]) == 0
    found = BenchRecord.model_validate_json(capfd.readouterr().out)
    assert [v.name for v in found.variants] == ["limit", "routing"]
    assert (found.settings.rounds, found.settings.packets) == (2, 2000)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variants", "limit,fast"], "there is no 'fast'"),
        (["--cpu", "4095"], "--cpu 4095: this process may use"),
        (["--out", "/proc/nowhere"], "--out /proc/nowhere"),
    ],
)
def test_wrong_options(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A mistake is told in one message, with exit code 2."""
    assert main(["bench", "chain", "--quick", *arguments]) == 2
    assert said in capfd.readouterr().err


def test_wrong_file(tmp_path: Path) -> None:
    """A file of another version is refused with the field."""
    (tmp_path / "chain.json").write_text(json.dumps({"format": "nfcbed-bench-chain", "version": 2}))
    with pytest.raises(UserError, match=r"chain.json: version: "):
        read_record(tmp_path / "chain.json")


@pytest.mark.needs("map_memory")
def test_memory(capfd: pytest.CaptureFixture[str]) -> None:
    """More flows hold more memory, and what a chain holds is more than its tables' contents."""
    assert main(["bench", "memory", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["exact"]["flows"] == found["usual"]["flows"] == 2
    assert (
        0
        < found["exact"]["maps"]
        < found["thesis"]["maps"]
        < found["usual"]["maps"]
        < found["large"]["maps"]
    )
    assert 4096 <= found["usual"]["programs"] < 1 << 20
    # Two entries of the flow table (16-byte key and a value) and two states at the least.
    assert 64 < found["bytes_per_flow_per_nf"] < 1024


def test_lost_frames_are_noticed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without polling at the receiving ends frames vanish without an error: exit code 1."""
    monkeypatch.setattr(NetNode, "offload", lambda *_, **__: None)
    assert main(["bench", "chain", "--quick"]) == 1
    assert "loses frames: 0 of 1000" in capfd.readouterr().err
