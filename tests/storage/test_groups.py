"""Groups: batches over several lanes, refunds in between, paper, names; the vector of the domain model, section 6."""

from __future__ import annotations

import msgspec
import pytest
import trio

from actors.admission import decide
from protocols.messages import CredentialKind, Denied, EndReason, Granted
from storage.audit import audit
from storage.interfaces import (
    Collect,
    Collected,
    CompleteRefund,
    DecideRefund,
    FindBooks,
    HoldTicket,
    LedgerRefused,
    Named,
    NamePeople,
    OrderBooks,
    Person,
    ProductSetup,
    RefundBooked,
    RequestRefund,
    ReverseAdmission,
    SaleBooked,
    TicketBooks,
    TransferPlaces,
)
from storage.testing import (
    Database,
    LedgerUser,
    command,
    fresh_database,
    hash_id,
    ledger_running,
    product,
    run_sql,
    sale,
    setup,
)


async def clean(database: Database) -> None:
    report = await audit(database.dsn, "demo")
    assert report.clean, report.broken


async def books_of(ledger: LedgerUser, ticket: int) -> TicketBooks:
    found: OrderBooks = await ledger.ask(FindBooks(number=ticket))
    return next(each for each in found.tickets if each.ticket == ticket)


async def refund(ledger: LedgerUser, ticket: int, places: int, **fields: object) -> RefundBooked:
    """Ask for a refund, have it approved by another one, hand the money over."""
    asked: RefundBooked = await ledger.ask(command(RequestRefund, ticket=ticket, places=places, **fields))
    await ledger.ask(command(DecideRefund, refund=asked.refund, approved=True, user="finance"))
    done: RefundBooked = await ledger.ask(command(CompleteRefund, refund=asked.refund))
    assert done.state == "done"
    return done


async def batch(ledger: LedgerUser, ticket: int, lane: str, pax: int, passed: int) -> Granted:
    granted = await ledger.scan(ticket, lane=lane, max_pax=pax)
    assert isinstance(granted, Granted), granted
    for _ in range(passed):
        await ledger.passes(granted, lane=lane)
    return granted


async def test_the_vector_of_section_6() -> None:
    """Domain model, section 6: 30 sold, refunds and two lanes; 30 = 23 redeemed + 7 refunded at the end."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        ticket = group.ticket
        await refund(ledger, ticket, 5)
        assert (await books_of(ledger, ticket)).to_pass == 25
        a = await batch(ledger, ticket, "lane1", 12, 11)
        b = await batch(ledger, ticket, "lane2", 12, 12)
        assert (a.pax, b.pax, b.remaining) == (12, 12, 1)
        assert (await books_of(ledger, ticket)).to_pass == 1
        with pytest.raises(LedgerRefused, match=r"1 places of ticket .* can be refunded, not 2"):
            await ledger.ask(command(RequestRefund, ticket=ticket, places=2))
        await ledger.ends(a, 11, lane="lane1", why=EndReason.TIMEOUT)
        await ledger.ends(b, 12, lane="lane2")
        (right,) = (await books_of(ledger, ticket)).rights
        assert (right.redeemed, right.held) == (23, 0)
        assert (await books_of(ledger, ticket)).to_pass == 2
        done = await refund(ledger, ticket, 2)
        assert done.amount_cents == 2 * 8_000
        denied = await ledger.scan(ticket, lane="lane3")
        assert isinstance(denied, Denied) and denied.code == "pax_exhausted"
        (right,) = (await books_of(ledger, ticket)).rights
        assert (right.sold, right.redeemed, right.refunded) == (30, 23, 7)
        await clean(database)


# --- refunds ----------------------------------------------------------------------------------------------------------


async def test_places_are_taken_away_when_a_refund_is_asked_for_and_come_back_when_it_is_rejected() -> None:
    """Invariant 1: reserved places are nobody's until the request is settled."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        ask = command(RequestRefund, ticket=group.ticket, places=28)
        asked: RefundBooked = await ledger.ask(ask)
        assert (asked.state, asked.amount_cents, asked.requested_by) == ("requested", 224_000, "chief")
        granted = await ledger.scan(group.ticket)
        assert isinstance(granted, Granted) and (granted.pax, granted.remaining) == (2, 0)
        with pytest.raises(LedgerRefused, match=r"0 places .* can be refunded, not 1"):
            await ledger.ask(command(RequestRefund, ticket=group.ticket, places=1))
        with pytest.raises(LedgerRefused, match="is requested, not approved"):
            await ledger.ask(command(CompleteRefund, refund=asked.refund))
        rejected: RefundBooked = await ledger.ask(command(DecideRefund, refund=asked.refund, approved=False))
        assert rejected.state == "rejected"
        again: RefundBooked = await ledger.ask(ask)
        assert (again.refund, again.repeated) == (asked.refund, True), "asking again is not asking anew"
        assert (await books_of(ledger, group.ticket)).to_pass == 28
        with pytest.raises(LedgerRefused, match="is rejected already"):
            await ledger.ask(command(DecideRefund, refund=asked.refund, approved=True))
        await clean(database)


