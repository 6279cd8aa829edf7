# SPDX-License-Identifier: MIT
"""Descriptions of network functions, and that they fit the functions' own source."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from testbed.errors import PolicyError
from testbed.nf import NFDescription, load_description, load_descriptions
from testbed.paths import NFS
from testbed.probe import PROBES
from tests.unit.strategies import dad_params, dnat_params

ROW = {"dport": 53, "to": "10.10.9.4"}
DESCRIPTIONS = load_descriptions()
IN_C = sorted(name for name in DESCRIPTIONS if (NFS / name / f"{name}.h").is_file())
IN_PYTHON = sorted(name for name in DESCRIPTIONS if (NFS / name / f"{name}.py").is_file())


def source_of(name: str) -> str:
    folders = (NFS / name, NFS / "include")
    text = "".join(path.read_text() for folder in folders for path in sorted(folder.glob("*.[ch]")))
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def enum_of(source: str, name: str) -> list[str]:
    found = re.search(rf"enum {name}\s*{{(.*?)}}", source, flags=re.DOTALL)
    return [] if not found else [part.strip() for part in found[1].split(",") if part.strip()]


@pytest.mark.parametrize("name", IN_C)
def test_constants_stand_in_the_source(name: str) -> None:
    """Every read-only variable that a description sets is one of the NF's source."""
    source = source_of(name)
    for param_name, param in DESCRIPTIONS[name].params.items():
        wanted = {param.rodata, *param.sets} - {None}
        if param.type == "table":
            wanted.add(f"n_{param_name}")
        for constant in wanted:
            assert re.search(rf"NF_PARAM __u\d+ {constant}\b", source), constant


@pytest.mark.parametrize("name", IN_C)
def test_maps_and_columns_stand_in_the_source(name: str) -> None:
    """Every map of a description is one of the source; a column is a member of its rows' struct."""
    source = source_of(name)
    description = DESCRIPTIONS[name]
    maps = set(re.findall(r"NF_TABLE\((\w+),", source))
    if description.state:
        assert description.state.map in maps
    for param in description.params.values():
        assert set(param.map_size) | ({param.bpf_map} - {None}) <= maps
        for column in param.columns:
            assert re.search(rf"__(be|u)\d+ {column};", source), column


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
@pytest.mark.parametrize("datapath", ["tc", "xdp"])
def test_each_datapath_has_its_thin_file(name: str, datapath: str) -> None:
    """An NF names the datapaths of linked programs for which it has a file, and no other."""
    named = datapath in DESCRIPTIONS[name].datapaths
    assert named == (NFS / name / f"{name}.{datapath}.bpf.c").is_file()


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_each_form_in_user_space_has_its_file(name: str) -> None:
    """An NF says in which forms it runs in user space, and has a file for each and no other."""
    description = DESCRIPTIONS[name]
    forms = description.user if "nfqueue" in description.datapaths else ()
    assert ("native" in forms) == (NFS / name / f"{name}.user.c").is_file()
    assert ("python" in forms) == (name in IN_PYTHON)


@pytest.mark.parametrize("name", IN_PYTHON)
def test_reasons_and_counters_are_those_in_python(name: str) -> None:
    """An NF in Python drops and counts under the names of its description, and all of them."""
    source, description = (NFS / name / f"{name}.py").read_text(), DESCRIPTIONS[name]
    for call, items in (("drop", description.drop_reasons), ("count", description.counters)):
        named = re.findall(rf'packet\.{call}\("(\w+)"\)', source)
        assert set(named) == {item.name for item in items}


@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_logic_knows_no_hook(name: str) -> None:
    """What an NF does is written against the packet API alone, so that it runs at every hook."""
    for path in (NFS / name).glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        found = re.findall(r"__sk_buff|xdp_md|bpf_skb_\w+|bpf_xdp_\w+|hook_\w+\.h", text)
        assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize("name", IN_C)
def test_reasons_and_counters_are_those_of_the_source(name: str) -> None:
    """Drop reasons and counters are as many as in the source's enums, and in the same order."""
    source, description = source_of(name), DESCRIPTIONS[name]
    reasons = [item.name for item in description.drop_reasons]
    assert [f"{name}_{reason}".upper() for reason in reasons] == enum_of(source, f"{name}_reason")
    counters = [item.name.removeprefix("icmp_") for item in description.counters]
    assert [f"{name}_{c}".upper() for c in counters] == enum_of(source, f"{name}_counter")


