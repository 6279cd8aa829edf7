# SPDX-License-Identifier: MIT
"""Tuple space search: the plan that the kernel's classifier is filled from.

Rules that name the same parts of the 5-tuple (same *mask*) share one hash table, from the masked
5-tuple (*key*) to the first rule that has it. A look-up masks the packet once per mask and asks
that mask's table. Masks stand in the order of their best rule, so the search ends at the first
mask that can hold nothing better than what was found: a million rules of one mask cost what ten do.

Source: Srinivasan, Suri, Varghese, "Packet Classification using Tuple Space Search" (1999); Open
vSwitch's classifier. Everything here is pure; numbers are in host byte order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from testbed.chain import FiveTuple, FlowRule

__all__ = ["Key", "Mask", "MaskGroup", "Shadow", "TupleSpace", "group_by_mask", "shadowed"]


class Key(NamedTuple):
    """A masked 5-tuple; parts that the mask leaves out are 0."""

    src: int
    dst: int
    sport: int
    dport: int
    proto: int


class Mask(NamedTuple):
    """Which parts of the 5-tuple a rule names: prefix lengths, and yes or no for the rest."""

    src_bits: int
    dst_bits: int
    sport: bool
    dport: bool
    proto: bool

    @property
    def ports(self) -> bool:
        """Whether the mask names a port: then packets that show none cannot match."""
        return self.sport or self.dport

    def values(self) -> Key:
        """Give the mask as the numbers to AND with: 0xffffff00 for /24, 0xffff for a port."""
        return Key(
            _prefix_mask(self.src_bits),
            _prefix_mask(self.dst_bits),
            0xFFFF if self.sport else 0,
            0xFFFF if self.dport else 0,
            0xFF if self.proto else 0,
        )

    def apply(self, key: Key) -> Key:
        """Give what this mask leaves of a key."""
        keep = self.values()
        return Key(
            key.src & keep.src,
            key.dst & keep.dst,
            key.sport & keep.sport,
            key.dport & keep.dport,
            key.proto & keep.proto,
        )

    def within(self, other: Mask) -> bool:
        """Whether this mask names nothing that ``other`` does not name as well."""
        return all(mine <= theirs for mine, theirs in zip(self, other, strict=True))


def _prefix_mask(bits: int) -> int:
    return 0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class MaskGroup:
    """The rules of one mask.

    :ivar first_order: smallest order among its rules.
    :ivar orders: key to order; of several rules with one key, the first.
    """

    mask: Mask
    first_order: int
    orders: Mapping[Key, int]


def group_by_mask(rules: Iterable[FlowRule]) -> tuple[MaskGroup, ...]:
    """Group rules that stand in first-match order, a rule's *order* being its position.

    Groups come sorted by ``first_order``.
    """
    groups: dict[Mask, dict[Key, int]] = {}
    firsts: dict[Mask, int] = {}
    for order, rule in enumerate(rules):
        mask = rule.mask()
        firsts.setdefault(mask, order)
        groups.setdefault(mask, {}).setdefault(rule.key(), order)
    return tuple(
        MaskGroup(mask=mask, first_order=firsts[mask], orders=orders)
        for mask, orders in groups.items()
    )


class TupleSpace:
    """Rules in first-match order, ready to be searched as the kernel does."""

    def __init__(self, rules: Iterable[FlowRule]) -> None:
        self.groups = group_by_mask(rules)

    def find(self, packet: FiveTuple) -> int | None:
        """Give the order of the first rule that the packet matches, or None."""
        key, best = packet.key(), None
        for group in self.groups:
            if best is not None and best < group.first_order:
                break
            if group.mask.ports and not packet.has_ports:
                continue
            order = group.orders.get(group.mask.apply(key))
            if order is not None and (best is None or order < best):
                best = order
        return best


class Shadow(NamedTuple):
    """A rule that can never match, since an earlier one takes all of its packets."""

    order: int
    by: int


def shadowed(rules: Sequence[FlowRule]) -> Iterator[Shadow]:
    """Find the rules that one earlier rule covers; rules stand in first-match order.

    A rule that only several earlier ones cover together is not found.
    """
    seen: dict[Mask, dict[Key, int]] = {}
    for order, rule in enumerate(rules):
        mask, key = rule.mask(), rule.key()
        covering = [
            found
            for wider, orders in seen.items()
            if wider.within(mask) and (found := orders.get(wider.apply(key))) is not None
        ]
        if covering:
            yield Shadow(order, min(covering))
        else:
            seen.setdefault(mask, {})[key] = order
