"""The actor that hands tickets to phones: the same code each time, booked once, written down, for good tickets only."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from actors import wallet as module
from actors.errors import CommandRefused
from actors.testing import alive, settle
from actors.wallet import Wallets, WalletSecrets, WalletSite
from core import Address, AskTimeout
from core.testing import Probe
from protocols.console import GetWallet, Wallet
from protocols.shortcode import derived_short
from protocols.wallet import NAME_CHARACTERS_MAX, decode_fragment, key_bytes
from storage.interfaces import (
    AddShort,
    AuditEntry,
    Explain,
    FindBooks,
    LedgerRefused,
    LedgerUnavailable,
    Ok,
    OrderBooks,
    RightBooks,
    ScanBooks,
    TicketBooks,
)
from storage.testing import right_facts

NOW = 1_795_276_800.0
KEYS = {4711: bytes(range(32)), 4712: bytes(32)}
BOOKED = TicketBooks(
    ticket=4711,
    line=1,
    product="adult",
    product_name_zh="成人票",
    product_name_en="Adult",
    state="active",
    hold_reason="",
    pax=2,
    collected=0,
    named=0,
    to_pass=2,
    to_refund=2,
    to_collect=2,
    valid_from=NOW,
    valid_to=NOW + 86_400.5,
    slot_from=None,
    slot_to=None,
    rights=[RightBooks(zones=["park", "tower"], sold=2, redeemed=0, held=0, refunded=0, reserved_refund=0)],
    credentials=[],
)
SITE = WalletSite(
    name_zh="牌坊谷",
    name_en="Valley",
    public_url="https://tickets.example",
    zones={"park": "园区", "tower": "塔"},
    classes={"adult": "full"},
)


def digest(ticket: int, attempt: int) -> bytes:
    return hashlib.sha256(f"{ticket}:{attempt}".encode()).digest()


def code_of(ticket: int, attempt: int = 0) -> str:
    return derived_short(digest(ticket, attempt))


class Books:
    """What the ledger would do: codes by hash, each one ticket's."""

    def __init__(self, *tickets: TicketBooks) -> None:
        self.tickets = tickets
        self.codes: dict[bytes, int] = {}
        self.added: list[AddShort] = []
        self.written: list[AuditEntry] = []
        self.lost_race: int | None = None  # somebody gives the code to this ticket just before we do

    def __call__(self, message: object) -> object:
        match message:
            case FindBooks():
                return OrderBooks(order=1, tickets=list(self.tickets))
            case Explain(credential_hash=value_hash):
                ticket = self.codes.get(value_hash)
                return ScanBooks(rights=[] if ticket is None else [right_facts(ticket=ticket)], zone=None)
            case AddShort(ticket=ticket, value_hash=value_hash):
                if self.lost_race is not None:
                    self.codes[value_hash], self.lost_race = self.lost_race, None
                if value_hash in self.codes:
                    return LedgerRefused("taken")
                self.codes[value_hash] = ticket
                self.added.append(message)
                return Ok()
        assert isinstance(message, AuditEntry), message
        self.written.append(message)
        return None


@asynccontextmanager
async def wallets(books: Books, site: WalletSite = SITE) -> AsyncIterator[Address]:
    ledger, me = Probe("ledger"), Address("wallets")
    actor = Wallets(
        site=site,
        secrets=WalletSecrets(
            rotating_key=KEYS.__getitem__, short_digest=digest, hash_short=lambda code: b"hash of " + code.encode()
        ),
        ledger=ledger,
        clock=lambda: NOW,
    )

    async def keep_books() -> None:
        while True:
            envelope = await ledger.receive()
            answer = books(envelope.msg)
            if isinstance(answer, Exception):
                envelope.fail(answer)
            elif answer is not None:
                envelope.reply(answer)

    async with trio.open_nursery() as nursery, alive(actor.run, me):
        nursery.start_soon(keep_books)
        await settle()
        yield me
        nursery.cancel_scope.cancel()


async def ask(me: Address, ticket: int = 4711, by: str = "till") -> Wallet:
    answer = await me.ask(GetWallet(ticket=ticket, by=by, by_role="cashier"), 20.0)
    assert isinstance(answer, Wallet)
    await settle()
    return answer


