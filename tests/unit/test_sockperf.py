# SPDX-License-Identifier: MIT
"""What is read from sockperf's full log, on recorded output."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.errors import RunError
from testbed.experiment.sockperf import client_command, parse_full_log, server_command

RECORDED = Path(__file__).with_name("recorded")


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def test_every_time_of_the_log_is_read() -> None:
    """The log's rows are the round-trip times in µs, in order; its text gives the counts."""
    pinged = parse_full_log(recorded("sockperf-full-log.csv"), who="routing")
    assert (pinged.sent, pinged.received) == (86133, 86132)
    assert (pinged.lost, pinged.duplicated, pinged.out_of_order) == (0, 0, 0)
    assert len(pinged.rtt_us) == 40
    assert list(pinged.rtt_us[:3]) == [24.233, 26.327, 239.417]
    assert pinged.head[1].startswith("test was performed using")
    assert not any("\x1b" in line for line in pinged.head)


def test_percentiles_are_those_of_the_times() -> None:
    """The hundredth is the longest, the fiftieth the median."""
    pinged = parse_full_log(recorded("sockperf-full-log.csv"), who="routing")
    found = pinged.percentiles((50.0, 100.0))
    times = sorted(pinged.rtt_us)
    assert found[100.0] == times[-1] == 239.417
    assert found[50.0] == pytest.approx((times[19] + times[20]) / 2)


def test_thinned_times_are_some_of_them() -> None:
    """Every n-th is kept, so that raw files stay small."""
    pinged = parse_full_log(recorded("sockperf-full-log.csv"), who="routing")
    assert pinged.thinned(10) == (4, [round(float(t), 3) for t in pinged.rtt_us[::4]])
    assert pinged.thinned(2_000)[0] == 1


def test_log_without_times_is_a_failed_run() -> None:
    """What sockperf says of it is in the message."""
    with pytest.raises(RunError, match=r"routing: sockperf measured nothing: .*No valid obs"):
        parse_full_log(recorded("sockperf-nothing.csv"), who="routing")
    with pytest.raises(RunError, match="routing: sockperf measured nothing: its log is empty"):
        parse_full_log("", who="routing")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("SentMessages=86133", "Sent=86133"), "no sent messages"),
        (("4, 2.414422136, 2.414426883, 4.747", "4, 2.4"), "list index out of range"),
        (("4, 2.414422136, 2.414426883, 4.747", "4, 2.4, 2.5, none"), "none"),
    ],
)
def test_log_that_is_not_understood_is_a_failed_run(change: tuple[str, str], said: str) -> None:
    """A log of another version gives one message, not wrong figures."""
    text = recorded("sockperf-full-log.csv")
    assert change[0] in text
    with pytest.raises(RunError, match=said):
        parse_full_log(text.replace(*change), who="routing")


def test_both_ends_poll() -> None:
    """No time of sleeping is in a round trip, and the log has round trips, not halves of them."""
    client = client_command("10.10.1.1", 53, seconds=2, log="log.csv")
    assert {"--nonblocked", "--full-rtt"} <= set(client)
    assert client[client.index("--full-log") + 1] == "log.csv"
    assert "--nonblocked" in server_command("10.10.2.2", 53)