async def test_a_key_is_for_one_command_and_another_content_under_it_is_refused() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        ask = command(RequestRefund, ticket=group.ticket, places=2, key="k1")
        first: RefundBooked = await ledger.ask(ask)
        assert (await ledger.ask(command(RequestRefund, ticket=group.ticket, places=2, key="k1"))).repeated
        with pytest.raises(LedgerRefused, match="was used for another command"):
            await ledger.ask(command(RequestRefund, ticket=group.ticket, places=3, key="k1"))
        others = command(RequestRefund, ticket=group.ticket, places=3, key="k1", user="x")
        other: RefundBooked = await ledger.ask(others)
        assert other.refund != first.refund, "another person's key is another key"
        for changes, words in (({"reason": " "}, "reason"), ({"user": ""}, "user"), ({"key": ""}, "key")):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(command(RequestRefund, **({"ticket": group.ticket, "places": 1} | changes)))
        await clean(database)


async def test_refunds_asked_for_at_once_never_take_more_than_there_is() -> None:
    """Invariant 1 under concurrency: 40 requests of 1 on 30 places, beside scans of the same code."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        got = {"refunded": 0, "granted": 0}

        async def ask() -> None:
            try:
                await ledger.ask(command(RequestRefund, ticket=group.ticket, places=1))
                got["refunded"] += 1
            except LedgerRefused:
                pass

        async def scan(lane: int) -> None:
            answer = await ledger.scan(group.ticket, lane=f"lane{lane}", max_pax=1)
            got["granted"] += isinstance(answer, Granted)

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(ask)
                nursery.start_soon(scan, number)
        assert got["refunded"] + got["granted"] == 30
        await clean(database)


@pytest.mark.parametrize(
    ("price", "pax", "portions"),
    [
        (101, 7, (3, 3, 1)),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((100, 3, (1, 1, 1)), (100, 3, (2, 1)), (1, 3, (1, 1, 1)), (0, 5, (5,)), (240_001, 30, (7, 23)))
        ),
    ],
)
async def test_refunds_in_any_portions_add_up_to_the_price(price: int, pax: int, portions: tuple[int, ...]) -> None:
    site = setup(products=[product("group", pax=pax, price_cents=price, product_class="group")])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (group,) = await ledger.sell("group")
        total = 0
        for places in portions:
            wasted: RefundBooked = await ledger.ask(command(RequestRefund, ticket=group.ticket, places=places))
            await ledger.ask(command(DecideRefund, refund=wasted.refund, approved=False))
            total += (await refund(ledger, group.ticket, places)).amount_cents
        assert total == price
        assert (await books_of(ledger, group.ticket)).state == "refunded"
        await clean(database)


async def test_money_goes_back_to_the_tender_that_came_last_first() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        tenders = [("wechat", 100_000), ("bank_card", 90_000), ("cash", 60_000)]  # 10,000 of it are change
        (group,) = await ledger.sell("group30", tenders=tenders)
        first = await refund(ledger, group.ticket, 10)
        assert [(part.tender, part.amount_cents) for part in first.parts] == [("cash", 50_000), ("bank_card", 30_000)]
        second = await refund(ledger, group.ticket, 20)
        assert [(part.tender, part.amount_cents) for part in second.parts] == [
            ("bank_card", 60_000),
            ("wechat", 100_000),
        ]
        found: OrderBooks = await ledger.ask(FindBooks(number=group.ticket))
        assert (found.state, found.refunded_cents, found.paid_cents) == ("refunded", 240_000, 240_000)
        await clean(database)


async def test_a_large_refund_takes_two_people() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        small: RefundBooked = await ledger.ask(command(RequestRefund, ticket=group.ticket, places=6))
        assert (await ledger.ask(command(DecideRefund, refund=small.refund, approved=True))).state == "approved"
        large: RefundBooked = await ledger.ask(command(RequestRefund, ticket=group.ticket, places=7))
        with pytest.raises(LedgerRefused, match="somebody else than chief"):
            await ledger.ask(command(DecideRefund, refund=large.refund, approved=True))
        approved = await ledger.ask(command(DecideRefund, refund=large.refund, approved=True, user="finance"))
        assert approved.state == "approved"
        await clean(database)


async def test_what_was_used_in_part_is_not_refunded_and_an_annual_card_only_as_a_whole() -> None:
    site = setup(
        products=[
            product("times", uses=10),
            product("both", zones=["park", "tower"]),
            product("family", uses=0, pax=4, product_class="annual"),
            product("never", refund="none"),
            product("early", refund="until_first_use", pax=5),
        ]
    )
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (times,), (both,) = await ledger.sell("times"), await ledger.sell("both")
        (family,), (never,), (early,) = [await ledger.sell(name) for name in ("family", "never", "early")]
        for ticket in (times, both, early):
            granted = await ledger.scan(ticket.ticket, max_pax=1)
            assert isinstance(granted, Granted)
            await ledger.passes(granted)
            await ledger.ends(granted, 1)
        for ticket, words in (
            (times, "0 places"), (both, "0 places"), (never, "not refundable"), (early, "until its first use"),
        ):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(command(RequestRefund, ticket=ticket.ticket, places=1))
        with pytest.raises(LedgerRefused, match="as a whole, for all 4"):
            await ledger.ask(command(RequestRefund, ticket=family.ticket, places=1))
        whole: RefundBooked = await ledger.ask(command(RequestRefund, ticket=family.ticket, places=4))
        assert (await books_of(ledger, family.ticket)).state == "refunded"
        await ledger.ask(command(DecideRefund, refund=whole.refund, approved=False))
        assert (await books_of(ledger, family.ticket)).state == "active"
        await clean(database)


async def test_a_group_does_not_shrink_below_the_number_its_price_is_for_unless_it_stays_away() -> None:
    def group(rule: str) -> list[ProductSetup]:
        return [product("g", pax=12, product_class="group", group_min=10, below_group_min=rule)]

    async with fresh_database() as database:
        async with ledger_running(database.dsn, decide=decide, site=setup(products=group("deny"))) as ledger:
            (sold,) = await ledger.sell("g")
            await refund(ledger, sold.ticket, 2)
            with pytest.raises(LedgerRefused, match="9 people would be left"):
                await ledger.ask(command(RequestRefund, ticket=sold.ticket, places=1))
            await refund(ledger, sold.ticket, 10)
        async with ledger_running(database.dsn, decide=decide, site=setup(products=group("keep"))) as ledger:
            (sold,) = await ledger.sell("g")
            assert (await refund(ledger, sold.ticket, 5)).places == 5
        await clean(database)


# --- hold and resume --------------------------------------------------------------------------------------------------


async def test_the_office_holds_a_ticket_and_resumes_it_and_validity_goes_on() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        await ledger.ask(command(HoldTicket, ticket=group.ticket, held=True, reason="the guide is missing"))
        held = await books_of(ledger, group.ticket)
        assert (held.state, held.hold_reason, held.to_pass) == ("on_hold", "the guide is missing", 0)
        denied = await ledger.scan(group.ticket)
        assert isinstance(denied, Denied) and denied.code == "held"
        assert (held.valid_from, held.valid_to) == (group.valid_from, group.valid_to)
        with pytest.raises(LedgerRefused, match="is on_hold: it cannot be put on hold"):
            await ledger.ask(command(HoldTicket, ticket=group.ticket, held=True))
        await ledger.ask(command(HoldTicket, ticket=group.ticket, held=False, reason="found"))
        assert (await books_of(ledger, group.ticket)).state == "active"
        assert isinstance(await ledger.scan(group.ticket), Granted)
        with pytest.raises(LedgerRefused, match="is not known"):
            await ledger.ask(command(HoldTicket, ticket=1, held=True))
        entries = await database.fetch("select action, reason from audit_log order by seq")
        assert [(row["action"], row["reason"]) for row in entries] == [
            ("office.HoldTicket", "the guide is missing"),
            ("office.HoldTicket", "found"),
        ]
        await clean(database)


# --- paper and names --------------------------------------------------------------------------------------------------


async def test_a_group_collects_in_parts_and_what_is_collected_is_not_refunded_without_its_paper() -> None:
    """Invariant 2, and F070: 20 now, 10 later, each time with who and where."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        ticket = group.ticket
        first: Collected = await ledger.ask(command(Collect, ticket=ticket, places=20, workstation="window 3"))
        assert (len(set(first.papers)), first.collected) == (20, 20)
        books = await books_of(ledger, ticket)
        assert (books.collected, books.to_collect, books.to_refund) == (20, 10, 30)
        with pytest.raises(LedgerRefused, match=r"10 places .* can be collected, not 11"):
            await ledger.ask(command(Collect, ticket=ticket, places=11, workstation="window 3"))
        await refund(ledger, ticket, 8)
        with pytest.raises(LedgerRefused, match="2 places are promised to nobody; 1 more need their paper back"):
            await ledger.ask(command(RequestRefund, ticket=ticket, places=3))
        asked: RefundBooked = await ledger.ask(
            command(RequestRefund, ticket=ticket, places=3, credentials=[first.papers[0]])
        )
        void = await ledger.scan(first.papers[0])
        assert isinstance(void, Denied) and void.code == "void", "its code was voided with the request"
        await ledger.ask(command(DecideRefund, refund=asked.refund, approved=False))
        granted = await ledger.scan(first.papers[0], max_pax=1)
        assert isinstance(granted, Granted) and granted.ticket == ticket, "rejected: the paper is good again"
        await ledger.passes(granted)
        await ledger.ends(granted, 1)
        later: Collected = await ledger.ask(command(Collect, ticket=ticket, places=2, workstation="window 4"))
        assert later.collected == 22
        where = await database.fetch("select workstation, places from collections order by collection")
        assert [tuple(row.values()) for row in where] == [("window 3", 20), ("window 4", 2)]
        for credentials, words in (([1], "is no paper"), ([later.papers[0]] * 2, "named twice")):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(command(RequestRefund, ticket=ticket, places=2, credentials=credentials))
        await clean(database)


