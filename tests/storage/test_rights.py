"""Rights in the ledger, decided by the real rules on a clock of the test's own: counters, days, persons, places."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import trio

from actors.admission import decide
from actors.admission.refusals import REFUSALS
from protocols.messages import CredentialKind, Denied, Direction, EndReason, Granted, GrantState, PassageKind
from protocols.rights import Reentry, Window, ZoneRight
from protocols.shortcode import grouped, new_short, parse_short
from storage.audit import audit
from storage.interfaces import AddShort, EntryStatistics, LedgerRefused, SaleLineOp, SiteSetup
from storage.testing import (
    Database,
    LedgerUser,
    fresh_database,
    grant_op,
    hash_id,
    ledger_running,
    product,
    sale,
    setup,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY_S = 86_400.0
BACK = Reentry(per_day=2)
PARK = ["park"]
PRODUCTS = [
    product("adult"),
    product("child", product_class="discount", price_cents=5_000),
    product("back", reentry=Reentry()),
    product("after_exit", reentry=Reentry(after_exit=True)),
    product("daily", uses=5, uses_per_day=1, days=9),
    product("shared", zones=["park", "tower"], shared=True),
    product("joint", zones=["park", "tower"], reentry=Reentry(after_exit=True)),
    product("group", product_class="group", pax=30),
    product("annual", product_class="annual", uses=0, days=365, reentry=BACK),
    product("staff", product_class="staff", uses=0, days=365),
    product("boat", requires=["adult"]),
    product("bound", uses=3, binds="id", days=9),
    product("portrait", uses=3, binds="face", days=9),
    product("fast", lane_classes=["fast"], grant_ttl_s=30.0),
    product("two_hours", uses=9, minutes_after_first_use=120),
    product("night", windows=[Window(opens="18:00", closes="02:00")]),
]


class Gates:
    """The ledger on a clock that the test sets, and visitors who walk."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = self.on("2026-11-21 10:00")
        self.ledger: LedgerUser

    @staticmethod
    def on(clock: str, zone: ZoneInfo = SHANGHAI) -> float:
        return datetime.strptime(clock, "%Y-%m-%d %H:%M").replace(tzinfo=zone).timestamp()

    def at(self, clock: str) -> None:
        """Set the clock; a time alone is today's."""
        day = datetime.fromtimestamp(self.now, SHANGHAI).date().isoformat()
        self.now = self.on(clock if " " in clock else f"{day} {clock}")

    async def sell(self, name: str, quantity: int = 1, **changes: Any) -> list[int]:
        changes = {"visit_date": "2026-11-21"} | changes
        return [each.ticket for each in await self.ledger.sell(name, quantity, at=self.now, **changes)]

    async def scan(self, ticket: int | None, lane: str = "lane1", /, **changes: Any) -> Granted | Denied:
        op = grant_op(ticket or 0, **({"lane": lane, "at": self.now, "ticket": ticket} | changes))
        answer: Granted | Denied = await self.ledger.ask(op)
        return answer

    async def walk(self, granted: Granted, lane: str = "lane1", at: float | None = None, **changes: Any) -> None:
        """All pass whom the grant allows."""
        at = self.now if at is None else at
        for _ in range(granted.pax):
            await self.ledger.passes(granted, lane=lane, at=at, **changes)
        await self.ledger.ends(granted, granted.pax, lane=lane, at=at)

    async def enters(self, ticket: int, zone: str = "park", /, lane: str = "lane1", **changes: Any) -> str:
        """Scan and walk in: how it was granted, or the code of the refusal."""
        answer = await self.scan(ticket, lane, **({"to_zone": zone} | changes))
        if isinstance(answer, Denied):
            return answer.code
        await self.walk(answer, lane, to_zone=zone)
        return str(await self.database.fetchval("select kind from grants where grant_id = $1", answer.grant))

    async def leaves(self, ticket: int | None, zone: str = "park", /, lane: str = "lane2", **changes: Any) -> Granted:
        way = {"from_zone": zone, "to_zone": "outside"}
        answer = await self.scan(ticket, lane, direction=Direction.EXIT, **way, **changes)
        assert isinstance(answer, Granted)
        await self.walk(answer, lane, direction=Direction.EXIT, **way)
        return answer

    async def one(self, sql: str, *arguments: Any) -> dict[str, Any]:
        (row,) = await self.database.fetch(sql, *arguments)
        return row


