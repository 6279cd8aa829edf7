# SPDX-License-Identifier: MIT
"""The experiment from the command line, quick: real flows, a real chain, files at the end."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from testbed.results import Result, read_result
from testbed.runs import list_runs
from tests import running
from tests.documented import undocumented
from tests.running import NFCBED, kill_one

POLICY = Path(__file__).resolve().parents[2] / "experiments/policies/thesis.yaml"

pytestmark = pytest.mark.needs(
    "namespaces", "veth", "bridge", "bpffs", "sched_cls", "iperf3", "mnexec", "objects"
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NFCBED, "run", "fig7_2", "--quick", *words], capture_output=True, text=True, timeout=60
    )


def start(out: Path) -> subprocess.Popen[str]:
    """Start a run and return while its second phase is under way."""
    process = running.start(["fig7_2", "--quick", "--out", str(out)], until="phase 2")
    time.sleep(0.7)
    return process


def steady(result: Result) -> dict[tuple[str, str], list[float | None]]:
    """Means of the three phases by flow and node."""
    found: dict[tuple[str, str], list[float | None]] = {}
    for mean in result.means:
        found.setdefault((mean.flow, mean.node), []).append(mean.steady)
    return found


@pytest.mark.parametrize("forward", ["stack", "direct"])
def test_course_is_the_published_one(tmp_path: Path, forward: str) -> None:
    """50, 150 and 0 Mbit/s; flow 1 at VM2 alone, flow 2 at VM3 alone; with either last hop."""
    out = tmp_path / "out"
    begin = time.monotonic()
    done = run("--out", str(out), "--forward", forward)
    lasted_s = time.monotonic() - begin
    result = read_result(out)
    assert done.returncode == 0, (done.stderr, result.validity)
    assert lasted_s < 15
    means = steady(result)
    for flow, here, elsewhere in (("flow 1", "vm2", "vm3"), ("flow 2", "vm3", "vm2")):
        low, high, denied = means[flow, here]
        assert low == pytest.approx(50, abs=1)
        assert high == pytest.approx(150, abs=3)
        assert denied is not None
        assert denied < 0.1
        assert means[flow, elsewhere] == [0, 0, 0]
        windows = [w for w in result.windows if w.flow == flow]
        assert [w.verdict for w in windows] == ["ACCEPT", "ACCEPT", "DROP"]
        series = result.find("throughput", flow=flow, node=here)
        assert series is not None
        assert len(series.values) / (series.t_s[-1] - series.begin_s) > 10
    assert result.state == "complete"
    assert all(check.passed for check in result.checks)
    assert len(result.checks) == 21
    assert "21 of 21 checks passed" in done.stdout
    _check_files(out, result, forward)


def _check_counters(raw: dict[str, Any], result: Result) -> None:
    """Every sample is kept as it was read, and the counters add up to the result's packets."""
    samples = raw["samples.json"]["samples"]
    series = result.find("received", flow="flow 1", node="vm2")
    assert series is not None
    assert len(samples) == len(series.values)
    arrived = samples[-1]["readings"]["vm2"]["arrived"]
    assert sum(a["payload_bytes"] for a in arrived if a["proto"] == 17) == series.values[-1]
    nfs = raw["counters.json"]["after"]["chain"]["nfs"]
    denied = sum(nf["dropped"].get("over_threshold", 0) for nf in nfs)
    assert denied == result.facts["packets"]["denied_by_dad"] > 0
    ledger = result.facts["ledger"]
    assert ledger["unexplained"] == 0
    assert ledger["dropped"] == {"dad: over_threshold": denied}
    assert ledger["sent"] == ledger["received"] + denied + sum(ledger["lost"].values())


