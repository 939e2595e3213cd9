"""Every model of turnstile through an opening, a group, a time-out, tailgating, fire and a loss of power, on real ptys.

The boards are our own simulators (`sim.board`, `sim.turnstile`), written from the published tables: these tests prove
the drivers against those tables and against faults, not against hardware.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

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
    PassageCounted,
)
from drivers.turnstile import MODELS, Buses, CommandLacking, Model, Standing
from protocols import digicon, machpower, tpw
from protocols.messages import Counters, Direction
from sim.barrier import Hold, Timing
from sim.board import SimBoard
from sim.truth import Truth
from sim.turnstile import SimDigicon, SimMachPower, SimTpw

patient = pytest.fixture(autouse=True)(patient_time)

E = TypeVar("E", bound=DeviceEvent)
ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
FAST = Timing(opening_s=0.03, closing_s=0.03, open_s=1.0, alarm_s=0.6)
WAIT_S = 15.0
QUIET_S = 0.5  # what should not happen has not happened by then
DISTINCT = ["board4-wing", "AC-ATRI-018", "AC-ASDSC-017-swing", "Tx1500", "TPW-321ASP", "TPW-tripod"]  # in commands
SENSING = [name for name, model in MODELS.items() if model.senses_barrier]
ANSWERING = [name for name in DISTINCT if MODELS[name].language != "machpower"]
BLIND = [name for name in DISTINCT if MODELS[name].language == "machpower"]


class Rig:
    """A gate and its simulated turnstile on one line."""

    def __init__(self, folder: Path, truth: Truth, name: str, options: dict[str, Any], board: dict[str, Any]) -> None:
        self.model: Model = MODELS[name]
        path = folder / "board"
        self.board = _simulated(self.model, path, truth, board)
        self.gate = Buses(random.Random(1)).gate(
            self.model.language, model=name, path=str(path), poll_s=0.03, **options
        )
        self.events: list[DeviceEvent] = []

    @property
    def barrier(self) -> Any:
        return self.board.barrier

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def alarms(self) -> list[AlarmKind]:
        return [event.kind for event in self.of(GateAlarm)]

    def seen(self) -> Barrier:
        for event in reversed(self.events):
            if isinstance(event, BarrierChanged | DeviceUp):
                return event.barrier
        return Barrier.UNKNOWN

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(WAIT_S):
            while not condition():
                await trio.sleep(0.005)

    async def person(self, direction: Direction = ENTRY) -> None:
        """Somebody waits for his turn and walks through."""
        assert await self.barrier.wait_turn(direction, WAIT_S), "the barrier did not open"
        assert await self.barrier.walk(direction, 0.01) is not None
        if not self.model.capabilities.counts and self.model.language == "machpower":
            self.gate.passage(direction)  # the sensor that has to be wired to such a board

    async def counted(self, people: int) -> None:
        await self.until(lambda: len(self.of(PassageCounted)) >= people)
        await trio.sleep(0.1)
        assert len(self.of(PassageCounted)) == people

    async def nobody_else(self) -> None:
        """It closes, and stays so."""
        await self.until(lambda: self.barrier.sensed is Barrier.CLOSED)
        assert not await self.barrier.wait_turn(ENTRY, QUIET_S), "it opened again"

    def cut_power(self) -> None:
        if isinstance(self.board, SimBoard):
            self.board.mischief.deaf = self.board.mischief.silent = True
        else:
            self.board.power(False)

    def restore_power(self) -> None:
        if isinstance(self.board, SimBoard):
            self.board.mischief.deaf = self.board.mischief.silent = False
        else:
            self.board.power(True)


def _simulated(model: Model, path: Path, truth: Truth, options: dict[str, Any]) -> Any:
    match model.language:
        case "board4":
            return SimBoard("n1", path, truth, timing=FAST, **options)
        case "machpower":
            return SimMachPower("n1", truth, path=path, timing=FAST, **options)
        case "digicon":
            return SimDigicon("n1", truth, path=path, timing=FAST, **options)
        case _:
            return SimTpw("n1", truth, path=path, timing=FAST, tripod=model.body == "tripod", **options)


@asynccontextmanager
async def rig_of(
    folder: Path,
    name: str,
    prepare: Callable[[Rig], None] = lambda rig: None,
    *,
    board: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Rig]:
    if MODELS[name].language == "machpower":
        options = {"sensor": True, "open_s": 1.0, **options}
    with Truth(folder / "truth.jsonl") as truth:
        rig = Rig(folder, truth, name, options, board or {})
        prepare(rig)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.board.run)
            nursery.start_soon(rig.gate.run, rig.events.append)
            await rig.until(lambda: rig.of(DeviceUp))
            yield rig
            nursery.cancel_scope.cancel()


def opens(rig: Rig) -> int:
    """How often the board was told to open for somebody."""
    if isinstance(rig.board, SimBoard):
        return sum(command.action in (0, 3) for command in rig.board.commands)
    heard = rig.board.heard
    match rig.model.language:
        case "machpower":
            return sum(frame.command in (0x40, 0x41) for frame in heard)
        case "digicon":
            return int(rig.board.releases)
        case _:
            return sum(frame.kind is tpw.Kind.MODE and frame.content in "23" for frame in heard)


@pytest.mark.parametrize("name", MODELS)
async def test_every_model_opens_for_one_and_counts_him(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        gate: Gate = rig.gate
        before = rig.of(DeviceUp)[0].counters
        assert before is not None
        gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.counted(1)
        (event,) = rig.of(PassageCounted)
        assert (event.direction, event.counter) == (ENTRY, before.entries + 1)
        await rig.until(lambda: rig.seen() is Barrier.CLOSED)
        assert opens(rig) == 1
        assert rig.alarms() == []


@pytest.mark.parametrize("name", DISTINCT)
async def test_a_board_opens_for_the_way_out(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.gate.open(EXIT, 1, 3.0)
        await rig.person(EXIT)
        await rig.counted(1)
        assert rig.of(PassageCounted)[0].direction is EXIT


@pytest.mark.parametrize("name", MODELS)
async def test_every_model_lets_in_a_group_of_three_and_no_fourth(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.gate.open(ENTRY, 3, 3.0)
        for _ in range(3):
            await rig.person()
        await rig.counted(3)
        await rig.until(lambda: rig.seen() is Barrier.CLOSED)
        await rig.nobody_else()
        assert len(rig.of(PassageCounted)) == 3


@pytest.mark.parametrize("name", MODELS)
async def test_every_model_ends_an_opening_that_nobody_used(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.gate.open(ENTRY, 2, 3.0)
        await rig.until(lambda: rig.barrier.sensed is Barrier.OPEN)
        await rig.until(lambda: rig.seen() is Barrier.OPEN)
        rig.gate.close()  # as the lane says it when the time is over
        await rig.until(lambda: rig.barrier.sensed is Barrier.CLOSED and rig.seen() is Barrier.CLOSED)
        assert rig.barrier.credits(ENTRY) == 0
        rig.gate.open(ENTRY, 1, 3.0)  # and the next visitor is let in
        await rig.person()
        await rig.counted(1)


@pytest.mark.parametrize("name", DISTINCT)
async def test_a_board_asked_twice_opens_once(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.gate.open(ENTRY, 1, 3.0)
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.until(lambda: rig.barrier.sensed is Barrier.OPEN)
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.nobody_else()
        assert opens(rig) == 1


@pytest.mark.parametrize("name", ANSWERING)
async def test_a_lost_reply_is_not_a_failed_open_and_never_a_second_one(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.board.mischief.lose = 1
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.counted(1)
        await rig.nobody_else()
        assert len(rig.of(PassageCounted)) == 1


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.capabilities.counts])
async def test_who_follows_is_counted_and_is_an_alarm(tmp_path: Path, name: str) -> None:
    """Digicon's tripods turn for one at a time: nobody can follow."""
    async with rig_of(tmp_path, name) as rig:
        rig.gate.open(ENTRY, 1, 3.0)
        assert await rig.barrier.wait_turn(ENTRY, WAIT_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.barrier.walk, ENTRY, 0.05)
            await trio.sleep(0.01)
            nursery.start_soon(rig.barrier.walk, ENTRY, 0.05)
        await rig.until(lambda: len(rig.of(PassageCounted)) == 2)
        await rig.until(lambda: rig.alarms() == [AlarmKind.TAILGATE])


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].language in ("digicon", "machpower")])
async def test_where_one_opening_is_for_one_the_follower_is_left_outside(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.nobody_else()
        await rig.counted(1)


@pytest.mark.parametrize("name", MODELS)
async def test_every_model_under_the_fire_contact(tmp_path: Path, name: str) -> None:
    """The contact opens without a server. Who senses it says so; nobody closes it, and a release goes on top."""
    async with rig_of(tmp_path, name) as rig:
        rig.board.fire(True)
        await rig.until(lambda: rig.barrier.sensed is Barrier.RELEASED)
        if rig.model.capabilities.fire_input:
            await rig.until(lambda: rig.seen() is Barrier.RELEASED)
            assert rig.alarms() == [AlarmKind.FIRE]
        else:
            await trio.sleep(0.3)
            assert rig.alarms() == [] and rig.seen() is Barrier.CLOSED
        rig.gate.close()
        rig.gate.release()
        if rig.model.acknowledges:
            await rig.until(lambda: rig.seen() is Barrier.RELEASED)
        rig.gate.rearm()
        await trio.sleep(0.4)
        assert rig.barrier.sensed is Barrier.RELEASED
        rig.board.fire(False)
        await rig.until(lambda: rig.barrier.sensed is Barrier.CLOSED)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].acknowledges])