@asynccontextmanager
async def gates(site: SiteSetup | None = None):
    async with fresh_database() as database:
        rig = Gates(database)
        site = site or setup(products=PRODUCTS)
        async with ledger_running(database.dsn, site=site, decide=decide, clock=lambda: rig.now) as ledger:
            rig.ledger = ledger
            yield rig
            report = await audit(database.dsn, "demo")
            assert report.clean, report.broken


# --- uses, days, shared rights --------------------------------------------------------------------------------------


async def test_scenario_1_invariant_3_two_hundred_scans_of_one_code_on_ten_lanes_admit_one() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("adult")
        answers: list[Granted | Denied] = []

        async def present(number: int) -> None:
            answers.append(await rig.scan(ticket, f"lane{number % 10}"))

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(present, number)
        (granted,) = [answer for answer in answers if isinstance(answer, Granted)]
        assert {answer.code for answer in answers if isinstance(answer, Denied)} == {"in_progress"}
        lane = (await rig.one("select lane from grants"))["lane"]
        await rig.walk(granted, lane)
        assert await rig.enters(ticket, lane="lane5") == "already_used"
        assert await rig.database.fetchval("select count(*) from passages") == 1


async def test_a_card_of_five_times_is_good_once_a_day_and_says_when_again() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("daily")
        assert await rig.enters(ticket) == "entry"
        rig.now += 3600
        again = await rig.scan(ticket)
        assert isinstance(again, Denied)
        assert (again.code, again.tomorrow, again.used_on_clock) == ("no_uses_left", 1, "2026-11-21 10:00")
        for day in ("22", "23", "24", "25"):
            rig.at(f"2026-11-{day} 10:00")
            assert await rig.enters(ticket) == "entry"
        rig.at("2026-11-26 10:00")
        assert await rig.enters(ticket) == "no_uses_left"


async def test_one_use_of_two_zones_is_one_use() -> None:
    async with gates() as rig:
        first, second = await rig.sell("shared", 2)
        assert await rig.enters(first, "tower") == "entry"
        assert await rig.enters(first, "park") == "already_used"
        assert await rig.enters(second, "park") == "entry"


async def test_a_package_opens_each_zone_as_its_own_right_says() -> None:
    rights = [
        ZoneRight(zones=["park"], uses=1),
        ZoneRight(zones=["tower"], uses=2, windows=[Window(opens="09:00", closes="12:00")]),
    ]
    async with gates(setup(products=[product("package", product_class="package", rights=rights)])) as rig:
        (ticket,) = await rig.sell("package")
        assert [await rig.enters(ticket, "tower") for _ in range(2)] == ["entry", "entry"]
        refused = await rig.scan(ticket, to_zone="tower")
        assert isinstance(refused, Denied) and refused.code == "no_uses_left"
        assert await rig.enters(ticket, "park") == "entry"
        rig.at("12:00")
        (other,) = await rig.sell("package")
        refused = await rig.scan(other, to_zone="tower")
        assert isinstance(refused, Denied)
        assert (refused.code, refused.opens) == ("wrong_slot", "2026-11-22 09:00")


async def test_validity_runs_from_the_first_use() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("two_hours")
        rig.now += 5 * 3600
        assert await rig.enters(ticket) == "entry"
        rig.now += 7199
        assert await rig.enters(ticket) == "entry"
        rig.now += 1
        assert await rig.enters(ticket) == "expired"


# --- the business day: invariant 26 ---------------------------------------------------------------------------------


async def test_invariant_26_a_business_day_ends_at_four_and_not_at_midnight() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("daily")
        rig.at("23:59")
        assert await rig.enters(ticket) == "entry"
        rig.at("2026-11-22 00:01")
        assert await rig.enters(ticket) == "no_uses_left"
        rig.at("2026-11-22 03:59")
        assert await rig.enters(ticket) == "no_uses_left"
        rig.at("2026-11-22 04:00")
        assert await rig.enters(ticket) == "entry"