def _check_files(out: Path, result: Result, forward: str) -> None:
    """All files are there, agree with each other and name no host."""
    raw = {path.name: json.loads(path.read_text()) for path in (out / "raw").iterdir()}
    assert set(raw) == {
        *(f"flow{f}-phase{p}-client.json" for f in (1, 2) for p in (1, 2, 3)),
        *(f"flow{f}-server.json" for f in (1, 2)),
        *("counters.json", "samples.json"),
    }
    assert undocumented(raw) == []
    _check_counters(raw, result)
    environment: dict[str, Any] = json.loads((out / "environment.json").read_text())
    assert environment["kernel"]["release"] == platform.release()
    assert environment["tools"]["iperf3"]
    assert set(environment["network"]["nodes"]) == {"hv", "vm1", "vm2", "vm3", "s1"}
    assert environment["command"] == f"nfcbed run fig7_2 --quick --forward {forward}"
    assert f"forward: {forward}" in (out / "policy.yaml").read_text()
    for document in (d for name, d in raw.items() if "client" in name):
        assert platform.node() not in document["start"]["system_info"].split()
    sent = sum(
        document["end"]["sum_sent"]["packets"] for name, document in raw.items() if "client" in name
    )
    packets = result.facts["packets"]
    assert sum(packets["sent"].values()) == sent + 6  # one handshake a client
    assert {path.name for path in out.iterdir()} == {
        *("raw", "result.json", "environment.json", "policy.yaml", "policy-given.yaml")
    }


def test_flow_that_finds_no_receiver_is_a_failed_run(tmp_path: Path) -> None:
    """With both flows sent to VM2, where nothing serves flow 2, the message says which flow."""
    policy, out = tmp_path / "policy.yaml", tmp_path / "out"
    policy.write_text(POLICY.read_text().replace("to: 10.10.9.6", "to: 10.10.9.4"))
    done = run("--policy", str(policy), "--out", str(out))
    assert done.returncode == 1
    assert "flow 2, phase 1" in done.stderr
    assert read_result(out).state == "failed"


def test_threshold_above_all_rates_denies_nothing(tmp_path: Path) -> None:
    """The third phase's silence is DAD's doing: with another threshold it is heard."""
    policy, out = tmp_path / "policy.yaml", tmp_path / "out"
    text = POLICY.read_text().replace("threshold_mbps: 100", "threshold_mbps: 1000")
    policy.write_text(text)
    done = run("--policy", str(policy), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert steady(read_result(out))["flow 1", "vm2"][2] == pytest.approx(100, abs=2)


def test_interrupted_run_keeps_what_it_had(tmp_path: Path) -> None:
    """Ctrl-C ends with 130; the result is marked failed and can be drawn; nothing runs on."""
    process = start(tmp_path / "out")
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - begin < 5
    assert "what was collected until then is in" in errors
    result = read_result(tmp_path / "out")
    assert (result.state, result.reason) == ("failed", "interrupted")
    assert [phase.name for phase in result.phases] == ["phase 1", "phase 2"]
    assert len(result.series) >= 6
    assert (tmp_path / "out/raw/flow1-phase1-client.json").exists()
    assert not [run for run in list_runs() if run.pid == process.pid]
    drawn = subprocess.run([NFCBED, "plot", str(tmp_path / "out")], capture_output=True)
    assert drawn.returncode == 0


@pytest.mark.parametrize("words", ["iperf3 --udp", "iperf3 --server"])
def test_killed_iperf3_is_a_failed_run(tmp_path: Path, words: str) -> None:
    """A client or a server that dies gives one message and exit code 1; the data are kept."""
    process = start(tmp_path / "out")
    kill_one(process, words)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert "iperf3" in errors.splitlines()[-1]
    result = read_result(tmp_path / "out")
    assert result.state == "failed"
    assert result.reason is not None
    assert "iperf3" in result.reason
    assert len(result.phases) == 2


def test_folder_with_a_result_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """Exit code 2 at once, and the old result is whole."""
    (tmp_path / "result.json").write_text("mine")
    begin = time.monotonic()
    done = run("--out", str(tmp_path))
    assert (done.returncode, time.monotonic() - begin < 2) == (2, True)
    assert "--force" in done.stderr
    assert (tmp_path / "result.json").read_text() == "mine"
