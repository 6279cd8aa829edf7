# SPDX-License-Identifier: MIT
"""What a packet of 64 to 1,500 bytes, and a jumbo one of 9,000, costs through DAD and DNAT.

A size is that of the IP packet. Two senders make the packets, each measured alone as well: the XDP
generator, whose frames have to fit a page (:mod:`testbed.bench.rig`), and a packet socket, which
sends all sizes (:mod:`testbed.bench.socketsender`, curves ``…-socket``). The socket makes a packet
buffer and copies the frame into it, so its own time is several times that of the way.
"""

from __future__ import annotations

from dataclasses import replace

from experiments._swept import swept
from experiments._swept_plan import Asked, Plan, Way, chain_text
from testbed.bench.rig import ETHERNET_BYTES, Sender
from testbed.bench.variant import Variant
from testbed.bench.variants import VARIANTS

__all__ = ["EXPERIMENT"]

SIZES, QUICK_SIZES = (64, 128, 256, 512, 1_024, 1_500, 3_000, 9_000), (64, 1_500, 9_000)
MTU = 9_000
LARGEST_LIVE = 3_000
"""A live frame lies in one page, together with headroom and what the kernel keeps of it."""

_SUFFIX: dict[Sender, str] = {"live-frames": "", "socket": "-socket"}
_SENDERS: dict[Sender, str] = {"live-frames": "XDP live frames", "socket": "a packet socket"}
_TEXTS = {
    "chain-direct": chain_text("DAD and DNAT", "direct"),
    "chain-stack": chain_text("DAD and DNAT", "stack"),
    "routing": "the kernel's routing alone",
    "nftables": "nftables, a limit per flow in a set and DNAT in connection tracking",
    "generator": "the sender alone: its frames go nowhere",
}
_TOO_LONG = f"an XDP live frame has to fit a page: up to {LARGEST_LIVE:,} bytes here"


def plan(quick: bool) -> Plan:
    """Say what is measured."""
    xs = QUICK_SIZES if quick else SIZES
    ways = (_way(name, sender, xs) for sender in _SENDERS for name in _TEXTS)
    asked = [
        Asked(
            name=f"{x:,} bytes, {way} / {reference}, by {_SENDERS[sender]}",
            x=x,
            way=way + _SUFFIX[sender],
            reference=reference + _SUFFIX[sender],
        )
        for x, sender in _asked_of(xs)
        for way in ("chain-direct", "chain-stack")
        for reference in ("routing", "nftables")
    ]
    return Plan(
        x_quantity="packet size",
        x_unit="bytes",
        xs=xs,
        ways=tuple(ways),
        rounds=3 if quick else 12,
        packets=20_000 if quick else 50_000,
        lasts_s=11 if quick else 160,
        asked=tuple(asked),
        sizes=True,
        mtu=MTU,
        facts={"senders": dict(_SENDERS), "jumbo": _TOO_LONG},
    )


def _asked_of(xs: tuple[int, ...]) -> list[tuple[int, Sender]]:
    """The largest size that a link usually takes, and the largest of all."""
    return [(1_500, "live-frames"), (xs[-1], "socket")]


def _way(name: str, sender: Sender, xs: tuple[int, ...]) -> Way:
    suffix = _SUFFIX[sender]
    sent = [x for x in xs if sender == "socket" or x <= LARGEST_LIVE]
    is_chain = name.startswith("chain")
    return Way(
        name=name + suffix,
        text=f"{_TEXTS[name]}; sent by {_SENDERS[sender]}",
        at={x: _sized(VARIANTS[name], x, sender) for x in sent},
        notes={x: _TOO_LONG for x in xs if x not in sent},
        against={r: r + suffix for r in ("routing", "nftables")} if is_chain else {},
        generator="generator" + suffix,
        loaded=False,
    )


def _sized(variant: Variant, size: int, sender: Sender) -> Variant:
    name = f"{variant.name}{_SUFFIX[sender]}-{size}"
    return replace(variant, name=name, frame_bytes=size + ETHERNET_BYTES, sender=sender)


EXPERIMENT = swept(
    "sweep_size", "Sweep: time per packet and throughput with packets of 64 to 9,000 bytes", plan
)