async def test_invariant_26_month_ends_and_the_night_between_two_days() -> None:
    async with gates() as rig:
        rig.at("2026-11-30 23:59")
        (ticket,) = await rig.sell("daily", visit_date="2026-11-30")
        (night,) = await rig.sell("night", visit_date="2026-11-30")
        assert await rig.enters(ticket) == "entry"
        rig.at("2026-12-01 01:59")
        assert await rig.enters(ticket) == "no_uses_left"
        assert await rig.enters(night) == "entry"
        (late,) = await rig.sell("night", visit_date="2026-11-30")
        rig.at("2026-12-01 02:00")
        assert await rig.enters(late) == "wrong_slot"
        rig.at("2026-12-01 04:00")
        assert await rig.enters(ticket) == "entry"
        row = await rig.one("select day::text from entitlements where used_day = 1 and sold = 5")
        assert row == {"day": "2026-12-01"}


@pytest.mark.parametrize(
    ("before", "repeated", "after"),
    [
        ("2026-10-24 23:59", "2026-10-25 02:30", "2026-10-25 04:00"),
        ("2026-03-28 23:59", "2026-03-29 03:30", "2026-03-29 04:00"),
    ],
    ids=["clocks go back", "clocks go forward"],
)
async def test_invariant_26_a_site_with_summer_time(before: str, repeated: str, after: str) -> None:
    """The hour that comes twice, and the one that never comes, belong to the day before; the day begins at four."""
    berlin = ZoneInfo("Europe/Berlin")
    site = msgspec.structs.replace(setup(products=PRODUCTS), timezone="Europe/Berlin")
    async with gates(site) as rig:
        rig.now = rig.on(before, berlin)
        (ticket,) = await rig.sell("daily", visit_date=before[:10])
        assert await rig.enters(ticket) == "entry"
        first = rig.on(repeated, berlin)
        for moment in (first, first + 3600):
            if moment < rig.on(after, berlin):
                rig.now = moment
                assert await rig.enters(ticket) == "no_uses_left"
        rig.now = rig.on(after, berlin) - 1
        assert await rig.enters(ticket) == "no_uses_left"
        rig.now += 1
        assert await rig.enters(ticket) == "entry"


# --- re-entry and presence ------------------------------------------------------------------------------------------


async def test_first_entries_and_re_entries_are_counted_apart_and_add_up_invariant_27() -> None:
    async with gates() as rig:
        (back,), (annual,), (warden,) = await rig.sell("back"), await rig.sell("annual"), await rig.sell("staff")
        for ticket, kinds in ((back, ["entry", "reentry", "reentry"]), (annual, ["entry", "reentry"])):
            assert [await rig.enters(ticket) for _ in kinds] == kinds
        assert [await rig.enters(warden) for _ in range(2)] == ["entry", "entry"]
        await rig.ledger.passes(None, kind=PassageKind.FREE, at=rig.now)
        await rig.ledger.passes(None, kind=PassageKind.STAFF, at=rig.now)
        await rig.leaves(back)
        used = await rig.one("select redeemed, reentries_day, used_day from entitlements where ticket = $1", back)
        assert used == {"redeemed": 1, "reentries_day": 2, "used_day": 1}
        (row,) = (await rig.ledger.ask(EntryStatistics(first="2026-11-21", last="2026-11-21"))).rows
        assert (row.zone, row.day) == ("park", "2026-11-21")
        assert (row.first, row.reentries, row.staff, row.free, row.total) == (2, 3, 3, 1, 9)
        assert row.first + row.reentries + row.staff + row.free == row.total


async def test_re_entry_needs_an_exit_that_was_seen() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("after_exit")
        assert await rig.enters(ticket) == "entry"
        assert await rig.enters(ticket, lane="lane3") == "already_used"  # passed back over the fence
        rig.now += 600
        await rig.leaves(ticket)
        assert await rig.enters(ticket) == "reentry"
        assert await rig.enters(ticket, lane="lane3") == "already_used"


async def test_moving_to_another_zone_checks_out_of_the_old_one() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("joint")
        assert await rig.enters(ticket, "park") == "entry"
        rig.now += 60
        assert await rig.enters(ticket, "tower") == "entry"  # walked out of the park unseen
        where = await rig.one("select at_zone from tickets where ticket = $1", ticket)
        assert where == {"at_zone": "tower"}
        rig.now += 60
        assert await rig.enters(ticket, "park") == "reentry"
        assert await rig.enters(ticket, "park", lane="lane3") == "already_used"


