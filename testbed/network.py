# SPDX-License-Identifier: MIT
"""A topology built and running: the one module that speaks to Mininet.

A :class:`Network` lives in a sandbox (see :mod:`testbed.sandbox`), which takes it down whatever
happens. Leaving the ``with`` block ends its nodes, so that a run can build another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mininet.cli import CLI
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import Node
from pyroute2 import IPRoute

from testbed import sandbox
from testbed.errors import NfcbedError, RunError, UnsupportedError
from testbed.namespaces import in_netns
from topologies.parts import NfcTopo

__all__ = ["Interface", "NetNode", "Network"]

_TOOLS = {
    "mnexec": "mininet",
    "ifconfig": "net-tools",
    "ip": "iproute2",
    "tc": "iproute2",
    "bridge": "iproute2",
    "ethtool": "ethtool",
}
_NUD_PERMANENT = 0x80
_SYSCTLS = ("ipv4/ip_forward", "ipv4/conf/all/rp_filter", "ipv4/conf/all/send_redirects")
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


class _Steps(Mininet):  # type: ignore[misc]
    """Mininet that remembers what it was doing, for the message when that fails."""

    step = "starting Mininet"

    def addHost(self, name: str, *args: Any, **options: Any) -> Any:  # noqa: N802
        self.step = f"making the host {name}"
        return super().addHost(name, *args, **options)

    def addSwitch(self, name: str, *args: Any, **options: Any) -> Any:  # noqa: N802
        self.step = f"making the switch {name}"
        return super().addSwitch(name, *args, **options)

    def addLink(self, node1: Any, node2: Any, *args: Any, **options: Any) -> Any:  # noqa: N802
        self.step = f"making the link {node1} - {node2}"
        return super().addLink(node1, node2, *args, **options)

    def configHosts(self) -> None:  # noqa: N802
        self.step = "configuring the hosts"
        super().configHosts()

    def start(self) -> None:
        self.step = "starting the switches"
        super().start()


class Network:
    """A topology that runs while its ``with`` block does.

    :param topo: what to build.
    :param verbose: show what Mininet writes while it builds.
    :raises RunError: outside of a sandbox, or a step of building failed; the message names it.
    :raises UnsupportedError: a program is missing; the message names its package.
    """

    def __init__(self, topo: NfcTopo, *, verbose: bool = False) -> None:
        self._topo, self._verbose = topo, verbose
        self._mininet: Any = None
        self._nodes: dict[str, NetNode] = {}
        self._sandbox = sandbox.current()

    def __enter__(self) -> Self:
        if self._sandbox is None:
            raise RunError("a network can only be built in a sandbox, see run_in_sandbox")
        for tool, package in _TOOLS.items():
            if shutil.which(tool) is None:
                raise UnsupportedError(f"needs {tool}: install the package {package}")
        try:
            self._build()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def nodes(self) -> Mapping[str, NetNode]:
        """All nodes by name, switches included."""
        return self._nodes

    @property
    def nfc_nodes(self) -> tuple[str, ...]:
        """Names of the nodes that the topology wants chains on."""
        return tuple(name for name, node in self._nodes.items() if node.nfc)

    def node(self, name: str) -> NetNode:
        """Return a node by name.

        :raises RunError: there is none of that name; the message names those there are.
        """
        if name not in self._nodes:
            raise RunError(f"no node {name} here (there are: {', '.join(self._nodes)})")
        return self._nodes[name]

    def cli(self) -> None:
        """Give a person Mininet's prompt; returns when they leave it.

        Commands can be piped in as well. No history is kept.
        """
        assert self._sandbox is not None
        CLI.readlineInited = True  # or it would read and write a history file in the home
        setLogLevel("output")
        with self._sandbox.prompt():
            CLI(self._mininet, stdin=sys.stdin)

    def describe(self) -> dict[str, Any]:
        """Give the state of all nodes as plain JSON values, read from the kernel now."""
        return {
            "topology": type(self._topo).__name__,
            "nodes": {name: node.describe() for name, node in self._nodes.items()},
        }

    def _build(self) -> None:
        setLogLevel("info" if self._verbose else "critical")
        Mininet.inited = True  # it would write sysctls of the host otherwise
        self._mininet = _Steps(topo=self._topo, controller=None, build=False)
        try:
            self._mininet.build()
            self._mininet.start()
            self._mininet.step = "setting the neighbours"
            self._nodes = {node.name: self._adopt(node) for node in self._mininet.values()}
            self._set_neighbours()
        except NfcbedError:
            raise
        except (Exception, SystemExit) as error:  # Mininet also ends the program at a fault
            text = f"{error}" if isinstance(error, Exception) else "Mininet gave up"
            raise RunError(
                f"building the network failed at {self._mininet.step}: {text}"
            ) from error

    def _adopt(self, node: Node) -> NetNode:
        with in_netns(node.pid), IPRoute() as netlink:
            links = {link.get("ifname"): link for link in netlink.get_links()}
        interfaces = []
        for port in node.intfList():
            far = port.link.intf2 if port.link.intf1 is port else port.link.intf1
            link = links[port.name]
            interfaces.append(
                Interface(
                    name=port.name,
                    index=link["index"],
                    mac=link.get("address"),
                    mtu=link.get("mtu"),
                    address=IPv4Interface(f"{port.ip}/{port.prefixLen}") if port.ip else None,
                    peer=(far.node.name, far.name),
                )
            )
        return NetNode(
            name=node.name,
            kind=type(node).__name__,
            pid=node.pid,
            nfc=bool(self._topo.nodeInfo(node.name).get("nfc", False)),
            interfaces=tuple(interfaces),
        )

    def _set_neighbours(self) -> None:
        """Tell every node the others of its subnet for good, so that nobody has to ask."""
        ends = [(node, i) for node in self._nodes.values() for i in node.interfaces if i.address]
        for node in self._nodes.values():
            with node.netns(), IPRoute() as netlink:
                for owner, mine in ends:
                    if owner is not node or mine.address is None:
                        continue
                    for other, theirs in ends:
                        if theirs.address is None or other is node:
                            continue
                        if theirs.address.network == mine.address.network:
                            netlink.neigh(
                                "replace",
                                dst=str(theirs.address.ip),
                                lladdr=theirs.mac,
                                ifindex=mine.index,
                                state=_NUD_PERMANENT,
                            )

    def _stop(self) -> None:
        """End the nodes: with a namespace's last process go its links, queues and rules."""
        if self._mininet is None:
            return
        for node in self._nodes.values():
            for child in node._children:
                _end(child)
        shells = list(self._mininet.values())
        spaces = {space for node in shells if (space := _netns_of(node.pid)) is not None}
        spaces.discard(_netns_of(os.getpid()))
        for process in Path("/proc").glob("[0-9]*"):
            if _netns_of(int(process.name)) in spaces:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)
        for node in shells:
            for table in (Node.inToNode, Node.outToNode):
                table.pop(node.stdout.fileno(), None)
            node.cleanup()
        self._mininet, self._nodes = None, {}


def _netns_of(pid: int) -> str | None:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    return None


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
