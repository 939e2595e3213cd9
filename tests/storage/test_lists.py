"""Lists for lanes: a lane that follows them knows what the tables say, whatever happens on the way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from actors.admission import decide
from protocols import lists
from protocols.lists import Item, ListKey, ListMark, ListTicket, Part
from protocols.messages import Granted
from storage import _lists
from storage._lists import ListReader
from storage.audit import audit
from storage.interfaces import HoldTicket, LedgerUnavailable, ReplaceCard, RequestRefund, SaleLineOp
from storage.testing import (
    Database,
    LedgerUser,
    command,
    fresh_database,
    hash_id,
    ledger_running,
    product,
    sale,
    setup,
    visit_date,
)


class Lane:
    """A lane that follows the lists, and nothing else."""

    def __init__(self, reader: ListReader) -> None:
        self.reader = reader
        self.mark: ListMark | None = None
        self.items: dict[tuple[str, bytes], lists.ListValue] = {}
        self.kinds: list[str] = []  # of the parts that came

    async def follow(self) -> None:
        """Ask until there is nothing new."""
        part = await self.reader.part(self.mark, None, "")
        while True:
            self.kinds.append(part.kind)
            if part.kind == "same":
                return
            if part.kind == "whole" and part.first:
                self.items.clear()
            self.take(part)
            if not part.cursor:
                self.mark = part.mark
                part = await self.reader.part(self.mark, None, "")
            else:
                part = await self.reader.part(self.mark, part.mark, part.cursor)

    def take(self, part: Part) -> list[Item]:
        items = lists.unpack(part.data, part.crc)
        assert len(items) == part.items
        for item in items:
            self.items[item.kind, item.key] = lists.value(item.line)
        return items

    def ticket(self, number: int) -> ListTicket:
        found = self.items["t", lists.ticket_key(number)]
        assert isinstance(found, ListTicket)
        return found

    def of(self, kind: str) -> list[lists.ListValue]:
        return [value for (each, _), value in self.items.items() if each == kind]


@asynccontextmanager
async def _site(*products: object) -> AsyncIterator[tuple[Database, LedgerUser, Lane]]:
    made = setup(products=list(products) or None)  # type: ignore[arg-type]
    async with fresh_database() as database, ledger_running(database.dsn, site=made, decide=decide) as ledger:
        reader = ListReader(made, database.dsn, keys=_keys)
        async with reader.running():
            yield database, ledger, Lane(reader)


def _keys() -> list[ListKey]:
    return [ListKey("k", "ticket/1", "ticket", "1", "ab")]


async def test_a_lane_gets_the_whole_list_and_then_what_changes() -> None:
    async with _site() as (_, ledger, lane):
        first, second = await ledger.sell("adult", 2)
        await lane.follow()
        assert lane.kinds == ["whole", "whole", "same"]
        assert {value.ticket for value in lane.of("t")} == {first.ticket, second.ticket}  # type: ignore[union-attr]
        assert len(lane.of("p")) == 4
        assert {value.zone: value.inside for value in lane.of("z")} == {"outside": 0, "park": 0, "tower": 0}  # type: ignore[union-attr]
        assert lane.of("k") == _keys()
        granted = await ledger.scan(first.ticket)
        assert isinstance(granted, Granted)
        await lane.follow()
        assert lane.ticket(first.ticket).rights[0].held == 1
        await ledger.passes(granted)
        await ledger.ends(granted, 1)
        (third,) = await ledger.sell("adult")
        lane.kinds.clear()
        await lane.follow()
        assert lane.kinds == ["delta", "same"]
        right = lane.ticket(first.ticket).rights[0]
        assert (right.redeemed, right.held, right.used_day, right.last_used_lane) == (1, 0, 1, "lane1")
        assert lane.ticket(second.ticket).rights[0].redeemed == 0
        assert lane.ticket(third.ticket).state == "active"
        zones = {value.zone: value.inside for value in lane.of("z")}  # type: ignore[union-attr]
        assert zones["park"] == 1


async def test_what_the_office_revokes_is_in_the_next_delta() -> None:
    async with _site() as (_, ledger, lane):
        refunded, held = await ledger.sell("adult", 2)
        (card,) = await ledger.sell("annual", card_hash=hash_id("card", "old"), tenders=[("cash", 30_000)])
        await lane.follow()
        await ledger.ask(command(RequestRefund, ticket=refunded.ticket, places=1))
        await ledger.ask(command(HoldTicket, ticket=held.ticket, held=True))
        await ledger.ask(command(ReplaceCard, ticket=card.ticket, card_hash=hash_id("card", "new"), tail="new"))
        lane.kinds.clear()
        await lane.follow()
        assert lane.kinds == ["delta", "same"]
        right = lane.ticket(refunded.ticket).rights[0]
        assert right.refunded + right.reserved_refund == 1
        assert lane.ticket(held.ticket).state == "on_hold"
        cards = {value.key: (value.state, value.issue_index) for value in lane.of("c")}  # type: ignore[union-attr]
        old, new = (lists.credential_key("card", hash_id("card", name)).decode() for name in ("old", "new"))
        assert cards == {f"{old}{card.ticket}": ("superseded", 0), f"{new}{card.ticket}": ("active", 1)}


async def test_what_has_moved_is_told_and_whether_it_was_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _site() as (_, ledger, lane):
        monkeypatch.setattr(_lists, "JUST_SOLD_S", 3600.0)
        start, older = await lane.reader.moved(None)
        assert not older
        assert await lane.reader.moved(start) == (start, False)
        (sold,) = await ledger.sell("adult")
        after, older = await lane.reader.moved(start)
        assert (after > start, older) == (True, False)
        await ledger.ask(command(HoldTicket, ticket=sold.ticket, held=True))
        held, older = await lane.reader.moved(after)
        assert (held > after, older) == (True, False), "just sold"
        monkeypatch.setattr(_lists, "JUST_SOLD_S", -3600.0)  # as if it were an hour later
        assert await lane.reader.moved(after) == (held, True)


async def test_no_secret_and_no_number_is_in_the_list() -> None:
    async with _site() as (_, ledger, lane):
        await ledger.sell("annual", card_hash=hash_id("card", "04A1"), template_enc=b"face", tenders=[("cash", 30_000)])
        part = await lane.reader.part(None, None, "")
        lines = b"\n".join(item.line for item in lists.unpack(part.data, part.crc))
        assert hash_id("card", "04A1")[:16].hex().encode() in lines
        for secret in (hash_id("card", "04A1").hex().encode(), b"04A1", b"face".hex().encode()):
            assert secret not in lines


async def test_a_whole_list_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the server was restarted in between, with tickets sold and used meanwhile."""
    monkeypatch.setattr(_lists, "PART_TICKETS", 3)
    async with _site() as (database, ledger, lane):
        sold = [each.ticket for each in await ledger.sell("adult", 10)]
        part = await lane.reader.part(None, None, "")
        parts = 1
        while part.cursor:
            lane.take(part)
            reader = ListReader(setup(), database.dsn, keys=_keys)
            async with reader.running():
                part = await reader.part(None, part.mark, part.cursor)
            assert not part.first
            parts += 1
            if parts == 3:
                granted = await ledger.scan(sold[0])
                assert isinstance(granted, Granted)
                await ledger.passes(granted)
                sold += [each.ticket for each in await ledger.sell("adult", 2)]
        lane.take(part)
        lane.mark = part.mark
        assert parts >= 4
        await lane.follow()
        assert lane.kinds[-1] == "same"
        assert {value.ticket for value in lane.of("t")} == set(sold)  # type: ignore[union-attr]
        assert lane.ticket(sold[0]).rights[0].redeemed == 1


