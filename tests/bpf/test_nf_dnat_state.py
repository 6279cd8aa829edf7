# SPDX-License-Identifier: MIT
"""DNAT's connections: how many, how long, whose replies, and what the kernel shows of them."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest

from tests.bpf.dnat import BOTH_MODES, OTHER_SERVICE, TO_PORT, TO_SERVER, answer, dnat, is_dropped
from tests.bpf.harness import NEEDS, Verdict, loaded
from tests.frames import CLIENT, CPORT, SERVER, SERVICE, ip_cut, tcp, udp
from tests.sandboxed import in_sandbox

pytestmark = pytest.mark.needs(*NEEDS)


@BOTH_MODES
@in_sandbox
def test_table_full(state: str) -> None:
    """A connection that finds no room is refused and counted; the others go on, both ways."""
    with loaded(dnat(TO_SERVER, state=state, max_flows=2)) as node:
        for sport in (1, 2):
            node.run(udp(sport=sport)).is_accepted_as(udp(sport=sport, dst=SERVER))
        for _ in range(3):
            is_dropped(node, udp(sport=3), "no_state")
        assert node.special("table_full") == 3
        for sport in (1, 2):
            node.run(udp(sport=sport)).is_accepted_as(udp(sport=sport, dst=SERVER))
            reply = answer(udp, dport=sport)
            node.run(reply).is_accepted_as(answer(udp, src=SERVICE, dport=sport))


@BOTH_MODES
@in_sandbox
def test_clash_of_replies(state: str) -> None:
    """A connection whose replies would be another one's is refused; the other is unharmed."""
    second = udp(dst=OTHER_SERVICE)
    with loaded(dnat(TO_SERVER, state=state)) as node:
        node.run(udp()).is_accepted_as(udp(dst=SERVER))
        for _ in range(2):
            is_dropped(node, second, "clash")
        node.run(answer(udp)).is_accepted_as(answer(udp, src=SERVICE))
        node.run(udp()).is_accepted_as(udp(dst=SERVER))


@in_sandbox
def test_clash_with_a_flow_of_its_own() -> None:
    """Replies that a flow without translation has already are not taken from it."""
    with loaded(dnat(TO_SERVER)) as node:
        node.run(answer(udp)).is_accepted_as(answer(udp))
        is_dropped(node, udp(), "clash")
        node.run(answer(udp)).is_accepted_as(answer(udp))


@in_sandbox
def test_idle_connections_are_forgotten() -> None:
    """A connection ends after unreplied_s, or after replied_s once a reply came; both ways at once.

    Then its room is free, and its replies are nobody's.
    """
    with loaded(dnat(TO_SERVER, unreplied_s=1, replied_s=3, max_flows=2)) as node:
        node.run(udp(sport=1))
        node.run(udp(sport=2))
        node.run(answer(udp, dport=2))
        assert len(node.status.flows()) == 4
        _wait(lambda: len(node.status.flows()) < 4)
        ports = {(key["sport"], key["dport"]) for key, _entry in node.status.flows()}
        assert ports == {(2, 53), (53, 2)}
        node.run(answer(udp, dport=2)).is_accepted_as(answer(udp, dport=2, src=SERVICE))
        time.sleep(2.5)
        assert len(node.status.flows()) == 2  # an answer alone keeps a connection alive
        late = answer(udp, dport=1)
        node.run(late).is_accepted_as(late)
        _wait(lambda: not node.status.flows())
        node.run(udp(sport=3)).is_accepted_as(udp(sport=3, dst=SERVER))
        node.run(udp(sport=2)).is_accepted_as(udp(sport=2, dst=SERVER))


