# SPDX-License-Identifier: MIT
"""Runs on a machine that is overloaded, and runs whose iperf3 is killed midway.

Table 7.4 has tests of its own for both.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from testbed.results import Result, read_result
from tests.running import NFCBED, busy_cores, kill_one, start

pytestmark = pytest.mark.needs(
    *("namespaces", "veth", "bridge", "bpffs", "sched_cls", "iperf3", "mnexec", "objects"),
    *("vmstat", "bpf_stats", "tp_btf", "cpudist"),
)


def ended(process: subprocess.Popen[str], out: Path) -> Result:
    """The result of a run whose iperf3 was killed: one message, exit code 1, marked as failed."""
    _, errors = process.communicate(timeout=60)
    result = read_result(out)
    assert (process.returncode, result.state) == (1, "failed"), errors
    assert "Traceback" not in errors
    assert "iperf3" in errors.splitlines()[-1]
    assert result.reason is not None
    assert "iperf3" in result.reason
    return result


def test_busy_cores_mark_a_course_however_it_came_out(tmp_path: Path) -> None:
    """Figure 7.2 with a busy loop on every core: no CPU time was left, whatever was received.

    It may come out right, or a client may be too late for its window, which ends the run.
    """
    with busy_cores():
        done = subprocess.run(
            [NFCBED, "run", "fig7_2", "--quick", "--out", str(tmp_path / "out")],
            capture_output=True,
            text=True,
            timeout=90,
        )
    result = read_result(tmp_path / "out")
    assert result.validity.state == "host-limited", done.stderr
    assert any("of CPU time was left" in reason for reason in result.validity.reasons)
    if result.state == "complete":
        assert "host-limited" in done.stdout
    else:
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("nfcbed: error: client of flow")


def test_overloaded_table_is_marked_and_keeps_what_it_had(tmp_path: Path) -> None:
    """Table 7.3 with busy loops, and iperf3 killed in a round: marked, and all states are kept."""
    out = tmp_path / "out"
    with busy_cores():
        process = start(["table7_3", "--quick", "--out", str(out)], until=" 1 (")
        kill_one(process, "iperf3 --udp")
        result = ended(process, out)
    assert [phase.name for phase in result.phases][:3] == ["idle", "processing", "routing"]
    values = {row.name: row.value for row in result.compared}
    assert values["processing: the chain's maps hold"]
    assert values["plain routing: softirq time per packet"]
    assert result.validity.state == "host-limited"
    reasons = "\n".join(result.validity.reasons)
    assert "idle: other work took" in reasons
    assert "processing: 0." in reasons
    assert "of CPU time was left" in reasons


def test_figure_whose_server_is_killed_keeps_the_idle_state(tmp_path: Path) -> None:
    """Figure 7.3, a server killed while it processes: the histogram of idle is kept and drawn."""
    out = tmp_path / "out"
    process = start(["fig7_3", "--quick", "--out", str(out)], until="processing")
    kill_one(process, "iperf3 --server")
    result = ended(process, out)
    assert set(result.facts["histograms"]) == {"idle"}
    assert result.series
    assert (out / "raw/cpudist-idle.json").exists()
    drawn = subprocess.run([NFCBED, "plot", str(out)], capture_output=True)
    assert drawn.returncode == 0
