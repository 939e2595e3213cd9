"""The physics of a lane, in virtual time: who gets through, and what the sensors say about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from drivers.base import AlarmKind
from drivers.base import Barrier as Sensed
from protocols.messages import Direction, PassageKind
from sim.barrier import Hold, Person, SimBarrier

ENTRY, EXIT = Direction.ENTRY, Direction.EXIT


class Recorder:
    def __init__(self) -> None:
        self.moves: list[tuple[float, Sensed]] = []
        self.people: list[Person] = []
        self.alarms: list[AlarmKind] = []
        self.turns: list[tuple[Direction, int]] = []
        self.start = trio.current_time()

    def barrier_moved(self, sensed: Sensed, facing: Direction | None) -> None:
        self.moves.append((round(trio.current_time() - self.start, 3), sensed))

    def person_passed(self, person: Person) -> None:
        self.people.append(person)

    def barrier_alarm(self, kind: AlarmKind) -> None:
        self.alarms.append(kind)

    def turn_over(self, direction: Direction, unused: int) -> None:
        self.turns.append((direction, unused))


@asynccontextmanager
async def barrier() -> AsyncIterator[tuple[SimBarrier, Recorder]]:
    recorder = Recorder()
    async with trio.open_nursery() as nursery:
        made = SimBarrier(recorder)
        nursery.start_soon(made.run)
        yield made, recorder
        nursery.cancel_scope.cancel()


async def test_opens_lets_one_through_and_closes(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.open(ENTRY, 1)
        assert await lane.wait_turn(ENTRY, 5)
        assert await lane.walk(ENTRY, 0.5, ticket=7, visitor="v") is PassageKind.GRANTED
        await trio.sleep(1)
        assert seen.moves == [(0, Sensed.OPENING), (0.3, Sensed.OPEN), (0.8, Sensed.CLOSING), (1.1, Sensed.CLOSED)]
        assert seen.people == [Person(direction=ENTRY, kind=PassageKind.GRANTED, ticket=7, visitor="v")]
        assert seen.turns == [(ENTRY, 0)]
        assert seen.alarms == []


async def test_nobody_passes_a_closed_barrier(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        assert await lane.walk(ENTRY, 0.5) is None
        assert not await lane.wait_turn(ENTRY, 1)
        assert seen.people == []
        assert seen.alarms == [AlarmKind.INTRUSION]


async def test_closes_by_itself_when_nobody_comes_and_says_how_many_did_not(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.open(ENTRY, 3, open_s=5)
        assert await lane.wait_turn(ENTRY, 5)
        await lane.walk(ENTRY, 0.5)
        await trio.sleep(20)
        assert seen.turns == [(ENTRY, 2)]
        assert lane.sensed is Sensed.CLOSED
        assert not lane.passable(ENTRY)


async def test_told_twice_it_lets_twice_as_many_through(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.open(ENTRY, 1)
        lane.open(ENTRY, 1)
        for _ in range(2):
            assert await lane.wait_turn(ENTRY, 5)
            assert await lane.walk(ENTRY, 0.2) is PassageKind.GRANTED
        assert len(seen.people) == 2


async def test_a_step_back_counts_nobody_and_leaves_the_place_free(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.open(ENTRY, 1, open_s=5)
        await lane.wait_turn(ENTRY, 5)
        assert await lane.walk(ENTRY, 0.4, step_back=True) is None
        assert seen.people == []
        assert lane.passable(ENTRY)
        await trio.sleep(10)
        assert seen.turns == [(ENTRY, 1)]


async def test_a_second_person_close_behind_is_a_tailgater(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.open(ENTRY, 1)
        await lane.wait_turn(ENTRY, 5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lane.walk, ENTRY, 0.5)
            await trio.sleep(0.2)
            assert await lane.walk(ENTRY, 0.5) is PassageKind.TAILGATE
        assert [person.kind for person in seen.people] == [PassageKind.GRANTED, PassageKind.TAILGATE]
        assert seen.alarms == [AlarmKind.TAILGATE]


async def test_walking_out_against_an_entry_is_reverse(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.open(ENTRY, 1)
        await lane.wait_turn(ENTRY, 5)
        assert await lane.walk(EXIT, 0.5) is PassageKind.REVERSE
        assert seen.alarms == [AlarmKind.REVERSE]
        assert lane.passable(ENTRY)


async def test_exit_is_free(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        assert await lane.ask_exit(5)
        assert await lane.walk(EXIT, 0.5) is PassageKind.EXIT
        lane.free_exit = False
        await trio.sleep(2)
        assert not await lane.ask_exit(2)
        assert [person.direction for person in seen.people] == [EXIT]


async def test_never_closes_on_a_person_in_between(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.open(ENTRY, 1, open_s=1)
        await lane.wait_turn(ENTRY, 5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lane.walk, ENTRY, 30)
            await trio.sleep(0.1)
            lane.close(ENTRY)
            await trio.sleep(20)
            assert lane.sensed is Sensed.OPEN
        await trio.sleep(1)
        assert lane.sensed is Sensed.CLOSED
        assert len(seen.people) == 1


async def test_pushed_while_closing_it_opens_again(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.open(ENTRY, 1)
        await lane.wait_turn(ENTRY, 5)
        await lane.walk(ENTRY, 0.1)
        await trio.sleep(0.1)
        assert lane.sensed is Sensed.CLOSING
        assert await lane.walk(ENTRY, 0.1) is None
        await trio.sleep(0.01)
        assert lane.sensed is Sensed.OPENING
        await trio.sleep(2)
        assert lane.sensed is Sensed.CLOSED
        assert seen.alarms == [AlarmKind.PINCH]


async def test_held_it_stays_open_and_everybody_walks_free(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.hold(Hold.RELEASE)
        await trio.sleep(0.5)
        assert lane.sensed is Sensed.RELEASED
        lane.close(ENTRY)
        lane.close(EXIT)
        assert await lane.walk(EXIT, 0.1) is PassageKind.EMERGENCY
        assert await lane.walk(ENTRY, 0.1) is PassageKind.EMERGENCY
        await trio.sleep(1000)
        assert lane.sensed is Sensed.RELEASED
        lane.unhold(Hold.RELEASE)
        await trio.sleep(1)
        assert lane.sensed is Sensed.CLOSED
        assert len(seen.people) == 2


async def test_released_while_somebody_walks_his_turn_ends_when_he_is_through(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, seen):
        lane.open(ENTRY, 2)
        await lane.wait_turn(ENTRY, 5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lane.walk, ENTRY, 1.0)
            await trio.sleep(0.1)
            lane.hold(Hold.RELEASE)
            await trio.sleep(0.1)
            assert lane.sensed is Sensed.RELEASED
            assert seen.turns == []
        await trio.sleep(0.1)
        assert seen.turns == [(ENTRY, 1)]
        assert [person.kind for person in seen.people] == [PassageKind.GRANTED]


async def test_fire_and_release_hold_independently(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, _):
        lane.hold(Hold.FIRE)
        lane.hold(Hold.RELEASE)
        await trio.sleep(1)
        lane.unhold(Hold.RELEASE)
        await trio.sleep(5)
        assert lane.sensed is Sensed.RELEASED
        lane.unhold(Hold.FIRE)
        await trio.sleep(1)
        assert lane.sensed is Sensed.CLOSED


async def test_without_power_nothing_opens_and_what_stands_open_stays(autojump_clock: MockClock) -> None:
    async with barrier() as (lane, _):
        lane.power(False)
        lane.open(ENTRY, 1)
        await trio.sleep(2)
        assert lane.sensed is Sensed.CLOSED
        lane.power(True)
        lane.open(ENTRY, 1, open_s=1)
        await trio.sleep(0.5)
        lane.power(False)
        await trio.sleep(60)
        assert lane.sensed is Sensed.OPEN
        lane.power(True)
        await trio.sleep(2)
        assert lane.sensed is Sensed.CLOSED
