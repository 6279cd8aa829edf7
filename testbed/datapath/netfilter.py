# SPDX-License-Identifier: MIT
"""The `netfilter` datapath: chains as BPF programs at PRE_ROUTING, the thesis's chaining point.

One program per node stays attached there, and a second one behind the kernel's NAT where a chain
translates; the stages follow by tail calls, as at tc. A program cannot change a packet at this
hook, so DNAT is the kernel's own NAT, by nftables rules made of the same parameters
(:mod:`testbed.rulesets`). NFs before DNAT run before it, those behind it after it::

    priority -250   classify ─ NF ─ NF                       no chain translates
    priority -175   classify ─ NF ─ DNAT's leave ┐           behind connection tracking (-200), by
    priority -100   the kernel's NAT             │           which replies are known
    priority  -75   go_on ───────────────────────┴ NF ─ …

A link that is pinned would keep its namespace alive. The pins lie in the bpffs of the run, which
goes with the run's mount namespace, however the run ends.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from testbed.bpf import BpfObject, attach_netfilter
from testbed.datapath.linked import LinkedDatapath, make_folder, pin
from testbed.datapath.plan import NodePlan, Stage
from testbed.errors import RunError, UnsupportedError
from testbed.probe import probe
from testbed.rulesets import translation_rules

__all__ = ["NetfilterDatapath"]

_FIRST, _TRACKED, _BEHIND_NAT = -250, -175, -75
_TABLE = "nfcbed_nat"
_NFT_S = 30.0


class NetfilterDatapath(LinkedDatapath):
    """Chains of one node at PRE_ROUTING; see :class:`LinkedDatapath`."""

    name = "netfilter"
    shared = ("slots", "findings")

    @classmethod
    def open(cls, plan: NodePlan, *, folder: Path) -> Self:
        """Build it for the node in whose namespace this is called.

        :raises UnsupportedError: the kernel has no such link, or no NAT where a chain translates.
        """
        for name in ("netfilter_link", *(["nft_nat"] if plan.translates else ())):
            answer = probe(name)
            if answer.state == "no":
                raise UnsupportedError(
                    f"datapath netfilter needs {name}: {answer.detail} (see nfcbed doctor)"
                )
        return cls(plan, folder=folder, ways={})

    def _prepare(self, classifier: BpfObject) -> None:
        classifier.constants({"translates": int(self.plan.translates)})

    def set_ways(self, ways: Mapping[int, int]) -> None:
        """Nothing leaves by itself here."""

    def _load_stage(self, stage: Stage) -> BpfObject:
        """An NF that translates is but the way to the kernel's NAT and back from there."""
        if not stage.reply_slot:
            return super()._load_stage(stage)
        bpf = self._object(f"nfs/{stage.nf.name}")
        self._share(bpf)
        bpf.constants({"next_slot": stage.next_slot, "reply_slot": stage.reply_slot})
        bpf.load()
        return bpf

    def refresh(self) -> None:
        """Nothing hangs on the interfaces' queues."""

    @property
    def priority(self) -> int:
        """Of the classifier among netfilter's hooks."""
        return _TRACKED if self.plan.translates else _FIRST

    @property
    def hook(self) -> str:
        """Where packets enter."""
        return f"netfilter PRE_ROUTING (priority {self.priority})"

    def attach(self, interfaces: Mapping[str, int]) -> None:
        """Let packets enter the chains, whatever interface they come by.

        The way on is there before packets can take it: the program behind the NAT, the NAT's
        rules, and then the classifier.
        """
        make_folder(self.folder / "links", self._undo)
        if self.plan.translates:
            self._attach("go_on", _BEHIND_NAT)
            _nft(translation_rules(self.plan.policy, table=_TABLE))
            self._undo.callback(_nft, f"delete table ip {_TABLE}")
        self._attach("classify", self.priority)
        self.interfaces = tuple(sorted(interfaces))

    def _attach(self, program: str, priority: int) -> None:
        link = attach_netfilter(self.classifier.program(program), priority=priority)
        self._undo.callback(link.close)
        pin(link, self.folder / "links" / program, self._undo)


def _nft(text: str) -> None:
    done = subprocess.run(
        ["nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=_NFT_S, check=False
    )
    if done.returncode:
        raise RunError(f"nft refuses the rules of the kernel's NAT: {done.stderr.strip()}")
