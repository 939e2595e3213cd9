"""A simulated lane as a visitor meets it: something to scan at, and a barrier; serial or linked makes no difference."""

from __future__ import annotations

import secrets
from enum import StrEnum
from itertools import count

import trio

from drivers.base import Barrier as Sensed
from protocols.devicelink import Deny, Grant
from protocols.messages import Direction, PassageKind
from sim.barrier import SimBarrier
from sim.board import SimBoard
from sim.gate import SimGate
from sim.reader import SimReader
from sim.truth import Truth
from sim.turnstile import SimTurnstile

SETTLE_S = 12.0  # nobody scans before the barrier is closed, unless it stays open for longer than this
RESCAN_S = 0.5  # a reader that did not even beep is tried again
HAMMER_S = 5.0  # patience of somebody who presents one code again and again
HAMMER_WALK_S = 0.4
HAMMER_LATE_S = 0.6
DENIED_LOOK_S = 0.35  # how long a denied visitor reads the display


class Result(StrEnum):
    OPENED = "opened"
    DENIED = "denied"
    NOTHING = "nothing"  # no answer, or (serial) a lane that stays closed


class Scanned:
    """What came of a scan: `code` is the refusal code where the lane can tell it, `pax` how many may walk."""

    def __init__(self, result: Result, *, nonce: str, code: str = "", grant: int | None = None, pax: int = 0) -> None:
        self.result = result
        self.nonce = nonce
        self.code = code
        self.grant = grant
        self.pax = pax

    @property
    def opened(self) -> bool:
        return self.result is Result.OPENED


