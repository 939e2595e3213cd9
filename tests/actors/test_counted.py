"""An open lane that is only counted: everybody is booked once, in both directions, whatever is restarted."""

from __future__ import annotations

from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from actors.counted import RETRY_S, STUCK_S, WINDOW, CountedLane, CountingActor
from actors.counter import AskBooks, Counter
from actors.errors import CommandRefused
from actors.gate import GateReport, GateResume
from actors.lane import LaneConfig, OpenLane, SetLaneMode
from actors.testing import Neighbours, alive, books, heard, lane_config, only, settle
from core import Address
from core.testing import Probe
from drivers.base import DeviceDown, DeviceUp, PassageCounted
from drivers.counter import MqttCounter
from drivers.counter.testing import broker
from drivers.modbus.testing import until
from protocols.console import LaneView
from protocols.messages import (
    Booked,
    Counters,
    Direction,
    LaneMode,
    PassageKind,
    Passed,
    Release,
    ReleaseAck,
    Restore,
)
from sim.counter import SimCounter
from storage.audit import audit
from storage.interfaces import CounterBaseline
from storage.testing import fresh_database, ledger_running

ENTRY, EXIT = Direction.ENTRY, Direction.EXIT


def config() -> LaneConfig:
    return msgspec.structs.replace(lane_config(), kind="open", mode=LaneMode.FREE_COUNTED, device="counter/g1")


