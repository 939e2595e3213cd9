"""UHPPOTE controllers over real UDP sockets. The controller is our own simulator, whose packets are written with the
field encoders of the `uhppoted` library and checked against recorded ones of a foreign simulator (tests/protocols)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
import trio

from core.testing import patient_time
from drivers.base import (
    AlarmKind,
    Availability,
    Barrier,
    BarrierChanged,
    CredentialRead,
    DeviceDown,
    DeviceUp,
    GateAlarm,
    InputChanged,
    InputState,
)
from drivers.modbus.testing import Recorder, until
from drivers.testing import open_descriptors
from drivers.uhppote import UhppoteController
from protocols.messages import CredentialKind, Direction
from protocols.uhppote import Mode
from sim.uhppote import STRANGER, Recorded, SimUhppote

patient = pytest.fixture(autouse=True)(patient_time)

SERIAL = 405419896
ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
POLL_S = 0.05


class Rig:
    """A simulated controller, and the faces of the driver's controller that a test wants."""

    def __init__(self, sim: SimUhppote, nursery: trio.Nursery) -> None:
        self.sim = sim
        self.nursery = nursery
        self.controller = UhppoteController("127.0.0.1", SERIAL, port=sim.port, poll_s=POLL_S, rng=random.Random(1))
        self.door = self.controller.door(1, open_s=1)
        self.heard = Recorder()
        self.cards = Recorder()
        self.inputs = Recorder()

    def run(self, driver, emit) -> trio.CancelScope:
        scope = trio.CancelScope()

        async def main() -> None:
            with scope:
                await driver.run(emit)

        self.nursery.start_soon(main)
        return scope

    async def start(self) -> None:
        self.run(self.door, self.heard)
        self.run(self.controller.reader(1), self.cards)
        self.run(self.controller.inputs(), self.inputs)
        await until(lambda: self.heard.of(DeviceUp) and self.inputs.of(InputChanged))

    async def polls(self, count: int = 4) -> None:
        """Let it look at its status so many times."""
        before = self.sim.heard.count(0x20)
        total = len(self.sim.heard)
        await until(lambda: self.sim.heard.count(0x20) >= before + count or len(self.sim.heard) > total + 900)

    def numbers(self) -> list[str]:
        return [read.value for read in self.cards.of(CredentialRead)]

    def moves(self) -> list[Barrier]:
        return [event.barrier for event in self.heard.of(BarrierChanged)]


@asynccontextmanager
async def rig(*, start: bool = True) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        sim = SimUhppote(SERIAL)
        await nursery.start(sim.serve)
        made = Rig(sim, nursery)
        if start:
            await made.start()
        yield made
        nursery.cancel_scope.cancel()


async def test_set_up_switches_special_events_on_names_the_listener_and_sets_the_clock():
    async with rig(start=False) as r:
        r.sim.skew = timedelta(hours=-7)
        await r.start()
        assert r.sim.special_events and r.sim.listener is not None and r.sim.listener[0] == "127.0.0.1"
        assert abs(r.sim.skew.total_seconds()) < 60
        assert r.sim.modes[1] is Mode.CONTROLLED and r.sim.delays_s[1] == 1
        await r.polls(2)
        statistics = r.door.statistics()
        assert statistics.firmware == "v8.92" and statistics.clock_skew_s is not None
        assert abs(statistics.clock_skew_s) < 60


async def test_a_swipe_is_a_credential_with_the_cards_number():
    async with rig() as r:
        r.sim.swipe(10058400)
        r.sim.swipe(77, door=2)
        r.sim.swipe(78, outward=True)
        await until(lambda: r.numbers() == ["10058400"])
        await r.polls()
        assert r.numbers() == ["10058400"], "other doors and the way out are other readers"
        assert r.cards.of(CredentialRead)[0].kind is CredentialKind.CARD


