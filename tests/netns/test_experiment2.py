# SPDX-License-Identifier: MIT
"""Table 7.3 and Figure 7.3 from the command line, quick: real flows, real tools, files at the end.

What a busy machine makes of rates and of idle states is for the result to say, not for the tests.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testbed.results import Result, read_result
from tests.documented import undocumented
from tests.netns.conftest import QuickBench

NFCBED = Path(sys.executable).with_name("nfcbed")

pytestmark = pytest.mark.needs(
    *("namespaces", "veth", "bridge", "bpffs", "sched_cls", "iperf3", "mnexec", "objects"),
    *("vmstat", "bpf_stats", "tp_btf", "cpudist"),
)


def run(
    name: str, out: Path, *, path: Path | None = None, words: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    return subprocess.run(
        [NFCBED, "run", name, "--quick", "--out", str(out), *words],
        capture_output=True,
        text=True,
        timeout=90,
        env=environment,
    )


def values(result: Result) -> dict[str, float]:
    return {row.name: row.value for row in result.compared if row.value is not None}


def not_the_rate(result: Result) -> list[str]:
    """Checks that failed although a busy machine is no reason for it."""
    return [check.name for check in result.failed_checks if "offered" not in check.name]


def test_table_says_what_the_chain_holds_and_uses(quick_bench: QuickBench) -> None:
    """vmstat's values, the chain's bytes and run time, traced times; every packet explained."""
    out = quick_bench.folder / "table7_3"
    result = read_result(out)
    assert (result.state, not_the_rate(result)) == ("complete", []), result.reason
    found = values(result)
    for state in ("idle", "processing"):
        assert found[f"{state}: memory used (vmstat)"] > 100_000
        assert 50_000 < found[f"{state}: the chain's maps hold"] < 128 * 1024
        assert found[f"{state}: the chain's programs hold"] >= 4096
        assert 0 <= found[f"{state}: CPU (vmstat, whole machine)"] <= 100
    assert found["idle: CPU of the chain"] < 0.01 < found["processing: CPU of the chain"] < 5
    assert 20 < found["chain: run time per packet (bpf_stats)"] < 5000
    for way in ("chain", "plain routing"):
        softirq, whole = (
            found[f"{way}: {what} time per packet"] for what in ("softirq", "the machine's CPU")
        )
        assert 500 < softirq < whole
    programs = result.facts["states"]["processing"]["programs"]
    assert programs["classifier: classify"]["runs"] > 10_000
    assert {row.published for row in result.compared} >= {766_664.0, 766_844.0, 0.0}
    raw = {path.name: json.loads(path.read_text()) for path in (out / "raw").iterdir()}
    assert raw["vmstat-idle.json"]["command"][0] == "vmstat"
    servers = {f"flow1-{way}-server.json" for way in ("processing", "routing")}
    more = {"vmstat-processing.json", "vmstat-memory.json", "flow1-routing-client.json"}
    assert servers | more <= set(raw)
    assert undocumented(raw) == []
    _check_counters(raw, result)


def test_packet_costs_are_compared_round_by_round(quick_bench: QuickBench) -> None:
    """Every way once a round, each with its packets all found, and ratios with intervals."""
    result = read_result(quick_bench.folder / "table7_3")
    rounds = result.facts["rounds"]
    assert len(rounds) == 3 * result.parameters["rounds"]
    for number in range(1, result.parameters["rounds"] + 1):
        ways = [one["way"] for one in rounds if one["round"] == number]
        assert sorted(ways) == ["forwarding", "in-stack", "routing"]
    assert all(one["packets"] > 1_000 for one in rounds)
    assert all(300 < one["softirq_ns_per_packet"] < one["busy_ns_per_packet"] for one in rounds)
    ratios = {row.name: row for row in result.compared if row.at_most}
    assert set(ratios) == {
        f"CPU time per packet, {w} / routing" for w in ("forwarding", "in-stack")
    }
    assert all(0.1 < (row.low or 0) <= (row.high or 0) < 10 for row in ratios.values())
    for one in rounds:
        books = result.facts["packets"][f"{one['way']} {one['round']}"]
        assert books["unexplained"] == 0
        assert books["entered_chain"] == (None if one["way"] == "routing" else books["sent"])


def _check_counters(raw: dict[str, Any], result: Result) -> None:
    """The readings that the table was made of are there, and lead to the same figures."""
    for state in ("idle", "processing", "routing"):
        first, last = (raw[f"usage-{state}.json"][when] for when in ("first", "last"))
        arrived = last["arrived_packets"] - first["arrived_packets"]
        assert arrived == result.facts["states"][state]["packets"]
        assert len(raw["proc-stat.json"][state]) > 3
    counters = raw["counters-processing.json"]
    entered = [
        sum(r["packets"] for r in counters[w]["chain"]["rules"]) for w in ("before", "after")
    ]
    books = result.facts["packets"]["processing"]
    assert entered[1] - entered[0] >= books["sent"] == books["entered_chain"]
    bpf = raw["usage-processing.json"]["last"]["bpf"]
    assert any(use["name"] == "classifier: classify" and use["runs"] > 10_000 for use in bpf)
    assert "chain" not in raw["counters-routing.json"]["after"]


def test_figure_has_a_histogram_of_both_states(tmp_path: Path) -> None:
    """cpudist's counts of both states; the flows show as more stretches on a CPU."""
    done = run("fig7_3", tmp_path / "out", words=("--mtu", "8000"))
    result = read_result(tmp_path / "out")
    assert (result.state, not_the_rate(result)) == ("complete", []), done.stderr
    histograms = result.facts["histograms"]
    idle, busy = (sum(row[2] for row in histograms[name]) for name in ("idle", "processing"))
    assert busy > idle > 0
    assert result.parameters["datagram_bytes"] == 8000 - 52
    raw = json.loads((tmp_path / "out/raw/cpudist-idle.json").read_text())
    assert any("usecs" in line for line in raw["lines"])
    files = {path.name for path in (tmp_path / "out/raw").iterdir()}
    assert {"proc-stat.json", "counters-idle.json", "counters-processing.json"} <= files
    assert undocumented(files) == []


def test_machine_that_cpudist_cannot_trace_is_unsupported(tmp_path: Path) -> None:
    """Exit code 3 with cpudist's own words, for this figure alone; the result says it as well."""
    fake = tmp_path / "bin/cpudist"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\n[ $1 = --version ] && echo 0.1 || { echo no probes; exit 1; }\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    done = run("fig7_3", tmp_path / "out", path=fake.parent)
    assert done.returncode == 3, done.stderr
    assert "cpudist cannot trace on this machine (it ended with 1): no probes" in done.stderr
    assert read_result(tmp_path / "out").state == "failed"
