"""How many people may be where: stops with hysteresis, staff apart, days that close, passages that come late."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from actors.admission import decide
from protocols.messages import Denied, Direction, Granted, PassageKind
from storage.audit import audit
from storage.interfaces import Calibrate, LedgerRefused, SiteSetup, StopZone, ZoneCount, ZonesChanged, ZoneSetup
from storage.testing import Database, LedgerUser, fresh_database, ledger_running, product, setup

EXIT = {"direction": Direction.EXIT, "from_zone": "park", "to_zone": "outside", "kind": PassageKind.EXIT}


class Clock:
    """Seconds since the epoch that go when told to."""

    def __init__(self, at: float | None = None) -> None:
        self.at = time.time() if at is None else at

    def __call__(self) -> float:
        return self.at


def local(text: str, zone: str = "Asia/Shanghai") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def site(timezone: str = "Asia/Shanghai", night_close: bool = True, **zone) -> SiteSetup:
    products = [
        product("adult", days=3000),
        product("group30", product_class="group", pax=30, days=3000),
        product("staff", product_class="staff", uses=0, days=3000),
    ]
    base = setup(products=products)
    park = ZoneSetup(**({"zone": "park", "name": "Park", "limit": None} | zone))
    return msgspec.structs.replace(base, zones=[park, *base.zones[1:]], timezone=timezone, night_close=night_close)


class Park(LedgerUser):
    """A ledger with a park, and people who walk into it."""

    clock: Clock
    database: Database

    async def enter(self, name: str = "adult", people: int = 1) -> Granted | Denied:
        (ticket,) = await self.sell(name, visit_date="2025-01-01")
        answer = await self.scan(ticket.ticket, max_pax=people, at=self.clock())
        if isinstance(answer, Granted):
            for _ in range(people):
                await self.passes(answer, at=self.clock())
            await self.ends(answer, people, at=self.clock())
        return answer

    async def leave(self, people: int = 1) -> None:
        for _ in range(people):
            await self.passes(None, at=self.clock(), **EXIT)

    async def stop(self, what: str, minutes: float | None, zone: str = "park") -> ZoneCount:
        until = None if minutes is None else self.clock() + minutes * 60
        return await self.ask(StopZone(zone=zone, what=what, until=until, user="ann", reason="x", at=self.clock()))  # type: ignore[arg-type]

    async def park(self) -> dict[str, object]:
        (row,) = await self.database.fetch("select * from zones where zone = 'park'")
        return row

    async def calibrations(self) -> list[tuple[str, int, int, str]]:
        rows = await self.database.fetch("select zone, delta, staff, reason from calibrations order by ledger_seq")
        return [(row["zone"], row["delta"], row["staff"], row["reason"]) for row in rows]


@asynccontextmanager
async def park(setup: SiteSetup, clock: Clock | None = None) -> AsyncIterator[Park]:
    """Runs it, and audits it in the end."""
    clock = clock or Clock()
    async with fresh_database() as database:
        async with ledger_running(database.dsn, site=setup, decide=decide, clock=clock) as ledger:
            user = Park(ledger.ledger, ledger.address, ledger.zones, ledger.states)
            user.clock, user.database = clock, database
            yield user
        report = await audit(database.dsn, "demo")
        assert report.clean, report.broken


def code(answer: Granted | Denied) -> str:
    return answer.code if isinstance(answer, Denied) else "ok"


# --- stops and their hysteresis (scenario 12) -------------------------------------------------------------------


async def test_entry_stops_at_its_threshold_and_goes_on_only_well_below_it() -> None:
    async with park(site(limit=10, stop_at=8, resume_at=5)) as here:
        codes = [code(await here.enter()) for _ in range(9)]
        assert codes == ["ok"] * 8 + ["capacity_hold"]
        await here.leave(2)
        assert code(await here.enter()) == "capacity_hold", "six are inside, and it goes on at five"
        await here.leave(1)
        assert [code(await here.enter()) for _ in range(3)] == ["ok"] * 3
        assert code(await here.enter()) == "capacity_hold", "stopped again at eight"


async def test_without_hysteresis_whoever_leaves_makes_room_for_the_next_one() -> None:
    async with park(site(limit=2)) as here:
        assert [code(await here.enter()) for _ in range(3)] == ["ok", "ok", "capacity_hold"]
        await here.leave()
        assert [code(await here.enter()) for _ in range(2)] == ["ok", "capacity_hold"]


async def test_one_in_for_one_out_is_a_mode_with_an_end() -> None:
    async with park(site(limit=10, stop_at=8, resume_at=5)) as here:
        for _ in range(8):
            await here.enter()
        await here.stop("one_for_one", 30)
        await here.leave()
        assert [code(await here.enter()) for _ in range(2)] == ["ok", "capacity_hold"]
        here.clock.at += 31 * 60
        await here.leave()
        assert code(await here.enter()) == "capacity_hold", "the hysteresis holds again"


async def test_a_stop_by_people_holds_whatever_room_there_is_and_ends_by_itself() -> None:
    async with park(site(limit=100)) as here:
        stopped = await here.stop("entry", 30)
        assert stopped.entry_stopped_until == pytest.approx(here.clock() + 1800)
        assert code(await here.enter()) == "capacity_hold"
        here.clock.at += 1801
        assert code(await here.enter()) == "ok"
        await here.stop("entry", 30)
        assert code(await here.enter()) == "capacity_hold"
        await here.stop("entry", None)
        assert code(await here.enter()) == "ok", "and people may end it sooner"


async def test_a_stop_survives_a_restart() -> None:
    async with fresh_database() as database:
        async with ledger_running(database.dsn, site=site(limit=9), decide=decide) as ledger:
            until = time.time() + 600
            order = StopZone(zone="park", what="entry", until=until, user="ann", reason="x", at=time.time())
            await ledger.ask(order)
        async with ledger_running(database.dsn, site=site(limit=9), decide=decide) as ledger:
            at_start = await ledger.zones.expect(ZonesChanged)
            assert at_start.zones[1].entry_stopped_until == pytest.approx(until, abs=0.001)
            (ticket,) = await ledger.sell("adult")
            assert code(await ledger.scan(ticket.ticket)) == "capacity_hold"


async def test_the_sale_has_thresholds_of_its_own() -> None:
    async with park(site(limit=10, sale_stop_at=3, sale_resume_at=1)) as here:
        for _ in range(3):
            await here.enter()
        assert (await here.park())["sale_full"] is True
        assert (await here.park())["entry_full"] is False
        await here.leave(1)
        assert (await here.park())["sale_full"] is True
        await here.leave(1)
        assert (await here.park())["sale_full"] is False


async def test_a_stopped_sale_sells_nothing_for_today_and_keeps_no_ticket_holder_out() -> None:
    async with park(site(limit=10, sale_stop_at=2, sale_resume_at=1)) as here:
        today = datetime.fromtimestamp(here.clock(), ZoneInfo("Asia/Shanghai")).date()
        before = await here.sell("adult", 2, visit_date=today.isoformat())
        for _ in range(2):
            await here.enter()
        for name in ("adult", "group30"):
            with pytest.raises(LedgerRefused, match="park"):
                await here.sell(name, visit_date=today.isoformat())
        assert await here.sell("staff", visit_date=today.isoformat())
        tomorrow = (today + timedelta(days=1)).isoformat()
        assert await here.sell("adult", visit_date=tomorrow), "another day is not full"
        answer = await here.scan(before[0].ticket, at=here.clock())
        assert code(answer) == "ok", "stop of sale is no stop of entry"
        assert isinstance(answer, Granted)
        await here.ends(answer, 0, at=here.clock())
        await here.leave(1)
        assert await here.sell("adult", visit_date=today.isoformat())
        await here.stop("sale", 10)
        with pytest.raises(LedgerRefused):
            await here.sell("adult", visit_date=today.isoformat())
        here.clock.at += 601
        assert await here.sell("adult", visit_date=today.isoformat())


async def test_nobody_passes_the_limit_however_wide_the_stop_is_set() -> None:
    async with park(site(limit=5, stop_at=50, resume_at=40)) as here:
        assert [code(await here.enter()) for _ in range(6)] == ["ok"] * 5 + ["capacity_hold"]


async def test_a_day_has_a_limit_of_first_entries_and_begins_anew() -> None:
    clock = Clock(local("2025-06-03T15:00"))
    async with park(site(day_limit=2), clock) as here:
        assert [code(await here.enter()) for _ in range(2)] == ["ok", "ok"]
        await here.leave(2)
        assert code(await here.enter()) == "capacity_hold", "those who left were here all the same"
        clock.at = local("2025-06-04T03:59")
        assert code(await here.enter()) == "capacity_hold", "the night belongs to the day before"
        clock.at = local("2025-06-04T04:00")
        assert code(await here.enter()) == "ok"


@pytest.mark.parametrize("what", ["entry", "sale", "one_for_one"])
async def test_outside_and_unknown_zones_cannot_be_stopped(what: str) -> None:
    async with park(site()) as here:
        for zone in ("outside", "moon"):
            with pytest.raises(LedgerRefused):
                await here.stop(what, 5, zone)


# --- staff ------------------------------------------------------------------------------------------------------


async def test_staff_are_counted_apart_and_take_no_visitors_place() -> None:
    async with park(site(limit=2)) as here:
        for _ in range(3):
            assert code(await here.enter("staff")) == "ok"
        assert [code(await here.enter()) for _ in range(3)] == ["ok", "ok", "capacity_hold"]
        assert code(await here.enter("staff")) == "ok", "a full zone does not keep staff out"
        zone = await here.park()
        assert (zone["inside"], zone["staff"], zone["entered"]) == (6, 4, 2)


async def test_staff_take_places_where_the_site_says_so() -> None:
    async with park(site(limit=3, staff_counts=True)) as here:
        assert code(await here.enter("staff")) == "ok"
        assert [code(await here.enter()) for _ in range(3)] == ["ok", "ok", "capacity_hold"]


async def test_a_stopped_zone_lets_staff_in() -> None:
    async with park(site(limit=3)) as here:
        await here.stop("entry", 10)
        assert code(await here.enter("staff")) == "ok"


# --- corrections ------------------------------------------------------------------------------------------------


async def test_a_correction_with_a_key_is_made_once_however_often_it_is_said() -> None:
    async with park(site(limit=50)) as here:
        order = Calibrate(zone="park", delta=7, reason="counted", user="ann", at=here.clock(), key="k1")
        assert [(await here.ask(order)).inside for _ in range(3)] == [7, 7, 7]
        again = msgspec.structs.replace(order, key="k2", delta=-2)
        assert (await here.ask(again)).inside == 5


async def test_an_exit_sensor_that_died_is_corrected_and_entry_goes_on() -> None:
    async with park(site(limit=4, stop_at=4, resume_at=2)) as here:
        for _ in range(4):
            await here.enter()
        assert code(await here.enter()) == "capacity_hold"
        counted = Calibrate(zone="park", delta=-3, reason="exit sensor dead", user="ann", at=here.clock())
        assert (await here.ask(counted)).inside == 1
        assert code(await here.enter()) == "ok"


# --- the business day (invariant 26) ----------------------------------------------------------------------------


async def test_the_day_closes_once_and_writes_off_who_is_left_on_paper() -> None:
    clock = Clock(local("2025-06-03T20:00"))
    async with park(site(), clock) as here:
        await here.enter("group30", 5)
        await here.enter("staff")
        await here.leave(2)
        clock.at = local("2025-06-04T03:59:59")
        await here.leave(1)
        assert await here.calibrations() == [], "the night belongs to the day before"
        clock.at = local("2025-06-04T04:00")
        await here.enter()
        assert await here.calibrations() == [("park", -3, -1, "night_close")]
        zone = await here.park()
        assert (zone["inside"], zone["staff"], zone["entered"]) == (1, 0, 1)
        await here.enter()
        assert len(await here.calibrations()) == 1
        days = await here.database.fetch("select day::text, residual from day_closes order by day")
        assert [tuple(row.values()) for row in days] == [("2025-06-02", 0), ("2025-06-03", 3)]


async def test_a_server_that_slept_for_a_week_closes_what_it_missed_at_once() -> None:
    clock = Clock(local("2025-06-03T20:00"))
    async with park(site(), clock) as here:
        await here.enter("group30", 5)
        clock.at = local("2025-06-10T09:00")
        await here.enter()
        assert (await here.park())["inside"] == 1
        days = await here.database.fetch("select day::text from day_closes order by day")
        assert [row["day"] for row in days] == ["2025-06-02", "2025-06-09"]


async def test_a_site_may_keep_its_guests_over_night() -> None:
    clock = Clock(local("2025-06-03T20:00"))
    async with park(site(night_close=False), clock) as here:
        await here.enter("group30", 5)
        clock.at = local("2025-06-04T12:00")
        await here.enter()
        zone = await here.park()
        assert (zone["inside"], zone["entered"]) == (6, 1)


@pytest.mark.parametrize(
    ("zone", "before", "after"),
    [
        ("Europe/Berlin", "2025-03-30T03:59:59", "2025-03-30T04:00:00"),  # an hour is missing
        ("Europe/Berlin", "2025-10-26T03:59:59", "2025-10-26T04:00:00"),  # an hour comes twice
        ("America/New_York", "2025-03-09T03:59:59", "2025-03-09T04:00:00"),
        ("Asia/Shanghai", "2025-03-01T03:59:59", "2025-03-01T04:00:00"),  # the end of a month
        ("Asia/Shanghai", "2026-01-01T03:59:59", "2026-01-01T04:00:00"),  # and of a year
    ],
)
async def test_the_day_ends_by_the_sites_clock_in_every_season(zone: str, before: str, after: str) -> None:
    clock = Clock(local(before, zone) - 3600)
    async with park(site(timezone=zone), clock) as here:
        await here.enter("group30", 2)
        clock.at = local(before, zone)
        await here.leave()
        assert (await here.park())["inside"] == 1
        clock.at = local(after, zone)
        await here.enter()
        assert (await here.park())["inside"] == 1, "the one of yesterday was written off"


async def test_2359_and_0001_are_the_same_business_day() -> None:
    clock = Clock(local("2025-06-30T23:59"))
    async with park(site(day_limit=2), clock) as here:
        await here.enter()
        clock.at = local("2025-07-01T00:01")
        await here.enter()
        assert (await here.park())["entered"] == 2
        assert code(await here.enter()) == "capacity_hold"


# --- scenario 21: yesterday's passages, uploaded today ----------------------------------------------------------


async def test_scenario_21_yesterdays_passages_are_booked_and_move_nobody_of_today() -> None:
    clock = Clock(local("2025-06-03T20:00"))
    async with park(site(limit=100), clock) as here:
        (ticket,) = await here.sell("group30", visit_date="2025-01-01")
        granted = await here.scan(ticket.ticket, at=clock())
        assert isinstance(granted, Granted)
        await here.passes(granted, at=clock())
        late = clock()
        clock.at = local("2025-06-04T10:00")
        await here.enter()
        for _ in range(2):
            await here.passes(granted, at=late + 1.0)
        await here.passes(None, at=late + 2.0, **EXIT)
        await here.ends(granted, 3, at=late + 3.0)
        zone = await here.park()
        assert (zone["inside"], zone["entered"]) == (1, 1), "today is as it was"
        reasons = [reason for _, _, _, reason in await here.calibrations()]
        assert reasons == ["night_close", *["late_upload"] * 3]
        (row,) = await here.database.fetch("select redeemed, held from entitlements where redeemed > 1")
        assert (row["redeemed"], row["held"]) == (3, 0), "and the places are used all the same"


async def test_a_device_whose_clock_is_years_off_counts_now() -> None:
    clock = Clock(local("2025-06-03T20:00"))
    async with park(site(), clock) as here:
        await here.enter()
        (ticket,) = await here.sell("adult", visit_date="2025-01-01")
        granted = await here.scan(ticket.ticket, at=3.0)
        assert isinstance(granted, Granted)
        await here.passes(granted, at=3.0)
        await here.ends(granted, 1, at=3.0)
        assert (await here.park())["inside"] == 2
