# SPDX-License-Identifier: MIT
"""`nfcbed shell` and what another terminal sees of it, as a user runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.runs import RUNS, list_runs

ROOT = Path(__file__).resolve().parents[2]
THESIS = ROOT / "experiments" / "policies" / "thesis.yaml"
NFCBED = [str(Path(sys.executable).with_name("nfcbed"))]

pytestmark = pytest.mark.needs("root", "namespaces", "veth", "bridge", "sched_cls", "objects")


def nfcbed(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*NFCBED, *argv], cwd=ROOT, input=stdin, text=True, capture_output=True, timeout=60
    )


@dataclass(frozen=True)
class Shell:
    """A running `nfcbed shell`: its process, and the run that it says it is."""

    process: subprocess.Popen[str]
    run_id: str

    def type(self, line: str) -> None:
        """Type one line at the prompt and give it a moment."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        time.sleep(1.0)

    def leave(self) -> str:
        """Leave the prompt; returns what the shell wrote since its start."""
        output, _ = self.process.communicate("exit\n", timeout=30)
        assert self.process.returncode == 0, output
        return output


def wait_for_start(process: subprocess.Popen[str]) -> Shell:
    """Read up to the line that names the run."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.match(r"run (\S+);", line):
            return Shell(process, found[1])
    pytest.fail("the shell did not start: " + "".join(lines))


@contextmanager
def open_shell(*argv: str) -> Iterator[Shell]:
    """Open `nfcbed shell` and wait until its chains run; leave it at the end."""
    process = subprocess.Popen(
        [*NFCBED, "shell", *argv],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    with process:
        try:
            shell = wait_for_start(process)
            yield shell
            if process.returncode is None:
                shell.leave()
            assert not (RUNS / shell.run_id).exists()
        finally:
            process.kill()


FLOW_1 = "--src 10.10.9.1 --dst 10.10.9.5 --proto udp --sport 4444 --dport 53".split()
SENDER = (
    "import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
    "s.bind(('', 4444)); s.sendto(b'x', ('10.10.9.5', 53))"
)


def test_another_terminal_sees_the_live_chain() -> None:
    """Explain walks the running programs, and knows a flow once a packet of it has passed."""
    with open_shell("thesis", "--policy", str(THESIS)) as shell:
        run = ("--run", shell.run_id)
        before = nfcbed("explain", *FLOW_1, *run).stdout
        assert "vm1-eth0 in vm1" in before
        assert "not known yet" in before
        assert before.index("dad (priority 10), program ") < before.index("dnat (priority 20)")
        assert "to_stack" in before
        shell.type(f'hv python3 -c "{SENDER}"')
        assert "known: one look-up" in nfcbed("explain", *FLOW_1, *run).stdout
        reply = "--src 10.10.9.4 --dst 10.10.9.1 --proto udp --sport 53 --dport 4444".split()
        assert "the way back of a translated flow" in nfcbed("explain", *reply, *run).stdout


CONNECT = (
    "import socket; s=socket.create_connection(('10.10.9.5', 53), timeout=3);"
    "print('connected to', s.getpeername())"
)
IN_CONNTRACK = pytest.param(
    "          state: conntrack\n", marks=pytest.mark.needs("conntrack_kfuncs")
)


@pytest.mark.parametrize("more", ["", IN_CONNTRACK], ids=["table", "conntrack"])
def test_a_translated_connection_opens(tmp_path: Path, more: str) -> None:
    """With `forward: stack` replies pass the kernel's routing with the node's own address."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(THESIS.read_text() + more)
    with open_shell("thesis", "--policy", str(policy)) as shell:
        shell.type("vm2 iperf3 -s -p 53 -D")
        shell.type(f'hv python3 -c "{CONNECT}"')
        assert "connected to ('10.10.9.5', 53)" in shell.leave()


def test_two_shells_are_told_apart() -> None:
    """With two testbeds at once, explain asks which one is meant; each answers for itself."""
    with (
        open_shell("thesis", "--policy", str(THESIS)) as first,
        open_shell("line", "--policy", str(THESIS)) as second,
    ):
        unclear = nfcbed("explain", *FLOW_1)
        assert unclear.returncode == 2
        assert "--run" in unclear.stderr
        assert "node-eth0, node-eth1" in nfcbed("explain", *FLOW_1, "--run", second.run_id).stdout
        assert "vm1-eth0" in nfcbed("explain", *FLOW_1, "--run", first.run_id).stdout


def test_explain_without_a_testbed_says_what_to_do() -> None:
    """There is no such run: exit code 2 and the way out in one message."""
    done = nfcbed("explain", *FLOW_1, "--run", "no-such-run")
    assert done.returncode == 2
    assert "nfcbed shell" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["no-such"], "there is no topology no-such; there are: line, thesis, thesis-routing"),
        (["thesis", "--policy", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["thesis", "--mtu", "10"], "mtu"),
        (["thesis", "--rate-mbps", "-1"], "rate_mbps"),
    ],
)
def test_a_mistake_is_one_message_and_leaves_nothing(argv: list[str], says: str) -> None:
    """A wrong topology, policy or link option: exit code 2, no traceback, no run left."""
    done = nfcbed("shell", *argv)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not [run for run in list_runs() if run.command == f"shell {argv[0]}"]


def test_a_queue_added_at_the_prompt_holds_for_forward_direct(tmp_path: Path) -> None:
    """A queue added by hand gets what `forward: direct` sends, at once."""
    policy = tmp_path / "direct.yaml"
    policy.write_text("version: 1\nchains: [{id: 1, forward: direct, rules: [{dst: 10.10.2.2}]}]\n")
    with open_shell("line", "--policy", str(policy)) as shell:
        shell.type("node tc qdisc add dev node-eth1 root pfifo limit 100")
        shell.type("left ping -c 3 -i 0.1 10.10.2.2")
        shell.type("node tc -s qdisc show dev node-eth1")
        text = shell.leave()
    assert "3 received" in text
    assert "Sent 294 bytes 3 pkt" in text
