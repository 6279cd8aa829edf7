# SPDX-License-Identifier: MIT
"""``nfcbed shell``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from testbed.chain import Policy
from testbed.datapath import NfcNode
from testbed.datapath.watch import watch_queues
from testbed.errors import UserError
from testbed.network import Network
from testbed.policy import load_policy
from testbed.sandbox import Sandbox, run_in_sandbox
from topologies import load_topologies
from topologies.parts import NfcTopo

__all__ = ["app"]

app = typer.Typer()


def _topology(
    name: str, *, rate_mbps: float | None, mtu: int | None, queue_packets: int | None
) -> NfcTopo:
    known = load_topologies()
    if name not in known:
        raise UserError(f"there is no topology {name}; there are: {', '.join(known)}")
    options = {"rate_mbps": rate_mbps, "mtu": mtu, "queue_packets": queue_packets}
    try:
        return known[name](**{key: value for key, value in options.items() if value is not None})
    except ValueError as error:
        raise UserError(f"topology {name}: {error}") from None


def _session(sandbox: Sandbox, topo: NfcTopo, policy: Policy | None) -> int:
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network(topo))
        running = {}
        for name in network.nfc_nodes if policy is not None else ():
            assert policy is not None
            node = NfcNode(network.node(name), policy, bpffs=sandbox.bpffs)
            running[name] = stack.enter_context(node)
            stack.enter_context(watch_queues(node))
        sandbox.describe(nfc={name: node.describe() for name, node in running.items()})
        for name, node in running.items():
            typer.echo(f"{name}: {len(node.policy.chains)} chain(s) at {node.datapath.hook}")
        typer.echo(f"run {sandbox.run_id}; `nfcbed explain` in another terminal looks into it")
        network.cli()
    return 0


@app.command()
def shell(
    topology: Annotated[str, typer.Argument(help="Such as thesis, thesis-routing, line.")],
    policy: Annotated[
        Path | None, typer.Option(help="Policy file; none: no chain, plain routing.")
    ] = None,
    rate_mbps: Annotated[float | None, typer.Option(help="Rate of every link, Mbit/s.")] = None,
    mtu: Annotated[int | None, typer.Option(help="MTU of every link, bytes.")] = None,
    queue_packets: Annotated[int | None, typer.Option(help="Queue of every link.")] = None,
) -> int:
    """Open a network with the chains on, and Mininet's prompt in it.

    The network lives in namespaces of its own and is gone when you leave the prompt (exit).
    """
    topo = _topology(topology, rate_mbps=rate_mbps, mtu=mtu, queue_packets=queue_packets)
    chains = load_policy(policy) if policy is not None else None
    return run_in_sandbox(
        lambda sandbox: _session(sandbox, topo, chains), command=f"shell {topology}"
    )
