# SPDX-License-Identifier: MIT
"""Ways through the node that wait side by side, each in a network of its own, to be pinged in turn.

sockperf sleeps for two seconds before it measures. So the clients of all ways are started at once
and stopped while they sleep; one after the other goes on when it is its turn, with its server.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments._pinged import Books, Measured
from testbed.bench.rig import RIGHT, VIRTUAL
from testbed.chain import NF, Chain, FlowRule, Policy
from testbed.datapath import NfcNode
from testbed.datapath.status import NodeStatus
from testbed.errors import RunError
from testbed.experiment import sockperf
from testbed.experiment.iperf import UdpFlow
from testbed.experiment.losses import SOCKET_PLACES, lost_so_far
from testbed.experiment.network import open_network
from testbed.experiment.runner import Session
from testbed.experiment.traffic import Client, Traffic, traffic
from testbed.netnode import NetNode
from testbed.network import Network
from testbed.rulesets.load import load_policy_rules

__all__ = ["LOAD_MBPS", "PORT", "Way", "opened", "policy_of"]

PORT, LOAD_PORT, LOAD_CPORT = 53, 5201, 40001
LOAD_MBPS = 100.0
_THRESHOLD_MBPS = 100_000  # everything is counted, nothing dropped
_ENDS = ("left", "right")
_SENT, _RECEIVED = "OutRequests", "InDelivers"  # of the ends' IP
_LEAD_S = 0.3  # that the load runs before
_LATE_S = 8.0
_POLL_S = 0.005
_LISTENING = f"{PORT:04X}"


def policy_of(forward: str) -> Policy:
    """DAD and DNAT for the pings and for the load, from the node's address to `right`."""
    rules = [
        {"proto": proto, "dst": VIRTUAL, "dport": port}
        for proto, port in (("udp", PORT), ("udp", LOAD_PORT), ("tcp", LOAD_PORT))
    ]
    rows = [{"dst": VIRTUAL, "dport": port, "to": RIGHT} for port in (PORT, LOAD_PORT)]
    nfs = (
        NF(name="dad", priority=10, params={"threshold_mbps": _THRESHOLD_MBPS, "window_s": 10}),
        NF(name="dnat", priority=20, params={"rules": rows}),
    )
    chain = {
        "id": 1,
        "name": "dad-dnat",
        "forward": forward,
        "rules": tuple(FlowRule.model_validate(rule) for rule in rules),
        "nfs": nfs,
    }
    return Policy(chains=(Chain.model_validate(chain),))


@dataclass
class _Client:
    """One sockperf client that waits for its turn."""

    process: subprocess.Popen[Any]
    output: Path
    log: Path

    def said(self, words: str) -> bool:
        return words in self.output.read_text(errors="replace")


@dataclass
class Way:
    """One way with its network, its server, and a client for each load.

    :ivar load_mbps: that iperf3 really offered, by load's name.
    """

    name: str
    session: Session
    network: Network
    cores: tuple[int, int]
    traffic: Traffic
    status: NodeStatus | None
    _server: subprocess.Popen[Any]
    _clients: dict[str, _Client]
    _before: dict[str, int] = field(default_factory=dict)

    def hold(self) -> None:
        """Stop the clients while they sleep."""
        for load, client in self._clients.items():
            self._wait(load, sockperf.READY)
            client.process.send_signal(signal.SIGSTOP)
            if client.said(sockperf.BEGINS):
                raise RunError(f"{self.name}: sockperf began before its turn: is the machine busy?")

    def measure(self, load: str, repeat: int, seconds: int) -> Measured:
        """Let a client and the server go on until it has measured."""
        client = self._clients[load]
        self._server.send_signal(signal.SIGCONT)
        background = self._offer(repeat, seconds) if load == "load" else None
        try:
            client.process.send_signal(signal.SIGCONT)
            self._wait(load, sockperf.BEGINS)
            before = self._delays(client)
            self._wait(load, sockperf.ENDS)
            delays = [now - then for now, then in zip(self._delays(client), before, strict=True)]
            code = client.process.wait(timeout=_LATE_S)
        finally:
            self._server.send_signal(signal.SIGSTOP)
            if background is not None:
                background.cut()
        sent = self._ended(background) if background is not None else None
        text = client.log.read_text(errors="replace") if client.log.exists() else ""
        if code != 0:
            raise RunError(f"{self.name}: sockperf ended with {code}")
        return Measured(
            way=self.name,
            load=load,
            repeat=repeat,
            pinged=sockperf.parse_full_log(text, who=self.name),
            waited_s=max(delays) / 1e9,
            seconds=float(seconds),
            load_mbps=sent,
        )

    def _offer(self, repeat: int, seconds: int) -> Client:
        to = RIGHT if self.name == "routing" else VIRTUAL
        client = self.traffic.send(
            _load_flow(to),
            phase=f"{self.name}{repeat}",
            rate_mbps=LOAD_MBPS,
            duration_s=seconds + _LATE_S,
        )
        time.sleep(_LEAD_S)
        return client

    def _ended(self, client: Client) -> float:
        deadline = time.monotonic() + _LATE_S
        while not client.poll():
            if time.monotonic() > deadline:
                raise RunError(f"{client.who}: iperf3 does not end")
            time.sleep(_POLL_S)
        report = client.sent()
        if report is None:
            raise RunError(f"{client.who}: iperf3 has written no report")
        return report.rate_mbps

    def _wait(self, load: str, words: str) -> None:
        client, deadline = self._clients[load], time.monotonic() + _LATE_S
        while not client.said(words):
            self.session.progress.tick()
            if client.process.poll() is not None:
                lines = client.output.read_text(errors="replace").splitlines()
                said = next((line for line in reversed(lines) if line.strip()), "nothing")
                raise RunError(f"{self.name}: sockperf ended by itself; it said: {said}")
            if time.monotonic() > deadline:
                raise RunError(f"{self.name}: sockperf is {_LATE_S:g} s late")
            time.sleep(_POLL_S)

    def _delays(self, client: _Client) -> tuple[int, ...]:
        """Time in ns that each end was ready to run and did not, so far."""
        return tuple(_run_delay_ns(pid) for pid in (client.process.pid, self._server.pid))

    def books(self) -> Books:
        """Where packets went since the network was built."""
        now = self._counters()
        grown = {place: n - self._before.get(place, 0) for place, n in now.items()}
        status = self.status
        stages = status.stages() if status else []
        return Books(
            way=self.name,
            sent=grown.pop(_SENT),
            received=grown.pop(_RECEIVED),
            lost=grown,
            dropped={
                f"{stage.name}: {reason}": n + stage.replies_dropped.get(reason, 0)
                for stage in stages
                for reason, n in stage.dropped.items()
            },
            missed=sum(stage.missed for stage in stages),
            entered=sum(count.packets for count in status.rules()) if status else None,
            replies=status.specials()["replies"].packets if status else None,
            translated=self._translated() if self.name == "nftables" else None,
        )

    def _counters(self) -> dict[str, int]:
        """What the ends sent and received, and what was lost between them, by place."""
        ends = [self.network.node(end) for end in _ENDS]
        found = _losses(self.network)
        for name in (_SENT, _RECEIVED):
            found[name] = sum(_ip_counter(end, name) for end in ends)
        return found

    def begin_books(self) -> None:
        """Note the counters from which the books are kept."""
        self._before = self._counters()

    def _translated(self) -> int:
        """Connections of pings that conntrack translates both ways."""
        words = ["conntrack", "-L", "-p", "udp", "--orig-port-dst", str(PORT)]
        lines = self.network.node("node").run(words).stdout.splitlines()
        return sum(f"dst={VIRTUAL}" in line and f"src={RIGHT}" in line for line in lines)


