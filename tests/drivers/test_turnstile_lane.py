"""A lane's actor on each language of turnstile: scan, opening, passages in the books, a restart, a release.

The lane, its gate's actor and the driver are the real ones; the board is our own simulator on a pty, and admission,
ledger and evacuation are probes.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.counter import AskBooks
from actors.gate import GateActor
from actors.lane import BoardLane
from actors.testing import Neighbours, alive, books, granted, lane_config, scan
from core import Address
from core.testing import Probe, patient_time
from drivers.turnstile import Buses
from protocols.messages import (
    Decide,
    Direction,
    Ended,
    EndReason,
    PassageKind,
    Passed,
    Rearm,
    Release,
    ReleaseAck,
    Restore,
)
from sim.barrier import Timing
from sim.board import SimBoard
from sim.truth import Truth
from sim.turnstile import SimDigicon, SimMachPower, SimTpw
from storage.interfaces import LaneBooks

patient = pytest.fixture(autouse=True)(patient_time)

ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
FAST = Timing(opening_s=0.03, closing_s=0.03, open_s=3.0, alarm_s=0.5)
WAIT_S = 20.0
CALM_S = 0.4
LANGUAGES = ["board4", "machpower", "digicon", "tpw"]


class Lane(Neighbours):
    """One lane with its board, for one life of the server."""

    def __init__(self, language: str, path: Path, board: Any) -> None:
        super().__init__()
        self.board = board
        self.language = language
        options: dict[str, Any] = {"sensor": True, "open_s": 2.0} if language == "machpower" else {}
        self.driver = Buses(random.Random(1)).gate(language, path=str(path), poll_s=0.03, **options)
        self.lane = Address("lane", capacity=512)
        self.gate = Address("gate", capacity=64)
        self.counter = Probe("counter", capacity=4096)
        self.heard: list[Any] = []
        self.actor = BoardLane(lane_config(), self.parts(), self.gate, self.counter)

    @property
    def state(self) -> str:
        return self.lane.state.lstrip("_")

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(WAIT_S):
            while not condition():
                await trio.sleep(0.01)

    async def listen(self, known: LaneBooks) -> None:
        """The counter's place: statements are kept, books are answered."""
        while True:
            message = (await self.counter.receive()).msg
            if isinstance(message, AskBooks):
                self.lane.tell(known)
            else:
                self.heard.append(message)

    async def rest(self) -> None:
        """Until it is idle for good: at its start a lane may hear twice that the board is there."""
        calm_since = trio.current_time()
        with trio.fail_after(WAIT_S):
            while trio.current_time() - calm_since < CALM_S:
                await trio.sleep(0.01)
                if self.state != "idle":
                    calm_since = trio.current_time()

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    async def let_in(self, nonce: str, pax: int) -> None:
        """A visitor scans and is granted; his people walk."""
        self.lane.tell(scan(nonce))
        await self.admission.expect(Decide, within_s=WAIT_S)
        self.lane.tell(granted(nonce, pax=pax))
        ended = len(self.of(Ended))
        for _ in range(pax):
            assert await self.board.barrier.wait_turn(ENTRY, WAIT_S)
            await self.board.barrier.walk(ENTRY, 0.01)
            if self.language == "machpower":
                self.driver.passage(ENTRY)
        await self.until(lambda: len(self.of(Ended)) > ended)
        await self.rest()


