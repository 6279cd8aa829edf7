# SPDX-License-Identifier: MIT
"""The way of a packet through a node, step by step, in words.

The same lines stand in ARCHITECTURE.md; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.chain import FiveTuple, FlowRule, Match
from testbed.datapath.carriers import USER, why_there
from testbed.datapath.live import LiveNode
from testbed.datapath.plan import ChainPlan, NodePlan, Stage
from testbed.datapath.steps import FIRST_QUEUE, UserStep, user_steps
from testbed.datapath.wayback import WAY_BACK
from testbed.fields import ANY, protocol_name

__all__ = ["Line", "as_text", "explain", "explain_live"]

_ENTERS = {
    "tc": "tc ingress of each of the node's interfaces",
    "xdp": "XDP at each of the node's interfaces",
    "netfilter": "netfilter's PRE_ROUTING hook of the node",
}
_KERNEL_NAT = "the kernel's own NAT, by rules of testbed/rulesets/nftables.py"
_AFTER = {
    "stack": "on to the kernel's routing",
    "direct": "TTL, route, neighbour, and out (what needs the kernel's help goes to its routing)",
}


@dataclass(frozen=True)
class Line:
    """One step: what it is, what happens, and where its code stands."""

    what: str
    text: str
    code: str = ""


def as_text(lines: Iterable[Line]) -> str:
    """The lines as plain text, each on one row; code stands below what it carries out."""
    rows = []
    for line in lines:
        rows.append(f"{line.what:<9}{line.text}")
        if line.code:
            rows.append(f"{'':<9}└ {line.code}")
    return "\n".join(rows)


def _end(address: object, port: int) -> str:
    return f"{address}:{port}" if port else str(address)


def _packet(packet: FiveTuple) -> str:
    sport, dport = (packet.sport, packet.dport) if packet.has_ports else (0, 0)
    piece = ", a fragment" if packet.fragment else ""
    ends = f"{_end(packet.src, sport)} → {_end(packet.dst, dport)}"
    return f"{protocol_name(packet.proto)} {ends}{piece}"


def _rule(rule: FlowRule) -> str:
    parts = ["any protocol" if rule.proto is None else str(protocol_name(rule.proto))]
    for word, prefix, port in (("from", rule.src, rule.sport), ("to", rule.dst, rule.dport)):
        if prefix != ANY or port is not None:
            where = "any" if prefix == ANY else str(prefix).removesuffix("/32")
            parts.append(f"{word} {where}" + (f" port {port}" if port is not None else ""))
    return " ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + "; ".join(_value(part) for part in value) + "]"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_value(part)}" for name, part in value.items())
    return str(value)


def _stage_lines(position: int, stage: Stage, note: str) -> Iterator[Line]:
    name = stage.nf.name
    given = ", ".join(f"{key} {_value(value)}" for key, value in stage.nf.params.items())
    head = f"{name} (priority {stage.nf.priority}){note}" + (f": {given}" if given else "")
    if _by_kernel(stage):
        yield Line(f"NF {position}", head, _KERNEL_NAT)
        yield Line("", "fragments: the kernel puts them together first")
        return
    yield Line(f"NF {position}", head, _logic(stage))
    reasons = ", ".join(reason.name for reason in stage.description.drop_reasons)
    if reasons:
        yield Line("", f"may DROP: {reasons}")
    yield Line("", f"fragments: {_first(stage.description.fragment)}")


def _logic(stage: Stage) -> str:
    """Where an NF's code stands."""
    name = stage.nf.name
    if stage.carrier == USER and stage.language == "python":
        return f"nfs/{name}/{name}.py: make()"
    return f"nfs/{name}/{name}.h: {name}()"


def _placed(node: NodePlan, stage: Stage) -> Iterator[Line]:
    """Why an NF runs where it does, where datapath: auto has chosen."""
    if node.policy.datapath == "auto":
        yield Line("", f"runs {why_there(stage.nf, stage.description)}")


def _to_user(node: NodePlan, step: UserStep) -> Iterator[Line]:
    """The way into user space."""
    program = "the program in Python" if step.python else "its program"
    first, last = (FIRST_QUEUE + queue for queue in (step.queues[0], step.queues[-1]))
    queues = f"queue {first}" if first == last else f"queues {first} to {last}"
    fail = {"closed": "dropped", "open": "passed on behind its NFs"}[node.policy.nfqueue.fail]
    yield Line(
        "out",
        f"of the kernel: marked, PRE_ROUTING, NFQUEUE, {queues}, {program} (dead: {fail})",
        "testbed/bpf/user.tc.bpf.c: to_user()",
    )


def _from_user(step: UserStep) -> Iterator[Line]:
    """The way back out of it."""
    if step.there.back:
        yield Line(
            "back",
            f"into the kernel by {WAY_BACK}, to where it came in, and on in its chain",
            "testbed/bpf/resume.h: resume()",
        )
    else:
        yield Line("back", "accepted by the program", "testbed/user/queue.c: judge()")