async def test_paper_only_groups_close_their_code_with_the_first_collection() -> None:
    site = setup(products=[product("g", pax=10, product_class="group", code_and_paper=False)])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (group,) = await ledger.sell("g")
        collected: Collected = await ledger.ask(command(Collect, ticket=group.ticket, places=4, workstation="w1"))
        found = await database.fetch("select state, personal from credentials order by personal")
        assert [row["state"] for row in found] == ["superseded"] + ["active"] * 4
        assert isinstance(await ledger.scan(collected.papers[0], max_pax=1), Granted)
        await clean(database)


def person(number: str) -> Person:
    return Person(id_hash=hash_id("id_number", number), id_enc=b"sealed", name_enc=b"sealed", tail=number[-4:])


async def test_a_list_of_names_sets_places_aside_and_nobody_is_on_it_twice() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        booked: SaleBooked = await ledger.ask(sale("group30", 2))
        first, second = booked.tickets
        people = [person(f"11010119900307{number:04}") for number in range(10)]
        op = command(NamePeople, ticket=first.ticket, people=people)
        named: Named = await ledger.ask(op)
        assert (len(named.credentials), named.named) == (10, 10)
        sealed_anew = [msgspec.structs.replace(each, id_enc=b"other", name_enc=b"other") for each in people]
        again: Named = await ledger.ask(command(NamePeople, ticket=first.ticket, people=sealed_anew, key=op.key))
        assert again.repeated and again.credentials == named.credentials
        with pytest.raises(LedgerRefused, match=r"named in order .* already"):
            await ledger.ask(command(NamePeople, ticket=second.ticket, people=[people[3]]))
        with pytest.raises(LedgerRefused, match="on the list twice"):
            await ledger.ask(command(NamePeople, ticket=second.ticket, people=[person("7")] * 2))
        with pytest.raises(LedgerRefused, match=r"20 places .* can be named, not 21"):
            more = [person(f"22010119900307{number:04}") for number in range(21)]
            await ledger.ask(command(NamePeople, ticket=first.ticket, people=more))
        books = await books_of(ledger, first.ticket)
        assert (books.named, books.to_collect, books.to_refund) == (10, 20, 30)
        given_up: RefundBooked = await ledger.ask(
            command(RequestRefund, ticket=first.ticket, places=1, credentials=[named.credentials[0]])
        )
        await ledger.ask(command(DecideRefund, refund=given_up.refund, approved=True))
        assert (await books_of(ledger, first.ticket)).named == 9
        await clean(database)


