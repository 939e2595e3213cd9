"""One line and the boards on it: who speaks next, and who is not waited for.

RS-485 is one pair of wires.  One frame is on it at a time: the server asks, the board that was asked answers, and
whoever does not answer costs the others the wait.  So:

* A release goes before everything else, first to the boards that live; where the language has it, one command tells
  all of them before each is told on its own.
* A board that did not answer three times in a row is known to be dead: it is asked last, and all dead ones together
  once in DEAD_EVERY_S, whatever their number.
* A board for which something is wished, or where somebody's turn is under way, is looked at before idle ones; none is
  forgotten.

Each board is run by its own actor (`Bus.carry`), and any of them may end at any time.  The one that holds the baton
serves the line for all; when it ends, the next one takes over, and the line stays open.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from drivers.base import DeviceDown, Emit
from drivers.errors import DeviceError, DeviceUnavailable
from drivers.serial import Backoff
from drivers.turnstile._lines import Line, OpenLine
from drivers.turnstile._speech import Framer
from drivers.turnstile._unit import NEWS_S, Talk, Unit

BITS_PER_BYTE = 10  # 8N1 on the wire
WRITE_DEADLINE_S = 0.3  # sixteen bytes take 17 ms at 9600 baud
REOPEN_AFTER_S = 10.0  # a line on which nobody answers is closed and opened again: that has woken USB adapters
STEADY_S = 5.0  # a line that held for this long starts again with the shortest pause
DEAD_EVERY_S = 0.5  # one question to one of the dead, so long as others live
BROADCAST_EVERY_S = 1.0  # a release of all is broadcast again this often, as long as one is not sensed open
BUSY_BONUS_S = 0.5  # a board where something is going on is asked as if it had waited longer by this
FOLLOW_MAX = 16  # frames of one conversation; the longest has twelve
GAP_S = 0.002  # after a frame that nobody answers, so that a board can tell two frames apart
SLOW_FACTOR = 3.0  # in a release no answer is waited for longer than this many times the slowest one of late
SLOW_MARGIN_S = 0.005
SLOW_DECAY = 0.99  # of what counts as the slowest, with each answer
READ_BYTES = 1024
FLOOD_PAUSE_S = 0.02  # after a full read: 51 kB/s, more than any line carries and little work
PLACE_WAIT_S = 2.0  # an address that is still served by another gate after this is a mistake, and said
REST_MAX_S = 1.0  # a bus with nothing to do looks round this often

T = TypeVar("T")


class Bus:
    """The owner of one line. `name` is said in reports; `baud` None is a way without a wire's pace (UDP).

    `answer_s` is how long a board may take to begin its answer, its turn-round and the adapter's latency; `frame_bytes`
    the longest usual frame: together with the pace of the wire they say how long an answer is waited for.
    """

    def __init__(
        self,
        name: str,
        opener: OpenLine,
        *,
        baud: int | None,
        answer_s: float,
        frame_bytes: int,
        rng: random.Random,
    ) -> None:
        self.name = name
        self._opener = opener
        self._byte_s = 0.0 if baud is None else BITS_PER_BYTE / baud
        self._wait_s = answer_s + frame_bytes * self._byte_s
        self._backoff = Backoff(rng)
        self._units: list[Unit] = []
        self._left = trio.Event()  # somebody left; then there is another event
        self._baton = trio.Lock()
        self._line: Line | None = None
        self._framer: Framer | None = None
        self._bad_before = 0
        self._opened_at = 0.0
        self._asked: Unit | None = None  # whose answer is waited for
        self._nap: trio.CancelScope | None = None
        self._dead_at = 0.0
        self._broadcast_at = float("-inf")
        self._slowest_s: float | None = None  # answer of late, after the question's own time

    @property
    def units(self) -> int:
        """Boards that are served at present."""
        return len(self._units)

    def wake(self, *, release: bool = False) -> None:
        """Something is wished. The wait for an answer is cut short only by a release, and only if it is a dead
        board that is waited for: when two speak at once, both are garbled."""
        if self._nap is not None and (self._asked is None or (release and self._asked.unheard > 1)):
            self._nap.cancel()

    async def carry(self, unit: Unit, emit: Emit) -> None:
        """Serve `unit` until cancelled, on this line, together with whoever else is carried.

        Waits for a unit of the same place to leave: after a change of the site file the new one may come first.
        """
        await self._vacant(unit, emit)
        unit.begin(emit, trio.current_time())
        unit.scope = trio.CancelScope()
        self._units.append(unit)
        self.wake()
        try:
            with unit.scope:
                async with self._baton:
                    await self._serve()
            if unit.failure is not None:
                raise unit.failure
        finally:
            self._units.remove(unit)
            unit.end()
            self._left.set()
            self._left = trio.Event()
            if not self._units:
                self._close()

    async def _vacant(self, unit: Unit, emit: Emit) -> None:
        told = False
        while any(other.place == unit.place for other in self._units):
            with trio.move_on_after(PLACE_WAIT_S) as scope:
                await self._left.wait()
            if scope.cancelled_caught and not told:
                told = True
                unit.meter.error(f"{unit.where}: another gate serves this address")
                emit(DeviceDown(reason=unit.meter.last_error))

    # --- the line -------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Whoever holds the baton does this for all."""
        self._asked = self._nap = None
        while True:
            try:
                if self._line is None:
                    self._line = await self._opener()
                    self._opened()
                await self._talk(self._line)
            except DeviceError as exc:
                held_s = trio.current_time() - self._opened_at if self._line is not None else 0.0
                self._close()
                for unit in list(self._units):
                    self._of(unit, None, unit.down, str(exc))
                if held_s >= STEADY_S:
                    self._backoff.reset()
                await trio.sleep(self._backoff.next_s())

    def _opened(self) -> None:
        now = self._opened_at = self._dead_at = trio.current_time()
        self._broadcast_at = float("-inf")
        self._framer, self._bad_before = None, 0
        for unit in self._units:
            unit.line_opened(now)

    def _close(self) -> None:
        if self._line is not None:
            line, self._line = self._line, None
            line.close()

    async def _talk(self, line: Line) -> None:
        while self._units:
            now = trio.current_time()
            for unit in list(self._units):
                self._of(unit, None, unit.tick, now)
            self._check_silence(now)
            if self._broadcast_due(now):
                self._broadcast_at = now
                await self._send(line, self._units[0].dialect.broadcast(), WRITE_DEADLINE_S)
                await trio.sleep(GAP_S)
            elif (found := self._next(now)) is not None:
                await self._exchange(line, *found)
            else:
                await self._rest(line, now)

    def _check_silence(self, now: float) -> None:
        last = max([unit.believed_at for unit in self._units], default=now)
        if all(unit.dead for unit in self._units) and now - last >= REOPEN_AFTER_S:
            raise DeviceUnavailable(f"{self.name}: no answer for {now - last:.0f} s")

    # --- who is next ------------------------------------------------------------------------------------------------

    def _broadcast_due(self, now: float) -> bool:
        """All boards of the line are to be released, and at least one is not sensed so. It speaks for none less."""
        units = self._units
        if len(units) < 2 or now - self._broadcast_at < BROADCAST_EVERY_S or not units[0].dialect.broadcasts:
            return False
        return all(unit.wishes.released for unit in units) and not all(unit.wishes.satisfied for unit in units)

    def _next(self, now: float) -> tuple[Unit, Talk] | None:
        """The next frame, and whose it is."""
        live = [unit for unit in self._units if not unit.dead]
        dead = [unit for unit in self._units if unit.dead]
        if not live:
            live, dead = dead, []
        live.sort(key=_waiting)
        for unit in live:
            if (talk := self._of(unit, None, unit.release_due, now)) is not None:
                return unit, talk
        for unit in live:
            if (talk := self._of(unit, None, unit.order_due, now)) is not None:
                return unit, talk
        if dead and now >= self._dead_at:
            self._dead_at = now + DEAD_EVERY_S
            unit = min(dead, key=_waiting)
            talk = self._of(unit, None, unit.release_due, now) or self._of(unit, None, unit.poll, now)
            if talk is not None:
                return unit, talk
        for unit in sorted((each for each in live if each.poll_due(now)), key=_patience):
            if (talk := self._of(unit, None, unit.poll, now)) is not None:
                return unit, talk
        return None

    def _of(self, unit: Unit, otherwise: T, call: Callable[..., T], *arguments: Any) -> T:
        """Something that one unit does. Should it fail, the fault is raised where that unit is run, not here."""
        try:
            return call(*arguments)
        except Exception as exc:
            unit.failure = exc
            unit.scope.cancel()
            return otherwise

    # --- one exchange -----------------------------------------------------------------------------------------------

    async def _exchange(self, line: Line, unit: Unit, talk: Talk) -> None:
        order = talk.order
        self._of(unit, None, unit.asking, talk, trio.current_time())
        if order is None or order.deadline is None:
            await self._send(line, talk.frame, WRITE_DEADLINE_S, unit)
        else:
            # until it is on the wire, not merely in the kernel: from there it could still come out late
            left_s = order.deadline - trio.current_time()
            await self._send(line, talk.frame, min(left_s, WRITE_DEADLINE_S), unit, drain=True)
        if not unit.dialect.answers:
            await trio.sleep(GAP_S + len(talk.frame) * self._byte_s)
            return
        if await self._hear_answer(line, unit, len(talk.frame)):
            await self._follow(line, unit)
        else:
            self._of(unit, None, unit.missed, trio.current_time())

    async def _follow(self, line: Line, unit: Unit) -> None:
        """What a conversation is owed, unless a release waits."""
        for _ in range(FOLLOW_MAX):
            owed = self._of(unit, None, unit.dialect.follow)
            if owed is None or any(each.wishes.released and not each.wishes.hold_sent for each in self._units):
                return
            await self._send(line, owed.frame, WRITE_DEADLINE_S, unit)
            if not owed.answered:
                await trio.sleep(GAP_S)
            elif not await self._hear_answer(line, unit, len(owed.frame)):
                return

    async def _send(
        self, line: Line, frame: bytes, deadline_s: float, unit: Unit | None = None, *, drain: bool = False
    ) -> None:
        await line.send_all(frame, deadline_s, drain=drain)
        for each in self._units if unit is None else [unit]:
            each.meter.sent(len(frame))

    async def _hear_answer(self, line: Line, unit: Unit, asked_bytes: int) -> bool:
        """Give the board its turn on the line; False when it did not use it."""
        answered = False
        self._asked, since = unit, trio.current_time()
        try:
            with trio.move_on_after(self._patience_s() + asked_bytes * self._byte_s) as self._nap:
                while not answered:
                    answered = await self._hear(line)
        finally:
            self._asked = self._nap = None
        if answered:
            took_s = trio.current_time() - since
            self._slowest_s = max(took_s, (self._slowest_s or 0.0) * SLOW_DECAY)
        return answered

    def _patience_s(self) -> float:
        """How long an answer is waited for. In a release less, so that a board that just died holds nobody: who is
        slower than ever before may be talked into, and is told again."""
        hurried = len(self._units) > 1 and any(
            unit.wishes.released and not unit.wishes.satisfied and not unit.dead for unit in self._units
        )
        if hurried and self._slowest_s is not None:
            return min(self._wait_s, SLOW_FACTOR * self._slowest_s + SLOW_MARGIN_S)
        return self._wait_s

    async def _rest(self, line: Line, now: float) -> None:
        """Until the next poll or the next wish; what boards say of their own accord is heard."""
        live = [unit.next_poll for unit in self._units if not unit.dead]
        until = min(live or [unit.next_poll for unit in self._units], default=now + REST_MAX_S)
        if live and len(live) < len(self._units):
            until = min(until, self._dead_at)
        with trio.move_on_after(max(min(until - now, REST_MAX_S), 0.0)) as self._nap:
            while True:
                await self._hear(line)
        self._nap = None

    async def _hear(self, line: Line) -> bool:
        """Read once; True when the board that was asked answered."""
        since = trio.current_time()
        data = await line.receive_some(READ_BYTES)
        now = trio.current_time()
        listeners = self._units if self._asked is None else [self._asked]
        for unit in listeners:
            unit.meter.heard(len(data))
        if now - since > NEWS_S + (REST_MAX_S if self._asked is None else self._wait_s):
            return False  # no wait is that long: we were stopped, and this is from before
        answered = False
        for frame in self._frames(data, listeners):
            for unit in list(self._units):
                heard = self._of(unit, None, unit.hear, frame, now)
                if heard is not None and unit.believed_at == now:
                    self._backoff.reset()
                answered = answered or (heard is True and unit is self._asked)
        if len(data) >= READ_BYTES:
            await trio.sleep(FLOOD_PAUSE_S)
        return answered

    def _frames(self, data: bytes, listeners: list[Unit]) -> list[Any]:
        if self._framer is None:
            self._framer, self._bad_before = self._units[0].dialect.framer(), 0
        frames = self._framer.feed(data)
        for unit in listeners:
            unit.meter.bad_frames += self._framer.bad_frames - self._bad_before
        self._bad_before = self._framer.bad_frames
        return frames


def _waiting(unit: Unit) -> float:
    """Who was asked longest ago comes first."""
    return unit.asked_at


def _patience(unit: Unit) -> float:
    return unit.next_poll - (BUSY_BONUS_S if unit.wishes.busy else 0.0)
