# SPDX-License-Identifier: MIT
"""How a chain is carried out: plans as pure values, and one module per datapath."""

from __future__ import annotations

from testbed.datapath.base import Datapath
from testbed.datapath.node import NfcNode
from testbed.datapath.plan import NodePlan, make_plan

__all__ = ["Datapath", "NfcNode", "NodePlan", "make_plan"]