class SimLane:
    """One lane. Visitors queue for `queue` and hold it for as long as they stand at the lane."""

    def __init__(
        self,
        lane: str,
        from_zone: str,
        to_zone: str,
        truth: Truth,
        *,
        gate: SimGate | None = None,
        board: SimBoard | SimTurnstile | None = None,
        reader: SimReader | None = None,
    ) -> None:
        if (gate is None) == (board is None) or (board is None) != (reader is None):
            raise ValueError("a lane has a gate, or a board and a reader")
        self.lane = lane
        self.from_zone = from_zone
        self.to_zone = to_zone
        self.queue = trio.Lock()
        self.gate = gate
        self.board = board
        self.reader = reader
        self._truth = truth
        self._numbers = count(1)
        self._run_id = secrets.token_hex(4)

    @property
    def barrier(self) -> SimBarrier:
        device = self.gate or self.board
        assert device is not None
        return device.barrier

    @property
    def released(self) -> bool:
        return self.barrier.sensed is Sensed.RELEASED

    async def settled(self, timeout_s: float = SETTLE_S) -> bool:
        """Wait until the barrier is closed."""
        return await self.barrier.until(lambda: self.barrier.sensed is Sensed.CLOSED, timeout_s)

    async def scan(
        self,
        value: str,
        patience_s: float,
        *,
        cause: str,
        kind: str = "code",
        photo: bytes | None = None,
        ticket: int | None = None,
        visitor: str = "",
        pax: int = 1,
    ) -> Scanned:
        """Present a credential and wait for what happens; on `opened`, walk and then call `done`.

        `pax` is how many people stand behind this scan, for lanes whose display does not tell how many it grants.
        """
        if self.released or not await self.settled():
            return Scanned(Result.NOTHING, nonce="")
        if self.gate is not None:
            reply = await self.gate.scan(
                value, patience_s, cause=cause, kind=kind, photo=photo, ticket=ticket, visitor=visitor
            )
            return await self._linked(self.gate, reply, patience_s)
        return await self._serial(value, patience_s, cause=cause, ticket=ticket, visitor=visitor, pax=pax)

    async def walk(
        self, walk_s: float, *, ticket: int | None, visitor: str, step_back: bool = False
    ) -> PassageKind | None:
        """One person walks in."""
        return await self.barrier.walk(Direction.ENTRY, walk_s, step_back=step_back, ticket=ticket, visitor=visitor)

    def done(self, scanned: Scanned, passed: int) -> None:
        """The visitors of a scan that opened a serial lane are through, or gone. A gate says this by itself."""
        if self.board is not None:
            self._truth.end(self.lane, self.board.device, nonce=scanned.nonce, passed=passed, why="walked")

    async def hammer(self, value: str, times: int, gap_s: float, *, cause: str, ticket: int, visitor: str) -> int:
        """Present one code `times` times, whatever happens, and walk whenever that opened the barrier.

        The caller holds `queue`.  Returns how many people got in.
        """
        passed = 0
        async with trio.open_nursery() as nursery:
            pushing = trio.CancelScope()

            async def push() -> None:
                nonlocal passed
                with pushing:
                    while await self.barrier.wait_turn(Direction.ENTRY, HAMMER_S):
                        kind = await self.walk(HAMMER_WALK_S, ticket=ticket, visitor=visitor)
                        passed += kind is PassageKind.GRANTED

            nursery.start_soon(push)
            for _ in range(times):
                if self.gate is not None:
                    await self.gate.scan(value, HAMMER_S, cause=cause, ticket=ticket, visitor=visitor)
                else:
                    await self._push_code(value, gap_s, cause=cause, ticket=ticket, visitor=visitor)
            await trio.sleep(HAMMER_LATE_S)  # an answer that is still under way
            await self.settled()
            pushing.cancel()
        return passed

    async def _push_code(self, value: str, gap_s: float, *, cause: str, ticket: int, visitor: str) -> None:
        assert self.reader is not None
        nonce = self._nonce()
        self._truth.scan(self.lane, self.reader.device, nonce=nonce, cause=cause, ticket=ticket, visitor=visitor)
        closed = self.barrier.sensed is Sensed.CLOSED
        self.reader.present(value)
        moved = await self.barrier.until(lambda: self.barrier.sensed is not Sensed.CLOSED, gap_s)
        self._truth.answer(self.lane, self.reader.device, nonce=nonce, result="grant" if closed and moved else "none")

    async def leave(self, walk_s: float, visitor: str, patience_s: float) -> PassageKind | None:
        """Walk out. None when the lane did not let anybody out."""
        async with self.queue:
            if not self.released:
                await self.settled()
            if not await self.barrier.ask_exit(patience_s):
                return None
            return await self.barrier.walk(Direction.EXIT, walk_s, visitor=visitor)

    def _nonce(self) -> str:
        """The simulation's own name for a scan at a serial reader."""
        assert self.reader is not None
        return f"{self.reader.device}-{self._run_id}-{next(self._numbers)}"

    async def _linked(self, gate: SimGate, reply: Grant | Deny | None, patience_s: float) -> Scanned:
        if isinstance(reply, Deny):
            await trio.sleep(DENIED_LOOK_S)
            return Scanned(Result.DENIED, nonce=reply.nonce, code=reply.code)
        if reply is None:
            return Scanned(Result.NOTHING, nonce="")
        if not await self.barrier.wait_turn(Direction.ENTRY, patience_s):
            return Scanned(Result.NOTHING, nonce=reply.nonce, grant=reply.grant)
        return Scanned(Result.OPENED, nonce=reply.nonce, grant=reply.grant, pax=reply.pax - reply.passed)

    async def _serial(
        self, value: str, patience_s: float, *, cause: str, ticket: int | None, visitor: str, pax: int
    ) -> Scanned:
        """A serial lane shows nothing but its barrier: the visitor waits for it, and goes when it stays closed."""
        assert self.reader is not None
        until = trio.current_time() + patience_s
        while True:
            nonce = self._nonce()
            self._truth.scan(self.lane, self.reader.device, nonce=nonce, cause=cause, ticket=ticket, visitor=visitor)
            heard = self.reader.present(value)
            left_s = until - trio.current_time()
            if heard and await self.barrier.wait_turn(Direction.ENTRY, left_s):
                self._truth.answer(self.lane, self.reader.device, nonce=nonce, result="grant")
                return Scanned(Result.OPENED, nonce=nonce, pax=pax)
            self._truth.answer(self.lane, self.reader.device, nonce=nonce, result="none")
            if heard or left_s <= RESCAN_S:
                return Scanned(Result.NOTHING, nonce=nonce)
            await trio.sleep(RESCAN_S)