async def test_words_that_arrive_late_do_not_turn_presence_back() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("joint")
        park = await rig.scan(ticket)
        assert isinstance(park, Granted)
        entered_at = rig.now + 1
        rig.now += 300
        tower = await rig.scan(ticket, "lane3", to_zone="tower")
        assert isinstance(tower, Granted)
        await rig.walk(tower, "lane3", to_zone="tower")
        rig.now += 300
        await rig.walk(park, at=entered_at)  # the lane to the park was without a connection for ten minutes
        row = await rig.one("select at_zone, extract(epoch from at_since)::float8 as at from tickets")
        assert row == {"at_zone": "tower", "at": entered_at + 299}


async def test_two_lanes_cannot_both_bring_one_person_back() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("back")
        assert await rig.enters(ticket) == "entry"
        first = await rig.scan(ticket, "lane1")
        second = await rig.scan(ticket, "lane2")
        assert isinstance(first, Granted) and isinstance(second, Denied) and second.code == "in_progress"
        await rig.ledger.ends(first, 0, why=EndReason.TIMEOUT, at=rig.now)
        third = await rig.scan(ticket, "lane2")
        assert isinstance(third, Granted)
        await rig.ledger.ends(third, 0, lane="lane2", why=EndReason.TIMEOUT, at=rig.now)


async def test_nobody_is_kept_in() -> None:
    """A void ticket, a forged code, nothing at all: the way out is free, uses nothing, and is written down."""
    async with gates() as rig:
        (ticket,) = await rig.sell("adult")
        assert await rig.enters(ticket) == "entry"
        await rig.database.corrupt(f"update tickets set state = 'void' where ticket = {ticket}")
        known = await rig.leaves(ticket)
        unknown = await rig.leaves(None)
        forged = await rig.leaves(None, refused="bad_signature")
        assert (known.ticket, unknown.ticket, forged.ticket) == (ticket, 0, 0)
        assert await rig.database.fetchval("select count(*) from redemptions") == 1
        assert await rig.database.fetchval("select count(*) from grants where kind = 'exit' and ticket is null") == 2
        row = await rig.one("select at_zone from tickets")
        assert row == {"at_zone": "outside"}
        await rig.database.corrupt(f"update tickets set state = 'active' where ticket = {ticket}")


# --- who may use it -------------------------------------------------------------------------------------------------


async def test_a_ticket_is_bound_to_the_id_of_its_first_use() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("bound")
        wang = {"holder_hash": hash_id("id_number", "wang"), "holder_enc": b"sealed"}
        li = {"holder_hash": hash_id("id_number", "li")}
        assert await rig.enters(ticket) == "id_required"
        assert await rig.enters(ticket, **wang) == "entry"
        assert await rig.enters(ticket, **li) == "holder_mismatch"
        assert await rig.enters(ticket, **wang) == "entry"
        assert await rig.enters(ticket, stamp="guard1") == "entry"
        row = await rig.one("select holder_hash, holder_enc from tickets")
        assert row == {"holder_hash": wang["holder_hash"], "holder_enc": b"sealed"}
        audited = await rig.one("select user_name, action from audit_log")
        assert audited == {"user_name": "guard1", "action": "holder.confirm"}


async def test_a_face_is_taken_at_the_first_use_and_compared_later() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("portrait")
        taken = {"template_enc": b"first", "template_algorithm": "a1"}
        assert await rig.enters(ticket) == "needs_factor"
        assert await rig.enters(ticket, **taken) == "entry"
        assert await rig.enters(ticket, template_enc=b"other", template_algorithm="a1") == "needs_factor"
        assert await rig.enters(ticket, face_ok=True) == "entry"
        row = await rig.one("select template_enc, template_algorithm from passes")
        assert row == {"template_enc": b"first", "template_algorithm": "a1"}


async def test_a_small_ticket_needs_its_main_ticket_of_the_same_order_today() -> None:
    async with gates() as rig:
        lines = [SaleLineOp(product=name, quantity=1, visit_date="2026-11-21") for name in ("adult", "boat")]
        main, boat = (each.ticket for each in (await rig.ledger.ask(sale(lines=lines))).tickets)
        (alone,) = await rig.sell("boat")
        assert await rig.enters(boat) == "needs_main_ticket"
        assert await rig.enters(main) == "entry"
        assert await rig.enters(boat) == "entry"
        assert await rig.enters(alone) == "needs_main_ticket"


