"""A picture of the whole tree, taken from outside: it shows an actor that hangs as well as one that works."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ._address import Address, AddressStatistics
from ._supervisor import Supervisor

__all__ = ["Inspection", "inspect_tree"]


class Inspection(AddressStatistics, frozen=True):
    """The statistics of one actor and of those below it."""

    children: tuple[Inspection, ...] = ()

    def walk(self) -> Iterator[Inspection]:
        """This one, then everybody below, in the order of their start."""
        yield self
        for child in self.children:
            yield from child.walk()


def inspect_tree(supervisor: Supervisor | Address) -> Inspection:
    """Look at a supervisor (or any address) and everything below it. Synchronous: no actor is asked."""
    address = supervisor if isinstance(supervisor, Address) else supervisor.address
    below = () if address._supervisor is None else address._supervisor.children
    return Inspection(
        **msgspec.structs.asdict(address.statistics()),
        children=tuple(inspect_tree(child.address) for child in below),
    )