# --- moving places ----------------------------------------------------------------------------------------------------


async def test_places_move_between_tickets_of_a_line_and_the_total_stays() -> None:
    """Split and merge (domain model, section 6, rule 13): -k/+k, and the price of the line is still its price."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        booked: SaleBooked = await ledger.ask(sale("group30", 2))
        a, b = (ticket.ticket for ticket in booked.tickets)
        other: SaleBooked = await ledger.ask(sale("group30"))
        await ledger.ask(command(TransferPlaces, from_ticket=a, to_ticket=b, places=12))
        assert [(await books_of(ledger, ticket)).pax for ticket in (a, b)] == [18, 42]
        for fields, words in (
            ({"from_ticket": a, "to_ticket": other.tickets[0].ticket, "places": 1}, "not of one line"),
            ({"from_ticket": a, "to_ticket": a, "places": 1}, "to itself"),
            ({"from_ticket": a, "to_ticket": b, "places": 19}, "18 places"),
            ({"from_ticket": a, "to_ticket": b, "places": 18}, "one place has to stay"),
            ({"from_ticket": a, "to_ticket": b, "places": 0}, "18 places"),
        ):
            with pytest.raises(LedgerRefused, match=words):
                await ledger.ask(command(TransferPlaces, **fields))
        granted = await batch(ledger, b, "lane1", 42, 42)
        assert granted.pax == 42
        await ledger.ends(granted, 42, lane="lane1")
        done = await refund(ledger, a, 18)
        assert done.amount_cents == 18 * 8_000
        await clean(database)


async def test_scenario_24_the_31st_person_is_sold_a_supplement_while_the_lane_is_in_the_batch() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        group: SaleBooked = await ledger.ask(sale("group30"))
        granted = await batch(ledger, group.tickets[0].ticket, "lane1", 30, 29)
        extra: SaleBooked = await ledger.ask(sale("adult", supplement_of=group.order))
        denied = await ledger.scan(group.tickets[0].ticket, lane="lane2")
        assert isinstance(denied, Denied), "30 are on their way or through"
        await ledger.passes(granted, lane="lane1")
        await ledger.ends(granted, 30, lane="lane1")
        single = await batch(ledger, extra.tickets[0].ticket, "lane1", 1, 1)
        await ledger.ends(single, 1, lane="lane1")
        found: OrderBooks = await ledger.ask(FindBooks(number=extra.order))
        assert (found.supplement_of, found.state) == (group.order, "used")
        with pytest.raises(LedgerRefused, match="order 77 is not known"):
            await ledger.ask(sale("adult", supplement_of=77))
        await clean(database)


async def test_scenario_4_a_group_on_three_lanes_pauses_on_one_and_refunds_five_in_between() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        grants = [await batch(ledger, group.ticket, f"lane{number}", 10, 3) for number in (1, 2, 3)]
        with pytest.raises(LedgerRefused, match="0 places"):
            await ledger.ask(command(RequestRefund, ticket=group.ticket, places=5))
        await ledger.ends(grants[0], 3, lane="lane1", why=EndReason.PAUSED)
        await refund(ledger, group.ticket, 5)
        for _ in range(7):
            await ledger.passes(grants[1], lane="lane2")
            await ledger.passes(grants[2], lane="lane3")
        await ledger.ends(grants[1], 10, lane="lane2")
        await ledger.ends(grants[2], 10, lane="lane3")
        rest = await batch(ledger, group.ticket, "lane1", 10, 2)
        assert rest.pax == 2
        await ledger.ends(rest, 2, lane="lane1")
        (right,) = (await books_of(ledger, group.ticket)).rights
        assert (right.redeemed, right.refunded, right.held) == (25, 5, 0)
        await clean(database)


async def test_scenario_7_a_refund_of_three_of_five_while_two_pass() -> None:
    site = setup(products=[product("five", pax=5, product_class="group", price_cents=50_000)])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (five,) = await ledger.sell("five")
        granted = await batch(ledger, five.ticket, "lane1", 2, 1)
        done = await refund(ledger, five.ticket, 3)
        assert done.amount_cents == 30_000
        await ledger.passes(granted, lane="lane1")
        await ledger.ends(granted, 2, lane="lane1")
        (right,) = (await books_of(ledger, five.ticket)).rights
        assert (right.redeemed, right.refunded) == (2, 3)
        await clean(database)


async def test_scenario_6_a_cancellation_between_grant_and_passage_waits_for_the_lane() -> None:
    """What is held at a lane is not refundable: the distributor's cancel is refused, and succeeds if nobody passed."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (ticket,) = await ledger.sell("adult", channel="ota")
        granted = await batch(ledger, ticket.ticket, "lane1", 1, 0)
        cancel = command(RequestRefund, ticket=ticket.ticket, places=1, user="ota")
        with pytest.raises(LedgerRefused, match="0 places"):
            await ledger.ask(cancel)
        await ledger.ends(granted, 0, lane="lane1", why=EndReason.TIMEOUT)
        asked: RefundBooked = await ledger.ask(cancel)
        assert asked.state == "requested" and not asked.repeated, "a refusal leaves nothing behind under its key"
        denied = await ledger.scan(ticket.ticket)
        assert isinstance(denied, Denied)
        await clean(database)


