# SPDX-License-Identifier: MIT
"""Topologies as values: no root and no kernel needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from topologies import load_topologies
from topologies.line import Line
from topologies.parts import NfcTopo
from topologies.thesis import Thesis, ThesisRouting

ROOT = Path(__file__).resolve().parents[2]


def addresses(topo: NfcTopo) -> dict[str, str]:
    """Address of each link end that has one."""
    found = {}
    for _, _, link in topo.links(withInfo=True):
        for end, port in (("1", link["port1"]), ("2", link["port2"])):
            if link[f"params{end}"]["ip"]:
                found[f"{link[f'node{end}']}-eth{port}"] = link[f"params{end}"]["ip"]
    return found


def macs(topo: NfcTopo) -> list[str]:
    links = [link for _, _, link in topo.links(withInfo=True)]
    return [link[key] for link in links for key in ("addr1", "addr2")]


def test_thesis_has_the_nodes_and_addresses_of_figure_7_1() -> None:
    """Hypervisor, VM1 to VM3 and the switch, with the addresses of the thesis's section 7.1."""
    topo = Thesis()
    assert topo.switches() == ["s1"]
    assert addresses(topo) == {
        "hv-eth0": "10.10.9.1/24",
        "vm1-eth0": "10.10.9.5/24",
        "vm2-eth0": "10.10.9.4/24",
        "vm3-eth0": "10.10.9.6/24",
    }


def test_replies_return_through_vm1() -> None:
    """VM2 and VM3 reach the hypervisor by VM1, and only VM1 forwards and runs chains."""
    nodes = {name: Thesis().nodeInfo(name) for name in Thesis().hosts()}
    assert nodes["vm2"]["routes"] == nodes["vm3"]["routes"] == [("10.10.9.1/32", "10.10.9.5")]
    assert [name for name, node in nodes.items() if node.get("forward")] == ["vm1"]
    assert [name for name, node in nodes.items() if node.get("nfc")] == ["vm1"]


def test_routing_twin_differs_in_the_hypervisors_routes_only() -> None:
    """Figure 7.4's routing case is the same network with two prefixes by way of VM1."""
    chain, routing = Thesis(), ThesisRouting()
    assert chain.nodeInfo("hv")["routes"] == ()
    assert set(routing.nodeInfo("hv")["routes"]) == {
        ("10.10.9.4/32", "10.10.9.5"),
        ("10.10.9.6/32", "10.10.9.5"),
    }
    assert addresses(chain) == addresses(routing)
    for name in ("vm1", "vm2", "vm3", "s1"):
        assert chain.nodeInfo(name) == routing.nodeInfo(name)


def test_line_has_no_switch() -> None:
    """The bench topology is two links, with the node between them in both subnets."""
    topo = Line()
    assert topo.switches() == []
    assert addresses(topo) == {
        "left-eth0": "10.10.1.2/24",
        "node-eth0": "10.10.1.1/24",
        "node-eth1": "10.10.2.1/24",
        "right-eth0": "10.10.2.2/24",
    }


@pytest.mark.parametrize("name", ["thesis", "thesis-routing", "line"])
def test_hardware_addresses_are_unique_and_the_same_each_time(name: str) -> None:
    """No MAC address is drawn by lot: two builds are alike, and none occurs twice in one."""
    make = load_topologies()[name]
    assert macs(make()) == macs(make())
    assert len(set(macs(make()))) == len(macs(make()))
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs(make()))  # unicast, locally administered


def test_every_topology_is_found_by_name() -> None:
    """The names that the command line offers are those of the files' ``topos``."""
    assert list(load_topologies()) == ["line", "thesis", "thesis-routing"]


def test_parameters_reach_every_link() -> None:
    """Rate, MTU and queue are those of all links."""
    topo = Thesis(rate_mbps=100, mtu=9000, queue_packets=50)
    for _, _, link in topo.links(withInfo=True):
        assert (link["rate_mbps"], link["mtu"], link["queue_packets"]) == (100, 9000, 50)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"rate_mbps": 0}, "rate_mbps"),
        ({"rate_mbps": -5}, "rate_mbps"),
        ({"rate_mbps": float("nan")}, "rate_mbps"),
        ({"mtu": 100}, "mtu"),
        ({"mtu": 70_000}, "mtu"),
        ({"mtu": 1500.5}, "mtu"),
        ({"rate_mbps": 10, "queue_packets": 0}, "queue_packets"),
        ({"queue_packets": 10}, "needs rate_mbps"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any], named: str) -> None:
    """A value out of its range is refused with its name, before anything is built."""
    with pytest.raises(ValueError, match=named):
        Thesis(**wrong)


@pytest.mark.parametrize("name", ["thesis", "line"])
def test_file_runs_without_a_name_and_without_the_project(name: str) -> None:
    """As ``mn --custom`` runs it: only the file's text, project not on the path, any folder."""
    script = f"""
import sys
sys.path[:] = [p for p in sys.path if p and not p.startswith({str(ROOT)!r} + '/') or 'site-' in p]
sys.path[:] = [p for p in sys.path if p.rstrip('/') != {str(ROOT)!r}]
try:
    import topologies
    sys.exit('the project is on the path: the test shows nothing')
except ModuleNotFoundError:
    pass
file = sys.argv[1]
space = {{}}
exec(compile(open(file).read(), file, 'exec'), space, space)
print(*space['topos'])
"""
    file = ROOT / "topologies" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == name
