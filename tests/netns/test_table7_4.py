# SPDX-License-Identifier: MIT
"""The experiment from the command line, quick: both ways with real flows, every packet found."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from testbed.results import read_result
from tests import running
from tests.documented import undocumented
from tests.running import NFCBED, busy_cores, find_one, kill_one

pytestmark = pytest.mark.needs(
    "namespaces", "veth", "bridge", "bpffs", "sched_cls", "iperf3", "mnexec", "objects"
)


def command(out: Path, *words: str) -> list[str]:
    return [str(NFCBED), "run", "table7_4", "--quick", "--out", str(out), *words]


@pytest.mark.parametrize("forward", ["stack", "direct"])
def test_both_ways_are_measured_and_every_packet_is_found(tmp_path: Path, forward: str) -> None:
    """The ledgers balance, the chain saw all of NFC's packets, and a bad result says why.

    How fast this machine is at the moment is not what is tested: if it was the limit, the checks
    of rates may fail, but never those of packets.
    """
    out = tmp_path / "out"
    done = subprocess.run(
        command(out, "--forward", forward, "--mtu", "9000"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    result = read_result(out)
    assert result.state == "complete", done.stderr
    assert result.validity.state in {"valid", "host-limited"}
    if result.validity.state == "valid":
        assert (done.returncode, result.failed_checks) == (0, ())
    else:
        assert "host-limited" in done.stdout
    assert [row.published for row in result.compared] == [801.6, 797.0, 0.9943, 804.0, 800.0, 0.995]
    assert {phase.name for phase in result.phases} == {"routing 1", "nfc 1", "routing 2", "nfc 2"}
    for name, books in result.facts["ledgers"].items():
        gone = sum(books["dropped"].values()) + sum(books["lost"].values())
        assert books["sent"] == books["received"] + gone, name
        assert books["dropped"] == {}
    of_packets = [c for c in result.checks if c.unit == "packets"]
    assert len(of_packets) == 2 * 2 + 2 * 4
    assert all(check.passed for check in of_packets)
    _check_files(out, forward)


def _check_files(out: Path, forward: str) -> None:
    """Each run's raw reports are there, and the books agree with what iperf3 says it sent."""
    raw = {path.name: json.loads(path.read_text()) for path in (out / "raw").iterdir()}
    runs = ("calibration9000", "routing1", "routing2", "nfc1", "nfc2")
    assert set(raw) == {
        f"flow{flow}-{run}-{end}.json"
        for flow in (1, 2)
        for run in runs
        for end in ("client", "server")
    } | {f"counters-{run}.json" for run in runs}
    assert undocumented(raw) == []
    counted = raw["counters-nfc1.json"]
    entered = [
        sum(rule["packets"] for rule in counted[when]["chain"]["rules"])
        for when in ("before", "after")
    ]
    books = read_result(out).facts["ledgers"]["nfc 1"]
    reports = [raw[f"flow{flow}-nfc1-client.json"]["end"]["sum_sent"] for flow in (1, 2)]
    assert books["sent"] == sum(report["packets"] + 1 for report in reports)
    assert entered[1] - entered[0] >= books["sent"]
    assert f"forward: {forward}" in (out / "policy.yaml").read_text()
    environment = json.loads((out / "environment.json").read_text())
    topologies = {side: n["topology"] for side, n in environment["networks"].items()}
    assert topologies == {"routing": "ThesisRouting", "nfc": "Thesis"}
    mtus = {
        interface["mtu"]
        for network in environment["networks"].values()
        for node in network["nodes"].values()
        for interface in node["interfaces"]
    }
    assert mtus == {9000}
    assert environment["hook"]


def start(out: Path) -> subprocess.Popen[str]:
    """Start a run and return while clients of its second repeat send."""
    process = running.start(command(out, "--mtu", "9000")[2:], until="repeat 2 of 2")
    find_one(process, "iperf3 --udp")
    time.sleep(0.3)
    return process


def test_interrupted_run_keeps_the_pairs_it_had(tmp_path: Path) -> None:
    """Ctrl-C in the second repeat: the first one is kept, and can be drawn as incomplete."""
    out = tmp_path / "out"
    process = start(out)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    result = read_result(out)
    assert (process.returncode, result.state) == (130, "failed")
    assert len(result.phases) == 2
    assert len(result.compared) == 6
    drawn = subprocess.run([NFCBED, "plot", str(out)], capture_output=True)
    assert drawn.returncode == 0


@pytest.mark.parametrize("words", ["iperf3 --udp", "iperf3 --server"])
def test_killed_iperf3_is_a_failed_run(tmp_path: Path, words: str) -> None:
    """A client or a server that dies gives one message and exit code 1; the data are kept."""
    process = start(tmp_path / "out")
    kill_one(process, words)
    _, errors = process.communicate(timeout=20)
    result = read_result(tmp_path / "out")
    assert (process.returncode, result.state) == (1, "failed")
    assert "Traceback" not in errors
    assert "iperf3" in errors.splitlines()[-2]
    assert result.reason is not None
    assert "iperf3" in result.reason
    assert len(result.phases) == 2


def test_busy_cores_make_a_run_host_limited(tmp_path: Path) -> None:
    """A busy loop on every core leaves no CPU time: the result says so, whatever was received."""
    with busy_cores():
        done = subprocess.run(
            command(tmp_path / "out", "--mtu", "9000"), capture_output=True, text=True, timeout=90
        )
    result = read_result(tmp_path / "out")
    assert done.returncode == 1
    assert result.validity.state == "host-limited"
    assert any("of CPU time was left" in reason for reason in result.validity.reasons)
