# SPDX-License-Identifier: MIT
"""What vmstat (procps 4.0.2), cpudist (libbpf-tools 0.26) and the kernel write, as recorded."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from testbed.bpf.held import parse_fdinfo
from testbed.errors import RunError
from testbed.experiment import cpudist
from testbed.experiment.kernelmemory import parse_kernel_memory, places
from testbed.experiment.procstat import parse_stat
from testbed.experiment.vmstat import cpu_command, parse_cpu, parse_memory

RECORDED = Path(__file__).with_name("recorded")


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.txt").read_text()


def test_vmstat_lines_leave_out_the_time_since_the_start() -> None:
    """The first line is no measurement; the others are shares of the CPUs in percent."""
    lines = parse_cpu(recorded("vmstat"))
    assert cpu_command(2) == ["vmstat", "-n", "1", "3"]
    assert len(lines) == 2
    for line in lines:
        whole = line.user + line.system + line.idle + line.io_wait + line.stolen
        assert whole == pytest.approx(100, abs=2)
        assert line.used == pytest.approx(line.user + line.system + line.stolen, abs=2)
        assert line.free_kb > 0


def test_vmstat_of_a_newer_procps_has_a_column_more() -> None:
    """procps 4.0.4 tells guests' time apart (gu)."""
    text = (
        "procs -----------memory---------- ---swap-- -----io---- -system-- -------cpu-------\n"
        " r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st gu\n"
        " 1  0      0   1000    100    200    0    0     0     0   10   20  1  2 97  0  0  0\n"
        " 1  0      0   1000    100    200    0    0     0     0   10   20 10 20 60  5  2  3\n"
    )
    (line,) = parse_cpu(text)
    assert (line.user, line.system, line.idle, line.stolen, line.used) == (10, 20, 60, 5, 35)


def test_vmstat_counts_used_memory() -> None:
    """In KB, and not the line of active memory."""
    text = recorded("vmstat-memory")
    assert parse_memory(text) == int(text.splitlines()[1].split()[0])


@pytest.mark.parametrize("text", ["", "one line\n", "two\nlines\nhere\n"])
def test_other_text_than_vmstats_is_refused(text: str) -> None:
    """One message, no value made up."""
    with pytest.raises(RunError, match="vmstat"):
        parse_cpu(text)
    with pytest.raises(RunError, match="vmstat -s"):
        parse_memory(text)


def test_histogram_of_cpudist() -> None:
    """Bins are powers of two, without a gap, and keep their counts."""
    bins = cpudist.parse(recorded("cpudist"))
    assert (bins[0].low_us, bins[0].high_us) == (0, 1)
    for before, after in pairwise(bins):
        assert after.low_us == before.high_us + 1
        assert after.high_us == 2 * after.low_us - 1
    rows = [line.split() for line in recorded("cpudist").splitlines() if "->" in line]
    assert [b.count for b in bins] == [int(row[4]) for row in rows]


def test_histogram_of_milliseconds_or_none_is_refused() -> None:
    """Bins of another unit, none, or two histograms must not pass for one of microseconds."""
    for text in ("", recorded("cpudist").replace("usecs", "msecs"), recorded("cpudist-two")):
        with pytest.raises(RunError, match="histograms"):
            cpudist.parse(text)


def test_cpus_of_proc_stat() -> None:
    """One entry a CPU; their sum is the line of all, but for what rounding takes."""
    cpus = parse_stat(recorded("proc-stat"))
    assert set(cpus) == {"cpu", "cpu0", "cpu1"}
    assert cpus["cpu"].user == 176567
    assert cpus["cpu0"].softirq == 820
    assert cpus["cpu1"].busy == cpus["cpu1"].total - 433263 - 2539
    each = cpus["cpu0"].total + cpus["cpu1"].total
    assert each == pytest.approx(cpus["cpu"].total, abs=20)


def test_other_text_than_proc_stat_is_refused() -> None:
    """An empty file is no idle machine."""
    with pytest.raises(RunError, match="/proc/stat"):
        parse_stat("intr 1 2 3\n")


def test_memory_and_run_time_of_a_program() -> None:
    """As /proc/<pid>/fdinfo of Linux 6.18 says it; a map has no run time."""
    text = "pos:\t0\nprog_type:\t3\nmemlock:\t4096\nprog_id:\t77\nrun_time_ns:\t1200\nrun_cnt:\t4\n"
    use = parse_fdinfo(text, "program")
    assert (use.number, use.held_bytes, use.run_time_ns, use.runs) == (77, 4096, 1200, 4)
    use = parse_fdinfo("map_type:\t2\nmemlock:\t720\nmap_id:\t9\nfrozen:\t0\n", "map")
    assert (use.number, use.held_bytes, use.run_time_ns, use.runs) == (9, 720, 0, 0)


def test_kernel_memory_is_found_in_both_kinds_of_cgroups() -> None:
    """A number in v1, a line in v2, and nothing where the kernel does not say."""
    first = places("5:devices:/\n4:cpu,memory:/some/group\n0::/\n")
    assert str(first[0]) == "/sys/fs/cgroup/memory/some/group/memory.kmem.usage_in_bytes"
    assert [str(p) for p in places("0::/user.slice/a:b\n")] == [
        "/sys/fs/cgroup/user.slice/a:b/memory.stat"
    ]
    assert parse_kernel_memory("2387968\n") == 2387968
    assert parse_kernel_memory("anon 4096\nkernel 1234\nkernel_stack 5\n") == 1234
    assert parse_kernel_memory("anon 4096\n") is None