class Rig(Neighbours):
    """A counted lane whose counter and outbox are probes."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.outbox = Probe("source", capacity=4096), Probe("outbox", capacity=4096)
        self.me = Address("lane", capacity=1024)
        self.lane = CountedLane(config(), self.parts(), self.source, self.outbox)

    async def tell(self, *messages):
        for message in messages:
            self.me.tell(message)
        await settle()

    async def up(self, epoch="e1", entries=0, exits=0):
        await self.tell(DeviceUp(counters=Counters(epoch, entries, exits)))

    async def counted(self, direction, counter, epoch="e1"):
        await self.tell(PassageCounted(direction=direction, epoch=epoch, counter=counter))

    async def said(self):
        """Statements in a form that is short to compare."""
        return [
            (str(said.direction), said.boot, said.seq, str(said.kind))
            if isinstance(said, Passed)
            else ("baseline", said.epoch, said.entries, said.exits)
            for said in only(await heard(self.outbox), Passed, CounterBaseline)
        ]

    async def to_counting(self):
        await self.up()
        await self.tell(books(epoch=None, entries=None, exits=None))
        assert await self.said() == [("baseline", "e1", 0, 0)]

    def booked(self, direction, seq, *, epoch="e1", repeated=False):
        return Booked(
            device="counter/g1", boot=epoch, seq=seq, direction=direction, kind=PassageKind.FREE, repeated=repeated
        )

    async def view(self):
        return only(await heard(self.hub), LaneView)[-1]


@asynccontextmanager
async def counted_lane(*, crashes=0):
    rig = Rig()
    async with alive(rig.lane.run, rig.me, crashes=crashes):
        await settle()
        yield rig


async def test_it_asks_its_counter_and_then_the_books(autojump_clock):
    async with counted_lane() as rig:
        assert await heard(rig.source) == [GateReport()]
        await rig.up()
        assert await heard(rig.outbox) == [AskBooks()]


async def test_the_first_counts_ever_seen_are_nobodys_passage(autojump_clock):
    async with counted_lane() as rig:
        await rig.up(entries=4711, exits=9)
        await rig.tell(PassageCounted(direction=ENTRY, epoch="e1", counter=4713))
        await rig.tell(books(epoch=None, entries=None, exits=None))
        assert await rig.said() == [
            ("baseline", "e1", 4711, 9),
            ("entry", "e1", 4712, "free"),
            ("entry", "e1", 4713, "free"),
        ]


async def test_people_are_booked_one_by_one_in_both_directions(autojump_clock):
    async with counted_lane() as rig:
        await rig.to_counting()
        await rig.counted(ENTRY, 2)
        await rig.counted(EXIT, 1)
        await rig.counted(ENTRY, 2)  # said again
        await rig.counted(ENTRY, 1)  # overtaken
        passed = [said for said in await heard(rig.outbox) if isinstance(said, Passed)]
        assert [(said.direction, said.seq, said.from_zone, said.to_zone) for said in passed] == [
            (ENTRY, 1, "outside", "park"),
            (ENTRY, 2, "outside", "park"),
            (EXIT, 1, "park", "outside"),
        ]


async def test_what_was_missed_is_booked_from_the_difference(autojump_clock):
    async with counted_lane() as rig:
        await rig.up(epoch="new", entries=130, exits=52)
        await rig.tell(books(epoch="e1", entries=1000, exits=50))
        assert GateResume(epoch="e1", entries=1000, exits=50) in await heard(rig.source)
        await rig.up(epoch="e1", entries=1002, exits=51)
        assert await rig.said() == [
            ("entry", "e1", 1001, "free"),
            ("entry", "e1", 1002, "free"),
            ("exit", "e1", 51, "free"),
        ]


async def test_a_counter_that_was_reset_while_nobody_watched_begins_anew(autojump_clock):
    async with counted_lane() as rig:
        await rig.up(epoch="new", entries=30, exits=2)
        await rig.tell(books(epoch="e1", entries=1000, exits=50))
        await rig.up(epoch="e2", entries=30, exits=2)
        await rig.counted(ENTRY, 31, epoch="e2")
        assert await rig.said() == [("baseline", "e2", 30, 2), ("entry", "e2", 31, "free")]


async def test_those_who_came_since_a_reset_that_was_seen_are_booked(autojump_clock):
    async with counted_lane() as rig:
        await rig.to_counting()
        await rig.counted(ENTRY, 1)
        await rig.tell(DeviceDown(reason="reset"))
        await rig.up(epoch="e2", entries=0, exits=0)
        await rig.counted(ENTRY, 3, epoch="e2")
        assert await rig.said() == [
            ("entry", "e1", 1, "free"),
            ("baseline", "e2", 0, 0),
            ("entry", "e2", 1, "free"),
            ("entry", "e2", 2, "free"),
            ("entry", "e2", 3, "free"),
        ]


async def test_a_counter_that_was_away_goes_on(autojump_clock):
    async with counted_lane() as rig:
        await rig.to_counting()
        await rig.counted(ENTRY, 1)
        await rig.tell(DeviceDown(reason="broker"))
        assert (await rig.view()).available is False
        await rig.up(entries=5, exits=2)
        assert [seq for _, _, seq, _ in await rig.said()] == [1, 2, 3, 4, 5, 1, 2]
        assert (await rig.view()).available is True


async def test_a_crowd_does_not_overrun_the_outbox(autojump_clock):
    async with counted_lane() as rig:
        await rig.to_counting()
        await rig.counted(ENTRY, 1000)
        first = await rig.said()
        assert len(first) == WINDOW
        for _, epoch, seq, _ in first:
            await rig.tell(rig.booked(ENTRY, seq, epoch=epoch))
        assert [seq for _, _, seq, _ in await rig.said()] == list(range(WINDOW + 1, 2 * WINDOW + 1))


async def test_when_nothing_moves_the_ledger_says_where_it_stands(autojump_clock):
    async with counted_lane() as rig:
        await rig.to_counting()
        await rig.counted(ENTRY, 3)
        await rig.said()
        await trio.sleep(STUCK_S + 2 * RETRY_S)  # no answer came: lost, or the ledger is away
        assert AskBooks() in await heard(rig.outbox)
        await rig.tell(books(epoch="e1", entries=2, exits=0))
        await rig.up(entries=3)
        assert await rig.said() == [("entry", "e1", 3, "free")]


async def test_an_outbox_without_room_is_told_later(autojump_clock):
    async with counted_lane() as rig:
        rig.outbox = Probe("outbox", capacity=2)
        rig.lane._outbox = rig.outbox
        await rig.up()
        await heard(rig.outbox)
        await rig.tell(books(epoch=None, entries=None, exits=None))
        await rig.counted(ENTRY, 5)
        seen = await rig.said()
        for _ in range(6):
            await trio.sleep(RETRY_S * 1.1)
            seen += await rig.said()
        assert [said[2] for said in seen[1:]] == [1, 2, 3, 4, 5]


async def test_in_an_evacuation_it_is_open_at_once_and_those_who_flee_are_counted_as_such(autojump_clock):
    async with counted_lane() as rig:
        await rig.to_counting()
        rig.me.tell(Release(incident=7), system=True)
        await settle()
        (ack,) = only(await heard(rig.evacuation), ReleaseAck)
        assert (ack.incident, ack.sensed_open, ack.barrier) == (7, True, "released")
        await rig.counted(EXIT, 2)
        assert [kind for *_, kind in await rig.said()] == ["emergency", "emergency"]
        rig.me.tell(Release(incident=7), system=True)
        await settle()
        assert len(only(await heard(rig.evacuation), ReleaseAck)) == 1, "said again when asked again"
        await rig.tell(Restore(incident=6))
        await rig.counted(EXIT, 3)
        await rig.tell(Restore(incident=7))
        await rig.counted(EXIT, 4)
        assert [kind for *_, kind in await rig.said()] == ["emergency", "free"]
        assert (await rig.view()).state == "counting"


async def test_it_acknowledges_a_release_also_while_its_counter_is_away(autojump_clock):
    async with counted_lane() as rig:
        rig.me.tell(Release(incident=7), system=True)
        await settle()
        assert only(await heard(rig.evacuation), ReleaseAck)[0].sensed_open


@pytest.mark.parametrize(
    "order", [SetLaneMode(mode=LaneMode.CLOSED, reason="r", by="ann"), OpenLane(pax=1, reason="r", by="a")]
)
async def test_there_is_nothing_to_open_or_to_shut(order, autojump_clock):
    async with counted_lane() as rig:
        with pytest.raises(CommandRefused) as refused:
            await rig.me.ask(order, 1.0)
        assert refused.value.code == "no_barrier"


async def test_the_console_sees_todays_counts_grow_with_what_is_on_disk(autojump_clock):
    async with counted_lane() as rig:
        await rig.up()
        await rig.tell(books(epoch="e1", entries=0, exits=0))
        await rig.up()
        await rig.tell(rig.booked(ENTRY, 1), rig.booked(ENTRY, 1, repeated=True), rig.booked(EXIT, 1))
        view = await rig.view()
        assert (view.entries, view.exits, view.mode) == (1, 1, "free_counted")


async def test_its_counters_actor_says_the_newest_counts_to_a_lane_that_begins_anew(autojump_clock):
    class Driver:
        resumed = None

        async def run(self, emit):
            self.emit = emit
            await trio.sleep_forever()

        def statistics(self):
            return MqttCounter("127.0.0.1", topic="t", client_id="c").statistics()

        def resume(self, *booked):
            self.resumed = booked

    driver, lane = Driver(), Probe("lane")
    address = Address("counter/g1", capacity=16)
    async with alive(CountingActor("counter/g1", driver, lane, "g1", Probe("hub")).run, address):
        await settle()
        driver.emit(DeviceUp(counters=Counters("e1", 5, 1)))
        driver.emit(PassageCounted(direction=ENTRY, epoch="e1", counter=8))
        await heard(lane)
        address.tell(GateReport())
        assert await heard(lane) == [DeviceUp(counters=Counters("e1", 8, 1))]
        address.tell(GateResume(epoch="e1", entries=3, exits=1))
        await settle()
        assert driver.resumed == ("e1", 3, 1)


# --- with a real broker and a real ledger -------------------------------------------------------------------------


@asynccontextmanager
async def site(port: int, ledger: Address):
    """The actors of one open lane on a real ledger; ends without a word, as a killed server does."""
    neighbours = Neighbours()
    parts = msgspec.structs.replace(neighbours.parts(), books=ledger)
    lane, source, outbox = (Address(name, capacity=1024) for name in ("lane/g1", "counter/g1", "outbox/g1"))
    driver = MqttCounter("127.0.0.1", port, topic="counters/g1", client_id="paifang-g1")
    counted = CountedLane(config(), parts, source, outbox)
    async with (
        alive(Counter("g1", "counter/g1", ledger, lane).run, outbox),
        alive(counted.run, lane),
        alive(CountingActor("counter/g1", driver, lane, "g1", neighbours.hub).run, source),
    ):
        yield counted


async def test_neither_a_restarted_broker_nor_a_restarted_server_loses_or_doubles_a_passage(tmp_path):
    """Every person of the day is in the books once: through two lives of the broker and three of the lane."""
    sim = SimCounter()
    async with (
        broker(tmp_path) as mosquitto,
        fresh_database() as database,
        ledger_running(database.dsn) as ledger,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(sim.publish, mosquitto.port, "counters/g1")

        async def booked() -> list[tuple[str, str, int]]:
            rows = await database.fetch(
                "select direction, kind, count(*)::int as people from passages group by 1, 2 order by 1, 2"
            )
            return [(row["direction"], row["kind"], row["people"]) for row in rows]

        async def until_booked(*expected: tuple[str, str, int]) -> None:
            with trio.fail_after(30):
                while await booked() != list(expected):
                    await trio.sleep(0.05)

        async with site(mosquitto.port, ledger.address) as counted:
            await until(lambda: counted._stated is not None)
            sim.person(ENTRY, 3)
            sim.person(EXIT, 1)
            await until_booked(("entry", "free", 3), ("exit", "free", 1))
            await mosquitto.stop()
            sim.person(ENTRY, 4)  # while there is no broker
            await until(lambda: not counted._up)
            await mosquitto.start()
            sim.person(ENTRY, 1)
            await until_booked(("entry", "free", 8), ("exit", "free", 1))
        sim.person(ENTRY, 5)  # while there is no server
        sim.person(EXIT, 2)
        async with site(mosquitto.port, ledger.address) as counted:
            await until_booked(("entry", "free", 13), ("exit", "free", 3))
            await mosquitto.kill()  # and nothing saved in an orderly way
            await until(lambda: not counted._up)
            sim.person(ENTRY, 2)
            await mosquitto.start()
            await until_booked(("entry", "free", 15), ("exit", "free", 3))
        async with site(mosquitto.port, ledger.address) as counted:
            await until(lambda: counted._stated is not None and counted._stated.entries == 15)
            sim.person(EXIT, 1)
            await until_booked(("entry", "free", 15), ("exit", "free", 4))
        report = await audit(database.dsn, "demo")
        assert report.clean, report.broken
        inside = await database.fetch("select inside from zones where zone = 'park'")
        assert [row["inside"] for row in inside] == [11]
        nursery.cancel_scope.cancel()
