# SPDX-License-Identifier: MIT
"""Probes of what the network needs: links, qdiscs, packet filters, namespaces."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess

from testbed.probe_base import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Absent,
    CouldNotTell,
    ProbeSpec,
    attribute,
    netlink_request,
    unshare,
)

__all__ = ["LOOPBACK", "PROBES", "TC_H_CLSACT", "add_link", "add_qdisc"]

LOOPBACK = 1  # index of lo, the first interface of every network namespace
TC_H_ROOT, TC_H_CLSACT = 0xFFFFFFFF, 0xFFFFFFF1

_RTM_NEWLINK, _RTM_NEWQDISC = 16, 36
_IFLA_IFNAME, _IFLA_LINKINFO = 3, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_TCA_KIND, _TCA_OPTIONS = 1, 2
_MBIT_BYTES_PER_S = 125_000


def add_link(kind: str, name: str, *, peer: str | None = None) -> int:
    """Add an interface to this namespace and return its index.

    :raises OSError: the kernel refused it; EOPNOTSUPP if it does not know the kind.
    """
    interface = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    info = attribute(_IFLA_INFO_KIND, kind)
    if peer is not None:
        data = attribute(_VETH_INFO_PEER, interface + attribute(_IFLA_IFNAME, peer))
        info += attribute(_IFLA_INFO_DATA, data)
    netlink_request(
        _RTM_NEWLINK,
        interface + attribute(_IFLA_IFNAME, name) + attribute(_IFLA_LINKINFO, info),
        flags=NLM_F_CREATE | NLM_F_EXCL,
    )
    return socket.if_nametoindex(name)


def add_qdisc(kind: str, index: int, *, parent: int, handle: int, options: bytes = b"") -> None:
    """Add a queueing discipline to an interface.

    :raises OSError: the kernel refused it; ENOENT if it does not know the kind.
    """
    message = struct.pack("=BxxxiIII", 0, index, handle, parent, 0)
    netlink_request(
        _RTM_NEWQDISC,
        message + attribute(_TCA_KIND, kind) + attribute(_TCA_OPTIONS, options),
        flags=NLM_F_CREATE | NLM_F_EXCL,
    )


def _veth() -> str:
    add_link("veth", "probe0", peer="probe1")
    return "made a pair"


def _bridge() -> str:
    add_link("bridge", "probe0")
    return "made one"


def _htb() -> str:
    # struct tc_htb_glob: version 3, rate2quantum, default class, debug, packets sent directly
    options = attribute(2, struct.pack("=IIIII", 3, 10, 0, 0, 0))
    add_qdisc("htb", LOOPBACK, parent=TC_H_ROOT, handle=0x10000, options=options)
    return "put on an interface"


def _tbf() -> str:
    rate = struct.pack("=BBHhHI", 0, 1, 0, 0, 0, 10 * _MBIT_BYTES_PER_S)
    no_peak = bytes(12)
    options = attribute(1, rate + no_peak + struct.pack("=III", 100_000, 10_000, 0))
    options += attribute(6, 20_000)  # TCA_TBF_BURST, bytes
    add_qdisc("tbf", LOOPBACK, parent=TC_H_ROOT, handle=0x10000, options=options)
    return "put on an interface"


def _run_tool(argv: list[str], *, text: str | None = None) -> None:
    """Run a tool in this namespace; the first line of its complaint is the answer no."""
    if shutil.which(argv[0]) is None:
        raise CouldNotTell(f"needs {argv[0]}, which is not installed")
    # The legacy iptables would make its lock file in the host's /run.
    environment = {**os.environ, "XTABLES_LOCKFILE": os.devnull, "LC_ALL": "C"}
    done = subprocess.run(
        argv, input=text, capture_output=True, text=True, timeout=4, env=environment, check=False
    )
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip().splitlines()
        said = complaint[0].split("Error: ")[-1] if complaint else f"exit code {done.returncode}"
        raise Absent(f"{argv[0]}: {said}")


def _nft_rule(hook: str, rule: str) -> str:
    _run_tool(["nft", "-f", "-"], text=f"table ip probe {{ chain c {{ {hook};\n{rule}\n}}; }}\n")
    return "loaded a rule"


def _nft_nat() -> str:
    return _nft_rule("type nat hook prerouting priority -100", "udp dport 53 dnat to 192.0.2.1")


def _nft_queue() -> str:
    return _nft_rule("type filter hook prerouting priority -300", "queue num 0")


def _xt_nfqueue() -> str:
    rule = ["-t", "mangle", "-A", "PREROUTING", "-j", "NFQUEUE", "--queue-num", "0"]
    _run_tool(["iptables", *rule])
    return "loaded a rule"


def _nfnetlink_queue() -> str:
    # NFQNL_MSG_CONFIG of subsystem 3 with NFQA_CFG_CMD: bind queue 0
    netfilter = 12
    message = struct.pack("=BBH", 0, 0, 0) + attribute(1, struct.pack("!BBH", 1, 0, 0))
    netlink_request((3 << 8) | 2, message, family=netfilter)
    return "bound queue 0"


def _namespaces() -> str:
    # In a child of its own: whoever has left its process namespace can start but one process.
    child = os.fork()
    if child == 0:
        try:
            unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if number := os.waitstatus_to_exitcode(status):
        raise OSError(number, os.strerror(number))
    return "made one of each"


PROBES = {
    "namespaces": ProbeSpec(_namespaces),
    "veth": ProbeSpec(_veth),
    "bridge": ProbeSpec(_bridge),
    "htb": ProbeSpec(_htb),
    "tbf": ProbeSpec(_tbf),
    "nft_nat": ProbeSpec(_nft_nat),
    "nft_queue": ProbeSpec(_nft_queue),
    "xt_nfqueue": ProbeSpec(_xt_nfqueue),
    "nfnetlink_queue": ProbeSpec(_nfnetlink_queue),
}