# --- with the gate's own rules ----------------------------------------------------------------------------------------


async def show_id(ledger: LedgerUser, number: str, lane: str = "lane1") -> Granted | Denied:
    return await ledger.scan(
        0, lane=lane, kind=CredentialKind.ID_NUMBER, credential_hash=hash_id("id_number", number)
    )


async def test_each_named_person_passes_once_by_id_and_the_guides_code_lets_in_the_rest() -> None:
    """Real-name groups (section 6, rule 8; invariant 7): both draw from the same counters, nobody passes twice."""
    site = setup(products=[product("g", pax=6, product_class="group")])
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide, site=site) as ledger:
        (group,) = await ledger.sell("g")
        people = [person(f"11010119900307{number:04}") for number in range(2)]
        await ledger.ask(command(NamePeople, ticket=group.ticket, people=people))
        guide = await batch(ledger, group.ticket, "lane1", 10, 4)
        assert (guide.pax, guide.remaining) == (4, 0), "two places are other people's"
        await ledger.ends(guide, 4, lane="lane1")
        again = await ledger.scan(group.ticket, lane="lane1")
        assert isinstance(again, Denied)
        answers: list[Granted | Denied] = []

        async def present(number: int) -> None:
            answers.append(await show_id(ledger, "110101199003070000", f"lane{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(2, 12):
                nursery.start_soon(present, number)
        (granted,) = [answer for answer in answers if isinstance(answer, Granted)]
        assert granted.pax == 1
        lane = await database.fetchval("select lane from holds")
        await ledger.passes(granted, lane=lane)
        await ledger.ends(granted, 1, lane=lane)
        assert isinstance(await show_id(ledger, "110101199003070000"), Denied), "once is once"
        assert isinstance(await show_id(ledger, "110101199003070001"), Granted)
        assert isinstance(await show_id(ledger, "110101199003070002"), Denied), "not on the list"
        await clean(database)


async def test_code_and_paper_are_alternatives_and_never_more_than_was_sold() -> None:
    """Invariant 2: collected + passed by the code <= sold - refunded, whichever comes first."""
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        collected: Collected = await ledger.ask(command(Collect, ticket=group.ticket, places=20, workstation="w1"))
        by_code = await batch(ledger, group.ticket, "lane1", 50, 7)
        assert by_code.pax == 10, "twenty are in somebody's hand"
        with pytest.raises(LedgerRefused, match=r"0 places .* can be collected"):
            await ledger.ask(command(Collect, ticket=group.ticket, places=1, workstation="w1"))
        await ledger.ends(by_code, 7, lane="lane1")
        with pytest.raises(LedgerRefused, match=r"3 places .* can be collected, not 4"):
            await ledger.ask(command(Collect, ticket=group.ticket, places=4, workstation="w1"))
        async with trio.open_nursery() as nursery:
            for number, paper in enumerate(collected.papers):
                nursery.start_soon(_walk, ledger, paper, f"lane{number}")
        (right,) = (await books_of(ledger, group.ticket)).rights
        assert right.redeemed == 27
        await refund(ledger, group.ticket, 3)
        assert (await books_of(ledger, group.ticket)).state == "used"
        with pytest.raises(Exception, match="never_more_set_aside_than_sold"):
            await run_sql(database.dsn, "update entitlements set set_aside = set_aside + 8")
        await clean(database)


async def _walk(ledger: LedgerUser, code: int, lane: str) -> None:
    granted = await ledger.scan(code, lane=lane)
    assert isinstance(granted, Granted) and granted.pax == 1, granted
    await ledger.passes(granted, lane=lane)
    await ledger.ends(granted, 1, lane=lane)


async def test_invariant_4_what_was_redeemed_is_what_passed_less_what_was_reversed() -> None:
    async with fresh_database() as database, ledger_running(database.dsn, decide=decide) as ledger:
        (group,) = await ledger.sell("group30")
        for number in (1, 2, 3):
            granted = await batch(ledger, group.ticket, f"lane{number}", 5, number)
            await ledger.ends(granted, number, lane=f"lane{number}")
        await ledger.ask(command(ReverseAdmission, ticket=group.ticket, places=2))
        counted = await database.fetch(
            "select (select sum(redeemed) from entitlements)::int as counter, "
            "(select count(*) from redemptions)::int as uses, (select count(*) from reversals)::int as undone"
        )
        assert counted == [{"counter": 4, "uses": 6, "undone": 2}]
        for table in ("redemptions", "reversals", "refunds"):
            with pytest.raises(Exception, match="append-only"):
                await run_sql(database.dsn, f"truncate {table} cascade")
        await clean(database)
