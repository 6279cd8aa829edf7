# SPDX-License-Identifier: MIT
"""A web application firewall (thesis 8.2): what is too complicated for the kernel.

The first part of each message is looked at, as a server would read it: percent encoding undone,
twice, since attackers encode twice. A flow that has shown a signature stays denied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from testbed.user import ACCEPT, Packet

__all__ = ["make"]


def make(params: Mapping[str, Any]) -> Callable[[Packet], int]:
    """Give the NF."""
    either = b"|".join(b"(?:%s)" % text.encode() for text in params["signatures"])
    signature = re.compile(either, re.IGNORECASE | re.DOTALL)
    first_bytes = params["first_bytes"]

    def waf(packet: Packet) -> int:
        state = packet.state
        if state and state[0]:
            return packet.drop("denied")
        message = packet.payload(first_bytes).replace(b"+", b" ")
        if not signature.search(message) and not signature.search(_decoded(message)):
            return ACCEPT
        if state:
            state[0] = 1
        return packet.drop("signature")

    return waf


def _decoded(message: bytes) -> bytes:
    return unquote_to_bytes(unquote_to_bytes(message))
