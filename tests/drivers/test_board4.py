"""The board-4 driver against a simulated board on real ptys, with faults on the line and in the board.

The board is our own simulator (`drivers.testing.BoardDouble`): these tests prove the driver against the published
description, not against hardware.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from core.testing import patient_time
from drivers.base import (
    AlarmKind,
    Availability,
    Barrier,
    BarrierChanged,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    Gate,
    GateAlarm,
    InputChanged,
    InputState,
    PassageCounted,
)
from drivers.serial import write_unlocked
from drivers.testing import BoardDouble, PtyLine, open_descriptors, pty_line
from drivers.turnstile import Board4Gate, release_frames
from protocols.board4 import COUNTER_MODULUS, Action, State
from protocols.messages import Counters, Direction

patient = pytest.fixture(autouse=True)(patient_time)

E = TypeVar("E", bound=DeviceEvent)
POLL_S = 0.02


class Rig:
    """A gate on its line, with everything it reported."""

    def __init__(self, path: Path, poll_s: float = POLL_S) -> None:
        self.line = PtyLine(path)
        self.board = BoardDouble(self.line)
        self.gate = Board4Gate(str(path), 9600, 1, poll_s=poll_s, rng=random.Random(1))
        self.events: list[tuple[float, DeviceEvent]] = []

    def emit(self, event: DeviceEvent) -> None:
        self.events.append((trio.current_time(), event))

    def of(self, kind: type[E]) -> list[E]:
        return [event for _, event in self.events if isinstance(event, kind)]

    def executed(self, *actions: Action) -> list[Action]:
        """The commands that the board carried out, all or only some."""
        done = [command.action for command in self.board.commands if command.action is not None]
        return [action for action in done if not actions or action in actions]

    async def until(self, condition: Callable[[], object], timeout_s: float = 5.0) -> None:
        with trio.fail_after(timeout_s):
            while not condition():
                await trio.sleep(0.005)

    async def barrier(self, barrier: Barrier) -> None:
        await self.until(lambda: self.seen() is barrier)

    def seen(self) -> Barrier:
        for _, event in reversed(self.events):
            if isinstance(event, BarrierChanged | DeviceUp):
                return event.barrier
        return Barrier.UNKNOWN


@asynccontextmanager
async def rig_at(
    path: Path, prepare: Callable[[Rig], None] = lambda rig: None, *, poll_s: float = POLL_S
) -> AsyncIterator[Rig]:
    rig = Rig(path, poll_s)
    prepare(rig)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.board.run)
            nursery.start_soon(rig.gate.run, rig.emit)
            await rig.until(lambda: rig.of(DeviceUp) or not rig.line.plugged or rig.board.silent)
            yield rig
            nursery.cancel_scope.cancel()
    finally:
        rig.line.hang_up()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_at(tmp_path / "board") as made:
        yield made


def test_it_is_a_gate() -> None:
    gate: Gate = Board4Gate("/dev/null", 9600, 1)
    assert gate.capabilities.counts and gate.capabilities.hold_open
    assert gate.statistics().availability is Availability.UNKNOWN


@pytest.mark.parametrize("address", [0, 256])
def test_an_address_that_cannot_be_is_refused(address: int) -> None:
    with pytest.raises(ValueError, match="address"):
        Board4Gate("/dev/null", 9600, address)


async def test_says_up_with_counters_and_barrier(tmp_path: Path) -> None:
    def counted(rig: Rig) -> None:
        rig.board.entries, rig.board.exits = 17, 4

    async with rig_at(tmp_path / "board", counted) as rig:
        assert rig.of(DeviceUp) == [DeviceUp(counters=Counters("0", 17, 4), barrier=Barrier.CLOSED)]
        assert rig.gate.statistics().availability is Availability.AVAILABLE
        await trio.sleep(0.2)
        assert rig.of(DeviceUp) == rig.of(DeviceUp)[:1] and not rig.of(PassageCounted)


# --- opening ----------------------------------------------------------------------------------------------------------


async def test_open_lets_one_person_in_and_counts_him(rig: Rig) -> None:
    rig.gate.open(Direction.ENTRY, 1, 2.0)
    await rig.barrier(Barrier.OPEN)
    rig.board.person("entry")
    await rig.barrier(Barrier.CLOSED)
    assert rig.of(PassageCounted) == [PassageCounted(direction=Direction.ENTRY, epoch="0", counter=1)]
    barriers = [event.barrier for event in rig.of(BarrierChanged)]
    assert barriers[-2:] == [Barrier.OPEN, Barrier.CLOSED]
    assert rig.executed() == [Action.ENTER_OPEN]


async def test_a_look_does_not_wait_for_the_next_poll(rig: Rig) -> None:
    unit = rig.gate._unit
    unit._poll_s = 600.0
    await rig.until(lambda: unit.next_poll - trio.current_time() > 300.0)
    rig.board.fire = True
    rig.gate.look()
    await rig.barrier(Barrier.RELEASED)


async def test_a_person_is_told_before_the_barrier_closes(rig: Rig) -> None:
    rig.gate.open(Direction.ENTRY, 1, 2.0)
    await rig.barrier(Barrier.OPEN)
    rig.board.person("entry")  # the double closes at once: count and closed state come in one status
    await rig.barrier(Barrier.CLOSED)
    kinds = [type(event) for _, event in rig.events if not isinstance(event, InputChanged)]
    assert kinds.index(PassageCounted) < len(kinds) - 1 - kinds[::-1].index(BarrierChanged)


async def test_asking_again_while_open_adds_nobody(rig: Rig) -> None:
    rig.gate.open(Direction.ENTRY, 2, 2.0)
    rig.gate.open(Direction.ENTRY, 2, 2.0)
    await rig.barrier(Barrier.OPEN)
    rig.gate.open(Direction.ENTRY, 2, 2.0)
    await trio.sleep(0.6)
    assert rig.executed() == [Action.ENTER_OPEN]
    assert rig.board.credit("entry") == 2


async def test_the_next_turn_opens_again(rig: Rig) -> None:
    for count in (1, 2, 3):
        rig.gate.open(Direction.ENTRY, 1, 2.0)
        await rig.barrier(Barrier.OPEN)
        rig.board.person("entry")
        await rig.until(lambda count=count: len(rig.of(PassageCounted)) == count)
    assert rig.executed() == [Action.ENTER_OPEN] * 3


@pytest.mark.parametrize("lost", [1, 4])
async def test_a_lost_reply_is_not_a_failed_open(rig: Rig, lost: int) -> None:
    """Executed, and the answer lost: exactly one person may pass, and the counter says that one did."""
    rig.board.lose_replies = lost
    rig.gate.open(Direction.ENTRY, 1, 3.0)
    await rig.barrier(Barrier.OPEN)
    assert rig.board.credit("entry") == 1
    await trio.sleep(0.6)
    assert rig.board.credit("entry") == 1
    rig.board.person("entry")
    await rig.until(lambda: rig.of(PassageCounted))
    with pytest.raises(AssertionError, match="closed"):
        rig.board.person("entry")
    await trio.sleep(0.6)
    assert rig.executed() == [Action.ENTER_OPEN]
    assert len(rig.of(PassageCounted)) == 1


async def test_passed_unseen_is_confirmed_by_the_counter_alone(rig: Rig) -> None:
    """Opened, one walked, closed, and all of it while every answer was lost: not opened again."""
    rig.board.silent = True
    rig.gate.open(Direction.ENTRY, 1, 3.0)
    await rig.until(lambda: rig.board.credit("entry") == 1)
    rig.board.person("entry")
    rig.board.silent = False
    await rig.until(lambda: rig.of(PassageCounted))
    await trio.sleep(0.8)
    assert rig.executed() == [Action.ENTER_OPEN]
    assert len(rig.of(PassageCounted)) == 1


async def test_a_lost_command_is_sent_again_and_opens_once(rig: Rig) -> None:
    rig.board.lose_commands = 1
    rig.gate.open(Direction.ENTRY, 3, 3.0)
    await rig.barrier(Barrier.OPEN)
    await trio.sleep(0.6)
    assert rig.board.credit("entry") == 3
    assert rig.executed() == [Action.ENTER_OPEN]


async def test_a_command_lost_for_longer_than_the_deadline_is_given_up(rig: Rig) -> None:
    rig.board.lose_commands = 1000
    rig.gate.open(Direction.ENTRY, 1, 1.0)
    await trio.sleep(1.2)
    rig.board.lose_commands = 0
    await trio.sleep(1.0)
    assert rig.executed() == []
    assert "never seen executed" in rig.gate.statistics().last_error


async def test_a_late_open_is_never_sent(rig: Rig) -> None:
    """The line takes no bytes until the deadline is over."""
    rig.line.stall()
    await trio.sleep(0.05)
    rig.gate.open(Direction.ENTRY, 1, 0.3)
    await trio.sleep(0.6)
    rig.line.resume()
    await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
    await trio.sleep(0.3)
    assert rig.executed() == []
    rig.gate.open(Direction.ENTRY, 1, 2.0)  # and the line works again
    await rig.barrier(Barrier.OPEN)


async def test_an_open_that_its_deadline_overtakes_in_the_writing_is_not_sent_either(rig: Rig) -> None:
    await rig.until(lambda: rig.gate._bus._nap is not None and rig.gate._bus._asked is None)
    rig.line.stall()
    rig.gate.open(Direction.ENTRY, 1, 0.15)
    await trio.sleep(0.2)
    rig.line.resume()
    await trio.sleep(0.5)
    assert rig.executed() == []
    assert "takes no bytes" in rig.gate.statistics().last_error


async def test_a_wish_does_not_wait_for_the_next_poll(tmp_path: Path) -> None:
    async with rig_at(tmp_path / "board", poll_s=1.0) as rig:
        for wish in (lambda: rig.gate.open(Direction.ENTRY, 1, 2.0), rig.gate.close, rig.gate.release, rig.gate.rearm):
            await trio.sleep(0.25)
            before = len(rig.board.heard)
            wish()
            await rig.until(lambda before=before: len(rig.board.heard) > before, timeout_s=0.5)
            assert rig.board.heard[before].action is not None
            await rig.until(lambda: rig.seen() is not Barrier.OPENING)


async def test_an_open_for_a_board_that_is_not_heard_is_dropped_at_its_deadline(rig: Rig) -> None:
    rig.board.deaf = True
    await rig.until(lambda: rig.of(DeviceDown))
    rig.gate.open(Direction.ENTRY, 1, 0.3)
    await trio.sleep(0.4)
    rig.board.deaf = False
    await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
    await trio.sleep(0.3)
    assert rig.executed() == []


async def test_close_takes_back_what_was_not_used(rig: Rig) -> None:
    rig.gate.open(Direction.ENTRY, 3, 2.0)
    await rig.barrier(Barrier.OPEN)
    rig.board.person("entry")
    await rig.until(lambda: rig.of(PassageCounted))
    rig.gate.close()
    rig.gate.open(Direction.ENTRY, 1, 2.0)  # the next visitor at once: must not add to the two that are left
    await rig.until(lambda: rig.executed()[-1:] == [Action.ENTER_OPEN] and len(rig.executed()) > 2)
    assert rig.executed() == [Action.ENTER_OPEN, Action.ENTER_CLOSE, Action.ENTER_OPEN]
    assert rig.board.credit("entry") == 1


async def test_a_lost_close_is_sent_again(rig: Rig) -> None:
    rig.gate.open(Direction.ENTRY, 3, 2.0)
    await rig.barrier(Barrier.OPEN)
    rig.board.lose_commands = 1
    rig.gate.close()
    await rig.barrier(Barrier.CLOSED)
    assert rig.board.credit("entry") == 0


async def test_an_opening_left_over_from_before_is_ended_first(tmp_path: Path) -> None:
    """A restarted server finds the board open for it knows not whom: an open on top would add people."""

    def left_open(rig: Rig) -> None:
        rig.board._credit["entry"], rig.board._credit_until = 2, trio.current_time() + 60

    async with rig_at(tmp_path / "board", left_open) as rig:
        assert rig.seen() is Barrier.OPEN
        rig.gate.open(Direction.ENTRY, 1, 2.0)
        await rig.until(lambda: Action.ENTER_OPEN in rig.executed())
        assert rig.executed() == [Action.ENTER_CLOSE, Action.ENTER_OPEN]
        assert rig.board.credit("entry") == 1


async def test_the_other_direction_ends_the_turn_before(rig: Rig) -> None:
    rig.gate.open(Direction.ENTRY, 2, 2.0)
    await rig.barrier(Barrier.OPEN)
    rig.gate.open(Direction.EXIT, 1, 2.0)
    await rig.until(lambda: Action.EXIT_OPEN in rig.executed())
    assert rig.executed() == [Action.ENTER_OPEN, Action.ENTER_CLOSE, Action.EXIT_OPEN]
    assert (rig.board.credit("entry"), rig.board.credit("exit")) == (0, 1)


# --- release ----------------------------------------------------------------------------------------------------------


async def test_release_holds_open_until_rearmed(rig: Rig) -> None:
    rig.gate.release()
    await rig.barrier(Barrier.RELEASED)
    rig.gate.close()
    rig.gate.open(Direction.ENTRY, 1, 1.0)
    await trio.sleep(0.3)
    assert set(rig.executed()) == {Action.EXIT_HOLD}
    assert rig.seen() is Barrier.RELEASED
    rig.gate.rearm()
    await rig.barrier(Barrier.CLOSED)
    rig.gate.open(Direction.ENTRY, 1, 2.0)
    await rig.barrier(Barrier.OPEN)


async def test_release_goes_before_everything_that_waits(rig: Rig) -> None:
    """With a command outstanding and others queued, the next frame on the line is the hold."""
    rig.board.silent = True
    await trio.sleep(0.05)
    rig.gate.open(Direction.ENTRY, 5, 3.0)
    await rig.until(lambda: rig.executed())
    reached = len(rig.board.heard)
    rig.gate.close()
    rig.gate.open(Direction.EXIT, 1, 3.0)
    rig.gate.release()
    started = trio.current_time()
    await rig.until(lambda: len(rig.board.heard) > reached)
    assert rig.board.heard[reached].action is Action.EXIT_HOLD
    assert trio.current_time() - started < 0.5
    rig.board.silent = False
    await rig.barrier(Barrier.RELEASED)
    await trio.sleep(0.3)
    assert set(rig.executed()) == {Action.ENTER_OPEN, Action.EXIT_HOLD}


async def test_release_is_repeated_until_sensed(rig: Rig) -> None:
    rig.board.lose_commands = 3
    rig.gate.release()
    await rig.barrier(Barrier.RELEASED)
    holds = [command for command in rig.board.heard if command.action is Action.EXIT_HOLD]
    assert len(holds) >= 4


async def test_release_survives_unplugging(rig: Rig) -> None:
    rig.gate.release()
    await rig.barrier(Barrier.RELEASED)
    rig.line.hang_up()
    await rig.until(lambda: rig.of(DeviceDown))
    rig.board.reset()  # its power was cut too: it comes back closed
    rig.line.replug()
    await rig.until(lambda: len(rig.of(DeviceUp)) >= 2)
    await rig.barrier(Barrier.RELEASED)


async def test_release_before_the_board_was_ever_heard(tmp_path: Path) -> None:
    def unplugged(rig: Rig) -> None:
        rig.line.hang_up()
        rig.gate.release()

    async with rig_at(tmp_path / "board", unplugged) as rig:
        await rig.until(lambda: rig.of(DeviceDown))
        rig.line.replug()
        await rig.barrier(Barrier.RELEASED)
        assert rig.board.heard[0].action is Action.EXIT_HOLD  # before the first poll


async def test_release_is_repeated_to_a_board_that_does_not_answer(rig: Rig) -> None:
    rig.board.silent = True
    rig.gate.release()
    await trio.sleep(2.5)
    assert 5 <= len(rig.executed(Action.EXIT_HOLD)) <= 15
    assert any(command.action is None for command in rig.board.heard[-5:])  # and it is still asked


async def test_a_released_board_that_closes_by_itself_is_released_again(rig: Rig) -> None:
    rig.gate.release()
    await rig.barrier(Barrier.RELEASED)
    rig.board._held.clear()
    await rig.until(lambda: rig.board._held)
    await rig.barrier(Barrier.RELEASED)


async def test_evacuation_from_another_process_is_sensed(rig: Rig) -> None:
    await write_unlocked(rig.line.path, 9600, release_frames(1), 1.0)
    await rig.barrier(Barrier.RELEASED)
    rig.gate.close()  # a lane that does not know yet
    rig.gate.open(Direction.ENTRY, 1, 0.5)
    await trio.sleep(0.3)
    assert rig.executed() == [Action.EXIT_HOLD]
    assert rig.seen() is Barrier.RELEASED
    rig.gate.rearm()
    await rig.barrier(Barrier.CLOSED)


async def test_rearm_against_a_fire_contact_stays_open(rig: Rig) -> None:
    rig.gate.release()
    await rig.barrier(Barrier.RELEASED)
    rig.board.fire = True
    rig.gate.rearm()
    await trio.sleep(1.0)
    assert rig.seen() is Barrier.RELEASED
    rig.board.fire = False
    await rig.barrier(Barrier.CLOSED)


# --- counting ---------------------------------------------------------------------------------------------------------


async def test_a_step_of_k_is_k_people_in_order(rig: Rig) -> None:
    rig.board.entries += 3
    rig.board.exits += 2
    await rig.until(lambda: len(rig.of(PassageCounted)) == 5)
    assert [event.counter for event in rig.of(PassageCounted) if event.direction is Direction.ENTRY] == [1, 2, 3]
    assert [event.counter for event in rig.of(PassageCounted) if event.direction is Direction.EXIT] == [1, 2]


async def test_a_wrap_goes_on_counting(tmp_path: Path) -> None:
    def high(rig: Rig) -> None:
        rig.board.entries = COUNTER_MODULUS - 2

    async with rig_at(tmp_path / "board", high) as rig:
        rig.board.entries = 1
        await rig.until(lambda: len(rig.of(PassageCounted)) == 3)
        assert [event.counter - COUNTER_MODULUS for event in rig.of(PassageCounted)] == [-1, 0, 1]
        assert {event.epoch for event in rig.of(PassageCounted)} == {"0"}
        assert len(rig.of(DeviceUp)) == 1


async def test_a_reset_begins_a_new_epoch(tmp_path: Path) -> None:
    def busy(rig: Rig) -> None:
        rig.board.entries, rig.board.exits = 500, 300

    async with rig_at(tmp_path / "board", busy) as rig:
        rig.board.reset()
        await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
        counters = rig.of(DeviceUp)[1].counters
        assert counters is not None and counters.epoch != "0"
        assert (counters.entries, counters.exits) == (0, 0)
        assert "reset" in rig.of(DeviceDown)[0].reason
        assert not rig.of(PassageCounted)
        rig.board.entries += 1
        await rig.until(lambda: rig.of(PassageCounted))
        assert rig.of(PassageCounted)[0].epoch == counters.epoch


async def test_resume_names_the_epoch_and_keeps_it(rig: Rig) -> None:
    rig.board.entries = 9
    await rig.until(lambda: len(rig.of(PassageCounted)) == 9)
    rig.gate.resume("2024-a", 7, 0)
    await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
    assert rig.of(DeviceUp)[1].counters == Counters("2024-a", 9, 0)
    rig.board.entries += 1
    await rig.until(lambda: len(rig.of(PassageCounted)) == 10)
    assert rig.of(PassageCounted)[-1] == PassageCounted(direction=Direction.ENTRY, epoch="2024-a", counter=10)


async def test_resume_above_the_reading_is_a_reset(rig: Rig) -> None:
    rig.gate.resume("old", 1000, 1000)
    await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
    counters = rig.of(DeviceUp)[1].counters
    assert counters is not None and counters.epoch not in ("old", "0")
    assert counters.entries == 0


async def test_people_who_passed_unheard_are_in_the_counters_at_up(rig: Rig) -> None:
    rig.line.hang_up()
    await rig.until(lambda: rig.of(DeviceDown))
    rig.board.entries += 4
    rig.line.replug()
    await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
    assert rig.of(DeviceUp)[1].counters == Counters("0", 4, 0)
    await trio.sleep(0.2)
    assert not rig.of(PassageCounted)


# --- the line ---------------------------------------------------------------------------------------------------------


async def test_unplugged_is_told_within_two_seconds_and_comes_back_by_itself(rig: Rig) -> None:
    rig.line.hang_up()
    started = trio.current_time()
    await rig.until(lambda: rig.of(DeviceDown))
    assert trio.current_time() - started < 2.0
    assert rig.gate.statistics().availability is Availability.UNAVAILABLE
    await trio.sleep(0.5)
    rig.line.replug()
    await rig.until(lambda: len(rig.of(DeviceUp)) == 2, timeout_s=6.0)
    assert len(rig.of(DeviceDown)) == 1
    assert rig.gate.statistics().reconnects >= 1


async def test_silence_is_told_within_two_seconds_and_ends_by_itself(rig: Rig) -> None:
    rig.board.silent = True
    started = trio.current_time()
    await rig.until(lambda: rig.of(DeviceDown))
    assert 1.0 < trio.current_time() - started < 2.0
    rig.board.silent = False
    await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
    assert len(rig.of(DeviceDown)) == 1


async def test_a_flood_of_garbage_is_unavailable_and_leaves_the_processor_free(rig: Rig) -> None:
    rng = random.Random(7)
    stop = trio.Event()

    async def flood() -> None:
        with trio.move_on_after(4.0):
            while not stop.is_set():
                await rig.line.write(rng.randbytes(4096))

    rig.board.silent = True
    worst_s, started = 0.0, trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        while not rig.of(DeviceDown):
            before = time.perf_counter()
            await trio.sleep(0.01)
            worst_s = max(worst_s, time.perf_counter() - before - 0.01)
        stop.set()
    assert worst_s < 5.0
    assert rig.gate.statistics().bytes_in / (trio.current_time() - started) < 80_000
    assert rig.gate.statistics().bad_frames > 100
    rig.board.silent = False
    await rig.until(lambda: len(rig.of(DeviceUp)) == 2, timeout_s=25.0)


async def test_half_frames_and_noise_between_are_counted_and_harmless(rig: Rig) -> None:
    frame = rig.board.status_frame()
    for noise in (frame[:9], b"\xaa\x00", bytes(range(200, 240)), frame[3:], b"\xaa"):
        await rig.line.write(noise)
        await trio.sleep(0.05)
    await trio.sleep(0.3)
    assert not rig.of(DeviceDown)
    assert rig.gate.statistics().bad_frames > 0
    rig.gate.open(Direction.ENTRY, 1, 2.0)
    await rig.barrier(Barrier.OPEN)


async def test_frames_of_other_boards_are_not_ours(rig: Rig) -> None:
    stranger = BoardDouble(rig.line, address=2)
    stranger.entries = 12
    await rig.line.write(stranger.status_frame() * 3)
    await trio.sleep(0.2)
    assert not rig.of(PassageCounted)


async def test_a_damaged_frame_that_looks_sound_is_not_believed(rig: Rig) -> None:
    liar = BoardDouble(rig.line)
    liar.entries = 70_000
    await rig.line.write(liar.status_frame())
    await trio.sleep(0.3)
    assert not rig.of(PassageCounted) and len(rig.of(DeviceUp)) == 1


async def test_alarms_are_told_once_per_episode(rig: Rig) -> None:
    rig.board.alarm = State.TAILGATING
    await trio.sleep(0.3)
    rig.board.alarm = State.REVERSE
    await trio.sleep(0.2)
    rig.board.alarm = None
    await trio.sleep(1.2)
    rig.board.alarm = State.TAILGATING
    await trio.sleep(0.2)
    kinds = [event.kind for event in rig.of(GateAlarm)]
    assert kinds == [AlarmKind.TAILGATE, AlarmKind.REVERSE, AlarmKind.TAILGATE]
    assert rig.seen() is Barrier.CLOSED  # the alarm states say nothing about the barrier


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.CLOSED_FIRE, AlarmKind.FIRE),
        (State.CLOSED_POWER_LOSS, AlarmKind.POWER_LOSS),
        (State.CLOSING_EXIT_PINCH, AlarmKind.PINCH),
        (State.LOITERING, AlarmKind.LOITERING),
        (State.INTRUSION, AlarmKind.INTRUSION),
        (State.EXTERNAL_ALARM, AlarmKind.EXTERNAL),
        (State.OPENING_ENTRY_PUSHED, AlarmKind.FORCED),
        (State.SELF_TEST, AlarmKind.SELF_TEST),
    ],
)
async def test_every_alarm_has_its_kind(rig: Rig, state: State, kind: AlarmKind) -> None:
    rig.board.alarm = state
    await rig.until(lambda: rig.of(GateAlarm))
    assert [event.kind for event in rig.of(GateAlarm)] == [kind]


async def test_the_fire_contact_is_an_input_said_after_every_up_and_then_when_it_changes(rig: Rig) -> None:
    await rig.until(lambda: rig.of(InputChanged))
    rig.board.alarm = State.OPEN_FIRE
    await rig.until(lambda: len(rig.of(InputChanged)) == 2)
    rig.board.alarm = State.TAILGATING  # says nothing about the contact
    await trio.sleep(0.2)
    assert len(rig.of(InputChanged)) == 2
    rig.gate.resume("again", 0, 0)
    await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
    rig.board.alarm = State.CLOSED_FIRE
    await rig.until(lambda: len(rig.of(InputChanged)) == 3)
    rig.board.alarm = None
    await rig.until(lambda: len(rig.of(InputChanged)) == 4)
    quiet, active = (InputChanged(name="fire", state=state) for state in (InputState.INACTIVE, InputState.ACTIVE))
    assert rig.of(InputChanged) == [quiet, active, active, quiet]


async def test_one_damaged_status_is_no_fire(rig: Rig) -> None:
    await rig.until(lambda: rig.of(InputChanged))
    rig.board.silent = True
    await trio.sleep(0.15)
    rig.board.fire = True
    await rig.line.write(rig.board.status_frame())
    rig.board.fire = rig.board.silent = False
    await trio.sleep(0.4)
    assert [event.state for event in rig.of(InputChanged)] == [InputState.INACTIVE]


async def test_statistics_say_what_went_over_the_line(rig: Rig) -> None:
    await trio.sleep(0.2)
    statistics = rig.gate.statistics()
    assert statistics.frames_out >= 3 and statistics.bytes_out == statistics.frames_out * 16
    assert statistics.frames_in >= 2 and statistics.bytes_in >= statistics.frames_in * 16
    assert statistics.last_heard_s is not None and statistics.last_heard_s < 1.0
    assert statistics.since_s > 0.0
    assert statistics.bad_frames == statistics.reconnects == 0


@pytest.mark.parametrize("phase", range(12))
async def test_cancelled_at_any_moment_the_line_is_closed(tmp_path: Path, phase: int) -> None:
    with pty_line(tmp_path / "board") as line:
        board = BoardDouble(line)
        gate = Board4Gate(line.path, 9600, 1, poll_s=POLL_S, rng=random.Random(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(board.run)
            before = open_descriptors()
            with trio.move_on_after(0.004 * phase + 0.001):
                gate.open(Direction.ENTRY, 1, 1.0)
                await gate.run(lambda event: None)
            assert open_descriptors() == before
            nursery.cancel_scope.cancel()


async def test_a_line_in_use_is_said_with_its_holder(tmp_path: Path, rig: Rig) -> None:
    second = Board4Gate(rig.line.path, 9600, 1, rng=random.Random(2))
    told: list[DeviceEvent] = []
    with trio.move_on_after(0.2):
        await second.run(told.append)
    assert len(told) == 1 and isinstance(told[0], DeviceDown)
    assert str(os.getpid()) in told[0].reason


async def test_run_again_after_a_restart_says_up_again(rig: Rig) -> None:
    told: list[DeviceEvent] = []
    gate = Board4Gate(str(rig.line.path) + "2", 9600, 1, poll_s=POLL_S, rng=random.Random(2))
    with pty_line(Path(rig.line.path + "2")) as line:
        board = BoardDouble(line)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(board.run)
            for _ in range(2):
                with trio.move_on_after(0.3):
                    await gate.run(told.append)
                await trio.sleep(0.1)  # an answer on its way would be a reading from before, and right as well
                board.entries += 1
            nursery.cancel_scope.cancel()
    assert [event for event in told if isinstance(event, DeviceUp | DeviceDown)] == [
        DeviceUp(counters=Counters("0", 0, 0), barrier=Barrier.CLOSED),
        DeviceUp(counters=Counters("0", 1, 0), barrier=Barrier.CLOSED),
    ]