async def test_the_link_carries_what_the_page_needs_and_the_tickets_own_key(autojump_clock: object) -> None:
    books = Books(BOOKED)
    async with wallets(books) as me:
        told = await ask(me)
    assert told.link.startswith("https://tickets.example/ticket#1.") and told.short == code_of(4711)
    shown = decode_fragment(told.link.partition("#")[2])
    assert key_bytes(shown.key) == KEYS[4711] and shown.short == told.short
    assert (shown.ticket, shown.pax, shown.product_class, shown.zones) == (4711, 2, "full", ["园区", "塔"])
    assert (shown.valid_from, shown.valid_to, shown.slot_from) == (int(NOW), int(NOW) + 86_400, 0)
    assert told.short not in repr(told) and "ticket#" not in repr(told)


async def test_asked_again_it_is_the_same_booked_once_and_written_down_each_time(autojump_clock: object) -> None:
    books = Books(BOOKED)
    async with wallets(books) as me:
        first = await ask(me)
        assert await ask(me, by="other") == first
    async with wallets(books) as me:  # after a restart
        assert await ask(me) == first
    assert [op.ticket for op in books.added] == [4711]
    assert [(entry.user, entry.action, entry.subject) for entry in books.written] == [
        (user, "ticket.wallet", "ticket=4711") for user in ("till", "other", "till")
    ]
    assert first.short not in str(books.written)


async def test_a_code_that_is_another_tickets_is_passed_over_for_ever(autojump_clock: object) -> None:
    books = Books(BOOKED)
    books.codes[b"hash of " + code_of(4711).encode()] = 99
    async with wallets(books) as me:
        assert [(await ask(me)).short for _ in range(2)] == [code_of(4711, 1)] * 2
    for attempt in range(module.ATTEMPTS_MAX):
        books.codes[b"hash of " + code_of(4711, attempt).encode()] = 99
    async with wallets(books) as me:
        with pytest.raises(CommandRefused, match="No code to type"):
            await ask(me)


@pytest.mark.parametrize(("winner", "attempt"), [(4711, 0), (99, 1)])
async def test_two_who_ask_at_once_get_the_same(autojump_clock: object, winner: int, attempt: int) -> None:
    books = Books(BOOKED)
    books.lost_race = winner
    async with wallets(books) as me:
        assert (await ask(me)).short == code_of(4711, attempt)


@pytest.mark.parametrize("state", ["unpaid", "void", "refunded", "blocked", "expired"])
async def test_no_link_for_a_ticket_that_opens_nothing(autojump_clock: object, state: str) -> None:
    books = Books(msgspec.structs.replace(BOOKED, state=state))
    async with wallets(books) as me:
        with pytest.raises(CommandRefused) as caught:
            await ask(me)
    assert caught.value.code == "not_usable" and books.added == [] and books.written == []


async def test_the_number_of_an_order_is_no_tickets(autojump_clock: object) -> None:
    books = Books(BOOKED)
    async with wallets(books) as me:
        with pytest.raises(CommandRefused) as caught:
            await ask(me, 1)
    assert caught.value.code == "unknown_ticket" and books.written == []


async def test_long_names_are_cut_and_zones_left_out_before_the_link_gets_too_long(autojump_clock: object) -> None:
    long = "很" * 200
    zones = {f"z{number}": f"{long}{number}" for number in range(20)}
    right = msgspec.structs.replace(BOOKED.rights[0], zones=list(zones))
    books = Books(msgspec.structs.replace(BOOKED, product_name_zh=long, product_name_en=long, rights=[right]))
    site = msgspec.structs.replace(SITE, name_zh=long, name_en=long, zones=zones)
    async with wallets(books, site) as me:
        shown = decode_fragment((await ask(me)).link.partition("#")[2])
    assert shown.product_zh == long[:NAME_CHARACTERS_MAX] and shown.zones == []


async def test_a_ledger_that_is_away_is_said_and_nothing_is_handed_out(autojump_clock: object) -> None:
    class Away(Books):
        def __call__(self, message: object) -> object:
            return LedgerUnavailable("away") if isinstance(message, AddShort) else super().__call__(message)

    async with wallets(Away(BOOKED)) as me:
        with pytest.raises(CommandRefused) as caught:
            await ask(me)
        assert caught.value.code == "unavailable"

    class Silent(Books):
        def __call__(self, message: object) -> object:
            return None

    async with wallets(Silent(BOOKED)) as me:
        with pytest.raises(AskTimeout):
            await ask(me)