async def test_a_delta_may_have_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lists, "PART_TICKETS", 2)
    async with _site() as (_, ledger, lane):
        await lane.follow()
        sold = {each.ticket for each in await ledger.sell("adult", 7)}
        lane.kinds.clear()
        await lane.follow()
        assert lane.kinds == ["delta"] * 4 + ["same"]
        assert {value.ticket for value in lane.of("t")} == sold  # type: ignore[union-attr]


@pytest.mark.parametrize("mark", [ListMark(99, "x"), ListMark(1, "x"), ListMark(0, ""), ListMark(2**53 - 1, "é")])
async def test_an_unknown_mark_begins_a_whole_list(mark: ListMark) -> None:
    async with _site() as (_, ledger, lane):
        await ledger.sell("adult")
        await lane.follow()
        lane.mark = mark
        lane.kinds.clear()
        await lane.follow()
        assert lane.kinds == ["whole", "whole", "same"]


@pytest.mark.parametrize(
    "cursor", ["x", "whole:1", "whole:a:b", "whole:-1:1", f"whole:{'9' * 30}:1", "delta:0:0", "::", "é:1:1"]
)
async def test_an_unknown_cursor_begins_a_whole_list(cursor: str) -> None:
    async with _site() as (_, ledger, lane):
        await ledger.sell("adult")
        await lane.follow()
        assert lane.mark is not None
        part = await lane.reader.part(None, lane.mark, cursor)
        assert (part.kind, part.first) == ("whole", True)