async def test_an_opening_is_confirmed_by_the_door_and_counts_who_was_let_in():
    async with rig() as r:
        for _ in range(3):
            r.door.open(ENTRY, 2, 10.0)
        await until(lambda: r.sim.unlocked(1))
        await until(lambda: r.moves()[-1:] == [Barrier.OPEN])
        r.sim.push()
        await until(lambda: r.heard.people() == [1, 2])
        await until(lambda: r.moves()[-1:] == [Barrier.CLOSED])
        assert r.sim.opened == [1]


async def test_a_door_that_nobody_opened_after_the_lock_did_counts_nobody():
    async with rig() as r:
        r.door.open(ENTRY, 1, 10.0)
        await until(lambda: r.moves() == [Barrier.OPEN, Barrier.CLOSED])
        assert r.heard.people() == []


async def test_without_a_door_contact_a_confirmed_opening_counts():
    async with rig(start=False) as r:
        door = r.controller.door(2, open_s=1, sensor=False)
        heard = Recorder()
        r.run(door, heard)
        await until(lambda: heard.of(DeviceUp))
        door.open(ENTRY, 1, 10.0)
        await until(lambda: heard.people() == [1])


async def test_who_leaves_by_the_button_is_an_exit():
    async with rig() as r:
        r.sim.press()
        r.sim.push()
        await until(lambda: r.heard.people(EXIT) == [1])
        assert r.heard.people(ENTRY) == []


async def test_events_whose_packets_were_lost_are_fetched_by_their_index_once_and_in_order():
    async with rig() as r:
        r.sim.swipe(1)
        await until(lambda: r.numbers() == ["1"])
        r.sim.lose_events = 3
        for card in (2, 3, 4):
            r.sim.swipe(card)
        r.sim.swipe(5)
        await until(lambda: len(r.numbers()) == 5)
        assert r.numbers() == ["1", "2", "3", "4", "5"]
        r.sim.lose_events = 2  # and nothing comes after them: only the index tells
        r.sim.swipe(6)
        r.sim.swipe(7)
        await until(lambda: r.numbers()[5:] == ["6", "7"])
        await r.polls()
        assert len(r.numbers()) == 7 and r.controller.recovered >= 5
        assert r.sim.handled == r.sim.newest


async def test_events_twice_or_in_the_wrong_order_are_one_each_and_in_order():
    async with rig() as r:
        r.sim.send_twice = True
        r.sim.hold_back = 1
        for card in range(1, 6):
            r.sim.swipe(card)
        await until(lambda: len(r.numbers()) >= 5)
        await r.polls()
        assert r.numbers() == ["1", "2", "3", "4", "5"]


async def test_a_swipe_from_before_an_absence_opens_nothing_and_other_events_still_count():
    async with rig() as r:
        r.sim.powered = False
        await until(lambda: r.heard.of(DeviceDown) and r.inputs.of(DeviceDown))
        old = r.sim.clock() - timedelta(seconds=30)
        for kind, reason, card in ((1, 6, 555), (2, 0x14, 0), (2, 0x17, 0)):
            r.sim.events.append(Recorded(r.sim.newest + 1, kind, True, 1, 1, card, old, reason))
        r.sim.powered = True
        await until(lambda: len(r.heard.of(DeviceUp)) == 2)
        await r.polls()
        assert r.numbers() == []
        counters = r.heard.of(DeviceUp)[-1].counters
        assert counters is not None
        assert counters.exits + len(r.heard.people(EXIT)) == 1, "who left by the button meanwhile"


async def test_what_was_recorded_while_no_server_ran_is_taken_up_from_where_it_was_left():
    async with rig(start=False) as r:
        r.sim.special_events = True
        for _ in range(3):
            r.sim.press()
            r.sim.push()
        r.sim.handled = 3  # the first press, opening and closing were handled in an earlier life
        await r.start()
        await r.polls()
        up = r.heard.of(DeviceUp)[0].counters
        assert up is not None and up.exits + len(r.heard.people(EXIT)) == 2
        assert r.sim.handled == r.sim.newest