@asynccontextmanager
async def living(lane: Lane, known: LaneBooks) -> AsyncIterator[Lane]:
    actor = GateActor("gate/g1", lane.driver, lane.lane, "g1", lane.hub)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lane.listen, known)
        async with alive(actor.run, lane.gate), alive(lane.actor.run, lane.lane):
            await lane.rest()
            yield lane
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def board_of(language: str, folder: Path) -> AsyncIterator[tuple[Any, Path]]:
    path = folder / "board"
    with Truth(folder / "truth.jsonl") as truth:
        match language:
            case "board4":
                board: Any = SimBoard("g1", path, truth, timing=FAST)
            case "machpower":
                board = SimMachPower("g1", truth, path=path, timing=FAST)
            case "digicon":
                board = SimDigicon("g1", truth, path=path, timing=FAST)
            case _:
                board = SimTpw("g1", truth, path=path, timing=FAST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(board.run)
            yield board, path
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("language", LANGUAGES)
async def test_what_a_lane_books_goes_on_after_a_restart(tmp_path: Path, language: str) -> None:
    async with board_of(language, tmp_path) as (board, path):
        async with living(Lane(language, path, board), books(epoch=None, entries=None, exits=None)) as first:
            await first.let_in("n1", 2)
            await first.until(lambda: len(first.of(Passed)) >= 2)
            passed = first.of(Passed)
            assert [(each.kind, each.direction, each.grant) for each in passed] == [(PassageKind.GRANTED, ENTRY, 1)] * 2
            epoch, base = passed[0].boot, passed[0].seq
            assert [(each.boot, each.seq) for each in passed] == [(epoch, base), (epoch, base + 1)]
            await first.until(lambda: first.of(Ended))
            (ended,) = first.of(Ended)
            assert (ended.passed, ended.why) == (2, EndReason.COMPLETE)
        known = books(epoch=epoch, entries=base + 1, exits=0)
        async with living(Lane(language, path, board), known) as second:
            await second.let_in("n2", 1)
            await second.until(lambda: second.of(Passed))
            (passed_again,) = second.of(Passed)
            assert (passed_again.boot, passed_again.seq) == (epoch, base + 2)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_lane_is_released_acknowledges_what_is_known_and_works_again(tmp_path: Path, language: str) -> None:
    async with board_of(language, tmp_path) as (board, path):
        async with living(Lane(language, path, board), books(epoch=None, entries=None, exits=None)) as lane:
            acks: list[ReleaseAck] = []

            async def acknowledged() -> None:
                while True:
                    message = (await lane.evacuation.receive()).msg
                    if isinstance(message, ReleaseAck):
                        acks.append(message)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(acknowledged)
                lane.lane.tell(Release(incident=5), system=True)
                await lane.until(lambda: board.barrier.passable(EXIT))
                if language == "machpower":  # it says nothing, so nobody claims that it is open
                    await trio.sleep(0.5)
                    assert acks and not any(ack.sensed_open for ack in acks if ack.barrier != "closed")
                else:
                    await lane.until(lambda: acks and acks[-1].sensed_open)
                    assert acks[-1].barrier == "released"
                nursery.cancel_scope.cancel()
            lane.lane.tell(Restore(incident=5), system=True)
            await lane.until(lambda: lane.state == "needs_rearm")
            lane.lane.tell(Rearm(user="ann"))
            await lane.until(lambda: lane.state == "idle")
            await lane.let_in("n3", 1)
            await lane.until(lambda: lane.of(Passed))
            assert len(lane.of(Passed)) == 1


@pytest.mark.parametrize("language", LANGUAGES)
async def test_whoever_does_not_come_keeps_his_ticket(tmp_path: Path, language: str) -> None:
    async with board_of(language, tmp_path) as (board, path):
        async with living(Lane(language, path, board), books(epoch=None, entries=None, exits=None)) as lane:
            lane.lane.tell(scan("n1"))
            await lane.admission.expect(Decide, within_s=WAIT_S)
            lane.lane.tell(granted("n1", pax=2, ttl_s=0.7))
            assert await board.barrier.wait_turn(ENTRY, WAIT_S)
            await lane.until(lambda: lane.of(Ended))
            (ended,) = lane.of(Ended)
            assert (ended.passed, ended.why) == (0, EndReason.TIMEOUT)
            assert not lane.of(Passed)
            await lane.until(lambda: board.barrier.credits(ENTRY) == 0)