async def test_a_restored_database_begins_a_whole_list() -> None:
    """Its versions were given out before, for something else."""
    async with _site() as (database, ledger, lane):
        await lane.follow()
        await ledger.sell("adult")
        await lane.follow()
        await database.corrupt("delete from list_versions where version > 1")  # as a backup of that time has it
        await ledger.sell("adult")
        other = Lane(lane.reader)
        await other.follow()
        lane.kinds.clear()
        await lane.follow()
        assert lane.kinds[0] == "whole"
        assert lane.items == other.items
        assert lane.mark == other.mark


async def test_versions_count_up_and_are_on_disk_before_they_are_told() -> None:
    async with _site() as (database, ledger, lane):
        told = []
        for _ in range(4):
            await ledger.sell("adult")
            await lane.follow()
            assert lane.mark is not None
            rows = await database.fetch("select token from list_versions where version = $1", lane.mark.version)
            assert [row["token"] for row in rows] == [lane.mark.token]
            told.append(lane.mark.version)
        assert told == sorted(set(told))


async def test_old_versions_are_forgotten_and_the_numbers_go_on() -> None:
    async with _site() as (database, ledger, lane):
        await ledger.sell("adult")
        await lane.follow()
        for later_s in (0.0, 3600.0, 8 * 86400.0, 30 * 86400.0):  # started anew each time: what is old is forgotten

            def clock(later_s: float = later_s) -> float:
                return time.time() + later_s

            lane.reader = ListReader(setup(), database.dsn, keys=_keys, clock=clock)
            async with lane.reader.running():
                before = lane.mark
                await ledger.sell("adult")
                await lane.follow()
                assert before is not None
                assert lane.mark is not None
                assert lane.mark.version > before.version
        assert await database.fetchval("select count(*)::int from list_versions") <= 2
        assert await database.fetchval("select count(*)::int from list_changes") <= 2
        report = await audit(database.dsn, "demo")
        assert report.clean, report.broken


async def test_a_new_key_makes_a_new_version() -> None:
    async with _site() as (database, _, lane):
        await lane.follow()
        keys = [*_keys(), ListKey("k", "ticket/2", "ticket", "2", "cd")]
        lane.reader = ListReader(setup(), database.dsn, keys=lambda: keys)
        async with lane.reader.running():
            lane.kinds.clear()
            await lane.follow()
        assert lane.kinds == ["delta", "same"]
        assert lane.of("k") == keys


async def test_only_what_is_good_now_or_soon_is_in_the_list() -> None:
    async with _site() as (database, ledger, lane):
        today = {each.ticket for each in await ledger.sell("adult")}
        far = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 20 * 86400))
        old = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 20 * 86400))
        (later,) = await ledger.sell("adult", visit_date=far)
        await ledger.sell("adult", visit_date=old)
        await lane.follow()
        assert {value.ticket for value in lane.of("t")} == today  # type: ignore[union-attr]
        in_time = ListReader(setup(), database.dsn, keys=_keys, clock=lambda: time.time() + 18.5 * 86400)
        async with in_time.running():  # days go by, and nothing is sold
            lane.reader = in_time
            await lane.follow()
        assert later.ticket in {value.ticket for value in lane.of("t")}  # type: ignore[union-attr]


async def test_a_small_ticket_is_told_anew_when_its_main_ticket_was_used() -> None:
    async with _site(product("main"), product("small", requires=["main"])) as (_, ledger, lane):
        lines = [SaleLineOp(product=name, quantity=1, visit_date=visit_date()) for name in ("main", "small")]
        booked = await ledger.ask(msgspec.structs.replace(sale("main"), lines=lines))
        main, small = (each.ticket for each in booked.tickets)
        await lane.follow()
        assert lane.ticket(small).used_today == []
        granted = await ledger.scan(main)
        assert isinstance(granted, Granted)
        await ledger.passes(granted)
        await lane.follow()
        assert lane.ticket(small).used_today == ["main"]


async def test_without_a_database_the_lane_is_told_so_and_it_works_again() -> None:
    async with _site() as (database, _, lane):
        good = lane.reader._dsn
        lane.reader._dsn = lambda: database.dsn.with_database("there_is_none")
        with pytest.raises(LedgerUnavailable):
            await lane.follow()
        lane.reader._dsn = good
        await lane.follow()
        assert lane.mark is not None


async def test_giving_up_in_the_middle_leaves_a_reader_that_works() -> None:
    async with _site() as (_, ledger, lane):
        await ledger.sell("adult", 20)
        for _ in range(10):
            with trio.move_on_after(0.002):
                await lane.reader.part(None, None, "")
        await lane.follow()
        assert len(lane.of("t")) == 20
