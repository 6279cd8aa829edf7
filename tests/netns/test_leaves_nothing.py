# SPDX-License-Identifier: MIT
"""However a run ends, the host is as it was: see stand_in_host.py for what is compared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("stand_in_host.py")

UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]

pytestmark = pytest.mark.needs("namespaces", "veth", "bridge", "bpffs", "tbf", "xdp")


@pytest.mark.parametrize(
    "how",
    [
        "normal",
        "exception",
        "SIGINT",
        "SIGTERM",
        "SIGHUP",
        "SIGQUIT",
        "kill-outer",
        "kill-worker",
        "kill-init",
        "SIGINT+kill-outer",
    ],
)
def test_host_is_left_as_it_was_found(how: str) -> None:
    """Nothing of a run is left and nothing foreign is touched, names like ours included.

    Compared are interfaces, addresses, routes, rules, qdiscs, netfilter, sysctls, mounts,
    processes with their namespaces, files in /run, /tmp and the home, pins, and the run's BPF
    programs, maps and links. ``a+b`` are two runs at the same time.
    """
    done = subprocess.run(
        [*UNSHARE, sys.executable, str(PROGRAM), "host", how],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.strip()) == (0, "")
