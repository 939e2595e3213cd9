"""The actor that hands a ticket to a visitor's phone: the link to the page that shows it, and the code to type.

Only the hash of a short code is kept.  So that it is the same whenever it is asked for, it is derived from the ticket's
number with a key of the site; booked once, it is found again by its hash.  Whoever asks is written down each time: the
link opens a gate.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import trio

from actors._asked import Slots
from actors._common import offer
from actors.errors import CommandRefused
from core import Address, Envelope, Stop
from protocols.console import GetWallet, Wallet
from protocols.messages import CredentialKind
from protocols.shortcode import derived_short
from protocols.wallet import PAGE, ZONES_MAX, WalletError, WalletTicket, encode_fragment, key_text, named
from storage.interfaces import (
    AddShort,
    AuditEntry,
    Explain,
    FindBooks,
    LedgerRefused,
    OrderBooks,
    ScanBooks,
    TicketBooks,
)

QUESTIONS_MAX = 8  # under way at once
LEDGER_S = 3.0
ATTEMPTS_MAX = 4  # codes that are drawn for a ticket; a single one is taken once in 10^13 tickets
ENDED_STATES = frozenset({"void", "refunded", "blocked", "expired"})


class WalletSite(msgspec.Struct, frozen=True):
    """What a phone is told of the site.

    `zones` are names by id, `classes` a product's class, `public_url` where visitors' phones reach the pages, without
    a slash at its end ("" if nobody said).
    """

    name_zh: str
    name_en: str
    public_url: str
    zones: dict[str, str]
    classes: dict[str, str]


class WalletSecrets(msgspec.Struct, frozen=True):
    """The key ring's part: a ticket's rotating key, the digest behind its short code, the hash of a short code."""

    rotating_key: Callable[[int], bytes]
    short_digest: Callable[[int, int], bytes]
    hash_short: Callable[[str], bytes]


class Wallets:
    """Answers `GetWallet` with `Wallet`.

    Fails with CommandRefused: `unknown_ticket`, `not_usable` (unpaid, void, refunded...), `busy`, `unavailable`.
    """

    def __init__(
        self, *, site: WalletSite, secrets: WalletSecrets, ledger: Address, clock: Callable[[], float] = time.time
    ) -> None:
        self._site = site
        self._secrets = secrets
        self._ledger = ledger
        self._clock = clock

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, QUESTIONS_MAX)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case GetWallet():
                        slots.attend(envelope, self._wallet)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _wallet(self, envelope: Envelope) -> Wallet:
        asked: GetWallet = envelope.msg
        ticket = await self._booked(asked.ticket)
        short = await self._short(ticket.ticket)
        shown = self._shown(ticket, short)
        try:
            fragment = encode_fragment(shown)
        except WalletError:  # a site of many long names: a QR code that can be read matters more
            fragment = encode_fragment(msgspec.structs.replace(shown, zones=[]))
        entry = AuditEntry(
            user=asked.by,
            role=asked.by_role,
            action="ticket.wallet",
            subject=f"ticket={ticket.ticket}",
            reason="",
            at=self._clock(),
        )
        if not offer(self._ledger, entry):
            raise CommandRefused("busy", "The ledger is behind; try again", "请稍后重试")
        return Wallet(
            ticket=ticket.ticket,
            link=f"{self._site.public_url}{PAGE}#{fragment}",
            short=short,
            product_zh=ticket.product_name_zh,
            product_en=ticket.product_name_en,
            valid_from=ticket.valid_from,
            valid_to=ticket.valid_to,
        )

    async def _booked(self, number: int) -> TicketBooks:
        """The ticket of this number, and no other that the question for it finds. Raises CommandRefused."""
        books = await self._ledger.ask(FindBooks(number=number), LEDGER_S)
        assert isinstance(books, OrderBooks)
        found = next((each for each in books.tickets if each.ticket == number), None)
        if found is None:
            raise CommandRefused("unknown_ticket", f"There is no ticket {number}", "没有此票")
        if books.state == "unpaid" or found.state == "unpaid":
            raise CommandRefused("not_usable", "The order is not paid yet", "订单未支付")
        if found.state in ENDED_STATES:
            raise CommandRefused("not_usable", f"The ticket is {found.state}", "此票已失效")
        return found

    async def _short(self, ticket: int) -> str:
        """The ticket's code, booked. One that is another ticket's is passed over, for ever in the same way."""
        for attempt in range(ATTEMPTS_MAX):
            code = derived_short(self._secrets.short_digest(ticket, attempt))
            value_hash = self._secrets.hash_short(code)
            owners = await self._owners(value_hash)
            if not owners:
                try:
                    await self._ledger.ask(AddShort(ticket=ticket, value_hash=value_hash), LEDGER_S)
                except LedgerRefused:
                    owners = await self._owners(value_hash)  # somebody else has asked meanwhile
                else:
                    return code
            if ticket in owners:
                return code
        raise CommandRefused("unavailable", "No code to type can be made for this ticket", "无法生成短码")

    async def _owners(self, value_hash: bytes) -> set[int]:
        """Whose code this is; empty when it is nobody's."""
        books = await self._ledger.ask(
            Explain(kind=CredentialKind.SHORT, credential_hash=value_hash, to_zone=next(iter(self._site.zones), "")),
            LEDGER_S,
        )
        assert isinstance(books, ScanBooks)
        return {right.ticket for right in books.rights}

    def _shown(self, ticket: TicketBooks, short: str) -> WalletTicket:
        site = self._site
        zones = dict.fromkeys(zone for right in ticket.rights for zone in right.zones)
        return WalletTicket(
            ticket=ticket.ticket,
            key=key_text(self._secrets.rotating_key(ticket.ticket)),
            short=short,
            site_zh=named(site.name_zh),
            site_en=named(site.name_en),
            product_zh=named(ticket.product_name_zh),
            product_en=named(ticket.product_name_en),
            product_class=named(site.classes.get(ticket.product, "")),
            pax=ticket.pax,
            valid_from=int(ticket.valid_from),
            valid_to=int(ticket.valid_to),
            slot_from=int(ticket.slot_from or 0),
            slot_to=int(ticket.slot_to or 0),
            zones=[named(site.zones.get(zone, zone)) for zone in zones][:ZONES_MAX],
        )
