# SPDX-License-Identifier: MIT
"""Where a packet goes: flow rules, chains and network functions, as plain values.

Start here. A packet that arrives at a node's *chaining point* is judged by its 5-tuple::

    packet ──> first FlowRule that matches ──> its Chain ──> NF ──> NF ──> forward
                │                                │            │
                │ none matches                   │            └ DROP: the packet ends here
                └> ACCEPT: on, untouched         └ in the order of priority, smallest first

1. A *policy* lists chains, and each chain lists the flow rules that lead to it. Of all rules of
   all chains the one with the smallest priority wins; among equals, the one written first.
2. The packet walks the chain's *network functions* (NFs). Each returns ACCEPT, and the next one
   gets the same packet, perhaps rewritten, or DROP, and that was its way.
3. After the last NF the chain *forwards*: ``stack`` hands the packet to the kernel's routing, as
   in the thesis; ``direct`` does TTL, route, neighbour and redirect itself.

Everything in this module is a value: it cannot change, and it knows no kernel, file or clock. To
change a chain is to make a new one. Source: the thesis, chapters 5 and 6.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from testbed import tuplespace
from testbed.fields import (
    ANY,
    PORT_PROTOCOLS,
    Address,
    Name,
    OneProtocol,
    Params,
    ParamsField,
    Port,
    Prefix,
    Protocol,
    Word,
    problem,
    protocol_name,
)

__all__ = [
    "MAX_CHAIN_ID",
    "MAX_CHAIN_LENGTH",
    "NF",
    "Chain",
    "FiveTuple",
    "FlowRule",
    "Match",
    "Nfqueue",
    "Policy",
    "Shadowed",
    "shadowed_rules",
]

MAX_CHAIN_LENGTH = 32
"""NFs in one chain. The kernel allows 33 tail calls in a row: one into each NF and one into the
forwarding step (MAX_TAIL_CALL_CNT in include/linux/bpf.h)."""

MAX_CHAIN_ID = 2**24 - 1
"""Chain ids have 24 bits, like a service path id (RFC 8300)."""

DEFAULT_PRIORITY = 100

Priority = Annotated[int, Field(strict=True, ge=0, le=65535)]


class Value(BaseModel):
    """Base of the values: cannot change, refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class FiveTuple(Value):
    """What the classifier reads of a packet.

    :ivar sport: source port, 0 if the packet shows none.
    :ivar dport: destination port, 0 if the packet shows none.
    :ivar fragment: whether the packet is a piece of a fragmented one, the first piece included.
    """

    src: Address
    dst: Address
    sport: int = Field(default=0, ge=0, le=65535)
    dport: int = Field(default=0, ge=0, le=65535)
    proto: OneProtocol
    fragment: bool = False

    @property
    def has_ports(self) -> bool:
        """Whether the ports can be seen: a fragment shows none, nor does ICMP."""
        return self.proto in PORT_PROTOCOLS and not self.fragment

    def key(self) -> tuplespace.Key:
        """Give the 5-tuple as numbers; ports that cannot be seen are 0."""
        sport, dport = (self.sport, self.dport) if self.has_ports else (0, 0)
        return tuplespace.Key(int(self.src), int(self.dst), sport, dport, self.proto)