async def test_a_board_that_answers_loses_power_and_comes_back(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.cut_power()
        began = trio.current_time()
        await rig.until(lambda: rig.of(DeviceDown))
        assert trio.current_time() - began < 10.0
        rig.gate.open(ENTRY, 1, 0.2)
        await trio.sleep(0.3)
        rig.restore_power()
        await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
        assert len(rig.of(DeviceDown)) == 1
        assert not await rig.barrier.wait_turn(ENTRY, QUIET_S), "a late open"
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.counted(1)


@pytest.mark.parametrize("name", SENSING)
async def test_a_board_on_its_battery_says_power_loss(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.barrier.power(False)
        await rig.until(lambda: rig.alarms() == [AlarmKind.POWER_LOSS])


@pytest.mark.parametrize("name", BLIND)
async def test_a_board_that_says_nothing_is_not_noticed_without_power(tmp_path: Path, name: str) -> None:
    """An honest limit: the line is open, so it counts as available; nothing is reported that nobody sensed."""
    async with rig_of(tmp_path, name) as rig:
        rig.cut_power()
        await trio.sleep(2.0)
        assert not rig.of(DeviceDown) and not rig.of(PassageCounted)
        rig.restore_power()
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.counted(1)


@pytest.mark.parametrize("name", MODELS)
async def test_every_model_is_released_and_re_armed(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.gate.release()
        swing_without_a_hold = name.startswith("AC-ASDSC")
        await rig.until(
            lambda: rig.barrier.sensed is (Barrier.OPEN if swing_without_a_hold else Barrier.RELEASED)
        )
        await rig.until(lambda: rig.seen() is (Barrier.RELEASED if rig.model.acknowledges else Barrier.UNKNOWN))
        rig.gate.open(ENTRY, 1, 1.0)
        rig.gate.close()
        await trio.sleep(0.3)
        assert rig.barrier.sensed is not Barrier.CLOSED
        rig.gate.rearm()
        await rig.until(lambda: rig.barrier.sensed is Barrier.CLOSED and rig.seen() is Barrier.CLOSED)
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.counted(1)


@pytest.mark.parametrize("name", ANSWERING)
async def test_a_release_outlives_a_loss_of_power(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.gate.release()
        await rig.until(lambda: rig.seen() is Barrier.RELEASED)
        rig.cut_power()
        rig.barrier.unhold(Hold.RELEASE)
        await rig.until(lambda: rig.of(DeviceDown))
        rig.restore_power()
        await rig.until(lambda: rig.barrier.sensed is Barrier.RELEASED)
        await rig.until(lambda: rig.seen() is Barrier.RELEASED)


# --- standings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "standing"),
    [(name, standing) for name in DISTINCT for standing in sorted(MODELS[name].standings)],
)
async def test_every_standing_of_every_model_begins_and_ends(tmp_path: Path, name: str, standing: Standing) -> None:
    if standing is Standing.NORMAL:
        async with rig_of(tmp_path, name) as rig:
            rig.gate.stand(standing)
            assert rig.seen() is Barrier.CLOSED
        return
    async with rig_of(tmp_path, name) as rig:
        rig.gate.stand(standing)
        await rig.until(lambda: _stands(rig, standing))
        rig.gate.open(ENTRY, 1, 0.5)
        if standing is not Standing.FREE_EXIT:
            await rig.until(lambda: "refused" in rig.gate.statistics().last_error)
        rig.gate.stand(Standing.NORMAL)
        await rig.until(lambda: not _stands(rig, standing))
        await rig.until(lambda: rig.barrier.sensed is Barrier.CLOSED)
        await trio.sleep(0.7)
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.counted(1)


def _stands(rig: Rig, standing: Standing) -> bool:
    board = rig.board
    if standing is Standing.LOCKED:
        if isinstance(board, SimBoard):
            return board.locked
        if isinstance(board, SimMachPower):
            return board.banned
        return board.passing == (tpw.Passing.FORBIDDEN, tpw.Passing.FORBIDDEN)
    if isinstance(board, SimTpw) and standing in (Standing.FREE_ENTRY, Standing.FREE_EXIT):
        free, kept = tpw.Passing.FREE, tpw.Passing.CONTROLLED
        return board.passing == ((free, kept) if standing is Standing.FREE_ENTRY else (kept, free))
    return Hold.RELEASE in board.barrier.holds()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "TPW-tripod"])  # which has all of them
def test_a_standing_that_a_model_lacks_is_refused_by_name(name: str) -> None:
    gate = Buses().gate(MODELS[name].language, model=name, path="/dev/null")
    lacking = set(Standing) - MODELS[name].standings
    assert lacking
    for standing in lacking:
        with pytest.raises(CommandLacking, match=standing.value):
            gate.stand(standing)


@pytest.mark.parametrize("name", ["board4-wing", "AC-ATRI-018", "TPW-321ASP"])
async def test_a_locked_lane_is_released_all_the_same(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.gate.stand(Standing.LOCKED)
        await rig.until(lambda: _stands(rig, Standing.LOCKED))
        rig.gate.release()
        await rig.until(lambda: rig.barrier.sensed is Barrier.RELEASED)
        await rig.until(lambda: not _stands(rig, Standing.LOCKED))
        rig.gate.stand(Standing.LOCKED)  # nobody locks anybody in
        await trio.sleep(0.3)
        assert rig.barrier.sensed is Barrier.RELEASED and not _stands(rig, Standing.LOCKED)


# --- counters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [6, 8])
async def test_tpw_counters_wrap_or_are_wider_and_go_on(tmp_path: Path, digits: int) -> None:
    def high(rig: Rig) -> None:
        rig.board.entries = 999_999

    async with rig_of(tmp_path, "TPW-321ASP", high, board={"digits": digits}) as rig:
        rig.gate.open(ENTRY, 2, 3.0)
        await rig.person()
        await rig.person()
        await rig.counted(2)
        assert [event.counter for event in rig.of(PassageCounted)] == [1_000_000, 1_000_001]
        assert not rig.of(DeviceDown)


async def test_tpw_counters_that_are_reset_begin_a_new_epoch(tmp_path: Path) -> None:
    def busy(rig: Rig) -> None:
        rig.board.entries, rig.board.exits = 5000, 4000

    async with rig_of(tmp_path, "TPW-321ASP", busy) as rig:
        first = rig.of(DeviceUp)[0].counters
        assert first == Counters("0", 5000, 4000)
        rig.board.reset()
        await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
        second = rig.of(DeviceUp)[1].counters
        assert second is not None and second.epoch != "0" and (second.entries, second.exits) == (0, 0)
        assert "reset" in rig.of(DeviceDown)[0].reason and not rig.of(PassageCounted)


async def test_a_board_without_counters_goes_on_above_what_was_booked(tmp_path: Path) -> None:
    async with rig_of(tmp_path, "Tx1500") as rig:
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.counted(1)
        rig.gate.resume("booked", 40, 30)
        await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
        assert rig.of(DeviceUp)[1].counters == Counters("booked", 41, 30)
        rig.gate.open(EXIT, 1, 3.0)
        await rig.person(EXIT)
        await rig.counted(2)
        assert rig.of(PassageCounted)[1] == PassageCounted(direction=EXIT, epoch="booked", counter=31)


async def test_digicon_says_who_passed_also_when_nobody_was_let_in(tmp_path: Path) -> None:
    async with rig_of(tmp_path, "Tx1500") as rig:
        rig.board.port.send(digicon.encode(digicon.Code.PASSED_RIGHT_TO_LEFT))
        await rig.counted(1)
        assert rig.of(PassageCounted)[0].direction is EXIT


async def test_digicon_refusing_is_asked_again_and_opens_once(tmp_path: Path) -> None:
    async with rig_of(tmp_path, "Tx1500") as rig:
        rig.board.refuse = 1
        rig.gate.open(ENTRY, 1, 5.0)
        await rig.person()
        assert opens(rig) == 1
        await rig.counted(1)


async def test_tpw_left_open_by_a_server_that_died_is_closed(tmp_path: Path) -> None:
    def left_open(rig: Rig) -> None:
        rig.board.mode = tpw.Mode.ENTRY_OPEN
        rig.board._obey()

    async with rig_of(tmp_path, "TPW-321ASP", left_open) as rig:
        await rig.until(lambda: rig.board.mode is tpw.Mode.NORMALLY_CLOSED)
        await rig.until(lambda: rig.barrier.sensed is Barrier.CLOSED)
        assert not rig.of(PassageCounted)


async def test_tpw_with_a_free_exit_keeps_it(tmp_path: Path) -> None:
    home = (tpw.Passing.CONTROLLED, tpw.Passing.FREE)

    def free_exit(rig: Rig) -> None:
        rig.board.passing = home

    async with rig_of(tmp_path, "TPW-321ASP", free_exit) as rig:
        rig.gate.release()
        await rig.until(lambda: rig.seen() is Barrier.RELEASED and rig.board.passing != home)
        rig.gate.rearm()
        await rig.until(lambda: rig.board.passing == home and rig.seen() is Barrier.CLOSED)


async def test_tpw_that_fails_a_setting_is_told_again(tmp_path: Path) -> None:
    async with rig_of(tmp_path, "TPW-321ASP") as rig:
        rig.board.fail = 1
        rig.gate.open(ENTRY, 1, 5.0)
        await rig.person()
        await rig.counted(1)


async def test_without_a_sensor_a_machpower_opening_is_a_passage_and_a_release_is_none(tmp_path: Path) -> None:
    """Nobody can say whether he walked; if it did not count, his ticket would open for the next one, too."""
    async with rig_of(tmp_path, "AC-ATRI-018", sensor=False, open_s=0.5) as rig:
        rig.gate.passage(EXIT)  # a sensor that nobody announced is heard all the same
        await rig.counted(1)
        rig.gate.open(ENTRY, 3, 3.0)
        assert await rig.barrier.wait_turn(ENTRY, WAIT_S)
        await rig.counted(2)
        assert rig.of(PassageCounted)[1].direction is ENTRY
        await rig.until(lambda: rig.seen() is Barrier.CLOSED)
        assert opens(rig) == 1
        rig.gate.release()
        await rig.until(lambda: rig.barrier.sensed is Barrier.RELEASED)
        await trio.sleep(0.3)
        assert len(rig.of(PassageCounted)) == 2


@pytest.mark.parametrize("name", ["AC-ATRI-018", "Tx1500"])
async def test_left_and_right_are_as_the_site_file_says(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name, board={"entry_is": "left"}, entry_is="left") as rig:
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person(ENTRY)
        await rig.counted(1)
        assert rig.of(PassageCounted)[0].direction is ENTRY
        heard = rig.board.heard
        if name == "Tx1500":
            assert digicon.Frame(digicon.Code.RIGHT_TO_LEFT) in heard
        else:
            assert machpower.Frame(1, machpower.Command.LEFT_OPEN) in heard


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANSWERING)
async def test_a_faulty_line_costs_no_passage_and_invents_none(tmp_path: Path, name: str) -> None:
    """Except for a board that says each passage once: for Digicon each fault ends before somebody walks."""
    async with rig_of(tmp_path, name) as rig:
        for number, fault in enumerate(("garbage", "duplicate", "reorder", "lose"), 1):
            setattr(rig.board.mischief, fault, 1)
            if MODELS[name].language == "digicon":
                await rig.until(lambda fault=fault: getattr(rig.board.mischief, fault) == 0)
                await trio.sleep(0.35)
            rig.gate.open(ENTRY, 1, 3.0)
            await rig.person()
            await rig.counted(number)
            await rig.until(lambda: rig.barrier.sensed is Barrier.CLOSED)
        assert not rig.of(DeviceDown)


@pytest.mark.parametrize("name", ANSWERING)
async def test_a_slow_board_is_waited_for(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        rig.board.mischief.slow_s = 0.03
        rig.gate.open(ENTRY, 2, 3.0)
        await rig.person()
        await rig.person()
        await rig.counted(2)
        assert not rig.of(DeviceDown)


@pytest.mark.parametrize("name", DISTINCT)
async def test_unplugged_is_told_and_comes_back_by_itself(tmp_path: Path, name: str) -> None:
    async with rig_of(tmp_path, name) as rig:
        line = rig.board.line if isinstance(rig.board, SimBoard) else rig.board.bus.line
        line.unplug()
        await rig.until(lambda: rig.of(DeviceDown))
        assert rig.gate.statistics().availability is Availability.UNAVAILABLE
        line.plug()
        await rig.until(lambda: len(rig.of(DeviceUp)) == 2)
        assert rig.gate.statistics().reconnects >= 1
        rig.gate.open(ENTRY, 1, 3.0)
        await rig.person()
        await rig.counted(1)
