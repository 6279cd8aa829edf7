# SPDX-License-Identifier: MIT
"""All that a network and its chain count themselves, at one moment, as JSON values for ``raw/``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from testbed.chain import FiveTuple
from testbed.datapath.status import NodeStatus
from testbed.experiment.losses import lost_so_far
from testbed.experiment.meter import Arrived, Meter
from testbed.network import Network

__all__ = ["counters_now", "plain_arrived"]


def counters_now(
    network: Network, meters: Mapping[str, Meter], status: NodeStatus | None
) -> dict[str, Any]:
    """Read every counter once, one after the other.

    :param meters: by node.
    :param status: of the node with the chains; None in plain routing.
    """
    found: dict[str, Any] = {
        "t_ns": time.monotonic_ns(),
        "meters": {
            node: {"arrived": plain_arrived(meter.read()), "untold": meter.untold}
            for node, meter in meters.items()
        },
        "lost": lost_so_far(network),
    }
    if status is not None:
        forwarded, handed_over = status.forwarded()
        found["lost"] |= status.lost_in_user_space()
        found["chain"] = {
            "rules": [asdict(count) for count in status.rules()],
            "no_rule": {name: asdict(count) for name, count in status.specials().items()},
            "nfs": [asdict(stage) for stage in status.stages()],
            "user_space": [asdict(step) for step in status.steps()],
            "forwarded": {**asdict(forwarded), "to_the_kernel": handed_over},
        }
    return found


def plain_arrived(arrived: Mapping[FiveTuple, Arrived]) -> list[dict[str, Any]]:
    """A meter's reading: one entry a 5-tuple."""
    return [
        {
            "proto": flow.proto,
            "src": f"{flow.src}:{flow.sport}",
            "dst": f"{flow.dst}:{flow.dport}",
            **asdict(count),
        }
        for flow, count in arrived.items()
    ]
