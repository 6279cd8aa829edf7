# SPDX-License-Identifier: MIT
"""The web application firewall, packet by packet: what is found, where, and what comes of it."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.packet import Packet, Raw

from testbed.chain import NF, Policy
from testbed.errors import PolicyError
from testbed.nf import load_descriptions
from tests.frames import TCP_OPTIONS, fragments, tcp, udp
from tests.pythonnf import PythonNF

SIGNATURES = ["union +select", r"\.\./", "<script"]


def waf(**params: Any) -> PythonNF:
    return PythonNF("waf", {"signatures": SIGNATURES, **params})


@pytest.mark.parametrize(
    "message",
    [
        b"GET /?q=1 union select password HTTP/1.1\r\n",
        b"GET /?q=1+UNION+SELECT+password HTTP/1.1\r\n",
        b"GET /?q=1%20uNiOn%20sElEcT HTTP/1.1\r\n",
        b"GET /%2e%2e%2fetc/passwd HTTP/1.1\r\n",
        b"GET /%252e%252e%252fetc/passwd HTTP/1.1\r\n",
        b"GET /../etc/passwd HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n\r\n<script>",
    ],
)
def test_drops_signatures(message: bytes) -> None:
    """A signature is found in any case, plain or percent-encoded, once or twice."""
    assert waf().run(tcp(payload=message)).dropped == "signature"


@pytest.mark.parametrize(
    "packet",
    [
        tcp(payload=b"GET /index.html HTTP/1.1\r\n"),
        tcp(payload=b"union of selections"),
        tcp(payload=b""),
        udp(payload=b"\x00\x01\xff%%%zz"),
        IP(src="10.0.0.1", dst="10.0.0.2", proto=47) / Raw(b"../"),
        *fragments(udp(payload=b"../../../../../../../../")),
    ],
    ids=repr,
)
def test_accepts_the_rest_untouched(packet: Packet) -> None:
    """What shows no signature passes as it is; so do fragments and protocols that are not known."""
    outcome = waf().run(packet)
    assert outcome.dropped is None
    assert outcome.packet == bytes(packet)


def test_flow_stays_denied() -> None:
    """Behind a signature nothing of that flow passes, and everything of others."""
    nf = waf()
    assert nf.run(tcp(payload=b"fine"), flow=7).dropped is None
    assert nf.run(tcp(payload=b"../"), flow=7).dropped == "signature"
    assert nf.run(tcp(payload=b"fine"), flow=7).dropped == "denied"
    assert nf.run(tcp(payload=b"fine"), flow=8).dropped is None


def test_without_state_each_packet_is_judged() -> None:
    """A flow that found no room in the flow table is denied packet by packet."""
    nf = waf()
    assert nf.run(udp(payload=b"../"), flow=0).dropped == "signature"
    assert nf.run(udp(payload=b"fine"), flow=0).dropped is None


def test_looks_at_the_first_bytes_only() -> None:
    """A signature that ends behind first_bytes of the payload is not seen, whatever the headers."""
    packet = tcp(payload=b"12345../", options=TCP_OPTIONS)
    assert packet[TCP].options
    assert waf(first_bytes=8).run(packet).dropped == "signature"
    assert waf(first_bytes=7).run(packet).dropped is None


@pytest.mark.parametrize(
    ("signatures", "message"),
    [
        (["("], "must be a regular expression"),
        ([], "must be ≥ 1"),
        ("x", "must be a list"),
        ([3], "must be a reg"),
    ],
)
def test_wrong_signatures_are_told(signatures: Any, message: str) -> None:
    """A signature that is no regular expression is a mistake in the policy, told before it runs."""
    with pytest.raises(PolicyError, match=message):
        load_descriptions()["waf"].check({"signatures": signatures})


def test_runs_in_user_space_alone() -> None:
    """It stands in a chain at tc only where the policy says that it is in user space."""
    from testbed.datapath.plan import make_plan

    def plan(**settings: Any) -> Any:
        nf = NF.model_validate({"nf": "waf", "params": {"signatures": ["x"]}, **settings})
        return make_plan(Policy.model_validate({"chains": [{"id": 1, "nfs": [nf]}]}))

    (stage,) = plan(place="user").stages()
    assert (stage.carrier, stage.language) == ("nfqueue", "python")
    with pytest.raises(PolicyError, match="waf cannot run at tc"):
        plan()
