"""Every check on the office's tables is seen to fail, and it alone, when the data are what it says they must not be."""

from __future__ import annotations

import pytest
import trio

from protocols.messages import Granted
from protocols.rights import SlotTimes
from storage.audit import audit
from storage.connection import Dsn
from storage.interfaces import (
    BatchBooked,
    CancelOrder,
    Collect,
    Collected,
    CompleteRefund,
    CreateCodes,
    DecideRefund,
    ExportCodes,
    FindBooks,
    HoldTicket,
    MoveCodes,
    NamePeople,
    OrderBooks,
    PaymentNotice,
    Person,
    RefundBooked,
    ReplaceCard,
    RequestRefund,
    ReverseAdmission,
    SaleBooked,
    SiteSetup,
    TransferPlaces,
)
from storage.queries import load
from storage.testing import (
    TEMPLATE,
    LedgerUser,
    audit_after,
    cluster,
    command,
    hash_id,
    ledger_running,
    product,
    run_sql,
    sale,
    setup,
)

# What is done to the data, behind the back of triggers and foreign keys; which check must notice.
CORRUPTIONS: dict[str, list[str]] = {
    "refunds_match_the_counters": [
        "update entitlements set refunded = refunded + 1 where ticket = (select max(ticket) from tickets "
        "where product = 'adult' and state = 'active')",
    ],
    "refunds_add_up": [
        "update refund_tenders set amount_cents = amount_cents - 1 where refund = (select max(refund) from refunds)",
    ],
    "refunds_stay_within_payments": [
        "update payments set tendered_cents = 1, change_cents = 0 where order_id = (select order_id from refunds "
        "where kind = 'places' order by refund limit 1)",
        "update orders set total_cents = 1, change_cents = 0 where order_id = (select order_id from refunds "
        "where kind = 'places' order by refund limit 1)",
    ],
    "refunds_stay_within_their_line": [
        "update refunds set places = 500 where refund = (select min(refund) from refunds where kind = 'places')",
    ],
    "refunds_are_approved_before_they_are_done": [
        "delete from refund_steps s where step = 'approved' and exists (select from refund_steps d "
        "where d.refund = s.refund and d.step = 'done')",
    ],
    "large_refunds_take_two_people": [
        "update office_commands set user_name = 'finance' where command in (select command from refunds)",
            ],
    "slots_are_not_oversold": [
        "alter table slots drop constraint slot_never_oversold",
        "update slots set total = 1",
    ],
    "slots_match_their_orders": ["update slots set sold = sold - 1"],
    "what_is_promised_is_there": [
        # as many have passed by the shared code as there are places, and all of them were promised to others
        "alter table entitlements drop constraint never_more_set_aside_than_sold",
        "update personal_uses set redeemed = 0",
        "update entitlements set sold = set_aside + refunded + reserved_refund where set_aside > 0 and redeemed > 0",
        "update tickets t set pax = e.sold from entitlements e where e.ticket = t.ticket and e.set_aside > 0 "
        "and e.redeemed > 0",
    ],
    "promises_match_their_people": [
        "update entitlements set set_aside = set_aside + 1 where set_aside > 0 and redeemed = 0",
    ],
    "nobody_uses_a_personal_place_twice": ["update personal_uses set redeemed = redeemed + 1"],
    "personal_places_have_their_credential": [
        "delete from personal_places where collection is null "
        "and credential = (select max(credential) from personal_places where collection is null)",
    ],
    "collections_handed_out_what_they_say": ["update collections set places = places + 1"],
    "held_tickets_were_held": ["delete from ticket_holds where held"],
    "tickets_have_the_people_they_were_sold_for": ["update transfers set places = places + 1"],
    "transfers_stay_in_their_line": [
        "update transfers set to_ticket = (select ticket from tickets where product = 'group30' "
        "and (order_id, line) <> (select order_id, line from tickets where ticket = from_ticket) limit 1)",
        "update tickets t set pax = p.pax + coalesce((select sum(case when m.to_ticket = t.ticket then m.places else "
        "-m.places end) from transfers m where t.ticket in (m.to_ticket, m.from_ticket)), 0) from products p "
        "where p.product = t.product and p.version = t.version",
        "update entitlements e set sold = t.pax from tickets t where t.ticket = e.ticket and t.product = 'group30'",
    ],
    "only_the_newest_card_opens": [
        "update credentials set state = 'lost' where kind = 'card' and state = 'superseded'",
    ],
    "reversals_undo_a_redemption": [
        "update reversals set seq = seq + 1000000",
    ],
    "orders_are_issued_once_paid": [
        "update tickets set state = 'unpaid' "
        "where order_id in (select order_id from reservations where state = 'paid')",
    ],
    "unpaid_tickets_wait_for_their_order": [
        "update tickets set state = 'unpaid' where product = 'adult' and state = 'active' "
        "and not exists (select from reservations r where r.order_id = tickets.order_id)",
    ],
    "every_payment_notice_is_a_payment": [
        "update payment_notices set refund = 1 where outcome = 'given_back'",
    ],
    "codes_open_only_when_sold": [
        "update preprinted set state = 'sold' where state = 'in_stock' and serial = 3",
    ],
    "batches_are_whole": ["delete from preprinted where serial = (select max(serial) from preprinted)"],
    "codes_are_where_they_were_moved": ["update preprinted set state = 'void' where serial = 3"],
    "exports_take_two_people": [
        "alter table code_exports drop constraint code_exports_take_two_people",
        "update code_exports set exported_by = created_by",
    ],
    "commands_are_in_the_audit_log": [
        "delete from audit_log where seq = (select max(seq) from audit_log where action like 'office.%')",
    ],
}
ALSO = {
    "slots_are_not_oversold": {"guards_are_in_force"},
    "exports_take_two_people": {"guards_are_in_force"},
    "what_is_promised_is_there": {
        "guards_are_in_force", "tickets_have_the_people_they_were_sold_for",
    },
    "large_refunds_take_two_people": {"commands_are_in_the_audit_log"},
    "orders_are_issued_once_paid": {"unpaid_tickets_wait_for_their_order"},
    "refunds_stay_within_payments": {"orders_add_up"},
    "reversals_undo_a_redemption": {"single_use_admits_one_person", "days_count_their_uses"},
}  # fmt: skip