def _losses(network: Network) -> dict[str, int]:
    """Packets lost on their way, by place; not those that a socket left unread."""
    unread = {f"{end}: {text}" for end in _ENDS for text in SOCKET_PLACES.values()}
    return {place: n for place, n in lost_so_far(network).items() if place not in unread}


def _ip_counter(node: NetNode, name: str) -> int:
    lines = Path(f"/proc/{node.pid}/net/snmp").read_text().splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Ip:"))
    return int(dict(zip(names, values, strict=True))[name])


def _run_delay_ns(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    except (OSError, IndexError):  # it has ended, or the kernel has no such statistics
        return 0


def _load_flow(to: str) -> UdpFlow:
    return UdpFlow(name="load", dst=to, dport=LOAD_PORT, cport=LOAD_CPORT, receiver="right")


@contextlib.contextmanager
def opened(
    session: Session, name: str, *, loads: tuple[str, ...], seconds: int, cores: tuple[int, int]
) -> Iterator[Way]:
    """Build a way's network, and start its server and a client for each load; they wait.

    :param cores: of the clients, and of the server.
    :raises RunError: sockperf or iperf3 does not come up.
    """
    folder = session.sandbox.folder / f"latency-{name}-{time.monotonic_ns()}"
    folder.mkdir()
    to = RIGHT if name == "routing" else VIRTUAL
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(open_network("line"))
        status = stack.enter_context(_switched_on(session, name, network))
        running = stack.enter_context(
            traffic(
                network,
                [_load_flow(to)],
                sender="left",
                folder=folder,
                buffer_bytes=session.buffer_bytes,
            )
        )
        words = sockperf.server_command(RIGHT, PORT)
        server = _start(network.node("right"), words, cores[1], folder / "server.txt")
        stack.callback(_end, server)
        _listening(network.node("right"), server, name)
        server.send_signal(signal.SIGSTOP)
        clients = {}
        for load in loads:
            log, output = folder / f"{load}.csv", folder / f"{load}.txt"
            words = sockperf.client_command(to, PORT, seconds=seconds, log=str(log))
            process = _start(network.node("left"), words, cores[0], output)
            stack.callback(_end, process)
            clients[load] = _Client(process, output, log)
        way = Way(name, session, network, cores, running, status, server, clients)
        way.begin_books()
        yield way


@contextlib.contextmanager
def _switched_on(session: Session, name: str, network: Network) -> Iterator[NodeStatus | None]:
    node = network.node("node")
    if not name.startswith("chain-"):
        if name == "nftables":
            load_policy_rules(node, policy_of("stack"), to="nftables")
        yield None
        return
    policy = policy_of(name.removeprefix("chain-"))
    bpffs = session.sandbox.bpffs / name
    bpffs.mkdir(exist_ok=True)
    with NfcNode(node, policy, bpffs=bpffs) as chain:
        yield NodeStatus(chain.datapath.plan, chain.datapath.folder)


def _start(node: NetNode, words: list[str], core: int, output: Path) -> subprocess.Popen[Any]:
    with output.open("wb") as file:
        return node.popen(
            ["taskset", "--cpu-list", str(core), *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait()


def _listening(node: NetNode, server: subprocess.Popen[Any], name: str) -> None:
    deadline = time.monotonic() + _LATE_S
    while f":{_LISTENING} " not in Path(f"/proc/{node.pid}/net/udp").read_text():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RunError(f"{name}: the server of sockperf does not come up")
        time.sleep(_POLL_S)
