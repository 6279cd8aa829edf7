# SPDX-License-Identifier: MIT
"""NFs in user space, in Python: what such an NF uses.

An NF is a module ``nfs/<nf>/<nf>.py`` with one function, which gets the parameters that its
``nf.yaml`` describes, defaults filled in, and gives what is called for each packet::

    def make(params: Mapping[str, Any]) -> Callable[[Packet], int]:
        longest = params["longest_bytes"]

        def short(packet: Packet) -> int:
            return packet.drop("too_long") if packet.length > longest else ACCEPT

        return short

``nf.yaml`` says ``user: [python]`` and names the drop reasons and the counters. An exception
drops the packet and is counted as ``failed``; the program goes on. Packets of one flow come one
after the other; with several queues, those of different flows from several threads.
"""

from __future__ import annotations

from testbed.user.packet import ACCEPT, Packet

__all__ = ["ACCEPT", "Packet"]
