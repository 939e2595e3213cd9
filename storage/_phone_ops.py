"""What phones ask the ledger; given out by `storage.interfaces`."""

from __future__ import annotations

from protocols.messages import Base


class BlockedTickets(Base, frozen=True, kw_only=True):
    """Ask: which tickets, of those with a number above `after`, must not be let in to `zone` without the ledger?

    `since` (seconds since the epoch; 0: ever) leaves out what was used before it; what ended before `valid_at` is left
    out too.  Answered with `Blocked`.
    """

    zone: str
    after: int
    since: float
    valid_at: float


class Blocked(Base, frozen=True, kw_only=True):
    """`next` is where to go on, None when there are no more tickets."""

    tickets: list[int]
    next: int | None


class SiteFigures(Base, frozen=True, kw_only=True):
    """Ask: passages, refusals and sales in spans of time, (from, to) in seconds since the epoch, and of lanes since.

    Answered with `SpanFigures`.
    """

    spans: list[tuple[float, float]]
    lanes_since: float


class SpanRow(Base, frozen=True, kw_only=True):
    entries: int
    exits: int
    refused: int
    orders: int
    tickets: int
    sales_cents: int


class SpanFigures(Base, frozen=True, kw_only=True):
    """In the order of the asked spans; `lanes` as (lane, entries, exits)."""

    spans: list[SpanRow]
    lanes: list[tuple[str, int, int]]
    inside: int
