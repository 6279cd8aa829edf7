# SPDX-License-Identifier: MIT
"""One NFC node between two machines: the shortest way a packet can take, for benchmarks.

Also by itself: ``mn --custom topologies/line.py --topo line``.
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

__all__ = ["LEFT", "NODE_LEFT", "NODE_RIGHT", "RIGHT", "Line", "topos"]

LEFT, NODE_LEFT = "10.10.1.2", "10.10.1.1"
NODE_RIGHT, RIGHT = "10.10.2.1", "10.10.2.2"


class Line(NfcTopo):
    """Two machines with a node between them, which forwards and runs the chains; no switch.

    ::

        left 10.10.1.2 ── 10.10.1.1 node 10.10.2.1 ── 10.10.2.2 right
    """

    def layout(self) -> None:
        """Add the machines and their two links."""
        self.vm("left", routes=[("default", NODE_LEFT)])
        self.vm("node", forward=True, nfc=True)
        self.vm("right", routes=[("default", NODE_RIGHT)])
        self.wire("left", "node", ip1=f"{LEFT}/24", ip2=f"{NODE_LEFT}/24")
        self.wire("node", "right", ip1=f"{NODE_RIGHT}/24", ip2=f"{RIGHT}/24")


topos = {"line": Line}
