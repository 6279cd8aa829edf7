# SPDX-License-Identifier: MIT
"""The ways through the node that are compared, each switched on for one measurement.

Every measurement loads its programs anew: where the kernel's compiler happens to place a program
can cost more than the program itself, so each round is another draw of that as well.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from testbed.bench.rig import DPORT, VIRTUAL, Rig
from testbed.chain import NF, Chain, FlowRule, Policy
from testbed.datapath.plan import make_plan
from testbed.datapath.tc import TcDatapath
from testbed.datapath.ways import ways_out
from testbed.errors import UserError
from testbed.probe import probe
from topologies.line import RIGHT

__all__ = ["THRESHOLD_MBPS", "VARIANTS", "Variant", "chain_on", "choose", "dad_dnat"]

THRESHOLD_MBPS = 80_000  # more than one core sends: everything is measured, nothing dropped
_NFT_BYTES = f"{THRESHOLD_MBPS // 8} mbytes/second burst 1 mbytes"
_TO_VIRTUAL = f"ip daddr {VIRTUAL} udp dport {DPORT}"

# As the chain's policy: per flow the rate limit, then DNAT in connection tracking.
_NFTABLES = f"""
table ip bench {{
    set flows {{
        type ipv4_addr . inet_service . ipv4_addr . inet_service
        flags dynamic
        size 65536
    }}
    chain deny {{
        type filter hook prerouting priority mangle
        {_TO_VIRTUAL} update @flows {{ ip saddr . udp sport . ip daddr . udp dport \
limit rate over {_NFT_BYTES} }} drop
    }}
    chain translate {{
        type nat hook prerouting priority dstnat
        {_TO_VIRTUAL} dnat to {RIGHT}
    }}
}}
"""

# The least that nftables can do: one limit for all flows, and a rewrite that knows no connection.
_NFTABLES_STATELESS = f"""
table ip bench {{
    chain stateless {{
        type filter hook prerouting priority mangle
        {_TO_VIRTUAL} limit rate over {_NFT_BYTES} drop
        {_TO_VIRTUAL} ip daddr set {RIGHT}
    }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way through the node.

    :ivar to: destination address of the frames; None: they go nowhere.
    :ivar flows: 5-tuples that take turns.
    :ivar on: switches it on, as a context manager.
    :ivar probes: names of the kernel features it needs (``testbed.probe``).
    :ivar tools: programs it needs.
    """

    name: str
    text: str
    to: str | None = RIGHT
    flows: int = 1
    on: Callable[[Rig], contextlib.AbstractContextManager[None]] = field(repr=False)
    probes: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    def lacking(self) -> str | None:
        """Say what this machine lacks for it, or give None."""
        for name in self.probes:
            answer = probe(name)
            if answer.state == "no":
                return f"{name}: {answer.detail}"
        return next((f"no {tool} here" for tool in self.tools if not shutil.which(tool)), None)


def dad_dnat(*, forward: str, state: str = "table", max_flows: int = 1024) -> Policy:
    """The chain DAD, then DNAT from the node's own address to `right`."""
    limit = {"threshold_mbps": THRESHOLD_MBPS, "max_flows": max_flows}
    row = {"proto": "udp", "dst": VIRTUAL, "dport": DPORT, "to": RIGHT}
    nat = {"rules": [row], "state": state, "max_flows": max_flows}
    nfs = (
        NF(name="dad", priority=10, params=limit),
        NF(name="dnat", priority=20, params=nat),
    )
    return _policy(VIRTUAL, forward=forward, nfs=nfs)


def _policy(to: str, *, forward: str, nfs: tuple[NF, ...]) -> Policy:
    rule = FlowRule.model_validate({"proto": "udp", "dst": to, "dport": DPORT})
    chain = {"id": 1, "name": "bench", "forward": forward, "rules": (rule,), "nfs": nfs}
    return Policy(chains=(Chain.model_validate(chain),))


@contextlib.contextmanager
def chain_on(rig: Rig, policy: Policy) -> Iterator[TcDatapath]:
    """A policy's chains at the node, for packets from `left`."""
    with contextlib.ExitStack() as stack:
        with rig.node.netns():
            plan, ways = make_plan(policy), ways_out()
            datapath = TcDatapath(plan, folder=rig.bpffs / "bench", ways=ways, tcx=rig.tcx)
        stack.callback(datapath.close)
        stack.enter_context(rig.attached(datapath.classifier.program("classify")))
        yield datapath


@contextlib.contextmanager
def _chain(rig: Rig, policy: Policy, *, conntrack: bool = False) -> Iterator[None]:
    if conntrack:
        _forget_connections(rig)
    with chain_on(rig, policy):
        yield


def _forget_connections(rig: Rig) -> None:
    rig.node.run(["conntrack", "-F"])


@contextlib.contextmanager
def _rules(rig: Rig, rules: str) -> Iterator[None]:
    rig.node.run(["nft", "-f", "-"], stdin=rules)
    try:
        yield
    finally:
        rig.node.run(["nft", "delete", "table", "ip", "bench"])


@contextlib.contextmanager
def _nothing(rig: Rig) -> Iterator[None]:  # noqa: ARG001
    yield


def _chained(name: str, text: str, *, forward: str, state: str = "table") -> Variant:
    policy, conntrack = dad_dnat(forward=forward, state=state), state == "conntrack"
    return Variant(
        name=name,
        text=text,
        to=VIRTUAL,
        on=lambda rig: _chain(rig, policy, conntrack=conntrack),
        probes=("conntrack_kfuncs",) if conntrack else (),
        tools=("conntrack",) if conntrack else (),
    )


def _many_flows(flows: int) -> Variant:
    policy = dad_dnat(forward="direct", max_flows=flows)
    return Variant(
        name=f"chain-direct-{flows}",
        text=f"as chain-direct, {flows:,} flows in turn",
        to=VIRTUAL,
        flows=flows,
        on=lambda rig: _chain(rig, policy),
    )


def _passes(count: int) -> Variant:
    nfs = tuple(NF(name="pass", priority=10) for _ in range(count))
    policy = _policy(RIGHT, forward="direct", nfs=nfs)
    return Variant(
        name=f"pass-{count}",
        text=f"{count} pass-through NFs, forward: direct",
        on=lambda rig: _chain(rig, policy),
    )


def _nftables(name: str, text: str, rules: str, *, conntrack: bool) -> Variant:
    @contextlib.contextmanager
    def switched_on(rig: Rig) -> Iterator[None]:
        if conntrack:
            _forget_connections(rig)
        with _rules(rig, rules):
            yield

    return Variant(
        name=name,
        text=text,
        to=VIRTUAL,
        on=switched_on,
        probes=("nft_nat",),
        tools=("nft", "conntrack") if conntrack else ("nft",),
    )


_ALL = (
    Variant(name="generator", text="the generator alone: frames go nowhere", to=None, on=_nothing),
    Variant(
        name="limit",
        text="an empty program with bpf_redirect_peer",
        on=lambda rig: rig.attached(rig.redirect_peer),
        probes=("redirect_peer",),
    ),
    Variant(name="routing", text="the kernel's routing alone", on=_nothing),
    _chained("chain-direct", "DAD, DNAT, forward: direct", forward="direct"),
    _chained("chain-stack", "DAD, DNAT, forward: stack", forward="stack"),
    _chained(
        "chain-direct-conntrack",
        "as chain-direct, DNAT in conntrack",
        forward="direct",
        state="conntrack",
    ),
    _chained(
        "chain-stack-conntrack",
        "as chain-stack, DNAT in conntrack",
        forward="stack",
        state="conntrack",
    ),
    _nftables("nftables", "limit per flow, DNAT by conntrack", _NFTABLES, conntrack=True),
    _nftables("nftables-stateless", "two stateless rules", _NFTABLES_STATELESS, conntrack=False),
    *(_many_flows(flows) for flows in (1_000, 65_536)),
    *(_passes(count) for count in range(9)),
)

VARIANTS = {variant.name: variant for variant in _ALL}


def choose(names: str | None) -> list[Variant]:
    """Variants by their names, separated by commas; all where none are named.

    :raises UserError: there is none of that name.
    """
    if names is None:
        return list(VARIANTS.values())
    chosen = []
    for name in dict.fromkeys(part.strip() for part in names.split(",")):
        if name not in VARIANTS:
            raise UserError(f"--variants: there is no {name!r}; there are: {', '.join(VARIANTS)}")
        chosen.append(VARIANTS[name])
    return chosen