_busy: list[Dsn] = []


def _person(number: int) -> Person:
    return Person(id_hash=hash_id("id_number", str(number)), id_enc=b"sealed", name_enc=b"sealed")


async def _passes(ledger: LedgerUser, ticket: int, people: int) -> None:
    granted = await ledger.scan(ticket, max_pax=people)
    assert isinstance(granted, Granted)
    for _ in range(people):
        await ledger.passes(granted)
    await ledger.ends(granted, people)


async def _orders(ledger: LedgerUser) -> None:
    """Orders in every state, one of them paid twice; a slot; a pre-printed ticket."""
    at_nine = {"slot": "09:00", "tenders": [], "pay_within_s": 600.0}
    paid: SaleBooked = await ledger.ask(sale("timed", 2, **at_nine))
    cancelled: SaleBooked = await ledger.ask(sale("timed", 1, **at_nine))
    expired: SaleBooked = await ledger.ask(sale("timed", 1, **(at_nine | {"pay_within_s": 0.01})))
    await ledger.ask(sale("timed", 1, **at_nine))
    for _ in range(2):
        await ledger.ask(command(PaymentNotice, order=paid.order, tender="wechat", amount_cents=20_000))
    await ledger.ask(command(CancelOrder, order=cancelled.order))
    with trio.fail_after(20):
        while True:
            found: OrderBooks = await ledger.ask(FindBooks(number=expired.order))
            if found.state == "expired":
                break
            await trio.sleep(0.05)
    batch: BatchBooked = await ledger.ask(command(CreateCodes, product="adult", quantity=6))
    await ledger.ask(command(ExportCodes, batch=batch.batch, handed_to="Wang", sha256=bytes(32), user="finance"))
    moved = {"batch": batch.batch, "first": 1, "last": 4, "state": "in_stock", "workstation": "w1"}
    await ledger.ask(command(MoveCodes, **moved))
    await ledger.ask(sale("adult", serials=[(batch.batch, 1)]))


async def _groups(ledger: LedgerUser) -> None:
    """Groups that were collected, named, refunded, moved, held; an admission that was none."""
    booked: SaleBooked = await ledger.ask(sale("group30", 2))
    a, b = (ticket.ticket for ticket in booked.tickets)
    collected: Collected = await ledger.ask(command(Collect, ticket=a, places=5, workstation="w1"))
    await _passes(ledger, collected.papers[0], 1)
    await _passes(ledger, a, 2)
    await ledger.ask(command(TransferPlaces, from_ticket=a, to_ticket=b, places=3))
    await ledger.ask(command(NamePeople, ticket=b, people=[_person(number) for number in range(4)]))
    for places, approved in ((7, True), (2, False)):
        asked: RefundBooked = await ledger.ask(command(RequestRefund, ticket=a, places=places))
        await ledger.ask(command(DecideRefund, refund=asked.refund, approved=approved, user="finance"))
        if approved:
            await ledger.ask(command(CompleteRefund, refund=asked.refund))
    await ledger.ask(command(RequestRefund, ticket=b, places=1))
    (card,) = await ledger.sell("pass", card_hash=hash_id("card", "1"))
    await ledger.ask(command(ReplaceCard, ticket=card.ticket, card_hash=hash_id("card", "2")))
    (adult,) = await ledger.sell("adult")
    await _passes(ledger, adult.ticket, 1)
    await ledger.ask(command(ReverseAdmission, ticket=adult.ticket, places=1, correct_count=True))
    await _passes(ledger, adult.ticket, 1)
    await ledger.sell("adult")
    (held,) = await ledger.sell("group30")
    await ledger.ask(command(HoldTicket, ticket=held.ticket, held=True))


def _site() -> SiteSetup:
    return setup(
        products=[
            product("adult"),
            product("group30", pax=30, price_cents=240_000, product_class="group"),
            product("pass", uses=0, product_class="annual"),
            product("timed", slots=[SlotTimes(opens="09:00", closes="12:00", places=9)]),
        ]
    )


async def _busy_database() -> Dsn:
    """Made once and left as it is: what tests do to it is rolled back."""
    if not _busy:
        server = await cluster()
        await run_sql(server.dsn, f"create database busy_office template {TEMPLATE}")
        dsn = server.dsn.with_database("busy_office")
        async with ledger_running(dsn, site=_site()) as ledger:
            await _orders(ledger)
            await _groups(ledger)
        _busy.append(dsn)
    return _busy[0]


def test_every_check_is_listed_here() -> None:
    assert list(CORRUPTIONS) == list(load("audit_office"))


async def test_a_busy_office_is_clean() -> None:
    report = await audit(await _busy_database(), "demo")
    assert report.clean, report.broken


@pytest.mark.parametrize("name", list(CORRUPTIONS))
async def test_the_check_notices_and_no_other_does(name: str) -> None:
    report = await audit_after(await _busy_database(), *CORRUPTIONS[name])
    assert {broken for broken, _ in report.broken} == {name} | ALSO.get(name, set()), report.broken
