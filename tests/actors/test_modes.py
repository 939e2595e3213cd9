"""Modes in virtual time: each ends at its longest time by itself, whoever started it, also over a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from datetime import time as clock_time
from pathlib import Path
from typing import Any

import pytest
import trio

from actors._mode_book import Book, BookError, read, write
from actors._mode_rules import Plan, lane_mode, openings
from actors.errors import CommandRefused
from actors.lane import SetLaneMode
from actors.modes import ModeKeeper
from actors.testing import alive, heard, only
from core import Address, Stop
from core.testing import Probe
from protocols.console import Done, FeedEvent, ModesNow, SetMode, StopZoneFor
from protocols.messages import LaneMode
from protocols.modes import KINDS, TABLE, EndMode, ListModes, Modes, ModeView, Running, StartMode
from storage.interfaces import AuditEntry

BEGIN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC).timestamp()  # a Monday
MINUTES = {row.kind: 60 for row in TABLE} | {"direct_check": 30}
BASES = {"n1": LaneMode.BIDIRECTIONAL, "n2": LaneMode.NORMAL_ENTRY}
ASK_S = 20.0


class Lane:
    """A lane that does as it is told, or says why not."""

    def __init__(self, name: str) -> None:
        self.address = Address(name)
        self.modes: list[str] = []
        self.refuses = ""

    async def run(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case SetLaneMode(mode=mode):
                    if self.refuses:
                        envelope.fail(CommandRefused(self.refuses, "no"))
                    else:
                        self.modes.append(mode.value)
                        envelope.reply(None)
                case SetMode(mode=word):
                    self.modes.append(word)
                    envelope.reply(Done(detail=word))
                case StopZoneFor() as order:
                    if self.refuses:
                        envelope.fail(CommandRefused(self.refuses, "no"))
                    else:
                        self.modes.append(f"{order.zone} {order.what} {order.minutes}")
                        envelope.reply(Done(detail=order.what))
                case Stop():
                    return


async def at_once(call: Any, *arguments: Any) -> Any:
    """Virtual time does not wait for threads."""
    await trio.lowlevel.checkpoint()
    return call(*arguments)


class Rig:
    def __init__(self, path: Path, plans: list[Plan], since: float) -> None:
        self.lanes = {name: Lane(name) for name in BASES}
        self.zones, self.desk = Lane("zones"), Lane("desk")
        self.ledger, self.hub = Probe("ledger", capacity=4096), Probe("hub", capacity=4096)
        self.me = Address("modes")
        self.offset = since - trio.current_time()
        self.actor = ModeKeeper(
            path=path / "modes.json",
            lanes={name: lane.address for name, lane in self.lanes.items()},
            bases=BASES,
            zones=["park", "hall"],
            zone_actor=self.zones.address,
            desk=self.desk.address,
            ledger=self.ledger,
            hub=self.hub,
            minutes=MINUTES,
            plans=plans,
            timezone=UTC,
            clock=self.clock,
            apart=at_once,
        )

    def clock(self) -> float:
        return self.offset + trio.current_time()

    async def start(self, kind: str, subject: str, minutes: int = 0, reason: str = "crowd") -> ModeView:
        order = StartMode(kind=kind, subject=subject, minutes=minutes, reason=reason, by="ann")
        return await self.me.ask(order, ASK_S)

    async def running(self) -> list[tuple[str, str]]:
        modes: Modes = await self.me.ask(ListModes(), ASK_S)
        return [(each.kind, each.subject) for each in modes.modes]

    async def audited(self) -> list[tuple[str, str]]:
        return [(each.user, each.action) for each in only(await heard(self.ledger), AuditEntry)]


@asynccontextmanager
async def rig(path: Path, plans: list[Plan] | None = None, since: float = BEGIN) -> AsyncIterator[Rig]:
    site = Rig(path, plans or [], since)
    async with trio.open_nursery() as nursery:
        for lane in (*site.lanes.values(), site.zones, site.desk):
            nursery.start_soon(lane.run, lane.address)
        async with alive(site.actor.run, site.me):
            await trio.sleep(0.1)
            yield site
        nursery.cancel_scope.cancel()


SUBJECTS = {"lane": "n1", "zone": "park", "site": "site"}


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_every_mode_ends_at_its_longest_time_is_audited_and_told(
    autojump_clock: object, tmp_path: Path, kind: str
) -> None:
    async with rig(tmp_path) as site:
        row = KINDS[kind]
        view = await site.start(kind, SUBJECTS[row.of])
        assert view.until - view.since == MINUTES[kind] * 60
        await trio.sleep(MINUTES[kind] * 60 - 5)
        assert await site.running() == [(kind, SUBJECTS[row.of])]
        await trio.sleep(10)
        assert await site.running() == []
        assert await site.audited() == [("ann", "mode.start"), ("paifang", "mode.end")]
        events = only(await heard(site.hub), FeedEvent)
        assert [event.code for event in events] == [kind, kind]
        if row.lane_mode:
            there_and_back = ["bidirectional"] if kind == "both_ways" else [row.lane_mode, "bidirectional"]
            assert site.lanes["n1"].modes == there_and_back
        assert read(tmp_path / "modes.json").running == []


async def test_a_mode_whose_time_ended_while_nothing_ran_ends_at_the_start(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with rig(tmp_path) as site:
        await site.start("direct_check", "n1")
        await site.start("closed", "n2")
    async with rig(tmp_path, since=BEGIN + 40 * 60) as later:  # direct check lasts 30 minutes, closed 60
        await trio.sleep(3)
        assert await later.running() == [("closed", "n2")]
        assert await later.audited() == [("paifang", "mode.end")]
        assert later.lanes["n1"].modes == []  # its lane began in its own mode
        assert later.lanes["n2"].modes == ["closed"]  # and this one is told again
        await trio.sleep(20 * 60)
        assert await later.running() == []
        assert later.lanes["n2"].modes == ["closed", "normal_entry"]


@pytest.mark.parametrize("shift_s", [-7200.0, 7200.0])
async def test_a_clock_that_is_set_makes_no_mode_longer(autojump_clock: object, tmp_path: Path, shift_s: float) -> None:
    async with rig(tmp_path) as site:
        await site.start("closed", "n1")
        site.offset += shift_s
        await trio.sleep(60 * 60 + 5)
        assert await site.running() == []
    async with rig(tmp_path) as site:
        await site.start("closed", "n1")
    async with rig(tmp_path, since=BEGIN + shift_s) as later:  # set while nothing ran
        await trio.sleep(60 * 60 + 5)
        assert await later.running() == []


async def test_a_lane_that_is_released_is_told_again_until_it_obeys(autojump_clock: object, tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        site.lanes["n1"].refuses = "released"
        view = await site.start("closed", "n1")
        assert not view.in_force
        await trio.sleep(30)
        assert site.lanes["n1"].modes == []
        site.lanes["n1"].refuses = ""
        await trio.sleep(3)
        assert site.lanes["n1"].modes == ["closed"]
        modes: Modes = await site.me.ask(ListModes(), ASK_S)
        assert modes.modes[0].in_force


async def test_a_lane_without_a_barrier_has_no_such_mode_and_nothing_runs(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with rig(tmp_path) as site:
        site.lanes["n1"].refuses = "no_barrier"
        with pytest.raises(CommandRefused) as refused:
            await site.start("closed", "n1")
        assert refused.value.code == "no_barrier"
        assert await site.running() == []


async def test_the_newest_mode_of_a_lane_counts_and_the_one_before_comes_back(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with rig(tmp_path) as site:
        await site.start("closed", "n1", 50)
        await trio.sleep(1)
        await site.start("maintenance", "n1", 10)
        await trio.sleep(11 * 60)
        assert site.lanes["n1"].modes == ["closed", "maintenance", "closed"]
        await site.start("closed", "n1", 5)  # replaces the longer one
        await trio.sleep(6 * 60)
        assert await site.running() == []
        assert site.lanes["n1"].modes[-1] == "bidirectional"


async def test_the_close_of_the_day_stops_all_zones_and_lets_people_out(autojump_clock: object, tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        view = await site.start("close_day", "site")
        assert site.zones.modes == [f"{zone} {what} 60" for zone in ("park", "hall") for what in ("entry", "sale")]
        assert (site.lanes["n1"].modes, site.lanes["n2"].modes) == (["normal_exit"], ["closed"])
        await site.me.ask(EndMode(mode=view.mode, reason="opened again", by="bob"), ASK_S)
        assert site.zones.modes[4:] == [f"{zone} {what} 0" for zone in ("park", "hall") for what in ("entry", "sale")]
        assert (site.lanes["n1"].modes[-1], site.lanes["n2"].modes[-1]) == ("bidirectional", "normal_entry")


async def test_a_stop_that_is_not_written_down_does_not_run(autojump_clock: object, tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        site.zones.refuses = "unavailable"
        with pytest.raises(CommandRefused):
            await site.start("stop_entry", "park")
        assert await site.running() == []
        with pytest.raises(CommandRefused):
            await site.me.ask(StopZoneFor(zone="park", what="entry", minutes=5, reason="x", by="ann"), ASK_S)
        assert await site.running() == []


async def test_orders_of_the_console_to_zones_and_lanes_are_modes_too(autojump_clock: object, tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        await site.me.ask(StopZoneFor(zone="park", what="sale", minutes=5, reason="x", by="ann"), ASK_S)
        await site.me.ask(SetMode(lane="n1", mode="maintenance", reason="oil", by="ann"), ASK_S)
        assert set(await site.running()) == {("stop_sale", "park"), ("maintenance", "n1")}
        await site.me.ask(StopZoneFor(zone="park", what="sale", minutes=0, reason="over", by="ann"), ASK_S)
        assert await site.running() == [("maintenance", "n1")]
        await site.me.ask(SetMode(lane="n1", mode="normal_entry", reason="done", by="ann"), ASK_S)
        assert await site.running() == []
        await trio.sleep(10)
        assert (site.lanes["n1"].modes, site.desk.modes) == (["maintenance"], ["normal_entry"])


@pytest.mark.parametrize(
    ("kind", "subject", "minutes", "reason", "code"),
    [
        ("party", "n1", 0, "x", "unknown_mode"),
        ("closed", "n9", 0, "x", "unknown_subject"),
        ("closed", "park", 0, "x", "unknown_subject"),
        ("stop_sale", "n1", 0, "x", "unknown_subject"),
        ("direct_check", "n1", 31, "x", "bad_minutes"),
        ("closed", "n1", 0, "  ", "reason_required"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    autojump_clock: object, tmp_path: Path, kind: str, subject: str, minutes: int, reason: str, code: str
) -> None:
    async with rig(tmp_path) as site:
        with pytest.raises(CommandRefused) as refused:
            await site.start(kind, subject, minutes, reason)
        assert refused.value.code == code
        assert await site.running() == []
        assert await site.audited() == []
        assert site.lanes["n1"].modes == []


async def test_a_schedule_begins_and_ends_by_the_sites_clock_and_an_early_end_lasts(
    autojump_clock: object, tmp_path: Path
) -> None:
    plan = Plan(
        lanes=["n1"], mode="exit_only", begin=clock_time(8, 30), end=clock_time(9, 0), days=frozenset({0, 1})
    )
    async with rig(tmp_path, [plan]) as site:
        assert await site.running() == []
        await trio.sleep(31 * 60)
        assert await site.running() == [("exit_only", "n1")]
        assert site.lanes["n1"].modes == ["normal_exit"]
        await trio.sleep(30 * 60)
        assert await site.running() == []
        assert site.lanes["n1"].modes == ["normal_exit", "bidirectional"]
    tuesday = BEGIN + 86400 + 40 * 60
    async with rig(tmp_path, [plan], since=tuesday) as site:
        await trio.sleep(3)
        modes: Modes = await site.me.ask(ListModes(), ASK_S)
        assert modes.modes[0].owner == "schedule"
        await site.me.ask(EndMode(mode=modes.modes[0].mode, reason="quiet", by="ann"), ASK_S)
        await trio.sleep(60)
        assert await site.running() == []
    async with rig(tmp_path, [plan], since=tuesday + 120) as site:  # a restart does not begin it anew
        await trio.sleep(60)
        assert await site.running() == []
    async with rig(tmp_path, [plan], since=BEGIN + 2 * 86400 + 40 * 60) as site:  # no Wednesday
        await trio.sleep(60)
        assert await site.running() == []


def test_a_schedule_over_midnight_is_the_evening_befores() -> None:
    plan = Plan(lanes=["n1"], mode="closed", begin=clock_time(22, 0), end=clock_time(6, 0), days=frozenset({0}))
    midnight = datetime(2026, 3, 3, 0, 0, tzinfo=UTC).timestamp()
    assert [opening.until for opening in openings([plan], midnight + 3600, UTC)] == [midnight + 6 * 3600]
    assert openings([plan], midnight + 6 * 3600, UTC) == []
    assert openings([plan], midnight + 22 * 3600, UTC) == []


def test_lanes_go_by_their_newest_mode_then_by_the_close_of_the_day() -> None:
    def mode(kind: str, subject: str, since: float) -> Running:
        return Running(
            mode=int(since), kind=kind, subject=subject, owner="a", reason="x", since=since, until=since + 60
        )

    modes = [mode("close_day", "site", 3), mode("closed", "n1", 1), mode("both_ways", "n1", 2)]
    assert lane_mode("n1", LaneMode.NORMAL_ENTRY, modes) is LaneMode.BIDIRECTIONAL
    assert lane_mode("n2", LaneMode.NORMAL_ENTRY, modes) is LaneMode.CLOSED
    assert lane_mode("n2", LaneMode.BIDIRECTIONAL, modes) is LaneMode.NORMAL_EXIT
    assert lane_mode("n2", LaneMode.BIDIRECTIONAL, []) is LaneMode.BIDIRECTIONAL


def test_a_book_is_replaced_whole_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    path = tmp_path / "modes.json"
    assert read(path) == Book()
    write(path, Book(done=["a"]))
    assert read(path).done == ["a"]
    assert path.stat().st_mode & 0o077 == 0
    for damage in (b"", b"{", b'{"running": 3}', b"\xff\xfe"):
        path.write_bytes(damage)
        with pytest.raises(BookError):
            read(path)
    with pytest.raises(BookError):
        write(tmp_path / "missing" / "modes.json", Book())


async def test_a_disk_that_takes_nothing_starts_no_mode_and_ends_one_all_the_same(
    autojump_clock: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise BookError("No space left on device")

    async with rig(tmp_path) as site:
        await site.start("closed", "n1")
        monkeypatch.setattr("actors._mode_book.write", full)
        with pytest.raises(CommandRefused) as refused:
            await site.start("closed", "n2")
        assert refused.value.code == "not_kept"
        await trio.sleep(61 * 60)
        assert await site.running() == []
        assert site.lanes["n1"].modes == ["closed", "bidirectional"]


async def test_consoles_are_told_what_runs_whenever_it_changes(autojump_clock: object, tmp_path: Path) -> None:
    async with rig(tmp_path) as site:
        assert [told.modes for told in only(await heard(site.hub), ModesNow)] == [[]]
        view = await site.start("closed", "n1", 5)
        (told,) = only(await heard(site.hub), ModesNow)
        assert told.modes == [view]
        await trio.sleep(6 * 60)
        (over,) = only(await heard(site.hub), ModesNow)
        assert over.modes == []
