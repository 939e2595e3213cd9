"""Cases and histories of a site, read from its books; a text that somebody typed or scanned becomes a ticket."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from actors.cases import Cases
from actors.errors import CommandRefused
from core import Address
from paifang.keys import KeyRing
from paifang.site import SiteFile
from protocols.errors import TicketCodeError
from protocols.messages import CredentialKind
from protocols.shortcode import looks_short, parse_short
from protocols.ticketcode import Verifier
from storage.cases import Case, CasesUnreadable, Event, find_ticket, read_cases, read_history
from storage.connection import Dsn

T = TypeVar("T")
CARD_PREFIX = "CARD:"


class _Books:
    """`actors.cases.Books` over PostgreSQL."""

    def __init__(self, site: str, dsn: Callable[[], Dsn], keys: KeyRing) -> None:
        self._site, self._dsn, self._keys = site, dsn, keys
        self._verifier = Verifier(keys.ticket_verifiers, site)

    async def cases(self, state: str, limit: int, case: int | None) -> Sequence[Case]:
        return await _read(read_cases(self._dsn(), self._site, state=state, limit=limit, case=case))

    async def ticket_of(self, text: str) -> int | None:
        try:
            return self._verifier.verify(text).ticket
        except TicketCodeError:
            bare = text.removeprefix(CARD_PREFIX)
        asked = [(CredentialKind.CARD, bare), (CredentialKind.ID_NUMBER, bare)]
        if looks_short(bare):
            with contextlib.suppress(TicketCodeError):
                asked.append((CredentialKind.SHORT, parse_short(bare)))
        hashes = [(str(kind), self._keys.hash_id(kind, value)) for kind, value in asked]
        return await _read(find_ticket(self._dsn(), self._site, hashes))

    async def history(self, tickets: Sequence[int]) -> Sequence[Event]:
        return await _read(read_history(self._dsn(), self._site, tickets))


def cases(
    site: SiteFile, dsn: Callable[[], Dsn], keys: KeyRing, *, ledger: Address, office: Address, hub: Address
) -> Cases:
    """The actor."""
    return Cases(books=_Books(site.site.id, dsn, keys), ledger=ledger, office=office, hub=hub)


async def _read(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except CasesUnreadable as exc:
        raise CommandRefused("unavailable", f"The books cannot be read: {exc}", "暂时无法读取数据") from exc
