# SPDX-License-Identifier: MIT
"""iperf3's command lines, and its JSON as recorded from iperf 3.12."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import RunError
from testbed.experiment.iperf import (
    BLOCK_BYTES,
    UdpFlow,
    client_command,
    parse_sent,
    read_documents,
    server_command,
    without_host_name,
)

RECORDED = Path(__file__).with_name("recorded")
FLOW = UdpFlow(name="flow 1", dst="10.10.9.5", dport=53, cport=50053, receiver="vm2")


def recorded(name: str) -> list[dict[str, Any]]:
    return read_documents((RECORDED / f"iperf3-{name}.json").read_text())


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_client_sends_the_bytes_of_its_rate_and_time_from_its_own_port() -> None:
    """Rate times duration, in bytes, since iperf3 takes whole seconds only."""
    command = client_command(FLOW, rate_mbps=150, duration_s=9.88, buffer_bytes=212992)
    assert command[:2] == ["iperf3", "--udp"]
    assert option(command, "--bytes") == str(round(150e6 / 8 * 9.88))
    assert option(command, "--bitrate") == "150000000"
    assert option(command, "--cport") == "50053"
    assert option(command, "--port") == "53"
    assert option(command, "--client") == "10.10.9.5"
    assert option(command, "--window") == "212992"
    assert option(command, "--length") == str(BLOCK_BYTES)


def test_flow_says_how_large_its_packets_are() -> None:
    """A jumbo flow sends jumbo packets, and one at least."""
    flow = replace(FLOW, block_bytes=8948)
    command = client_command(flow, rate_mbps=0.0001, duration_s=0.1, buffer_bytes=65536)
    assert option(command, "--length") == option(command, "--bytes") == "8948"


def test_client_sends_at_least_one_packet() -> None:
    """No bytes at all would mean without an end to iperf3."""
    command = client_command(FLOW, rate_mbps=0.0001, duration_s=0.1, buffer_bytes=65536)
    assert option(command, "--bytes") == str(BLOCK_BYTES)


def test_server_stays_for_the_next_client() -> None:
    """A server of one client only would not be there for the second phase."""
    command = server_command(123)
    assert option(command, "--port") == "123"
    assert "--one-off" not in command
    assert "-1" not in command


def test_report_of_a_client() -> None:
    """Bytes, packets and rate are those that the client sent, not what the server got."""
    (document,) = recorded("client")
    sent = parse_sent(document, who="client")
    assert sent.port == 50053
    assert sent.payload_bytes == sent.packets * BLOCK_BYTES
    assert sent.payload_bytes == pytest.approx(1_875_000, abs=BLOCK_BYTES)
    assert sent.rate_mbps == pytest.approx(50, rel=0.01)
    assert len(sent.ends_s) == len(sent.rates_mbps) >= 3
    assert sent.ends_s[-1] == pytest.approx(sent.seconds, abs=0.01)
    assert sent.rates_mbps[0] == pytest.approx(50, rel=0.02)


def test_report_of_a_client_that_was_refused_is_an_error() -> None:
    """iperf3 ends with 0 here; its text alone tells."""
    (document,) = recorded("client-refused")
    with pytest.raises(RunError, match="flow 1: iperf3 reports: unable to connect to server"):
        parse_sent(document, who="flow 1")


def test_report_of_a_client_that_was_told_to_end() -> None:
    """It is an error, and without that word it is what was sent until then."""
    (document,) = recorded("client-ended")
    with pytest.raises(RunError, match="interrupt"):
        parse_sent(document, who="flow 1")
    document.pop("error")
    sent = parse_sent(document, who="flow 1")
    assert 0.2 < sent.seconds < 0.3
    assert sent.rate_mbps == pytest.approx(50, rel=0.02)


def test_server_writes_one_text_a_client() -> None:
    """Texts that follow each other are told apart, the interrupted last one included."""
    documents = recorded("server-two-clients")
    assert len(documents) == 3
    assert documents[0]["end"]["sum"]["packets"] > 0
    assert "error" in documents[2]


@pytest.mark.parametrize("cut", [1, 500, -3])
def test_text_cut_short_is_left_out(cut: int) -> None:
    """What a killed iperf3 left behind is no report, and no error of ours."""
    text = (RECORDED / "iperf3-client.json").read_text()
    assert read_documents(text[:cut]) == []
    assert len(read_documents(text + text[:cut])) == 1


@pytest.mark.parametrize("missing", ["start", "intervals", "end"])
def test_report_that_lacks_something_is_not_understood(missing: str) -> None:
    """An iperf3 that writes another form gives one message, not a KeyError."""
    (document,) = recorded("client")
    del document[missing]
    with pytest.raises(RunError, match="is not understood"):
        parse_sent(document, who="flow 1")


@pytest.mark.parametrize("name", ["client", "client-refused", "server-two-clients"])
def test_host_name_is_left_out(name: str) -> None:
    """What is kept names no host; all else stays."""
    for document in recorded(name):
        assert "somehost" in json.dumps(document)
        kept = without_host_name(document)
        assert "somehost" not in json.dumps(kept)
        assert kept["start"]["system_info"].startswith("Linux 6.")
        assert {**kept, "start": None} == {**document, "start": None}