async def test_a_controller_whose_memory_was_cleared_begins_anew_and_is_set_up_again():
    async with rig() as r:
        for card in (1, 2, 3):
            r.sim.swipe(card)
        await until(lambda: len(r.numbers()) == 3)
        r.sim.clear_memory()
        await r.polls()
        r.sim.swipe(4)
        await until(lambda: r.numbers()[3:] == ["4"])
        r.sim.silent = True
        await until(lambda: r.heard.of(DeviceDown))
        r.sim.silent = False
        await until(lambda: r.sim.special_events and r.sim.listener is not None)


async def test_too_many_events_to_fetch_are_passed_over_and_said(monkeypatch):
    monkeypatch.setattr("drivers.uhppote._controller.CATCH_UP_MAX", 10)
    async with rig(start=False) as r:
        r.sim.handled = 5
        for card in range(1, 101):
            r.sim.swipe(card)
        await r.start()
        await until(lambda: r.controller.passed_over == 85)
        assert "85 events passed over" in r.door.statistics().last_error
        assert r.sim.heard.count(0xB0) == 10


async def test_packets_of_strangers_other_serials_and_noise_are_ignored():
    async with rig() as r:
        event = Recorded(r.sim.newest + 1, 1, True, 1, 1, 4242, datetime.now(), 1)
        await r.sim.intrude(b"hello")
        await r.sim.intrude(r.sim.event_packet(event, serial=STRANGER))
        await r.sim.intrude(b"\x18" + r.sim.event_packet(event)[1:])
        await r.sim.intrude(r.sim.event_packet(event)[:-1])
        await until(lambda: r.door.statistics().bad_frames >= 4)
        await r.sim.intrude(r.sim.event_packet(event))  # sound, and forged: the controller itself knows nothing of it
        huge = Recorded(0xFFFFFFF0, 1, True, 1, 1, 4242, datetime.now(), 1)
        await r.sim.intrude(r.sim.event_packet(huge))
        await r.polls(6)
        assert r.numbers() == []
        r.sim.swipe(7)
        await until(lambda: r.numbers() == ["7"])


def said(log: Recorder) -> Barrier:
    """What was said of the barrier last: when the device came back, or when it moved."""
    return log.of(BarrierChanged | DeviceUp)[-1].barrier


async def test_a_release_holds_every_door_open_by_its_mode_and_outlives_the_controllers_absence():
    async with rig(start=False) as r:
        doors = {number: r.controller.door(number) for number in (1, 2, 3, 4)}
        logs = {number: Recorder() for number in doors}
        for number, door in doors.items():
            r.run(door, logs[number])
        await until(lambda: all(log.of(DeviceUp) for log in logs.values()))
        for door in doors.values():
            door.release()
        await until(lambda: all(r.sim.unlocked(number) for number in doors))
        await until(
            lambda: all(log.of(BarrierChanged)[-1:] and log.of(BarrierChanged)[-1].barrier is Barrier.RELEASED
                        for log in logs.values())
        )  # fmt: skip
        assert set(r.sim.modes.values()) == {Mode.NORMALLY_OPEN}
        r.sim.powered = False
        await until(lambda: all(log.of(DeviceDown) for log in logs.values()))
        r.sim.modes = dict.fromkeys(doors, Mode.CONTROLLED)  # and somebody resets it meanwhile
        r.sim.powered = True
        await until(lambda: set(r.sim.modes.values()) == {Mode.NORMALLY_OPEN})
        await until(lambda: len(logs[1].of(DeviceUp)) == 2 and said(logs[1]) is Barrier.RELEASED)
        doors[1].open(ENTRY, 1, 5.0)
        doors[1].rearm()
        await until(lambda: r.sim.modes[1] is Mode.CONTROLLED)
        await until(lambda: logs[1].of(BarrierChanged)[-1].barrier is Barrier.CLOSED)
        assert r.sim.modes[2] is Mode.NORMALLY_OPEN and r.sim.opened == []


