"""`paifang evacuate` and boards: on lines of their own, on shared ones, on the network, in whatever language."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trio

from drivers.base import Barrier, BarrierChanged, DeviceDown, DeviceEvent, DeviceUp
from drivers.errors import DeviceError
from drivers.serial import SerialLine, beside_the_owner, open_unlocked
from drivers.turnstile import LANGUAGES, release_bytes, release_frames
from paifang._evacuate_report import LaneState
from paifang._wires import ESCAPES, Wires
from paifang.site import Board, SiteFile
from protocols import board4
from protocols.errors import BoardError

FRAME_S = 0.3  # the release is written to serial lines this often
RETRY_S = 0.5  # pause before a line is tried again
SERVER_GRACE_S = 1.5  # a server that answers may report its serial lanes itself before we read their lines

# open and not for somebody's turn, which ends by itself
HELD_STATES = frozenset({board4.State.OPEN_IDLE, board4.State.OPEN_FIRE, board4.State.OPEN_MANUAL})


class Told(Protocol):
    """The evacuation as the boards see it."""

    server_known: trio.Event
    server_answers: bool

    def sensed(self, state: LaneState, barrier: str, is_open: bool) -> None: ...
    def commanded(self, state: LaneState) -> None: ...
    def trouble(self, state: LaneState, words: str) -> None: ...


class BoardLanes:
    """Releases the lanes that have boards, each in a task of its own."""

    def __init__(self, site: SiteFile, data_dir: Path, told: Told) -> None:
        self._data_dir = data_dir
        self._wires = Wires(data_dir)
        self._controllers = site.controllers
        self._paths = [lane.board.path for lane in site.lanes if lane.board is not None]
        self._told = told

    async def hold_open(self, state: LaneState, board: Board) -> None:
        """Release one lane until cancelled."""
        alone = board.language == "board4" and board.path and self._paths.count(board.path) == 1
        await (self._serial_lane if alone else self._driven_lane)(state, board)

    async def _serial_lane(self, state: LaneState, board: Board) -> None:
        path = str(self._data_dir / board.path)
        while True:
            try:
                with open_unlocked(path, board.rate) as line:
                    await self._hold_open(state, board, line)
            except* (DeviceError, ValueError) as group:  # ValueError: a rate that no line has, an address of no board
                self._told.trouble(state, "; ".join(str(each) for each in group.exceptions))
            await trio.sleep(RETRY_S)

    async def _hold_open(self, state: LaneState, board: Board, line: SerialLine) -> None:
        """Write the hold command again and again, and read what the board senses when the server cannot tell us."""
        frames = release_frames(board.address) + board4.query(board.address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_board, state, board, line)
            while True:
                await line.send_all(frames, drain=True)
                self._told.commanded(state)
                await trio.sleep(FRAME_S)

    async def _read_board(self, state: LaneState, board: Board, line: SerialLine) -> None:
        """Reading takes bytes away from a server that lives, so it is left alone for a while if it answers."""
        await self._told.server_known.wait()
        if self._told.server_answers:
            await trio.sleep(SERVER_GRACE_S)
            if state.sensed_open:
                return
        framer = board4.Board4Framer()
        while True:
            for frame in framer.feed(await line.receive_some()):
                try:
                    status = board4.decode_status(frame)
                except BoardError:
                    continue
                if status.address == board.address and status.state not in board4.ALARM_STATES:
                    barrier = _barrier(status.state)
                    self._told.sensed(state, barrier.value, barrier is Barrier.RELEASED)

    # --- boards of other languages, on shared lines and on the network ------------------------------------------------

    async def _driven_lane(self, state: LaneState, board: Board) -> None:
        """Release it with its own driver. On a line that a living server owns, only after that had its time."""
        if board.path:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_blindly, state, board)
                await self._told.server_known.wait()
                if self._told.server_answers:
                    await trio.sleep(SERVER_GRACE_S)
                nursery.cancel_scope.cancel()
        answers = False
        controllers = {controller.id: controller for controller in self._controllers}

        def hear(event: DeviceEvent) -> None:
            nonlocal answers
            answers = isinstance(event, DeviceUp) or (answers and not isinstance(event, DeviceDown))
            if isinstance(event, DeviceUp | BarrierChanged):
                self._told.commanded(state)  # it answers, and its driver says the release again and again
                self._told.sensed(state, event.barrier.value, event.barrier is Barrier.RELEASED)
            elif isinstance(event, DeviceDown):
                self._told.trouble(state, event.reason)

        while True:
            try:
                gate = self._wires.gate(board, controllers.get(board.controller or ""))
                gate.release()
                async with trio.open_nursery() as nursery:
                    if state.blind:
                        nursery.start_soon(self._count_commands, state, lambda: answers)
                    with beside_the_owner():
                        await gate.run(hear)
                    nursery.cancel_scope.cancel()
            except Exception as exc:  # whatever is wrong with one lane's driver, the others are released
                self._told.trouble(state, repr(exc))
            await trio.sleep(RETRY_S)

    async def _count_commands(self, state: LaneState, answers: Callable[[], bool]) -> None:
        """Of a board that answers but says nothing of its barrier: its driver repeats the release at least so often."""
        while True:
            await trio.sleep(FRAME_S)
            if answers():
                self._told.commanded(state)

    async def _write_blindly(self, state: LaneState, board: Board) -> None:
        """The language's own release, again and again, before anybody listens to what the board says of it."""
        if board.language not in LANGUAGES:
            return
        path = str(self._data_dir / board.path)
        while True:
            try:
                frames = release_bytes(
                    board.language, board.address, model=board.model, escape=ESCAPES[board.escape],
                    entry_is=board.entry_is,
                )  # fmt: skip
                with open_unlocked(path, board.rate) as line:
                    while True:
                        await line.send_all(frames, drain=True)
                        self._told.commanded(state)
                        await trio.sleep(FRAME_S)
            except (DeviceError, ValueError) as exc:
                self._told.trouble(state, str(exc))
            await trio.sleep(RETRY_S)


def _barrier(state: board4.State) -> Barrier:
    if state in HELD_STATES:
        return Barrier.RELEASED
    if state in board4.OPEN_STATES:
        return Barrier.OPEN
    if state in board4.OPENING_STATES:
        return Barrier.OPENING
    if state in board4.CLOSING_STATES:
        return Barrier.CLOSING
    if state in board4.CLOSED_STATES:
        return Barrier.CLOSED
    return Barrier.UNKNOWN
