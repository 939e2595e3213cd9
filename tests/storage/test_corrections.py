"""Cards replaced, lost and found; admissions that were none, undone by new rows."""

from __future__ import annotations

import pytest

from actors.admission import decide
from protocols.messages import CredentialKind, Denied, Granted
from storage.audit import audit
from storage.interfaces import (
    CardReplaced,
    FindBooks,
    LedgerRefused,
    MarkCard,
    OrderBooks,
    ReplaceCard,
    ReverseAdmission,
    Reversed,
    TicketBooks,
)
from storage.testing import Database, LedgerUser, command, fresh_database, hash_id, ledger_running, product, setup

CARDS = [hash_id("card", f"04A1B2C{number}") for number in range(4)]
SITE = setup(
    products=[
        product("adult"),
        product("pass", uses=0, product_class="annual"),
        product("family", pax=4, product_class="group"),
        product("tower", zones=["tower"]),
    ]
)


async def clean(database: Database) -> None:
    report = await audit(database.dsn, "demo")
    assert report.clean, report.broken


async def books_of(ledger: LedgerUser, ticket: int) -> TicketBooks:
    found: OrderBooks = await ledger.ask(FindBooks(number=ticket))
    return next(each for each in found.tickets if each.ticket == ticket)


async def swipe(ledger: LedgerUser, card: bytes) -> Granted | Denied:
    return await ledger.scan(0, kind=CredentialKind.CARD, credential_hash=card)


async def through(ledger: LedgerUser, ticket: int, people: int = 1, **lane: str) -> None:
    granted = await ledger.scan(ticket, max_pax=people, **lane)
    assert isinstance(granted, Granted)
    for _ in range(people):
        await ledger.passes(granted, **lane)
    await ledger.ends(granted, people, **({"lane": lane["lane"]} if "lane" in lane else {}))


async def inside(database: Database) -> dict[str, int]:
    return {row["zone"]: row["inside"] for row in await database.fetch("select zone, inside from zones")}


# --- cards ------------------------------------------------------------------------------------------------------------


