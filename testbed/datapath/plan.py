# SPDX-License-Identifier: MIT
"""What a policy becomes on a node: slots, constants and table entries, as a pure value.

A chain is a linked list. Each pointer of it is one slot of the node's program array::

    slots[chain.head]         the first stage, or the last step of a chain without NFs
    slots[stage.next_slot]    the stage behind this one, or the last step
    slots[stage.reply_slot]   the stage's program for replies (NFs that translate)
    slots[chain.reply_next]   the last step, for replies

The last step is ``to_stack`` or ``to_wire``, as the chain's ``forward`` says. Slot 0 stays empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.chain import NF, Chain, Policy
from testbed.datapath.carriers import USER, carrier_of, check_forward
from testbed.errors import PolicyError
from testbed.nf import FlowTable, NFDescription, load_descriptions
from testbed.policy import check_policy
from testbed.tuplespace import Key, MaskGroup, group_by_mask

__all__ = ["MAX_MASKS", "ChainPlan", "NodePlan", "Stage", "make_plan"]

MAX_MASKS = 64
"""Different masks in a policy: the classifier looks up once in each (classifier.tc.bpf.c)."""

_MAX_HEADS = 16
_IN_KERNEL = ("tc", "xdp", "netfilter")
_LAST_STEPS = {"stack": "to_stack", "direct": "to_wire"}
_FLOW_TIMES: tuple[FlowTable, ...] = ("idle_s", "unreplied_s", "replied_s", "tcp_idle_s")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One NF's place in a chain.

    :ivar label: unique in the node: ``<chain id>/<position>-<nf>``; also its folder of pins.
    :ivar carrier: the datapath that carries it.
    :ivar reply_slot: 0 where the NF does not translate.
    """

    label: str
    nf: NF
    description: NFDescription
    carrier: str
    next_slot: int
    reply_slot: int = 0
    reply_next_slot: int = 0

    @property
    def language(self) -> str:
        """In which form it runs in user space: ``native`` or ``python``."""
        return "python" if self.nf.place == "python" else self.description.user[0]

    @property
    def constants(self) -> dict[str, int]:
        """Read-only variables of this instance."""
        found = {"next_slot": self.next_slot, **self.description.rodata(self.nf.params)}
        if self.reply_slot:
            found |= {"reply_slot": self.reply_slot, "reply_next_slot": self.reply_next_slot}
        return found


@dataclass(frozen=True, kw_only=True)
class ChainPlan:
    """A chain with its slots."""

    chain: Chain
    head: int
    reply_next: int
    stages: tuple[Stage, ...]

    @property
    def last_step(self) -> str:
        """Name of the program behind the last NF."""
        return _LAST_STEPS[self.chain.forward]

    @property
    def tracks(self) -> bool:
        """Whether an NF of the chain keeps state per flow."""
        return any(stage.description.state is not None for stage in self.stages)


