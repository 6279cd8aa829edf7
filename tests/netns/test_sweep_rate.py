# SPDX-License-Identifier: MIT
"""Offered rates for real, in short: who loses what, and that every packet is found."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from testbed.bench.paced import Lane, PacedSender, Trial, choose_cores
from testbed.bench.rig import VIRTUAL, open_rig
from testbed.bench.variants import VARIANTS
from testbed.results import read_result
from tests.running import NFCBED
from tests.sandboxed import bpffs, in_sandbox

pytestmark = pytest.mark.needs(
    "namespaces", "veth", "bpffs", "sched_cls", "xdp_live_frames", "tp_btf", "mnexec", "objects"
)

FEW_PPS, MANY_PPS = 20e3, 8e6


def command(out: Path) -> list[str]:
    return [str(NFCBED), "run", "sweep_rate", "--quick", "--out", str(out)]


def quiet(lane: Lane, pps: float, seconds: float) -> Trial:
    """A trial that nobody disturbed, if there is one within some tries; else the last one."""
    for _ in range(8):
        trial = lane.offer(pps, seconds)
        assert trial.unexplained == 0
        if trial.reached and not trial.disturbed:
            break
        time.sleep(0.05)
    return trial


@pytest.mark.parametrize("way", ["routing", "chain-stack", "chain-direct"])
@in_sandbox
def test_little_is_carried_and_too_much_is_lost(way: str) -> None:
    """Below its limit a way loses nothing, far above it much; the queue in front dropped it all.

    All packets that the queue took walked the chain to its end, in both cases.
    """
    sender_cpu, node_cpu = choose_cores()
    variant = VARIANTS[way]
    with (
        open_rig(bpffs=bpffs(), cpu=sender_cpu) as rig,
        PacedSender.open(rig, node_cpu=node_cpu) as sender,
        variant.on(rig) as walked,
    ):
        lane = Lane(sender, variant.to or VIRTUAL, walked)
        few = quiet(lane, FEW_PPS, 0.1)
        many = lane.offer(MANY_PPS, 0.05)
    assert few.sent == pytest.approx(FEW_PPS * 0.1, rel=0.05)
    assert few.sent == few.received or few.disturbed
    assert many.unexplained == 0
    assert many.loss_ratio > 0.1
    assert many.sent - many.received == many.queue_full
    for trial in (few, many):
        assert trial.dropped == {}
        assert trial.walked in (None, trial.sent - trial.queue_full)


@in_sandbox
def test_rate_is_offered_by_the_clock() -> None:
    """A fifth of a second's packets take as long; what a trial says it offered, it did."""
    sender_cpu, node_cpu = choose_cores()
    with (
        open_rig(bpffs=bpffs(), cpu=sender_cpu) as rig,
        PacedSender.open(rig, node_cpu=node_cpu) as sender,
    ):
        lane = Lane(sender, "10.10.2.2")
        begin = time.monotonic()
        trial = quiet(lane, 100e3, 0.2)
        took_s = time.monotonic() - begin
    assert trial.offered_pps == pytest.approx(trial.sent / trial.seconds, rel=0.01)
    assert trial.sent == pytest.approx(20e3, rel=0.002)
    assert took_s > 0.19
    if trial.reached:
        assert 0.19 < trial.seconds < 0.21


def test_quick_run_balances_and_says_what_it_is_worth(tmp_path: Path) -> None:
    """Both rates and a curve for each way; on a busy machine the result says so instead."""
    out = tmp_path / "out"
    done = subprocess.run(command(out), capture_output=True, text=True, timeout=90)
    result = read_result(out)
    assert result.state == "complete", done.stderr
    assert "Traceback" not in done.stderr
    for books in (result.facts["ledger"], *result.facts["ledgers"].values()):
        assert books["unexplained"] == 0
        assert books["dropped"] == {}
    assert set(result.facts["ledgers"]) == {"routing", "chain-stack", "chain-direct", "nftables"}
    assert {row.name for row in result.compared} >= {"routing, NDR", "chain-stack / routing, PDR"}
    if result.validity.state == "valid":
        assert (done.returncode, result.failed_checks) == (0, ())
        assert all(row.value is not None for row in result.compared)
    else:
        assert "host-limited" in done.stdout
    assert {path.name for path in (out / "raw").iterdir()} == {"trials.json", "searches.json"}


def test_one_core_is_not_enough(tmp_path: Path) -> None:
    """A machine that cannot send and forward at once is told so, with exit code 3."""
    core = str(max(os.sched_getaffinity(0)))
    done = subprocess.run(
        ["taskset", "--cpu-list", core, *command(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 3
    assert "needs two processor cores" in done.stderr
    assert "Traceback" not in done.stderr
