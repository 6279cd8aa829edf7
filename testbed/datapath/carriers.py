# SPDX-License-Identifier: MIT
"""Which datapath carries which NF of a policy, and whether it can: pure."""

from __future__ import annotations

from testbed.chain import NF, Policy
from testbed.errors import PolicyError
from testbed.nf import NFDescription

__all__ = ["USER", "carrier_of", "check_forward", "why_there"]

USER = "nfqueue"
"""The datapath that leads to user space."""

_KERNEL = "tc"
"""The one that carries a kernel NF beside user-space ones."""


def carrier_of(policy: Policy, nf: NF, description: NFDescription, *, field: str) -> str:
    """Name the datapath that carries an NF, one of ``description.datapaths``.

    :param field: the NF's place in the policy, for the message.
    :raises PolicyError: the NF cannot run there.
    """
    carrier = _asked_for(policy, nf, description, field)
    if carrier not in description.datapaths:
        raise PolicyError(
            f"{nf.name} cannot run {_in_words(policy, nf, carrier)}; it runs at:"
            f" {', '.join(description.datapaths)}",
            field=field,
        )
    if nf.place == "python" and "python" not in description.user:
        raise PolicyError(f"{nf.name} has no form in Python", field=f"{field}.place")
    for name, param in description.params.items():
        value = str(nf.params.get(name, param.default))
        allowed = param.only_at.get(value)
        if allowed is not None and carrier not in allowed:
            raise PolicyError(
                f"{name}: {value} is not possible at {carrier}; it is at: {', '.join(allowed)}",
                field=f"{field}.params.{name}",
            )
    return carrier


def check_forward(policy: Policy) -> None:
    """Raise PolicyError for a chain that is to forward where the datapath cannot."""
    for index, chain in enumerate(policy.chains):
        if policy.datapath == "netfilter" and chain.forward == "direct":
            raise PolicyError(
                "datapath netfilter hands packets on to the kernel's routing: take forward: stack,"
                " or another datapath",
                field=f"chains[{index}].forward",
            )


def why_there(nf: NF, description: NFDescription) -> str:
    """Say why ``datapath: auto`` puts an NF where it does."""
    if nf.place is not None:
        return f"{'in the kernel' if nf.place == 'kernel' else 'in user space'}: place: {nf.place}"
    if _KERNEL in description.datapaths:
        return f"in the kernel, at {_KERNEL}: the cheapest place that can carry it"
    return "in user space: it has no form for the kernel"


def _asked_for(policy: Policy, nf: NF, description: NFDescription, field: str) -> str:
    if policy.datapath == "auto":
        if nf.place is None:
            return _KERNEL if _KERNEL in description.datapaths else USER
        return _KERNEL if nf.place == "kernel" else USER
    if nf.place is None or (nf.place != "kernel") == (policy.datapath == USER):
        return policy.datapath
    if policy.datapath == USER:
        return _KERNEL
    if policy.datapath == _KERNEL:
        return USER
    raise PolicyError(
        f"datapath {policy.datapath} leads to no user space: leave place out, or take datapath"
        f" {_KERNEL}, {USER} or auto",
        field=f"{field}.place",
    )


def _in_words(policy: Policy, nf: NF, carrier: str) -> str:
    where = "in user space" if carrier == USER else f"at {carrier}"
    asked = nf.place is not None and policy.datapath != carrier
    return f"{where} (place: {nf.place})" if asked else where
