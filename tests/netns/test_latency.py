# SPDX-License-Identifier: MIT
"""Round-trip times from the command line, quick: each way with real pings, every packet found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from testbed.results import read_result
from tests.running import NFCBED, descendants

WAYS = ("routing", "chain-stack", "chain-direct", "nftables")

pytestmark = pytest.mark.needs(
    *("namespaces", "veth", "bpffs", "sched_cls", "mnexec", "objects"),
    *("iperf3", "sockperf", "nft", "nft_nat", "conntrack"),
)


def command(out: Path) -> list[str]:
    return [str(NFCBED), "run", "latency", "--quick", "--out", str(out)]


def test_every_way_is_pinged_and_every_packet_is_found(tmp_path: Path) -> None:
    """The chain lay on the way there and back, nothing is lost, and the least times are sane.

    How long the longest times are says more of this machine at the moment than of the ways.
    """
    out = tmp_path / "out"
    done = subprocess.run(command(out), capture_output=True, text=True, timeout=90)
    result = read_result(out)
    assert (result.state, result.failed_checks) == ("complete", ()), done.stdout + done.stderr
    assert done.returncode == 0
    for books in (result.facts["ledger"], *result.facts["ledgers"].values()):
        assert (books["unexplained"], books["dropped"]) == (0, {})
    assert {curve.way for curve in result.curves} == set(WAYS)
    assert len(result.curves) == 2 * len(WAYS)
    for curve in result.curves:
        times = [point.value for point in curve.points if point.value is not None]
        assert times == sorted(times)
        assert 0.5 < times[0] < 1000
    translated = [check for check in result.checks if "translated" in check.name]
    assert len(translated) == 3
    kept = json.loads((out / "raw/sockperf-chain-direct-load-1.json").read_text())
    assert any("SentMessages" in line for line in kept["head"])
    assert len(kept["rtt_us"]) > 100


def test_killed_sockperf_is_a_failed_run(tmp_path: Path) -> None:
    """A client that dies gives one message and exit code 1, and no figure of what was not there."""
    process = subprocess.Popen(
        command(tmp_path / "out"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    victims: list[int] = []
    while len(victims) < 8:
        assert process.poll() is None
        victims = [pid for pid, line in descendants(process.pid) if "ping-pong" in line]
        time.sleep(0.05)
    os.kill(victims[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    result = read_result(tmp_path / "out")
    assert (process.returncode, result.state) == (1, "failed")
    assert "Traceback" not in errors
    assert "sockperf ended" in str(result.reason)