def _wait(done: Any, timeout_s: float = 12) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def conntrack(*arguments: str) -> str:
    """Run ``conntrack`` in the namespace of the test."""
    done = subprocess.run(["conntrack", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.mark.needs("conntrack", "conntrack_kfuncs")
@in_sandbox
def test_conntrack_shows_connections() -> None:
    """With state conntrack, `conntrack -L` lists both directions, and what it knows of replies."""
    with loaded(dnat(TO_PORT, state="conntrack", unreplied_s=40, replied_s=300)) as node:
        node.run(udp())
        (line,) = conntrack("-L").splitlines()
        there = f"src={CLIENT} dst={SERVICE} sport={CPORT} dport=53"
        back = f"src={SERVER} dst={CLIENT} sport=5353 dport={CPORT}"
        assert line.split()[:2] == ["udp", "17"]
        assert there in line
        assert back in line
        assert "[UNREPLIED]" in line
        assert 35 <= int(line.split()[2]) <= 40
        node.run(answer(udp, sport=5353))
        (line,) = conntrack("-L").splitlines()
        assert "[ASSURED]" in line
        assert "[UNREPLIED]" not in line
        assert 295 <= int(line.split()[2]) <= 300


@pytest.mark.needs("conntrack", "conntrack_kfuncs")
@in_sandbox
def test_flushed_connection_is_made_again() -> None:
    """A connection that was deleted from the kernel's table is entered again by its next packet."""
    with loaded(dnat(TO_SERVER, state="conntrack")) as node:
        node.run(udp())
        conntrack("-F")
        is_dropped(node, answer(udp), "no_state")
        node.run(udp()).is_accepted_as(udp(dst=SERVER))
        node.run(answer(udp)).is_accepted_as(answer(udp, src=SERVICE))
        assert node.counts("dnat").counters["created"] == 2
        assert len(conntrack("-L").splitlines()) == 1


@pytest.mark.needs("conntrack_kfuncs")
@in_sandbox
def test_connection_outlives_its_chain() -> None:
    """With state conntrack a connection goes on, both ways, when the chain is loaded anew."""
    for _ in range(2):
        with loaded({**dnat(TO_SERVER, state="conntrack"), "rules": [{"dport": 53}]}) as node:
            node.run(udp()).is_accepted_as(udp(dst=SERVER))
            node.run(answer(udp)).is_accepted_as(answer(udp, src=SERVICE))
    # The second instance found the connection: even without its row.
    row = {"dport": 54, "to": SERVER}
    with loaded({**dnat(row, state="conntrack"), "rules": [{"dport": 53}]}) as node:
        node.run(udp()).is_accepted_as(udp(dst=SERVER))
        assert node.counts("dnat").counters["created"] == 0


@BOTH_MODES
@in_sandbox
def test_refused_connection_stays_refused(state: str) -> None:
    """A connection whose replies belong to another flow is dropped with every packet of it."""
    with loaded(dnat(TO_SERVER, state=state)) as node:
        node.run(answer(udp))  # a flow of the server's own, which its replies would look like
        for _ in range(3):
            is_dropped(node, udp(), "clash")
        assert node.counts("dnat").counters["created"] == 0


@in_sandbox
def test_dropped_reply_is_not_taken_off_the_way_there() -> None:
    """What later NFs saw is what went there; a reply that is dropped is counted apart."""
    chain = {**dnat(TO_SERVER), "rules": [{"dport": 53}]}
    chain["nfs"] = [*chain["nfs"], {"nf": "pass", "priority": 200}]
    with loaded(chain) as node:
        node.run(udp())
        for length, back in ip_cut(answer(udp)):
            if 4 <= length < 8:
                assert node.run(back).verdict is Verdict.DROP
        assert node.counts("dnat").accepted == node.counts("pass").seen.packets == 1
        assert node.counts("dnat").replies_dropped["malformed"] > 0


@pytest.mark.needs("conntrack_kfuncs")
@in_sandbox
def test_closed_connection_is_soon_forgotten_by_conntrack() -> None:
    """After a FIN the kernel keeps a TCP connection for two minutes, not for two hours."""
    with loaded({**dnat(TO_SERVER, state="conntrack"), "rules": [{"dport": 53}]}) as node:
        node.run(tcp())
        node.run(answer(tcp))
        assert int(conntrack("-L").split()[2]) > 7000
        node.run(tcp(flags="FA"))
        assert int(conntrack("-L").split()[2]) <= 120