class FlowRule(Value):
    """Which packets go to a chain; a field that is left out matches anything.

    :ivar src: source address or prefix.
    :ivar dst: destination address or prefix.
    :ivar sport: source port. A rule with a port matches no packet that shows none.
    :ivar dport: destination port.
    :ivar proto: protocol number; names such as ``udp`` are understood.
    :ivar priority: the smallest wins.
    """

    src: Prefix = ANY
    dst: Prefix = ANY
    sport: Port = None
    dport: Port = None
    proto: Protocol = None
    priority: Priority = DEFAULT_PRIORITY

    @model_validator(mode="after")
    def _can_match(self) -> Self:
        if self.proto is None or self.proto in PORT_PROTOCOLS:
            return self
        for name in ("sport", "dport"):
            if getattr(self, name) is not None:
                raise problem(f"protocol {protocol_name(self.proto)} has no ports", at=(name,))
        return self

    @classmethod
    def trusted(
        cls,
        *,
        src: IPv4Network = ANY,
        dst: IPv4Network = ANY,
        sport: int | None = None,
        dport: int | None = None,
        proto: int | None = None,
        priority: int = DEFAULT_PRIORITY,
    ) -> FlowRule:
        """Make a rule without checking it: several times faster, for rules made by the million.

        The values must be in the form that checking would give them.
        """
        rule = cls.__new__(cls)
        values = {
            "src": src,
            "dst": dst,
            "sport": sport,
            "dport": dport,
            "proto": proto,
            "priority": priority,
        }
        object.__setattr__(rule, "__dict__", values)
        object.__setattr__(rule, "__pydantic_fields_set__", _ALL_FIELDS)
        object.__setattr__(rule, "__pydantic_extra__", None)
        object.__setattr__(rule, "__pydantic_private__", None)
        return rule

    def matches(self, packet: FiveTuple) -> bool:
        """Whether the packet is one of this rule's."""
        if (self.sport is not None or self.dport is not None) and not packet.has_ports:
            return False
        return (
            packet.src in self.src
            and packet.dst in self.dst
            and self.sport in (None, packet.sport)
            and self.dport in (None, packet.dport)
            and self.proto in (None, packet.proto)
        )

    def mask(self) -> tuplespace.Mask:
        """Give which parts of the 5-tuple this rule names."""
        return tuplespace.Mask(
            self.src.prefixlen,
            self.dst.prefixlen,
            self.sport is not None,
            self.dport is not None,
            self.proto is not None,
        )

    def key(self) -> tuplespace.Key:
        """Give the named parts as numbers, 0 for the rest."""
        return tuplespace.Key(
            int(self.src.network_address),
            int(self.dst.network_address),
            self.sport or 0,
            self.dport or 0,
            self.proto or 0,
        )


_ALL_FIELDS = set(FlowRule.model_fields)


class NF(Value):
    """One network function in a chain.

    :ivar name: the NF's folder in ``nfs/``; ``nf`` in a policy file.
    :ivar priority: the smaller runs earlier.
    :ivar place: ``kernel``, ``user`` (space) or ``python`` (user space, and there the NF's form in
        Python); None: as the policy's datapath says.
    :ivar params: as its description ``nf.yaml`` says; see :mod:`testbed.nf`.
    """

    name: Word = Field(alias="nf")
    priority: Priority = DEFAULT_PRIORITY
    place: Literal["kernel", "user", "python"] | None = None
    params: ParamsField = Params()


