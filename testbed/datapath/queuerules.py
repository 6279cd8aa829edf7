# SPDX-License-Identifier: MIT
"""The rules of a node's packet filter that give marked packets to NFQUEUE."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable

from testbed.datapath.steps import FIRST_QUEUE, MARK_OURS, UserStep
from testbed.errors import RunError, UnsupportedError
from testbed.probe import probe

__all__ = ["QueueRules", "iptables_rules", "nftables_rules"]

_CHAIN = "NFCBED"
_OURS = f"-m mark --mark {MARK_OURS:#x}/{MARK_OURS:#x} -j {_CHAIN}"
_BEFORE_DEFRAGMENTATION = -450


def _queues(steps: Iterable[UserStep]) -> list[tuple[int, int, int]]:
    """Mark, its mask, and the queue's number, of each queue."""
    return [(*step.mark(queue), FIRST_QUEUE + queue) for step in steps for queue in step.queues]


def iptables_rules(steps: Iterable[UserStep]) -> str:
    """As ``iptables-restore`` reads them. What is marked and has no queue must not get by."""
    rules = [
        f"-A {_CHAIN} -m mark --mark {mark:#x}/{mask:#x} -j NFQUEUE --queue-num {number}"
        for mark, mask, number in _queues(steps)
    ]
    lines = [
        *("*raw", f":{_CHAIN} - [0:0]"),
        *(f"-A PREROUTING {_OURS}", *rules, f"-A {_CHAIN} -j DROP", "COMMIT"),
    ]
    return "\n".join(lines) + "\n"


def nftables_rules(steps: Iterable[UserStep]) -> str:
    """As ``nft -f`` reads them. The hook comes before the kernel puts fragments together."""
    rules = "\n".join(
        f"meta mark & {mask:#x} == {mark:#x} queue num {number}"
        for mark, mask, number in _queues(steps)
    )
    return (
        "table ip nfcbed {\nchain prerouting {\n"
        f"type filter hook prerouting priority {_BEFORE_DEFRAGMENTATION}\n{rules}\n"
        f"meta mark & {MARK_OURS:#x} == {MARK_OURS:#x} drop\n}}\n}}\n"
    )


def _run(argv: list[str], text: str | None = None) -> None:
    # The legacy iptables would make its lock file in the host's /run.
    environment = {**os.environ, "XTABLES_LOCKFILE": os.devnull}
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise RunError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}")


class QueueRules:
    """The rules, in force while this object is open; for this thread's network namespace.

    nftables' ``queue`` where the kernel has it, else the target NFQUEUE of iptables.

    :ivar tool: ``nft`` or ``iptables``.
    :raises UnsupportedError: the kernel has neither.
    """

    def __init__(self, steps: Iterable[UserStep]) -> None:
        nft = probe("nft_queue")
        self.tool = "nft" if nft.state == "yes" else "iptables"
        if self.tool == "nft":
            _run(["nft", "-f", "-"], nftables_rules(steps))
            return
        answer = probe("xt_nfqueue")
        if answer.state == "no":
            raise UnsupportedError(
                "NFs in user space need NFQUEUE in nftables or iptables:"
                f" {nft.detail}; {answer.detail} (see nfcbed doctor)"
            )
        _run(["iptables-restore", "--noflush"], iptables_rules(steps))

    def close(self) -> None:
        """Take the rules away."""
        if self.tool == "nft":
            _run(["nft", "delete", "table", "ip", "nfcbed"])
            return
        _run(["iptables", "-t", "raw", "-D", "PREROUTING", *_OURS.split()])
        _run(["iptables", "-t", "raw", "-F", _CHAIN])
        _run(["iptables", "-t", "raw", "-X", _CHAIN])
