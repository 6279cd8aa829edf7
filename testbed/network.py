# SPDX-License-Identifier: MIT
"""A topology built and running: the one module that speaks to Mininet.

A :class:`Network` lives in a sandbox (see :mod:`testbed.sandbox`), which takes it down whatever
happens. Leaving the ``with`` block ends its nodes, so that a run can build another one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mininet.cli import CLI
from mininet.log import lg, setLogLevel
from mininet.net import Mininet
from mininet.node import Node
from pyroute2 import IPRoute

from testbed import sandbox
from testbed.errors import NfcbedError, RunError, UnsupportedError
from testbed.namespaces import in_netns
from testbed.netnode import Interface, NetNode
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

        Where standard input is no terminal its lines are carried out as commands, and Ctrl-C
        ends the run as anywhere else. No history is kept.
        """
        assert self._sandbox is not None
        CLI.readlineInited = True  # or it would read and write a history file in the home
        setLogLevel("output")
        for handler in lg.handlers:  # what a node's command writes is output, not a fault
            handler.setStream(sys.stdout)
        if sys.stdin.isatty():
            with self._sandbox.prompt():
                CLI(self._mininet, stdin=sys.stdin)
        else:
            self._run_commands(sys.stdin)

    def _run_commands(self, lines: Iterable[str]) -> None:
        # While a command runs, Mininet hands what can be read on to it: a silent pipe keeps it
        # from eating the commands that follow.
        hear, say = os.pipe()
        with os.fdopen(hear) as silence, os.fdopen(say, "w"):
            cli = CLI(self._mininet, stdin=silence, script=os.devnull)
            for line in lines:
                left = cli.onecmd(cli.precmd(line.strip()))
                if self._sandbox is not None and self._sandbox.ending:
                    raise KeyboardInterrupt  # Mininet took the first for its running command
                if left:
                    return

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
            node.end_children()
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