async def test_a_new_card_supersedes_all_older_ones_at_once() -> None:
    """Invariant 19, and domain model section 7: a new credential with index + 1."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=SITE) as ledger:
        (ticket,) = await ledger.sell("pass", card_hash=CARDS[0])
        op = command(ReplaceCard, ticket=ticket.ticket, card_hash=CARDS[1], tail="B2C1")
        replaced: CardReplaced = await ledger.ask(op)
        assert (replaced.issue_index, replaced.superseded) == (1, 1)
        assert (await ledger.ask(op)).repeated
        third: CardReplaced = await ledger.ask(command(ReplaceCard, ticket=ticket.ticket, card_hash=CARDS[2]))
        assert (third.issue_index, third.superseded) == (2, 1)
        old, lower = await swipe(ledger, CARDS[0]), await swipe(ledger, CARDS[1])
        assert {getattr(answer, "code", "") for answer in (old, lower)} == {"superseded_card"}
        assert isinstance(await swipe(ledger, CARDS[2]), Granted)
        states = await database.fetch("select state from credentials order by issue_index")
        assert [row["state"] for row in states] == ["superseded", "superseded", "active"]
        with pytest.raises(LedgerRefused, match="in use already"):
            await ledger.ask(command(ReplaceCard, ticket=ticket.ticket, card_hash=CARDS[0]))
        (adult,) = await ledger.sell("adult")
        with pytest.raises(LedgerRefused, match="has no card"):
            await ledger.ask(command(ReplaceCard, ticket=adult.ticket, card_hash=CARDS[3]))
        await clean(database)


async def test_a_card_is_lost_frozen_and_found_but_a_superseded_one_stays_so() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=SITE) as ledger:
        (ticket,) = await ledger.sell("pass", card_hash=CARDS[0])
        for state in ("lost", "active", "frozen", "lost", "frozen", "active"):
            await ledger.ask(command(MarkCard, ticket=ticket.ticket, state=state))
            assert await database.fetchval("select state from credentials") == state
        for state in ("active", "void", "superseded", ""):
            with pytest.raises(LedgerRefused, match="cannot become"):
                await ledger.ask(command(MarkCard, ticket=ticket.ticket, state=state))
        await ledger.ask(command(MarkCard, ticket=ticket.ticket, state="lost"))
        await ledger.ask(command(ReplaceCard, ticket=ticket.ticket, card_hash=CARDS[1]))
        await ledger.ask(command(MarkCard, ticket=ticket.ticket, state="frozen"))
        states = await database.fetch("select state from credentials order by issue_index")
        assert [row["state"] for row in states] == ["superseded", "frozen"]
        await clean(database)


# --- admissions -------------------------------------------------------------------------------------------------------


async def test_a_reversed_admission_is_a_new_row_and_the_ticket_is_good_again() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=SITE) as ledger:
        (ticket,) = await ledger.sell("adult")
        await through(ledger, ticket.ticket)
        assert isinstance(await ledger.scan(ticket.ticket), Denied)
        op = command(ReverseAdmission, ticket=ticket.ticket, places=1, reason="the turnstile did not turn")
        undone: Reversed = await ledger.ask(op)
        assert (undone.places, undone.zones) == (1, ["park"])
        assert (await ledger.ask(op)).repeated, "said twice is undone once"
        assert await inside(database) == {"outside": -1, "park": 1, "tower": 0}, "by mistake: the person is inside"
        with pytest.raises(LedgerRefused, match=r"0 admissions .* can be reversed, not 1"):
            await ledger.ask(command(ReverseAdmission, ticket=ticket.ticket, places=1))
        assert (await books_of(ledger, ticket.ticket)).state == "active"
        await through(ledger, ticket.ticket)
        assert (await books_of(ledger, ticket.ticket)).state == "used"
        assert await database.fetchval("select count(*) from redemptions") == 2
        assert await database.fetchval("select reason from office_commands") == "the turnstile did not turn"
        await clean(database)


async def test_nobody_went_in_so_nobody_is_inside() -> None:
    """The count is corrected as a pair: all zones still add up to nobody (invariant 8)."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=SITE) as ledger:
        (family,), (tower,) = await ledger.sell("family"), await ledger.sell("tower")
        await through(ledger, family.ticket, 3)
        await through(ledger, tower.ticket, from_zone="park", to_zone="tower", lane="lane2")
        assert await inside(database) == {"outside": -3, "park": 2, "tower": 1}
        op = command(ReverseAdmission, ticket=family.ticket, places=2, correct_count=True)
        await ledger.ask(op)
        await ledger.ask(op)
        assert await inside(database) == {"outside": -1, "park": 0, "tower": 1}
        await ledger.ask(command(ReverseAdmission, ticket=tower.ticket, places=1, correct_count=True))
        assert await inside(database) == {"outside": -1, "park": 1, "tower": 0}
        (right,) = (await books_of(ledger, family.ticket)).rights
        assert right.redeemed == 1
        for places, words in ((0, "1 to 200"), (2, "1 admissions"), (201, "1 to 200")):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(command(ReverseAdmission, ticket=family.ticket, places=places))
        await clean(database)


async def test_the_last_use_is_the_one_before_when_the_last_was_none() -> None:
    site = setup(products=[product("times", uses=5)])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (ticket,) = await ledger.sell("times")
        await through(ledger, ticket.ticket)
        before = await database.fetch("select last_used_at, last_used_lane, first_used_at from entitlements")
        await through(ledger, ticket.ticket, lane="lane2")
        assert await database.fetchval("select last_used_lane from entitlements") == "lane2"
        await ledger.ask(command(ReverseAdmission, ticket=ticket.ticket, places=1))
        after = await database.fetch("select last_used_at, last_used_lane, first_used_at from entitlements")
        assert after[0]["last_used_lane"] == "lane1" and after[0]["last_used_at"] == before[0]["last_used_at"]
        await ledger.ask(command(ReverseAdmission, ticket=ticket.ticket, places=1))
        assert await database.fetch("select last_used_at, last_used_lane, first_used_at from entitlements") == [
            {"last_used_at": None, "last_used_lane": "", "first_used_at": None}
        ]
        await clean(database)
