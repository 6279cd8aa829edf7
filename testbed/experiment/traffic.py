# SPDX-License-Identifier: MIT
"""iperf3 on the nodes: servers that stay, clients that come and go with one source port.

What the programs write goes to files in the sandbox; :meth:`Traffic.raw` collects it, also when
the run was cut short.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.errors import RunError
from testbed.experiment.iperf import (
    Sent,
    UdpFlow,
    client_command,
    parse_sent,
    read_documents,
    server_command,
    without_host_name,
)
from testbed.netnode import NetNode
from testbed.network import Network

__all__ = ["Client", "Traffic", "traffic"]

_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp
_READY_S = 5.0
_POLL_S = 0.002


@dataclass
class Client:
    """One iperf3 client; times are CLOCK_MONOTONIC.

    :ivar cut_short: whether it was told to end before it had sent all.
    """

    flow: UdpFlow
    phase: str
    process: subprocess.Popen[Any]
    output: Path
    begun_ns: int
    ended_ns: int | None = None
    cut_short: bool = False
    _fault: str | None = None

    def poll(self) -> bool:
        """Whether it has ended.

        :raises RunError: it failed, or something ended it.
        """
        code = self.process.poll()
        if code is None:
            return False
        if self.ended_ns is None:
            self.ended_ns = time.monotonic_ns()
            self._fault = _fault(code, self.output)
        if self._fault is not None and not self.cut_short:
            raise RunError(f"{self.who}: {self._fault}")
        return True

    def cut(self) -> None:
        """Tell it to end; it still reports."""
        self.cut_short = True
        self.process.terminate()

    @property
    def who(self) -> str:
        """The client, for messages."""
        return f"client of {self.flow.name}, {self.phase}"

    def documents(self) -> list[dict[str, Any]]:
        """What it has written so far."""
        return read_documents(self.output.read_text(errors="replace"))

    def sent(self) -> Sent | None:
        """What it sent; None where it has not reported.

        :raises RunError: its report is not understood.
        """
        found = self.documents()
        if not found:
            return None
        document = dict(found[0])
        if self.cut_short:
            document.pop("error", None)  # that it was interrupted
        return parse_sent(document, who=self.who)


def _fault(code: int, output: Path) -> str | None:
    """Why an iperf3 has ended; None where all was well. Some versions end with 0 at an error."""
    for document in read_documents(output.read_text(errors="replace")):
        if "error" in document:
            return f"iperf3 reports: {document['error']}"
    if code == 0:
        return None
    return f"iperf3 was killed (signal {-code})" if code < 0 else f"iperf3 ended with {code}"


@dataclass
class Traffic:
    """Servers of some flows, and the clients that have been started."""

    sender: NetNode
    folder: Path
    buffer_bytes: int
    clients: list[Client] = field(default_factory=list)
    _servers: dict[UdpFlow, subprocess.Popen[Any]] = field(default_factory=dict)
    _nodes: dict[UdpFlow, NetNode] = field(default_factory=dict)

    def serve(self, flow: UdpFlow, node: NetNode) -> None:
        """Start a flow's server at a node and wait until it listens.

        :raises RunError: it does not.
        """
        with self._output(f"{flow.name}-server").open("wb") as output:
            self._servers[flow] = node.popen(
                server_command(flow.dport), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._nodes[flow] = node
        deadline = time.monotonic() + _READY_S
        while not self.listens(flow):
            self.check()
            if time.monotonic() > deadline:
                raise RunError(f"{node.name}: iperf3 does not listen at port {flow.dport}")
            time.sleep(_POLL_S)

    def listens(self, flow: UdpFlow) -> bool:
        """Whether the flow's server takes a new client."""
        wanted = f":{flow.dport:04X}"
        for table in ("tcp", "tcp6"):
            path = Path(f"/proc/{self._nodes[flow].pid}/net/{table}")
            with contextlib.suppress(OSError):
                for line in path.read_text().splitlines()[1:]:
                    columns = line.split()
                    if columns[1].endswith(wanted) and columns[3] == _LISTENING:
                        return True
        return False

    def send(self, flow: UdpFlow, *, phase: str, rate_mbps: float, duration_s: float) -> Client:
        """Start a client; the one before it with the same port must have ended."""
        command = client_command(
            flow, rate_mbps=rate_mbps, duration_s=duration_s, buffer_bytes=self.buffer_bytes
        )
        path = self._output(f"{flow.name}-{phase}-client")
        with path.open("wb") as output:
            begun_ns = time.monotonic_ns()
            process = self.sender.popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        client = Client(flow, phase, process, path, begun_ns)
        self.clients.append(client)
        return client

    def check(self) -> None:
        """Raise RunError if a server has ended, or a client has failed."""
        for flow, server in self._servers.items():
            code = server.poll()
            if code is not None:
                fault = _fault(code, self._output_of_server(flow)) or "iperf3 ended by itself"
                raise RunError(f"server of {flow.name} at {self._nodes[flow].name}: {fault}")
        for client in self.clients:
            client.poll()

    def stop_servers(self) -> None:
        """End the servers."""
        for server in self._servers.values():
            server.kill()
            server.wait()
        self._servers.clear()

    def raw(self) -> dict[str, Any]:
        """What iperf3 wrote, by file name; without the host's name."""
        found: dict[str, Any] = {}
        for client in self.clients:
            documents = [without_host_name(document) for document in client.documents()]
            found[client.output.name] = documents[0] if len(documents) == 1 else documents
        for flow in self._nodes:
            path = self._output_of_server(flow)
            texts = read_documents(path.read_text(errors="replace"))
            found[path.name] = [without_host_name(document) for document in texts]
        return found

    def _output_of_server(self, flow: UdpFlow) -> Path:
        return self._output(f"{flow.name}-server")

    def _output(self, stem: str) -> Path:
        return self.folder / f"{stem.replace(' ', '')}.json"


@contextlib.contextmanager
def traffic(
    network: Network, flows: Sequence[UdpFlow], *, sender: str, folder: Path, buffer_bytes: int
) -> Iterator[Traffic]:
    """Serve the flows at their receivers meanwhile.

    :param folder: for what iperf3 writes; made if missing.
    :param buffer_bytes: of sockets, see :func:`testbed.experiment.iperf.client_command`.
    :raises RunError: a server does not come up.
    """
    folder.mkdir(exist_ok=True)
    running = Traffic(network.node(sender), folder, buffer_bytes)
    try:
        for flow in flows:
            running.serve(flow, network.node(flow.receiver))
        yield running
    finally:
        running.stop_servers()
