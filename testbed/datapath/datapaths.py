# SPDX-License-Identifier: MIT
"""The datapaths there are, by name, and which one a node needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from testbed.datapath.base import Datapath
from testbed.datapath.netfilter import NetfilterDatapath
from testbed.datapath.nfqueue import NfqueueDatapath
from testbed.datapath.plan import NodePlan
from testbed.datapath.tc import TcDatapath
from testbed.datapath.xdp import XdpDatapath
from testbed.errors import PolicyError

__all__ = ["DATAPATHS", "check_datapath", "open_datapath"]


class _Open(Protocol):
    def __call__(self, plan: NodePlan, *, folder: Path) -> Datapath: ...


DATAPATHS: Mapping[str, _Open] = {
    "tc": TcDatapath.open,
    "xdp": XdpDatapath.open,
    "netfilter": NetfilterDatapath.open,
    "nfqueue": NfqueueDatapath.open,
}
"""Each builds a node's chains, from within the node's network namespace."""


def open_datapath(plan: NodePlan, *, folder: Path) -> Datapath:
    """Build a node's chains on the datapath that its policy asks for.

    :param folder: folder in a bpffs, for this node alone.
    :raises PolicyError: there is no such datapath.
    """
    check_datapath(plan)
    return DATAPATHS[plan.datapath](plan, folder=folder)


def check_datapath(plan: NodePlan) -> None:
    """Raise PolicyError where there is no datapath of the name that the plan needs."""
    if plan.datapath not in DATAPATHS:
        raise PolicyError(
            f"datapath {plan.datapath} cannot be run; those that can: {', '.join(DATAPATHS)}",
            field="datapath",
        )
