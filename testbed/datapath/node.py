# SPDX-License-Identifier: MIT
"""An NFC node: a node of the network that runs a policy's chains."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.chain import Policy
from testbed.datapath.datapaths import open_datapath
from testbed.datapath.nfqueue import NfqueueDatapath
from testbed.datapath.plan import NodePlan, make_plan
from testbed.errors import UnsupportedError
from testbed.netnode import NetNode
from testbed.probe import probe

__all__ = ["NfcNode"]


_ACCEPT_LOCAL = Path("/proc/sys/net/ipv4/conf/all/accept_local")


def _require(plan: NodePlan) -> None:
    """Ask for what the NFs need beyond the datapath, which also loads the modules that hold it.

    A function of a module that is not loaded would be found missing only by the verifier, whose
    message says nothing of it.
    """
    for stage in plan.stages():
        for name in stage.description.needs(stage.nf.params):
            answer = probe(name)
            if answer.state == "no":
                raise UnsupportedError(
                    f"{stage.label}: its parameters need {name}: {answer.detail}"
                    " (see nfcbed doctor)"
                )


class NfcNode:
    """A policy running on a node, on every interface of it, while the ``with`` block does.

    :param node: where.
    :param policy: which chains.
    :param bpffs: the run's bpffs; the node gets a folder of its own name there.
    :raises BpfError: the kernel refused a program or a map; nothing is left of it.
    :raises PolicyError: no datapath carries the policy as it asks.
    :raises UnsupportedError: the kernel lacks what an NF's parameters ask for.

    While a chain translates, the node routes packets that bear an address of its own as their
    source: replies are translated before routing, so they seem to come from the node itself.
    """

    def __init__(self, node: NetNode, policy: Policy, *, bpffs: Path) -> None:
        self.node = node
        self.policy = policy
        self._folder = bpffs / node.name

    def start(self) -> Self:
        """Build the chains and let packets enter them."""
        plan = make_plan(self.policy)
        _require(plan)
        with self.node.netns():
            self._accept_local = _ACCEPT_LOCAL.read_text()
            self.datapath = open_datapath(plan, folder=self._folder)
            try:
                if plan.translates:
                    _ACCEPT_LOCAL.write_text("1")
                self.datapath.attach({i.name: i.index for i in self.node.interfaces})
            except BaseException:
                self._stop()
                raise
        return self

    def _stop(self) -> None:
        self.datapath.close()
        _ACCEPT_LOCAL.write_text(self._accept_local)

    def close(self) -> None:
        """Detach and unload; the node routes on without chains."""
        with self.node.netns():
            self._stop()

    def refresh_ways(self) -> None:
        """Look at the interfaces again; call it after a queue was added or removed."""
        with self.node.netns():
            self.datapath.refresh()

    def restart(self) -> None:
        """Start the programs of NFs in user space that do not run, which may be none.

        Their NFs go on with the state they had.

        :raises RunError: one does not start.
        """
        if isinstance(self.datapath, NfqueueDatapath):
            with self.node.netns():
                self.datapath.restart()

    def describe(self) -> dict[str, Any]:
        """What runs here, as plain JSON values."""
        return self.datapath.describe()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