async def test_a_release_while_the_controller_is_away_goes_out_before_any_set_up():
    async with rig() as r:
        r.sim.powered = False
        await until(lambda: r.heard.of(DeviceDown))
        r.door.release()
        r.sim.heard.clear()
        r.sim.powered = True
        await until(lambda: r.sim.modes[1] is Mode.NORMALLY_OPEN)
        await until(lambda: len(r.heard.of(DeviceUp)) == 2)
        assert r.heard.of(DeviceUp)[-1].barrier is Barrier.RELEASED


async def test_a_door_that_somebody_else_holds_open_stays_so_until_rearmed():
    async with rig(start=False) as r:
        r.sim.modes[1] = Mode.NORMALLY_OPEN
        await r.start()
        assert r.heard.of(DeviceUp)[0].barrier is Barrier.RELEASED
        r.door.open(ENTRY, 1, 5.0)
        r.door.close()
        await r.polls()
        assert r.sim.modes[1] is Mode.NORMALLY_OPEN and r.sim.opened == []
        r.door.rearm()
        await until(lambda: r.sim.modes[1] is Mode.CONTROLLED and r.moves()[-1:] == [Barrier.CLOSED])


@pytest.mark.parametrize("fault", ["lost answers", "slow"])
async def test_lost_and_slow_answers_open_once(fault):
    async with rig() as r:
        if fault == "slow":
            r.sim.slow_s = 0.05
        r.door.open(ENTRY, 1, 10.0)
        if fault == "lost answers":
            r.sim.lose_answers = 1
        await until(lambda: r.sim.unlocked(1))
        r.sim.push()
        await until(lambda: r.heard.people() == [1])
        await r.polls()
        assert r.heard.people() == [1] and r.heard.of(DeviceDown) == []


async def test_a_late_open_is_never_carried_out():
    async with rig() as r:
        r.sim.powered = False
        r.door.open(ENTRY, 1, 0.01)
        await until(lambda: r.heard.of(DeviceDown))
        r.door.open(ENTRY, 1, 0.05)
        await trio.sleep(0.1)
        r.sim.powered = True
        await until(lambda: len(r.heard.of(DeviceUp)) == 2)
        await r.polls()
        assert r.sim.opened == []


async def test_away_and_back_is_said_once_each_way_on_every_face():
    async with rig() as r:
        r.sim.powered = False
        await until(lambda: r.heard.of(DeviceDown))
        await trio.sleep(0.5)
        assert r.door.statistics().availability is Availability.UNAVAILABLE
        r.sim.powered = True
        await until(lambda: all(len(log.of(DeviceUp)) == 2 for log in (r.heard, r.cards, r.inputs)))
        assert all(len(log.of(DeviceDown)) == 1 for log in (r.heard, r.cards, r.inputs))
        assert r.door.statistics().reconnects == 1


async def test_inputs_and_alarms_are_reported():
    async with rig() as r:
        states = {event.name: event.state for event in r.inputs.of(InputChanged)}
        assert states["fire"] is InputState.INACTIVE and len(states) == 10
        r.sim.buttons[2] = True
        r.sim.set_fire(True)
        await until(
            lambda: (
                InputChanged(name="fire", state=InputState.ACTIVE) in r.inputs.events
                and InputChanged(name="button-2", state=InputState.ACTIVE) in r.inputs.events
                and InputChanged(name="fire", state=InputState.ACTIVE) in r.heard.events
            )
        )
        r.sim.open_leaf(1, forced=True)
        await until(lambda: [alarm.kind for alarm in r.heard.of(GateAlarm)] == [AlarmKind.FIRE, AlarmKind.FORCED])
        r.sim.set_fire(False)
        await until(lambda: r.heard.of(InputChanged)[-1].state is InputState.INACTIVE)