class Chain(Value):
    """NFs in order of priority, the rules that lead to them, and what comes after.

    :ivar id: 1 to 2^24-1, one of a kind in a policy.
    :ivar name: for people; ``chain-<id>`` if not given.
    :ivar forward: ``stack`` or ``direct``.
    :ivar rules: as written; :meth:`Policy.ordered_rules` gives the order of matching.
    :ivar nfs: sorted by priority; equals stay in the order in which they were given.
    """

    id: int = Field(strict=True, ge=1, le=MAX_CHAIN_ID)
    name: Name = ""
    forward: Literal["stack", "direct"] = "stack"
    rules: tuple[FlowRule, ...] = ()
    nfs: tuple[NF, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _give_a_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and "name" not in data and type(data.get("id")) is int:
            return {**data, "name": f"chain-{data['id']}"}
        return data

    @field_validator("nfs")
    @classmethod
    def _in_order(cls, nfs: tuple[NF, ...]) -> tuple[NF, ...]:
        if len(nfs) > MAX_CHAIN_LENGTH:
            raise problem(
                f"a chain holds at most {MAX_CHAIN_LENGTH} NFs, got {len(nfs)}: the kernel follows"
                f" at most {MAX_CHAIN_LENGTH + 1} tail calls in a row, one into each NF and one"
                " into the forwarding step",
                at=(MAX_CHAIN_LENGTH,),
            )
        return tuple(sorted(nfs, key=lambda nf: nf.priority))

    def insert(self, nf: NF) -> Chain:
        """Give the chain with ``nf`` before the first NF of a higher priority value.

        Raises ValueError if the chain is full.
        """
        return self._with(nfs=(*self.nfs, nf))

    def _with(self, **changes: Any) -> Chain:
        return Chain(**{name: getattr(self, name) for name in Chain.model_fields} | changes)


class Match(NamedTuple):
    """The rule that takes a packet, its chain, and its place in first-match order."""

    chain: Chain
    rule: FlowRule
    order: int


class Nfqueue(Value):
    """How packets go to user space and back.

    :ivar queues: over how many queues, each with a thread of its own, flows are spread.
    :ivar length: packets that wait in a queue; more are dropped, and counted.
    :ivar batch: packets that are answered with one message at most.
    :ivar fail: what becomes of packets while the user-space program is dead: ``closed``, they are
        dropped; ``open``, they pass its NFs over.
    :ivar gso: whether merged packets come as they are; else the kernel cuts them up before.
    """

    queues: int = Field(default=1, strict=True, ge=1, le=16)
    length: int = Field(default=1024, strict=True, ge=1, le=65535)
    batch: int = Field(default=16, strict=True, ge=1, le=64)
    fail: Literal["closed", "open"] = "closed"
    gso: bool = Field(default=False, strict=True)


class Policy(Value):
    """What a node does with packets; one that no rule matches is accepted, untouched.

    :ivar datapath: how the chains are carried out: ``tc``, ``xdp`` and ``netfilter`` in the kernel
        at that hook, ``nfqueue`` in user space, ``auto`` each NF at the cheapest place that can
        carry it.
    :ivar nfqueue: for the NFs that run in user space.
    """

    datapath: Literal["tc", "xdp", "netfilter", "nfqueue", "auto"] = "tc"
    nfqueue: Nfqueue = Nfqueue()
    chains: tuple[Chain, ...] = ()

    @field_validator("chains")
    @classmethod
    def _ids_differ(cls, chains: tuple[Chain, ...]) -> tuple[Chain, ...]:
        first: dict[int, int] = {}
        for index, chain in enumerate(chains):
            if first.setdefault(chain.id, index) != index:
                raise problem(
                    f"id {chain.id} is taken by chains[{first[chain.id]}]"
                    f" ({chains[first[chain.id]].name})",
                    at=(index, "id"),
                )
        return chains

    def ordered_rules(self) -> tuple[tuple[Chain, FlowRule], ...]:
        """Give all rules in first-match order: by priority, equals as they are written."""
        rules = [(chain, rule) for chain in self.chains for rule in chain.rules]
        return tuple(sorted(rules, key=lambda pair: pair[1].priority))

    def match(self, packet: FiveTuple) -> Match | None:
        """Give the first rule that the packet matches; None means ACCEPT, untouched.

        This goes through the rules one by one, as the thesis does. It is what
        :class:`testbed.tuplespace.TupleSpace` and the kernel's classifier must agree with.
        """
        for order, (chain, rule) in enumerate(self.ordered_rules()):
            if rule.matches(packet):
                return Match(chain, rule, order)
        return None

    def chain(self, chain_id: int) -> Chain | None:
        """Give the chain of this id, or None."""
        return next((chain for chain in self.chains if chain.id == chain_id), None)

    def register(self, chain_id: int, nf: NF) -> Policy:
        """Give the policy with ``nf`` in the chain of this number (thesis, 6.1).

        A number that is not known makes a new chain, without rules, behind the others; in a known
        one ``nf`` is inserted by its priority. Raises ValueError for a bad number or a full chain.
        """
        if self.chain(chain_id) is None:
            return self.with_chains((*self.chains, Chain(id=chain_id, nfs=(nf,))))
        return self.with_chains(tuple(c.insert(nf) if c.id == chain_id else c for c in self.chains))

    def with_chains(self, chains: tuple[Chain, ...]) -> Policy:
        """Give the policy with other chains."""
        return Policy(datapath=self.datapath, nfqueue=self.nfqueue, chains=chains)


class Shadowed(NamedTuple):
    """A rule that can never match, and the earlier rule that takes all of its packets."""

    chain: Chain
    rule: FlowRule
    by_chain: Chain
    by_rule: FlowRule


def shadowed_rules(policy: Policy) -> tuple[Shadowed, ...]:
    """Find the rules that one earlier rule covers, which is seldom meant."""
    ordered = policy.ordered_rules()
    found = tuplespace.shadowed([rule for _, rule in ordered])
    return tuple(Shadowed(*ordered[one.order], *ordered[one.by]) for one in found)