@dataclass(frozen=True, kw_only=True)
class NodePlan:
    """All that a node's datapath is filled from."""

    policy: Policy
    chains: tuple[ChainPlan, ...]
    groups: tuple[MaskGroup, ...]
    slots: int
    flow_table: Mapping[FlowTable, int]

    @property
    def datapath(self) -> str:
        """The datapath that runs the chains: the one to user space, where a single NF needs it."""
        carriers = {stage.carrier for stage in self.stages()}
        if USER in carriers:
            return USER
        return self.policy.datapath if self.policy.datapath in _IN_KERNEL else "tc"

    @property
    def n_rules(self) -> int:
        """How many flow rules there are."""
        return sum(len(chain.rules) for chain in self.policy.chains)

    @property
    def tracks(self) -> bool:
        """Whether the node needs its flow table."""
        return any(chain.tracks for chain in self.chains)

    @property
    def translates(self) -> bool:
        """Whether an NF translates: then what the node itself sends is looked at too."""
        return any(stage.reply_slot for stage in self.stages())

    @property
    def max_flows(self) -> int:
        """Bound of the flow table; 1 where it is not used."""
        return max(1, self.flow_table["max_flows"])

    @property
    def classifier_constants(self) -> dict[str, Any]:
        """Read-only variables of the classifier."""
        heads = [chain.head for chain in self.chains]
        heads += [stage.reply_slot for stage in self.stages() if stage.reply_slot]
        masks = [
            {"bits": _key(group.mask.values()), "first_order": group.first_order}
            for group in self.groups
        ]
        return {
            "masks": masks,
            "n_masks": len(masks),
            "heads": heads[:_MAX_HEADS],
            "n_heads": min(len(heads), _MAX_HEADS),
            "n_rules": self.n_rules,
            "tracks": int(self.tracks),
            "max_flows": self.max_flows,
            **{name: self.flow_table[name] for name in _FLOW_TIMES},
        }

    def stages(self) -> Iterator[Stage]:
        """All stages of all chains."""
        for chain in self.chains:
            yield from chain.stages

    def rules(self) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
        """Entries of the classifier's rule table: key and value."""
        chains = {plan.chain.id: plan for plan in self.chains}
        ordered = self.policy.ordered_rules()
        for index, group in enumerate(self.groups):
            for key, order in group.orders.items():
                plan = chains[ordered[order][0].id]
                value = {"order": order, "head": plan.head, "tracks": int(plan.tracks)}
                yield {**_key(key), "info": index}, value


def _key(key: Key) -> dict[str, int]:
    return key._asdict()


class _Slots:
    """Gives out slots, 1 and up."""

    def __init__(self) -> None:
        self.used = 0

    def take(self) -> int:
        self.used += 1
        return self.used


def _plan_chain(
    policy: Policy, index: int, slots: _Slots, known: Mapping[str, NFDescription]
) -> ChainPlan:
    chain = policy.chains[index]
    head, reply_next = slots.take(), slots.take()
    stages = []
    for position, nf in enumerate(chain.nfs):
        description = known[nf.name]
        place = f"chains[{index}].nfs[{position}]"
        stages.append(
            Stage(
                label=f"{chain.id}/{position}-{nf.name}",
                nf=nf,
                description=description,
                carrier=carrier_of(policy, nf, description, field=place),
                next_slot=slots.take(),
                reply_slot=slots.take() if description.translates else 0,
                reply_next_slot=reply_next if description.translates else 0,
            )
        )
    return ChainPlan(chain=chain, head=head, reply_next=reply_next, stages=tuple(stages))


def _flow_table(chains: tuple[ChainPlan, ...]) -> dict[FlowTable, int]:
    """Give the flow table's bound and times.

    A time is the most that one of the NFs asks for. The bound is the sum over the chains of what
    each one's NFs ask for at most, since the chains share the table.
    """
    most: dict[FlowTable, int] = dict.fromkeys(("max_flows", *_FLOW_TIMES), 0)
    for chain in chains:
        asked: list[Mapping[FlowTable, int]] = [
            stage.description.flow_table(stage.nf.params) for stage in chain.stages
        ]
        most["max_flows"] += max((found.get("max_flows", 0) for found in asked), default=0)
        for name in _FLOW_TIMES:
            most[name] = max([most[name], *(found.get(name, 0) for found in asked)])
    return most


def make_plan(policy: Policy) -> NodePlan:
    """Lay a policy out for a node.

    :raises PolicyError: an NF or a parameter is wrong, the datapath cannot carry it, or it needs
        more than the classifier holds.
    """
    check_policy(policy)
    check_forward(policy)
    known = load_descriptions()
    slots = _Slots()
    chains = tuple(_plan_chain(policy, index, slots, known) for index in range(len(policy.chains)))
    groups = group_by_mask([rule for _, rule in policy.ordered_rules()])
    if len(groups) > MAX_MASKS:
        raise PolicyError(
            f"the rules use {len(groups)} different masks (which fields they name, and prefix"
            f" lengths); at most {MAX_MASKS} are possible",
            field="chains[].rules",
        )
    return NodePlan(
        policy=policy,
        chains=chains,
        groups=groups,
        slots=slots.used + 1,
        flow_table=_flow_table(chains),
    )