async def test_when_the_face_that_carries_the_loop_stops_another_carries_on():
    before = open_descriptors()
    async with rig(start=False) as r:
        first = r.run(r.controller.inputs(), r.inputs)
        await until(lambda: r.inputs.of(DeviceUp))
        r.run(r.controller.reader(1), r.cards)
        second = r.run(r.door, r.heard)
        await until(lambda: r.heard.of(DeviceUp) and r.cards.of(DeviceUp))
        first.cancel()
        r.sim.swipe(9)
        await until(lambda: r.numbers() == ["9"])
        second.cancel()
        await r.polls()
        r.sim.swipe(10)
        await until(lambda: r.numbers() == ["9", "10"])
        assert r.cards.of(DeviceDown) == []
    assert open_descriptors() == before


async def test_counting_goes_on_from_what_was_booked():
    async with rig() as r:
        r.door.resume("e5", 10, 4)
        assert r.heard.of(DeviceUp)[-1].counters is not None
        assert r.heard.of(DeviceUp)[-1].counters.entries == 10
        r.door.open(ENTRY, 1, 10.0)
        await until(lambda: r.sim.unlocked(1))
        r.sim.push()
        await until(lambda: r.heard.people() == [11])


@pytest.mark.parametrize(
    "make",
    [
        lambda: UhppoteController("gate.example", SERIAL),
        lambda: UhppoteController("127.0.0.1", 0),
        lambda: UhppoteController("127.0.0.1", SERIAL, port=0),
        lambda: UhppoteController("127.0.0.1", SERIAL, poll_s=0),
        lambda: UhppoteController("127.0.0.1", SERIAL).door(5),
        lambda: UhppoteController("127.0.0.1", SERIAL).door(1, open_s=0),
        lambda: UhppoteController("127.0.0.1", SERIAL).reader(0),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match=r"\w"):
        make()


async def test_a_controller_with_a_broken_clock_still_reads_cards(monkeypatch):
    """Its time is no time: then a swipe is of now when its packet has just come, and old otherwise."""
    async with rig() as r:
        event_packet, answer = r.sim.event_packet, r.sim._answer

        def without_time(packet: bytes | None) -> bytes | None:
            return None if packet is None else packet[:20] + b"\xff" * 7 + packet[27:37] + b"\xff" * 3 + packet[40:]

        monkeypatch.setattr(r.sim, "event_packet", lambda event: without_time(event_packet(event)))
        keep = (0x20, 0xB0)
        monkeypatch.setattr(
            r.sim, "_answer", lambda asked: without_time(answer(asked)) if asked[1] in keep else answer(asked)
        )
        await until(lambda: r.door.statistics().clock_skew_s is None)
        r.sim.swipe(31)
        await until(lambda: r.numbers() == ["31"])
        r.sim.lose_events = 1
        r.sim.swipe(32)
        r.sim.swipe(33)
        await until(lambda: r.numbers() == ["31", "33"])


async def test_doors_that_are_only_released_take_no_events_from_a_server_that_lives():
    """`paifang evacuate` runs the same driver beside the server's."""
    async with rig() as r:
        listener = r.sim.listener
        other = UhppoteController("127.0.0.1", SERIAL, port=r.sim.port, poll_s=POLL_S)
        door, heard = other.door(1), Recorder()
        door.release()
        scope = r.run(door, heard)
        await until(
            lambda: heard.of(BarrierChanged) or any(up.barrier is Barrier.RELEASED for up in heard.of(DeviceUp))
        )
        assert r.sim.modes[1] is Mode.NORMALLY_OPEN and r.sim.listener == listener
        r.sim.swipe(5)
        await until(lambda: r.numbers() == ["5"])
        await until(lambda: r.moves()[-1:] == [Barrier.RELEASED])
        scope.cancel()
        await r.polls()
        assert r.sim.modes[1] is Mode.NORMALLY_OPEN, "the server leaves it as somebody else put it"