def _by_kernel(stage: Stage) -> bool:
    """Whether the kernel's own NAT does what the NF says."""
    return stage.carrier == "netfilter" and bool(stage.reply_slot)


def _first(text: str) -> str:
    """The first sentence."""
    return text.split(". ")[0].rstrip(".").strip()


def _code(plan: NodePlan, name: str, program: str) -> str:
    hook = plan.datapath if plan.datapath in _ENTERS else "tc"
    return f"testbed/bpf/{name}.{hook}.bpf.c: {program}()"


def _chain_lines(node: NodePlan, plan: ChainPlan, notes: Mapping[str, str]) -> Iterator[Line]:
    steps = {stage.label: step for step in user_steps(node) for stage in step.stages}
    for position, stage in enumerate(plan.stages, start=1):
        step = steps.get(stage.label)
        if step and stage is step.stages[0]:
            yield from _to_user(node, step)
        yield from _stage_lines(position, stage, notes.get(stage.label, ""))
        yield from _placed(node, stage)
        if step and stage is step.stages[-1]:
            yield from _from_user(step)
    forward = plan.chain.forward
    last = _code(node, "forward", plan.last_step)
    if forward == "stack" and plan.stages and plan.stages[-1].carrier == USER:
        last = ""  # the program's verdict has let it go there
    yield Line("then", f"forward: {forward}, {_AFTER[forward]}", last)
    for stage in plan.stages:
        if _by_kernel(stage):
            text = "are known to connection tracking, translated back by it, and enter no chain"
            yield Line("replies", text)
        elif stage.reply_slot:
            name = stage.nf.name
            yield Line(
                "replies",
                f"are known to the flow table, translated back by {name}, then the same last step",
                f"nfs/{name}/{name}.h: {name}_reply()",
            )


def _unmatched(plan: NodePlan) -> Iterator[Line]:
    yield Line("rule", f"none of {plan.n_rules} matches: ACCEPT, untouched")
    if any(stage.description.translates for stage in plan.stages()):
        yield Line("", "unless it is the reply of a translated flow (see the flow table)")
    yield Line("then", "on to the kernel's routing")


def _matched(plan: NodePlan, match: Match, notes: Mapping[str, str]) -> Iterator[Line]:
    chain = match.chain
    yield Line(
        "rule",
        f"{match.order + 1} of {plan.n_rules} (priority {match.rule.priority}):"
        f" {_rule(match.rule)} → chain {chain.id}, {chain.name}",
    )
    yield from _chain_lines(plan, next(c for c in plan.chains if c.chain.id == chain.id), notes)


def explain(
    plan: NodePlan,
    packet: FiveTuple,
    *,
    where: str | None = None,
    notes: Mapping[str, str] | None = None,
) -> list[Line]:
    """The way of a packet under a policy.

    :param where: the chaining point, in words; else as the policy's datapath has it.
    :param notes: more about a stage, by its label.
    """
    lines = [
        Line("packet", _packet(packet)),
        Line(
            "enters",
            where or _ENTERS.get(plan.datapath, _ENTERS["tc"]),
            _code(plan, "classifier", "classify"),
        ),
    ]
    match = plan.policy.match(packet)
    if match is None:
        lines += _unmatched(plan)
    else:
        lines += _matched(plan, match, notes or {})
    return lines


def explain_live(node: LiveNode, packet: FiveTuple) -> list[Line]:
    """The way of a packet through a running node, its chain walked in the kernel.

    :raises RunError: the chain in the kernel is not the one that the policy asks for.
    """
    where = f"{node.hook} of {', '.join(node.interfaces)} in {node.name} (run {node.run_id})"
    flow = node.flow(packet)
    match = node.plan.policy.match(packet)
    notes = {}
    if match is not None:
        chain = next(c for c in node.plan.chains if c.chain.id == match.chain.id)
        for program_id, place in node.walk(chain):
            notes[place.removeprefix("chains/").removesuffix("/nf")] = f", program {program_id}"
    lines = explain(node.plan, packet, where=where, notes=notes)
    if flow is not None and flow["reply"]:
        lines[2:] = [Line("flow", f"number {flow['number']}: the way back of a translated flow")]
        lines.append(Line("then", "translated back, and on to the last step of its chain"))
    elif flow is not None:
        lines.insert(2, Line("flow", f"number {flow['number']}, known: one look-up"))
    elif node.plan.tracks and match is not None:
        unknown = "not known yet: gets a number with its first packet"
        if packet.has_ports and not packet.sport:
            unknown = "--sport tells which one, and whether the flow table knows it"
        lines.insert(2, Line("flow", unknown))
    return lines
