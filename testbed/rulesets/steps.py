# SPDX-License-Identifier: MIT
"""What an NF comes to in a packet filter: a limit, a translation, or nothing at all.

The nearest thing to DAD is a token bucket for each flow: filled at DAD's threshold, as deep as
what DAD lets through in a window. So neither touches a flow that keeps to the threshold. They
differ in what becomes of one that does not, and the comments say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from testbed.chain import Chain, FlowRule, Policy
from testbed.errors import PolicyError
from testbed.nf import load_descriptions

__all__ = [
    "ChainSteps",
    "Limit",
    "Nothing",
    "Row",
    "Step",
    "Translate",
    "chain_steps",
    "step_lines",
    "translates",
]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A token bucket for each flow; what does not fit into it is dropped.

    :ivar unit: ``bytes`` of IP packets, or ``packets``.
    :ivar per_second: how fast it fills.
    :ivar burst: how much fits into it.
    :ivar size: for how many flows.
    :ivar idle_s: a flow that is silent for so long is forgotten.
    :ivar drop_when_full: whether a flow that finds no room is dropped.
    """

    label: str
    unit: str
    per_second: Fraction
    burst: Fraction
    size: int
    idle_s: int
    drop_when_full: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Where connections of some destination go; None: any, or as it was."""

    proto: int | None
    dst: str | None
    dport: int | None
    to: str
    to_port: int | None


@dataclass(frozen=True, kw_only=True)
class Translate:
    """Rewrite the destination of connections: the first row that matches."""

    label: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """Nothing is to be done."""

    label: str
    notes: tuple[str, ...]


Step = Limit | Translate | Nothing

_DAD = (
    "DAD denies a flow for the whole window after one in which it exceeded the threshold; this",
    "drops only what exceeds the threshold by more than a window's worth, while it does.",
)
_DNAT = (
    "Fragments are put together before; packets that connection tracking takes for invalid are not",
    "translated; of two connections with the same replies the second one's source port is changed.",
)


def _dad(label: str, params: Mapping[str, Any]) -> Step:
    by_bytes = "threshold_mbps" in params
    threshold = Fraction(str(params["threshold_mbps" if by_bytes else "threshold_pps"]))
    window = Fraction(str(params["window_s"]))
    per_second = threshold * 125_000 if by_bytes else threshold
    return Limit(
        label=label,
        unit="bytes" if by_bytes else "packets",
        per_second=per_second,
        burst=per_second * window,
        size=params["max_flows"],
        idle_s=int(window + Fraction(str(params["idle_s"]))),
        drop_when_full=params["on_full"] == "drop",
        notes=_DAD,
    )


def _dnat(label: str, params: Mapping[str, Any]) -> Step:
    numbers = load_descriptions()["dnat"].tables(params)["rules"]
    rows = tuple(
        Row(
            proto=number["proto"] or None,
            dst=row.get("dst") if number["dst"] else None,
            dport=number["dport"] or None,
            to=row["to"],
            to_port=number["to_port"] or None,
        )
        for row, number in zip(params["rules"], numbers, strict=True)
    )
    return Translate(label=label, rows=rows, notes=_DNAT)


def _pass(label: str, params: Mapping[str, Any]) -> Step:  # noqa: ARG001
    return Nothing(label=label, notes=("Nothing to do.",))


_NFS: Mapping[str, Callable[[str, Mapping[str, Any]], Step]] = {
    "dad": _dad,
    "dnat": _dnat,
    "pass": _pass,
}


@dataclass(frozen=True, kw_only=True)
class ChainSteps:
    """A chain's steps, cut at the translation: netfilter has a place of its own for that."""

    chain: Chain
    before: tuple[Step, ...]
    translate: Translate | None
    after: tuple[Step, ...]

    @property
    def shows_ports(self) -> bool:
        """Whether every packet of the chain shows its ports."""
        return all(_names_ports(rule) for rule in self.chain.rules)


def _names_ports(rule: FlowRule) -> bool:
    return rule.sport is not None or rule.dport is not None


def _steps(chain: Chain, index: int) -> Iterator[Step]:
    known = load_descriptions()
    for position, nf in enumerate(chain.nfs):
        if nf.name not in _NFS:
            raise PolicyError(
                f"there are no rules for the NF {nf.name} (there are for: {', '.join(_NFS)})",
                field=f"chains[{index}].nfs[{position}].nf",
            )
        label = f"{chain.id}_{position}_{nf.name}"
        yield _NFS[nf.name](label, known[nf.name].check(nf.params))


def chain_steps(policy: Policy) -> tuple[ChainSteps, ...]:
    """Give every chain's steps, in the policy's order.

    :raises PolicyError: there is nothing like the NF.
    """
    found = []
    for index, chain in enumerate(policy.chains):
        steps = tuple(_steps(chain, index))
        at = next((i for i, step in enumerate(steps) if isinstance(step, Translate)), len(steps))
        translate = steps[at] if at < len(steps) else None
        assert translate is None or isinstance(translate, Translate)
        found.append(
            ChainSteps(chain=chain, before=steps[:at], translate=translate, after=steps[at + 1 :])
        )
    return tuple(found)


def step_lines(
    steps: Iterable[Step], limit_lines: Callable[[Limit], Iterable[str]]
) -> Iterator[str]:
    """Give what stands for steps in a ruleset, each under its NF's name and notes.

    :param limit_lines: the rules of a limit; the other steps have none here.
    """
    for step in steps:
        yield f"# {step.label.split('_', 2)[2]}"
        yield from (f"# {note}" for note in step.notes)
        if isinstance(step, Limit):
            yield from limit_lines(step)


def translates(chains: tuple[ChainSteps, ...]) -> bool:
    """Whether one of the chains translates."""
    return any(chain.translate for chain in chains)