def test_the_thesis_threshold() -> None:
    """100 Mbit/s over 10 s is 125,000,000 bytes; 1,000 packets/s over 10 s is 10,000 packets."""
    dad = DESCRIPTIONS["dad"]
    assert dad.rodata({"threshold_mbps": 100}) == {
        "threshold": 125_000_000,
        "unit": 1,
        "window_ns": 10_000_000_000,
        "drop_when_full": 0,
    }
    in_packets = dad.rodata({"threshold_pps": 1000, "on_full": "drop", "window_s": 10})
    assert (in_packets["threshold"], in_packets["unit"]) == (10_000, 0)
    assert in_packets["drop_when_full"] == 1
    assert dad.flow_table({"threshold_pps": 1, "idle_s": 5, "window_s": 0.5}) == {
        "max_flows": 1024,
        "idle_s": 6,
    }


@given(dad_params)
def test_constants_are_exact(params: dict[str, Any]) -> None:
    """What is stored is what is written, to the last digit, and fits into 64 bits."""
    stored = DESCRIPTIONS["dad"].rodata(params)
    window = Fraction(str(params.get("window_s", 10)))
    rate = Fraction(str(params.get("threshold_mbps", 0))) * 125_000
    rate += Fraction(str(params.get("threshold_pps", 0)))
    assert stored["threshold"] == math.floor(rate * window) < 2**64
    assert stored["window_ns"] == math.floor(window * 10**9)


@given(dnat_params)
def test_rows_become_numbers(params: dict[str, Any]) -> None:
    """A table's rows keep their order, become plain numbers, and what is left out is 0."""
    dnat = DESCRIPTIONS["dnat"]
    rows = dnat.tables(params)["rules"]
    assert dnat.rodata(params)["n_rules"] == len(rows) == len(params["rules"])
    for row, written in zip(rows, params["rules"], strict=True):
        assert set(row) == {"proto", "dst", "dport", "to", "to_port"}
        assert row["to"] != 0
        for name, value in row.items():
            assert (value == 0) == (written.get(name, "any") == "any")


def test_a_row() -> None:
    """An address is its number in host order, a protocol its number."""
    row = {"proto": "udp", "dst": "10.10.9.5", "dport": 53, "to": "10.10.9.4", "to_port": 5353}
    assert DESCRIPTIONS["dnat"].tables({"rules": [row]}) == {
        "rules": [{"proto": 17, "dst": 0x0A0A0905, "dport": 53, "to": 0x0A0A0904, "to_port": 5353}]
    }


def test_defaults() -> None:
    """Defaults are filled in; what is given stays."""
    checked = DESCRIPTIONS["dad"].check({"threshold_pps": 5, "max_flows": 7})
    assert checked == {
        "threshold_pps": 5,
        "window_s": 10,
        "max_flows": 7,
        "on_full": "accept",
        "idle_s": 60,
    }
    assert DESCRIPTIONS["pass"].check({}) == {}
    assert DESCRIPTIONS["dnat"].check({"rules": [ROW]})["unreplied_s"] == 30


BAD = [
    ("dad", {}, "one of threshold_mbps and threshold_pps must be given"),
    ("dad", {"threshold_mbps": -5}, "threshold_mbps: must be ≥ 0.001, got -5 (allowed: 0.001 to"),
    ("dad", {"threshold_mbps": math.nan}, "threshold_mbps: must be a number, got nan"),
    ("dad", {"threshold_mbps": math.inf}, "threshold_mbps: must be a number, got inf"),
    ("dad", {"threshold_mbps": "100"}, "threshold_mbps: must be a number, got '100'"),
    ("dad", {"threshold_mbps": True}, "threshold_mbps: must be a number, got True"),
    ("dad", {"threshold_mbps": 1, "threshold_pps": 1}, "threshold_pps: only one of"),
    ("dad", {"threshold_pps": 1, "max_flows": 1.5}, "max_flows: must be a whole number, got 1.5"),
    ("dad", {"threshold_pps": 1, "max_flows": 0}, "max_flows: must be ≥ 1, got 0"),
    ("dad", {"threshold_pps": 1, "max_flows": 4194305}, "max_flows: must be ≤ 4194304"),
    ("dad", {"threshold_pps": 1, "on_full": "no"}, "on_full: must be one of accept, drop"),
    ("dad", {"threshold_pps": 1, "on_full": ["x"]}, "on_full: must be one of accept, drop"),
    ("dad", {"threshold_pps": 1, "windw_s": 1}, "windw_s: unknown key 'windw_s': did you mean wi"),
    ("pass", {"x": 1}, "x: unknown key 'x' (allowed: none)"),
    ("dnat", {}, "rules: is missing"),
    ("dnat", {"rules": []}, "rules: must be ≥ 1, got 0 rows (allowed: 1 to 256 rows)"),
    ("dnat", {"rules": [ROW] * 257}, "rules: must be ≤ 256, got 257 rows"),
    ("dnat", {"rules": 3}, "rules: must be a list of rows, got 3"),
    ("dnat", {"rules": [ROW, 3]}, "rules[1]: must be a mapping of proto, dst, dport, to, to_port"),
    ("dnat", {"rules": [{"dport": 53}]}, "rules[0].to: is missing: The new destination address"),
    ("dnat", {"rules": [{"to": "any"}]}, "rules[0].to: must be one address"),
    ("dnat", {"rules": [{"to": "0.0.0.0"}]}, "rules[0].to: must be one address"),
    ("dnat", {"rules": [{"to": "10.0.0.0/8"}]}, "rules[0].to: must be an IPv4 address such as"),
    ("dnat", {"rules": [{**ROW, "to_port": 0}]}, "rules[0].to_port: must be ≥ 1, got 0"),
    ("dnat", {"rules": [{**ROW, "dport": 65536}]}, "rules[0].dport: must be a port from 0 to"),
    ("dnat", {"rules": [{**ROW, "proto": "icmp"}]}, "rules[0].proto: must be tcp or udp"),
    ("dnat", {"rules": [{**ROW, "dst_port": 1}]}, "did you mean dport?"),
    ("dnat", {"rules": [ROW], "state": "x", "replied_s": 0}, "(and 1 more problem)"),
]