async def test_scenario_17_adult_and_child_bought_with_one_id() -> None:
    async with gates() as rig:
        (adult,), (child,) = await rig.sell("adult"), await rig.sell("child")
        number = hash_id("id_number", "one ID")
        for credential, ticket in enumerate((adult, child), 1):
            await rig.database.corrupt(
                "insert into credentials (site, credential, ticket, kind, value_hash) values "
                f"('demo', {credential}, {ticket}, 'id_number', '\\x{number.hex()}')"
            )
        scan = {"kind": CredentialKind.ID_NUMBER, "credential_hash": number}
        assert await rig.enters(0, ticket=None, **scan) == "ambiguous"
        assert await rig.enters(0, ticket=None, product="child", **scan) == "entry"
        assert await rig.enters(0, ticket=None, **scan) == "entry"  # only the adult's is left
        assert await rig.enters(0, ticket=None, **scan) == "already_used"
        used = await rig.database.fetch("select ticket from entitlements where redeemed = 1 order by ticket")
        assert [row["ticket"] for row in used] == sorted((adult, child))


async def test_invariant_7_one_person_of_a_list_is_let_in_once_and_the_guide_takes_nobodys_place() -> None:
    async with gates() as rig:
        (group,) = await rig.sell("group")
        people = [hash_id("id_number", f"person {number}") for number in range(3)]
        for credential, number in enumerate(people, 1):
            await rig.database.corrupt(
                "insert into credentials (site, credential, ticket, kind, value_hash, personal) values "
                f"('demo', {credential}, {group}, 'id_number', '\\x{number.hex()}', true)"
            )
        await rig.database.corrupt("update entitlements set set_aside = 3")
        person = {"kind": CredentialKind.ID_NUMBER, "credential_hash": people[0], "ticket": None}
        assert await rig.enters(0, **person) == "entry"
        again = await rig.scan(0, **person)
        assert again == Denied(nonce=again.nonce, code="already_used", today="2026-11-21")  # invariant 29: that is all
        guide = await rig.scan(group, max_pax=50)
        assert isinstance(guide, Granted) and guide.pax == 27  # 30, less one who is in and two who will come
        await rig.walk(guide)
        assert await rig.enters(group) == "pax_exhausted"
        assert await rig.enters(0, **(person | {"credential_hash": people[1]})) == "entry"
        one, other = await rig.scan(0, "lane1", **(person | {"credential_hash": people[2]})), await rig.scan(
            0, "lane2", **(person | {"credential_hash": people[2]})
        )
        assert isinstance(one, Granted) and isinstance(other, Denied) and other.code == "in_progress"
        await rig.walk(one)
        used = await rig.one("select redeemed, held from entitlements")
        assert used == {"redeemed": 30, "held": 0}
        await rig.database.corrupt("update entitlements set set_aside = 0")
        await rig.database.corrupt("delete from personal_uses")
        await rig.database.corrupt("update credentials set personal = false")
        await rig.database.corrupt("update grants set credential = null")


async def test_a_fast_lane_is_for_fast_tickets_and_a_product_has_its_own_patience() -> None:
    async with gates() as rig:
        (plain,), (fast,) = await rig.sell("adult"), await rig.sell("fast")
        refused = await rig.scan(plain, lane_class="fast")
        assert isinstance(refused, Denied) and (refused.code, refused.zones) == ("wrong_lane_class", ["park"])
        granted = await rig.scan(fast, lane_class="fast")
        assert isinstance(granted, Granted) and granted.ttl_s == 30.0
        await rig.walk(granted)


# --- credentials ----------------------------------------------------------------------------------------------------


async def test_invariant_19_what_was_taken_out_of_use_never_opens() -> None:
    async with gates() as rig:
        states = {"on_hold": "held", "blocked": "blocked", "void": "void", "refunded": "refunded", "unpaid": "unpaid"}
        for state, code in states.items():
            (ticket,) = await rig.sell("adult")
            await rig.database.corrupt(f"update tickets set state = '{state}' where ticket = {ticket}")
            assert await rig.enters(ticket) == code
        for state, code in {"lost": "blocked", "superseded": "superseded_card", "void": "void"}.items():
            (ticket,) = await rig.sell("adult")
            await rig.database.corrupt(f"update credentials set state = '{state}' where ticket = {ticket}")
            assert await rig.enters(ticket) == code
        await rig.database.corrupt("update tickets set state = 'active'")
        await rig.database.corrupt("update credentials set state = 'active'")


