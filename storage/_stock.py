"""Places per product, date and slot: no more are sold and held than there are, which is also a constraint.

Rows come to be with the first sale into a slot; when the product's rules name another number later, it is taken over,
but never below what is sold and held.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from protocols.rights import SlotTimes
from storage._pq import Connection
from storage.interfaces import LedgerRefused
from storage.queries import load

SlotKey = tuple[str, date, str]  # product, date, when it opens


@dataclass(slots=True)
class Slot:
    """One slot's stock as a batch works on it."""

    total: int
    held: int = 0
    sold: int = 0
    touched: bool = False
    closes: str = ""

    @property
    def left(self) -> int:
        return self.total - self.held - self.sold


class Stock:
    """The slots that a batch of orders touches."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._slots: dict[SlotKey, Slot] = {}

    async def load(self, connection: Connection, keys: Iterable[SlotKey]) -> None:
        """Lock the slots that exist already."""
        wanted = sorted(set(keys))
        if wanted:
            columns = [list(column) for column in zip(*wanted, strict=True)]
            for row in await connection.fetch(load("office")["slots"], self._site, *columns):
                key = row["product"], row["visit_date"], row["opens"]
                self._slots[key] = Slot(row["total"], row["held"], row["sold"], closes=row["closes"])

    def take(self, key: SlotKey, times: SlotTimes, people: int, *, held: bool) -> None:
        """Sell or hold places. Raises LedgerRefused when there are not so many."""
        slot = self.slot(key, times)
        if people > slot.left:
            raise LedgerRefused(f"{max(0, slot.left)} places are left at {key[2]} on {key[1]}, not {people}")
        slot.touched = True
        if held:
            slot.held += people
        else:
            slot.sold += people

    def slot(self, key: SlotKey, times: SlotTimes) -> Slot:
        """The slot with the number of places that the rules name now, as far as it can be."""
        slot = self._slots.setdefault(key, Slot(times.places))
        slot.total = max(times.places, slot.held + slot.sold)
        slot.closes = times.closes
        return slot

    async def write(self, connection: Connection) -> None:
        rows = [
            (*key, slot.closes, slot.total, slot.held, slot.sold)
            for key, slot in self._slots.items()
            if slot.touched
        ]
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(load("office")["write_slots"], self._site, *columns)


async def release_sold(
    connection: Connection, site: str, product: str, day: date, opens: str, people: int
) -> None:
    """Refunded places can be sold again."""
    await connection.execute(load("office")["release_sold"], site, product, day, opens, people)


async def settle_held(
    connection: Connection, site: str, order: int, *, sold: bool
) -> None:
    """The held places of an order are sold, or free again."""
    await connection.execute(load("office")["settle_held"], site, order, sold)
