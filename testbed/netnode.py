# SPDX-License-Identifier: MIT
"""A node of a running network: run programs in it, look at it, change its offloads."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from testbed.errors import RunError, UnsupportedError
from testbed.namespaces import in_netns

__all__ = ["Interface", "NetNode"]

_SYSCTLS = (
    *("ipv4/ip_forward", "ipv4/conf/all/rp_filter", "ipv4/conf/all/send_redirects"),
    *("ipv4/ip_early_demux", "ipv4/udp_early_demux", "ipv4/ip_default_ttl"),
    *("ipv4/udp_rmem_min", "ipv4/udp_wmem_min"),
)
_OFFLOADS = (
    "rx-checksumming",
    "tx-checksumming",
    "scatter-gather",
    "tcp-segmentation-offload",
    "tx-udp-segmentation",
    "generic-segmentation-offload",
    "generic-receive-offload",
)


@dataclass(frozen=True)
class Interface:
    """One interface of a node, as it was built.

    :param address: IPv4 address with its prefix; None at a switch.
    :param peer: node and interface at the other end of the link.
    """

    name: str
    index: int
    mac: str
    mtu: int
    address: IPv4Interface | None
    peer: tuple[str, str]


@dataclass(frozen=True)
class NetNode:
    """A node of a running network: a network namespace with a process that holds it.

    :param pid: that process, as the sandbox numbers it.
    :param nfc: whether the topology wants chains on it.
    """

    name: str
    kind: str
    pid: int
    nfc: bool
    interfaces: tuple[Interface, ...]
    _children: list[subprocess.Popen[Any]] = field(default_factory=list, repr=False)

    def interface(self, name: str) -> Interface:
        """Return the interface of that name; raises KeyError."""
        return {interface.name: interface for interface in self.interfaces}[name]

    @property
    def address(self) -> IPv4Interface:
        """First IPv4 address of the node."""
        return next(i.address for i in self.interfaces if i.address is not None)

    @contextlib.contextmanager
    def netns(self) -> Iterator[None]:
        """Put this thread into the node's network namespace meanwhile."""
        with in_netns(self.pid):
            yield

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in the node (its network and mount namespaces).

        It gets a session of its own: Ctrl-C in the terminal does not reach it. It is killed
        when the network ends.

        :param options: as for :class:`subprocess.Popen`.
        :raises UnsupportedError: there is no such program.
        """
        if shutil.which(argv[0]) is None:
            raise UnsupportedError(f"needs the program {argv[0]} (see nfcbed doctor)")
        options.setdefault("start_new_session", True)
        child = subprocess.Popen(["mnexec", "-a", str(self.pid), *argv], **options)
        self._children.append(child)
        return child

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 30.0,
        check: bool = True,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the node to its end and return what it wrote.

        :raises RunError: it took longer than ``timeout_s``, or failed and ``check`` is set.
        """
        command = " ".join(argv)
        pipe = subprocess.PIPE
        child = self.popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )
        try:
            output, errors = child.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise RunError(f"{self.name}: `{command}` took more than {timeout_s:g} s") from None
        finally:
            _end(child)
            self._children.remove(child)
        if check and child.returncode != 0:
            said = (errors.strip() or output.strip()).removesuffix(".")
            raise RunError(f"{self.name}: `{command}` ended with {child.returncode}: {said}")
        return subprocess.CompletedProcess(list(argv), child.returncode, output, errors)

    def offload(self, interface: str, **features: bool) -> None:
        """Switch offloads of an interface, by ethtool's names: ``offload("vm1-eth0", gro=True)``.

        ``_`` stands for ``-``. Nodes start with the kernel's defaults for veth.

        :raises RunError: the interface has no such feature, or it is fixed.
        """
        settings = []
        for name, on in features.items():
            settings += [name.replace("_", "-"), "on" if on else "off"]
        self.run(["ethtool", "-K", interface, *settings])

    def describe(self) -> dict[str, Any]:
        """Give the node's state as plain JSON values, read from the kernel now."""
        queues: dict[str, list[Any]] = {}
        for qdisc in json.loads(self.run(["tc", "-j", "qdisc", "show"]).stdout):
            queues.setdefault(qdisc.pop("dev"), []).append(qdisc)
        with self.netns():
            sysctls = {s: Path(f"/proc/sys/net/{s}").read_text().strip() for s in _SYSCTLS}
        return {
            "kind": self.kind,
            "pid": self.pid,
            "nfc": self.nfc,
            "interfaces": [self._describe(i, queues) for i in self.interfaces],
            "routes": json.loads(self.run(["ip", "-j", "-4", "route", "show"]).stdout),
            "sysctls": sysctls,
        }

    def end_children(self) -> None:
        """Kill the programs that :meth:`popen` started and that still run."""
        for child in self._children:
            _end(child)

    def _describe(self, interface: Interface, queues: Mapping[str, list[Any]]) -> dict[str, Any]:
        (now,) = json.loads(self.run(["ip", "-j", "address", "show", interface.name]).stdout)
        lines = self.run(["ethtool", "-k", interface.name]).stdout.splitlines()
        features = dict(line.strip().split(": ", 1) for line in lines if ": " in line)
        return {
            "name": interface.name,
            "index": interface.index,
            "mac": now["address"],
            "mtu": now["mtu"],
            "addresses": [f"{a['local']}/{a['prefixlen']}" for a in now["addr_info"]],
            "peer": list(interface.peer),
            "qdiscs": queues.get(interface.name, []),
            "offloads": {name: features[name] for name in _OFFLOADS if name in features},
        }


def _end(child: subprocess.Popen[Any]) -> None:
    """Kill a program that still runs, and its process group if it leads one; close its pipes."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
