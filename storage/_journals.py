"""What one batch knows of lanes' journals: part of the books, filled and moved by `storage._uploads`."""

from __future__ import annotations

from typing import NamedTuple

from storage._rows import Rows


class Offline(NamedTuple):
    """A grant that a lane gave alone, as it was judged."""

    outcome: str
    code: str
    ticket: int
    scan_at: float


class Journals:
    """What one batch needs to know of journals: part of its books."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.marks: dict[tuple[str, str], int] = {}  # (device, journal) -> upto
        self.offline: dict[tuple[str, str], Offline] = {}  # (device, nonce)
        self.uses_on: dict[tuple[int, float], int] = {}  # (entitlement, a day's beginning) -> uses
        self.since: dict[tuple[str, int], float] = {}  # ("c" | "t", number) -> when its state changed last
