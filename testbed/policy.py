# SPDX-License-Identifier: MIT
"""Policy files: a policy as YAML, read with every check that needs no kernel, and written.

::

    version: 1
    datapath: tc                  # or xdp, netfilter, nfqueue, auto
    chains:
      - id: 1
        name: dad-dnat
        forward: stack            # or direct
        rules:
          - {proto: udp, dst: 10.10.9.5, dport: 53}
        nfs:
          - {nf: dad, priority: 10, params: {threshold_mbps: 100}}
          - {nf: dnat, priority: 20, params: {rules: [{dport: 53, to: 10.10.9.4}]}}

What a field means and what it may be stands in :mod:`testbed.chain`; an NF's parameters are those
of its description (:mod:`testbed.nf`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, ValidationError

from testbed.chain import NF, Chain, FlowRule, Policy
from testbed.fields import protocol_name, shown
from testbed.nf import NFDescription, load_descriptions
from testbed.yamlfile import (
    Problem,
    Where,
    policy_error,
    problems_of,
    read_document,
    read_text,
    uncollected,
)

__all__ = ["check_policy", "dump_policy", "load_policy", "parse_policy"]

Descriptions = Mapping[str, NFDescription]


def _parse_version(value: object) -> int:
    if type(value) is not int or value != 1:
        raise ValueError(f"must be 1, the only version there is, got {shown(value)}")
    return value


class _File(Policy):
    """What stands in the file."""

    version: Annotated[int, BeforeValidator(_parse_version)]
    chains: tuple[Chain, ...]


def load_policy(path: Path | str) -> Policy:
    """Read a policy file.

    Raises PolicyError, once, for the first thing wrong in the file: its line and field, what is
    allowed, and how many more there are.
    """
    path = Path(path)
    return parse_policy(read_text(path), path=path)


def parse_policy(
    text: str, path: Path | None = None, *, descriptions: Descriptions | None = None
) -> Policy:
    """Read a policy from YAML text.

    :param path: for messages.
    :param descriptions: the NFs there are; those in ``nfs/`` if None.

    Raises PolicyError as :func:`load_policy` does.
    """
    known = load_descriptions() if descriptions is None else descriptions
    with uncollected():
        return _parse(text, path, known)


def _parse(text: str, path: Path | None, known: Descriptions) -> Policy:
    document = read_document(text, path=path)
    problems = list(_nf_problems(document.data, known))
    file = None
    try:
        file = _File.model_validate(document.data, by_alias=True, by_name=False)
    except ValidationError as error:
        problems += problems_of(error, _File)
    if problems or file is None:
        raise document.error(problems)
    return Policy(datapath=file.datapath, nfqueue=file.nfqueue, chains=file.chains)


def check_policy(policy: Policy, *, descriptions: Descriptions | None = None) -> None:
    """Check that a policy made by a program uses NFs that exist, with right parameters.

    Raises PolicyError.
    """
    known = load_descriptions() if descriptions is None else descriptions
    data = {"chains": [{"nfs": [_nf_data(nf) for nf in c.nfs]} for c in policy.chains]}
    problems = list(_nf_problems(data, known))
    if problems:
        raise policy_error(problems)


def _nf_problems(data: Any, known: Descriptions) -> Iterator[Problem]:
    """Find what is wrong with the NFs, in data whose shape need not be right."""
    for i, chain in _entries(data, "chains"):
        translating: Where | None = None
        for j, nf in _entries(chain, "nfs"):
            where: Where = ("chains", i, "nfs", j)
            name, params = nf.get("nf"), nf.get("params", {})
            if not isinstance(name, str):
                continue
            if name not in known:
                yield Problem((*where, "nf"), _unknown_nf(name, known))
                continue
            if isinstance(params, Mapping):
                for found in known[name].problems(params):
                    yield Problem((*where, "params", *found.where), found.message)
            if known[name].translates and translating is not None:
                yield Problem(
                    (*where, "nf"),
                    "a chain holds at most one NF that translates, since connection tracking keeps"
                    f" one translation a connection: nfs[{translating[-1]}] is one already",
                )
            elif known[name].translates:
                translating = where


def _entries(data: Any, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    found = data.get(key) if isinstance(data, dict) else None
    for index, entry in enumerate(found if isinstance(found, list) else ()):
        if isinstance(entry, dict):
            yield index, entry


def _unknown_nf(name: str, known: Descriptions) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1)
    guess = f": did you mean {near[0]}?" if near else ""
    return f"there is no NF {name!r}{guess} (there are: {', '.join(known)})"


def dump_policy(policy: Policy) -> str:
    """Give the policy as the text of a file; reading it gives an equal policy.

    What is as it would be without being said is left out, but for a chain's name and ``forward``.
    """
    head = policy.model_dump(exclude={"chains"}, exclude_defaults=True)
    data = {"version": 1, **head, "chains": [_chain_data(chain) for chain in policy.chains]}
    with uncollected():
        text: str = yaml.dump(
            data,
            Dumper=_Dumper,
            sort_keys=False,
            width=100,
            allow_unicode=True,
            default_flow_style=False,
        )
    return text


def _chain_data(chain: Chain) -> dict[str, Any]:
    return {
        "id": chain.id,
        "name": chain.name,
        "forward": chain.forward,
        "rules": [_OneLine(_rule_data(rule)) for rule in chain.rules],
        "nfs": [_nf_data(nf) for nf in chain.nfs],
    }


def _rule_data(rule: FlowRule) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if rule.proto is not None:
        data["proto"] = protocol_name(rule.proto)
    for name, prefix in (("src", rule.src), ("dst", rule.dst)):
        if prefix.prefixlen:
            # 0.0.0.0 alone would mean any.
            plain = prefix.prefixlen == 32 and int(prefix.network_address) != 0
            data[name] = str(prefix.network_address if plain else prefix)
    ports = {"sport": rule.sport, "dport": rule.dport}
    data |= {name: port for name, port in ports.items() if port is not None}
    if rule.priority != FlowRule.model_fields["priority"].default:
        data["priority"] = rule.priority
    return data


def _nf_data(nf: NF) -> dict[str, Any]:
    data: dict[str, Any] = {"nf": nf.name, "priority": nf.priority}
    if nf.place is not None:
        data["place"] = nf.place
    if nf.params:
        data["params"] = _in_lines(nf.params.plain())
    return data


def _in_lines(params: dict[str, Any]) -> dict[str, Any]:
    """Give a table's rows the form of one line each."""
    return {
        name: [_OneLine(row) if isinstance(row, dict) else row for row in value]
        if isinstance(value, list)
        else value
        for name, value in params.items()
    }


class _OneLine(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Writes what :mod:`testbed.yamlfile` reads back as it was."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out, also what is there twice."""
        return True


def _write_one_line(dumper: _Dumper, data: _OneLine) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)


def _write_text(dumper: _Dumper, data: str) -> yaml.Node:
    """Quote text that looks like a number, whatever YAML 1.1 thinks of it."""
    style = "'" if data[:1] in "+-.0123456789" and data.count(".") != 3 else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(_OneLine, _write_one_line)
_Dumper.add_representer(str, _write_text)
