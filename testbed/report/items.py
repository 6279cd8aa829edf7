# SPDX-License-Identifier: MIT
"""What the thesis published, how each value is judged, and how its set-up differs from ours.

Texts are filled in with a result's ``parameters`` and ``facts``: ``{mtu}``, say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["ITEMS", "Difference", "Item", "Rule", "differences_of"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    r"""How the values of some rows are judged.

    :ivar row: regular expression that the row's name matches as a whole.
    :ivar how: ``check``: by a check of the run; ``near``: off the published value by at most
        ``by`` of it; ``least``: a ratio, by whether its interval lies above the published one;
        ``context``: not at all, since it tells of the machine.
    :ivar check: name of the check; ``\1`` is the first group of ``row``.
    :ivar beside: rows of the result that say the same exactly, to be named beside it.
    """

    row: str
    how: Literal["check", "near", "least", "context"]
    why: str = ""
    by: float = 0.0
    check: str = r"\g<0>"
    beside: tuple[str, ...] = ()

    def takes(self, name: str) -> re.Match[str] | None:
        """The match, if it is a rule for this row."""
        return re.fullmatch(self.row, name)


@dataclass(frozen=True)
class Difference:
    """One thing that is not as in the thesis."""

    what: str
    thesis: str
    here: str


@dataclass(frozen=True, kw_only=True)
class Item:
    """A table or figure of the thesis.

    :ivar experiment: its name.
    :ivar label: as the thesis numbers it.
    :ivar question: what it is about, in a line.
    """

    experiment: str
    label: str
    question: str
    rules: tuple[Rule, ...]
    differences: tuple[Difference, ...]


_ALWAYS = (
    Difference(
        "Nodes",
        "a server (24 hardware threads at 3.47 GHz, 48 GB) under KVM, and three virtual machines"
        " of 4 vCPUs and 8 GB each, with virtio-net",
        "network namespaces of one machine, joined by veth pairs through a bridge: no virtio, no"
        " VM exits, no guest kernels",
    ),
    Difference(
        "Chain",
        "C functions in Linux 4.4.90, called at the PRE_ROUTING hook",
        "eBPF programs at tc ingress, on the kernel named above; as in the thesis before routing",
    ),
    Difference(
        "Cores",
        "sender and each virtual machine have cores of their own",
        "sender, switch, chain and receivers share this machine's cores",
    ),
)
_JUMBO = Difference(
    "Packets",
    "size not stated",
    "MTU {mtu}: one kernel that plays every node carries 2 × 1 Gbit/s in large packets, not on"
    " any machine in small ones; --mtu overrides it",
)
_TRAFFIC = Difference(
    "Traffic",
    "two UDP flows of 1 Gbit/s for 10 s",
    "the same by iperf3, from a fixed port; neighbours are static; iperf3 paces in bursts",
)

_FIG7_2 = Item(
    experiment="fig7_2",
    label="Figure 7.2",
    question="Are two flows denied in the window after they exceeded DAD's threshold?",
    rules=(Rule(row=r"flow \d+, phase \d+: at \w+", how="check"),),
    differences=(
        Difference(
            "DAD's threshold",
            "set to correspond to 100 Mbit/s",
            "100 Mbit/s of IP packets, which is 98.1 Mbit/s of UDP payload",
        ),
        Difference(
            "Traffic",
            "two UDP flows, 10 s at each rate",
            "iperf3, a client per phase from the same port, so that a flow stays one 5-tuple; the"
            " short gap between two clients is left out of the means",
        ),
        Difference(
            "Throughput",
            "at VM2 and VM3",
            "UDP payload that arrived at VM2's and VM3's interfaces, read every {sample_s} s",
        ),
    ),
)

_TABLE7_3 = Item(
    experiment="table7_3",
    label="Table 7.3",
    question="What does the chain take of memory and CPU?",
    rules=(
        Rule(
            row=r"(idle|processing): memory used \(vmstat\)",
            how="context",
            why="all memory in use, of another machine",
        ),
        Rule(
            row=r"processing − idle: memory used \(vmstat\)",
            how="context",
            why="free memory moves by more than that on its own; exactly:",
            beside=("processing: the chain's maps hold", "processing: the chain's programs hold"),
        ),
        Rule(
            row=r"idle: CPU \(vmstat, whole machine\)",
            how="context",
            why="of the whole machine; exactly:",
            beside=("idle: CPU of the chain",),
        ),
        Rule(
            row=r"processing: CPU \(vmstat, whole machine\)",
            how="context",
            why="sender and receivers included; exactly:",
            beside=("processing: CPU of the chain",),
        ),
    ),
    differences=(
        Difference(
            "vmstat",
            "in VM1, which does nothing else",
            "of the whole machine: sender, switch and receivers too. Where the kernel accounts CPU"
            " time by ticks, it hides softirq work that is shorter than one; so the chain's own"
            " run time and traced CPU time stand beside it",
        ),
        Difference(
            "Memory",
            "vmstat, before and while processing",
            "the same, and beside it the bytes that the kernel charges for the chain's maps and"
            " programs",
        ),
        _TRAFFIC,
        _JUMBO,
    ),
)

_TWICE = "published as “about twice”: 1.5 to 2.5 agrees"
_FIG7_3 = Item(
    experiment="fig7_3",
    label="Figure 7.3",
    question="How long do tasks stay on a CPU, idle and processing?",
    rules=(
        Rule(
            row=r"(idle|processing): fullest bin, from",
            how="near",
            why="depends on what else runs on the machine",
        ),
        Rule(row=r"processing / idle: .*", how="near", by=0.25, why=_TWICE),
    ),
    differences=(
        Difference(
            "cpudist",
            "BCC's, in VM1",
            "libbpf-tools', of the whole machine: sender, switch and receivers are tasks here",
        ),
        _TRAFFIC,
        _JUMBO,
    ),
)

_TABLE7_4 = Item(
    experiment="table7_4",
    label="Table 7.4 and Figure 7.4",
    question="What does NFC take from the throughput of two flows?",
    rules=(
        Rule(
            row=r"flow \d+, (plain routing|NFC)",
            how="context",
            why="a rate of another machine; what counts is the ratio",
        ),
        Rule(row=r"flow \d+, NFC / routing", how="least"),
    ),
    differences=(
        Difference("Unit", "printed as Kbps, meant as Mbit/s", "Mbit/s of UDP payload"),
        Difference(
            "Repeats",
            "not stated",
            "both ways in turn, several times; medians, and bootstrap 95 % intervals",
        ),
        Difference(
            "Plain routing",
            "on a generic system",
            "a twin of the network without a chain, on the same kernel",
        ),
        _TRAFFIC,
        Difference(
            "Packets",
            "size not stated",
            "MTU {mtu}: the first one, of those tried before, at which plain routing carries the"
            " flows with CPU time to spare; --mtu overrides it",
        ),
    ),
)

ITEMS = (_FIG7_2, _TABLE7_3, _FIG7_3, _TABLE7_4)
"""In the thesis's order."""


class _Known(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "(not stored)"


def differences_of(item: Item, known: Mapping[str, object]) -> tuple[Difference, ...]:
    """How the set-up differs.

    :param known: a result's parameters and facts.
    """
    plain = {name: str(v) for name, v in known.items() if isinstance(v, int | float | str)}
    texts = _Known(plain)
    return tuple(
        Difference(d.what, d.thesis, d.here.format_map(texts))
        for d in (*_ALWAYS, *item.differences)
    )