async def test_a_higher_issue_of_a_card_supersedes_the_lower_ones() -> None:
    async with gates() as rig:
        card = hash_id("card", "uid")
        (annual,) = await rig.sell("annual", card_hash=card)
        scan = {"kind": CredentialKind.CARD, "credential_hash": card, "ticket": None}
        assert await rig.enters(annual, **scan, issue_index=2) == "entry"
        assert await rig.enters(annual, **scan, issue_index=1) == "superseded_card"
        assert await rig.enters(annual, **scan, issue_index=2) == "reentry"
        assert await rig.enters(annual, **scan) == "reentry"  # a card that says nothing of itself


async def test_a_short_code_opens_what_its_ticket_opens_and_is_one_tickets() -> None:
    async with gates() as rig:
        one, other = await rig.sell("adult", 2)
        typed = hash_id("short", parse_short(grouped(new_short())))
        await rig.ledger.ask(AddShort(ticket=one, value_hash=typed))
        for ticket in (other, 424242):
            with pytest.raises(LedgerRefused):
                await rig.ledger.ask(AddShort(ticket=ticket, value_hash=typed))
        scan = {"kind": CredentialKind.SHORT, "credential_hash": typed, "ticket": None}
        assert await rig.enters(0, **scan) == "entry"
        assert await rig.enters(one) == "already_used"
        assert await rig.enters(0, **scan | {"credential_hash": hash_id("short", new_short())}) == "unknown_code"


async def test_scenario_18_invariant_20_a_pre_printed_code_opens_only_when_it_is_sold() -> None:
    async with gates() as rig:
        codes = {101: "blank", 102: "at_printer", 103: "in_stock", 104: "void", 105: "lost"}
        for serial, (ticket, state) in enumerate(codes.items(), 1):
            await rig.database.corrupt(
                "insert into preprinted (site, ticket, batch, serial, state, changed_at) "
                f"values ('demo', {ticket}, 1, {serial}, '{state}', now())"
            )
        answers = [await rig.enters(ticket) for ticket in codes]
        assert answers == ["not_yet_active", "not_yet_active", "not_yet_active", "void", "void"]
        (sold,) = await rig.sell("adult")
        await rig.database.corrupt(
            f"insert into preprinted (site, ticket, batch, serial, state, changed_at) values ('demo', {sold}, 1, 9, "
            "'in_stock', now())"
        )
        assert await rig.enters(sold) == "not_yet_active"
        await rig.database.corrupt(f"update preprinted set state = 'sold' where ticket = {sold}")
        assert await rig.enters(sold) == "entry"
        assert await rig.enters(sold) == "already_used"
        await rig.database.corrupt("delete from preprinted")


# --- the same scan again, and clocks that are wrong -----------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [3600.0, DAY_S, -DAY_S], ids=["an hour later", "a day on", "a day back"])
async def test_a_repeated_nonce_is_answered_before_everything_and_opens_nothing_anew(jump_s: float) -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("adult")
        first = await rig.scan(ticket, nonce="same")
        assert isinstance(first, Granted) and first.fresh and first.state is GrantState.OPEN
        rig.now += jump_s
        await rig.database.corrupt("update tickets set state = 'void'")
        for changes in ({}, {"refused": "bad_signature"}, {"at": rig.now - 99_999.0}):
            again = await rig.scan(ticket, nonce="same", **changes)
            assert isinstance(again, Granted) and not again.fresh
            assert (again.grant, again.ttl_s, again.state) == (first.grant, 0.0, GrantState.UNRESOLVED)
        assert await rig.database.fetchval("select count(*) from grants") == 1
        await rig.database.corrupt("update tickets set state = 'active'")
        rig.now -= jump_s
        await rig.walk(first)


async def test_a_repeated_nonce_gets_the_rest_of_its_time() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("fast")
        first = await rig.scan(ticket, nonce="same")
        rig.now += 20.0
        again = await rig.scan(ticket, nonce="same")
        assert isinstance(first, Granted) and isinstance(again, Granted)
        assert (again.grant, again.ttl_s, again.state) == (first.grant, 10.0, GrantState.OPEN)
        await rig.walk(first)


