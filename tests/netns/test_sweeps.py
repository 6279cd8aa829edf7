# SPDX-License-Identifier: MIT
"""The sweeps for real, in short: every packet arrives, and each way is really walked.

The figures are not judged here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from experiments._swept import sweep
from experiments._swept_plan import Plan
from experiments.sweep_nfs import nftables_chains
from testbed.bench.rig import RIGHT, Rig, default_cpu, open_rig
from testbed.bench.rulesets import chain_of_rules, rule_policy, ruleset_variants
from testbed.bench.variant import Variant, chain, chain_on, nftables, nothing, one_chain
from testbed.chain import NF, Policy
from testbed.datapath.status import NodeStatus
from testbed.experiment.catalogue import load_experiment
from testbed.experiment.folder import ResultFolder
from testbed.experiment.runner import Options, run_experiment
from testbed.results import Result, read_result
from tests.sandboxed import bpffs, in_sandbox

pytestmark = pytest.mark.needs(
    *("namespaces", "veth", "bpffs", "sched_cls", "xdp_live_frames", "nft", "objects")
)


def _same(plan: Plan, _: bool) -> Plan:
    return plan


SWEEPS = ("sweep_nfs", "sweep_flows", "sweep_rules", "sweep_size")
PACKETS = 2_000


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Result, Path]]:
    """Each sweep run once as in --quick, but one round of few packets."""
    found = {}
    for name in SWEEPS:
        folder = tmp_path_factory.mktemp(name)
        plan: Callable[[bool], Plan] = import_module(f"experiments.{name}").plan
        small = replace(plan(True), rounds=1, packets=PACKETS)
        prepare = sweep(partial(_same, small))
        options = Options(quick=True)
        code = run_experiment(
            load_experiment(name),
            prepare(Policy(), options),
            given=Policy(),
            options=options,
            folder=ResultFolder.prepare(folder, force=True),
            command="test",
        )
        assert code == 0
        found[name] = (read_result(folder), folder)
    return found


@pytest.mark.needs("nft_nat", "conntrack", "iptables")
@pytest.mark.parametrize("name", SWEEPS)
def test_every_packet_arrives_and_every_value_has_a_time(
    name: str, results: dict[str, tuple[Result, Path]]
) -> None:
    """Nothing lost, nothing unexplained, all chains walked; a value that is missing says why."""
    result, folder = results[name]
    assert (result.state, result.failed_checks) == ("complete", ())
    assert len(result.checks) == 4
    books = result.facts["ledger"]
    assert books["sent"] == books["received"] > 0
    assert (books["dropped"], books["lost"], books["unexplained"]) == ({}, {}, 0)
    points = [(c, p) for c in result.curves for p in c.points]
    for curve, point in points:
        assert (point.value is None) == bool(point.note), (curve.way, curve.quantity, point)
        assert point.value is None or point.value > 0
    missing = {c.way for c, p in points if p.value is None}
    assert missing <= {c for c in missing if name == "sweep_size" and not c.endswith("-socket")}
    assert result.validity.state in {"valid", "host-limited"}
    assert not (folder / "policy.yaml").exists()


@pytest.mark.parametrize("name", SWEEPS)
def test_every_measurement_is_kept(name: str, results: dict[str, tuple[Result, Path]]) -> None:
    """One entry a variant and round, in an order of its own; each way says what was measured."""
    result, folder = results[name]
    kept = json.loads((folder / "raw" / "measurements.json").read_text())
    ways = json.loads((folder / "raw" / "ways.json").read_text())
    variants = {variant for at in ways.values() for variant in at.values()}
    assert sorted(entry["variant"] for entry in kept) == sorted(variants)
    assert [entry["position"] for entry in kept] == list(range(len(variants)))
    chains = [entry for entry in kept if entry["walked"] is not None]
    assert {e["walked"] - e["sent"] - e["warm_up_sent"] for e in chains} == {0}
    times = {curve.way for curve in result.curves if curve.quantity == "time per packet"}
    assert times == set(ways)


@contextmanager
def rig() -> Iterator[Rig]:
    with open_rig(bpffs=bpffs(), cpu=default_cpu()) as opened:
        yield opened


@in_sandbox
def test_each_nf_of_a_chain_is_walked() -> None:
    """Take any one NF out and no packet reaches the last step: they are dropped before it."""
    policy = one_chain(RIGHT, forward="direct", nfs=(NF(name="pass"),) * 5)
    with rig() as bench, chain_on(bench, policy) as datapath:
        status = NodeStatus(datapath.plan, datapath.folder)
        assert bench.send(PACKETS, to=RIGHT).delivered == PACKETS
        (planned,) = datapath.plan.chains
        stages, slots = planned.stages, datapath.last.map("slots")
        for before, stage in pairwise(stages):
            slots.delete(before.next_slot)
            assert bench.send(100, to=RIGHT).delivered == 0
            slots.set_program(before.next_slot, datapath.stages[stage.label].program("nf").fd)
        assert status.forwarded()[0].packets == PACKETS
        assert sum(stage.missed for stage in status.stages()) == 100 * 4


@in_sandbox
def test_each_chain_of_nftables_is_walked() -> None:
    """Let any one of the chains drop, and nothing arrives."""
    with rig() as bench:
        for number in range(3):
            with nftables(nftables_chains(3))(bench):
                assert bench.send(100, to=RIGHT).delivered == 100
                bench.node.run(["nft", "insert", "rule", "ip", "bench", f"nf{number}", "drop"])
                assert bench.send(100, to=RIGHT).delivered == 0


@in_sandbox
def test_packets_match_the_rule_that_they_are_meant_for() -> None:
    """One flow is matched by the last rule; as many flows as rules by one rule each."""
    with rig() as bench, chain_on(bench, rule_policy(40, forward="stack")) as datapath:
        status = NodeStatus(datapath.plan, datapath.folder)
        assert bench.send(100, to=RIGHT).delivered == 100
        assert [count.packets for count in status.rules()] == [*([0] * 39), 100]
        assert bench.send(400, to=RIGHT, flows=40).delivered == 400
        assert [count.packets for count in status.rules()] == [*([10] * 39), 110]
        assert status.specials()["unmatched"].packets == 0


@pytest.mark.needs("iptables")
@in_sandbox
def test_references_let_through_what_their_rules_name_and_nothing_else() -> None:
    """All flows of the rules arrive, and of one flow more all but its packets."""
    with rig() as bench:
        for name, variant in ruleset_variants(10).items():
            with variant.on(bench):
                assert bench.send(100, to=RIGHT, flows=10).delivered == 100, name
                assert bench.send(110, to=RIGHT, flows=11).delivered == 100, name
        with chain_of_rules(10, forward="direct").on(bench) as walked:
            assert bench.send(110, to=RIGHT, flows=11).delivered == 110
            assert walked is not None
            assert walked() == 100


@in_sandbox
def test_socket_sends_what_the_generator_sends() -> None:
    """Frames of all sizes arrive whole; a size beyond the MTU does not, and nothing is hidden."""
    policy = one_chain(RIGHT, forward="direct", nfs=())
    way = Variant(name="direct", text="", on=chain(policy), sender="socket")
    with open_rig(bpffs=bpffs(), cpu=default_cpu(), mtu=9000) as bench:
        for frame_bytes in (60, 1_514, 9_014):
            with way.on(bench) as walked:
                sent = bench.send(300, to=RIGHT, frame_bytes=frame_bytes, sender="socket")
                assert (sent.sent, sent.delivered) == (300, 300)
                assert walked is not None
                assert walked() == 300
        with nothing(bench):
            alone = bench.send(300, to=None, frame_bytes=9_014, sender="socket")
        assert (alone.delivered, alone.ns_per_packet > 0) == (0, True)
