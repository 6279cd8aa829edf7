# SPDX-License-Identifier: MIT
"""The thesis's network (section 7.1, Figure 7.1) and its routing twin (Figure 7.4).

Also by itself: ``mn --custom topologies/thesis.py --topo thesis,rate_mbps=1000,mtu=9000``.
"""

from __future__ import annotations

try:
    from topologies.parts import NfcTopo
except ModuleNotFoundError as missing:
    if missing.name != "topologies":
        raise
    # `mn --custom` executes the text of this file and knows nothing of the folder around it,
    # nor is there a __file__; the compiled code itself still names its file.
    import sys
    from pathlib import Path

    sys.path.append(str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))
    from topologies.parts import NfcTopo

__all__ = ["HV", "VM1", "VM2", "VM3", "Thesis", "ThesisRouting", "topos"]

HV, VM1, VM2, VM3 = "10.10.9.1", "10.10.9.5", "10.10.9.4", "10.10.9.6"


class Thesis(NfcTopo):
    """Hypervisor and three virtual machines at the hypervisor's virtual switch.

    ::

        hv 10.10.9.1 ──┐             ┌── vm1 10.10.9.5 (runs the chains, forwards)
                       ├── s1 ───────┼── vm2 10.10.9.4
                                     └── vm3 10.10.9.6

    The hypervisor reaches all of them directly. What vm2 and vm3 send to the hypervisor goes
    through vm1, so that vm1 sees both directions of a connection that it translates.
    """

    hv_routes: tuple[tuple[str, str], ...] = ()

    def layout(self) -> None:
        """Add the hypervisor, its switch and its virtual machines."""
        back = [(f"{HV}/32", VM1)]
        self.bridge("s1")
        self.vm("hv", routes=self.hv_routes)
        self.vm("vm1", forward=True, nfc=True)
        self.vm("vm2", routes=back)
        self.vm("vm3", routes=back)
        for name, address in {"hv": HV, "vm1": VM1, "vm2": VM2, "vm3": VM3}.items():
            self.wire(name, "s1", ip1=f"{address}/24")


class ThesisRouting(Thesis):
    """The comparison: hypervisor → vm1 → vm2 and vm3 by destination prefix, no chain needed."""

    hv_routes = ((f"{VM2}/32", VM1), (f"{VM3}/32", VM1))


topos = {"thesis": Thesis, "thesis-routing": ThesisRouting}