async def test_scenario_16_a_handheld_with_a_wrong_clock_is_told_of_and_the_servers_time_counts() -> None:
    async with gates() as rig:
        tickets = await rig.sell("adult", 4)
        for ticket, off_s in zip(tickets, (119.0, 1200.0, -1200.0, 1e9), strict=True):
            granted = await rig.scan(ticket, "handheld", at=rig.now + off_s)
            assert isinstance(granted, Granted)
            await rig.ledger.passes(granted, lane="handheld", at=rig.now + off_s)
            await rig.ledger.ends(granted, 1, lane="handheld", at=rig.now + off_s)
        seen = await rig.database.fetch(
            "select extract(epoch from seen_at)::float8 as seen from passages order by ledger_seq"
        )
        assert [row["seen"] for row in seen] == [rig.now] * 4
        cases = await rig.database.fetch("select key, detail from cases where kind = 'clock'")
        assert len(cases) == 1 and cases[0]["detail"] == (
            "the clock of handheld-board is off by +1200 s; the server's time counts"
        )
        rig.now += 3600
        (ticket,) = await rig.sell("adult")
        await rig.scan(ticket, "handheld", at=rig.now + 1200)
        assert await rig.database.fetchval("select count(*) from cases where kind = 'clock'") == 2


async def test_scenario_3_who_steps_back_leaves_the_ticket_free_and_only_their_lane_says_so() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("adult")
        first = await rig.scan(ticket, "lane1")
        assert isinstance(first, Granted)
        rig.now += 4.99  # a second lane, ten milliseconds before the end
        assert await rig.enters(ticket, lane="lane2") == "in_progress"
        rig.now += 1.0  # past it, and the lane is silent: nobody knows whether somebody went in
        assert await rig.enters(ticket, lane="lane2") == "in_progress"
        await rig.ledger.ends(first, 0, why=EndReason.TIMEOUT, at=rig.now)
        assert await rig.enters(ticket, lane="lane2") == "entry"


async def test_a_pass_after_the_end_is_late_and_uses_what_is_left_or_is_a_case() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("adult")
        first = await rig.scan(ticket)
        assert isinstance(first, Granted)
        await rig.ledger.ends(first, 0, why=EndReason.TIMEOUT, at=rig.now)
        second = await rig.scan(ticket, "lane2")
        assert isinstance(second, Granted)
        assert (await rig.ledger.passes(first, at=rig.now)).kind is PassageKind.LATE
        await rig.walk(second, "lane2")
        assert await rig.database.fetchval("select count(*) from redemptions") == 1
        assert await rig.database.fetchval("select count(*) from cases where kind = 'late_pass'") == 1


async def test_a_nonce_of_another_lane_is_refused() -> None:
    async with gates() as rig:
        (ticket,) = await rig.sell("adult")
        await rig.scan(ticket, nonce="mine", device="shared-device")
        with pytest.raises(LedgerRefused, match="presented at lane lane2"):
            await rig.scan(ticket, "lane2", nonce="mine", device="shared-device")


# --- dated versions: invariant 21 -----------------------------------------------------------------------------------


async def test_invariant_21_a_sale_uses_the_version_of_its_day_and_what_was_sold_keeps_its_own() -> None:
    versions = [
        product("adult", price_cents=8_000),
        product("adult", price_cents=9_000, uses=2, effective_from="2026-11-22"),
    ]
    async with gates(setup(products=versions)) as rig:
        rig.at("2026-11-22 03:59")  # still the business day of the 21st
        (old,) = await rig.ledger.sell("adult", at=rig.now, visit_date="2026-11-22")
        rig.at("2026-11-22 04:00")
        (new,) = await rig.ledger.sell("adult", at=rig.now, visit_date="2026-11-22")
        assert (old.price_cents, new.price_cents) == (8_000, 9_000)
        rig.at("2026-11-22 10:00")
        assert [await rig.enters(old.ticket) for _ in range(2)] == ["entry", "already_used"]
        assert [await rig.enters(new.ticket) for _ in range(3)] == ["entry", "entry", "no_uses_left"]


async def test_every_answer_here_is_a_code_that_has_words() -> None:
    async with gates() as rig:
        assert await rig.enters(424242) in REFUSALS