@pytest.mark.parametrize(("name", "params", "message"), BAD)
def test_wrong_parameters(name: str, params: dict[str, Any], message: str) -> None:
    """A wrong parameter raises one PolicyError: the field, what is allowed, how many more."""
    with pytest.raises(PolicyError, match=re.escape(message)):
        DESCRIPTIONS[name].check(params)
    with pytest.raises(PolicyError):
        DESCRIPTIONS[name].rodata(params)


MINIMAL = """\
name: x
title: X
summary: Is an example.
source: here
datapaths: [tc]
translates: false
fragment: Accepted.
"""


def loaded(folder: Path, text: str) -> NFDescription:
    path = folder / "x" / "nf.yaml"
    path.parent.mkdir()
    path.write_text(text)
    return load_description(path)


def test_needs_follow_from_the_choice() -> None:
    """Only a connection-tracking DNAT asks for connection tracking, by a key of the probes."""
    dnat = DESCRIPTIONS["dnat"]
    assert dnat.needs({"rules": [ROW]}) == ()
    assert dnat.needs({"rules": [ROW], "state": "conntrack"}) == ("conntrack_kfuncs",)
    asked = {n for d in DESCRIPTIONS.values() for p in d.params.values() for n in p.needs.values()}
    assert asked <= PROBES.keys()


WRONG = [
    ("name: y\n" + MINIMAL[8:], r"nf\.yaml:1: name: must be the folder's name, x, got y"),
    (MINIMAL + "colour: red\n", r"nf\.yaml:8: colour: unknown key 'colour'"),
    (MINIMAL + "params: {a: {type: int, help: h}}\n", "needs one of required, default and one_of"),
    (
        MINIMAL + "params:\n  a: {type: int, help: h, default: 0, min: 1}\n",
        r"nf\.yaml:9: params\.a\.default: must be ≥ 1, got 0",
    ),
    (MINIMAL + "params: {a: {type: choice, help: h, default: x}}\n", "has choices"),
    (
        MINIMAL + "params: {a: {type: choice, choices: [x], help: h, default: x, needs: {y: z}}}\n",
        r"params\.a\.needs: must name choices",
    ),
    (MINIMAL + "params: {a: {type: table, help: h, required: true}}\n", "has columns and bpf_map"),
    (
        MINIMAL + "params: {a: {type: int, help: h, default: 1, times: b}}\n",
        r"params\.a\.times: names no parameter that is a number",
    ),
    (MINIMAL + "params: {a: {type: colour, help: h, default: 1}}\n", "must be int, number"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_descriptions(tmp_path: Path, text: str, message: str) -> None:
    """A wrong nf.yaml gives its file, line and field."""
    with pytest.raises(PolicyError, match=message):
        loaded(tmp_path, text)


def test_a_minimal_description(tmp_path: Path) -> None:
    """An NF without parameters, state, reasons and counters needs to say none of them."""
    assert loaded(tmp_path, MINIMAL).params == {}
    assert list(load_descriptions(tmp_path)) == ["x"]
