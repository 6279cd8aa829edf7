# SPDX-License-Identifier: MIT
"""The topologies' files with Mininet's own command, without nfcbed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from testbed import namespaces
from testbed.sandbox import Sandbox, run_in_sandbox
from topologies import load_topologies

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.needs("namespaces", "veth", "bridge", "tbf")


@pytest.mark.parametrize(
    ("name", "machine", "other"),
    [("thesis", "hv", "vm2"), ("thesis-routing", "vm3", "hv"), ("line", "left", "right")],
)
def test_file_works_with_mn_alone(name: str, machine: str, other: str) -> None:
    """``mn --custom FILE --topo NAME`` builds it without nfcbed, everything in namespaces."""
    target = load_topologies()[name]()
    address = next(
        link["params1" if link["node1"] == other else "params2"]["ip"].split("/")[0]
        for _, _, link in target.links(withInfo=True)
        if other in (link["node1"], link["node2"])
    )
    # Nobody listens there: the refusal is an answer of the machine itself.
    script = (
        f"{machine} bash -c 'exec 3<>/dev/tcp/{address}/9'\nsh ip -br link\n{machine} tc qdisc\n"
    )

    def main(sandbox: Sandbox) -> int:
        # mn writes a history file, and after a fault it deletes files in /tmp by pattern. So it
        # gets an empty one; the files come along, since they may lie there themselves.
        folder = shutil.copytree(ROOT / "topologies", sandbox.folder / "topologies")
        namespaces.mount("tmpfs", Path("/tmp"))
        file = folder / f"{name.removesuffix('-routing')}.py"
        done = subprocess.run(
            ["mn", "--custom", str(file), "--topo", f"{name},rate_mbps=100,mtu=4000"],
            input=script,
            cwd="/",
            env={**os.environ, "HOME": "/tmp", "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "Connection refused" in said
        assert "rate 100Mbit" in said
        assert "-eth" not in done.stdout.split("tbf")[0]  # nothing in mn's own namespace
        assert "completed in" in said
        return 0

    assert run_in_sandbox(main, command="test") == 0
