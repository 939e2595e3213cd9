"""The driver of a board 4 (`protocols.board4`) on a serial line: polls it, commands it, and reports what it senses.

One task owns the line and speaks half duplex: one frame out, then the board has REPLY_WAIT_S to answer.  What to send
is decided by `_wishes`, what a reading counts by `_tally`; both are pure.
"""

from __future__ import annotations

import random
import time

import trio

from drivers._statistics import Meter
from drivers.base import (
    SILENT_AFTER_S,
    AlarmKind,
    Availability,
    Barrier,
    BarrierChanged,
    DeviceDown,
    DeviceUp,
    DriverStatistics,
    Emit,
    GateAlarm,
    GateCapabilities,
    PassageCounted,
)
from drivers.errors import DeviceError, DeviceUnavailable
from drivers.serial import Backoff, SerialLine, check_baud, open_line, reconnecting
from drivers.turnstile._meaning import alarm_of, barrier_of, word
from drivers.turnstile._tally import Step, Tally
from drivers.turnstile._wishes import Order, Wishes
from protocols.board4 import OPEN_STATES, Action, Board4Framer, Command, Status, decode_status, encode_command, query
from protocols.errors import BoardError
from protocols.messages import Direction

REPLY_WAIT_S = 0.1  # 33 ms of wire at 9600 baud, the board's turn-round, a USB adapter's 16 ms, and as much again
WRITE_DEADLINE_S = 0.3  # sixteen bytes take 17 ms
REOPEN_AFTER_S = 10.0  # a silent line is closed and opened again: that has woken USB adapters
NEWS_S = 0.5  # a status that is older says nothing about now: five polls
ALARM_OVER_S = 1.0  # an alarm that was away for this long is a new one when it comes back
READ_BYTES = 1024
FLOOD_PAUSE_S = 0.02  # after a full read: 51 kB/s, more than any line carries and little work
ESCAPE = (Direction.EXIT,)  # which way people leave; a hold for entry as well would end it on boards with one mode

_HOLDS = {Direction.ENTRY: Action.ENTER_HOLD, Direction.EXIT: Action.EXIT_HOLD}


def release_frames(address: int, escape: tuple[Direction, ...] = ESCAPE) -> bytes:
    """The bytes that hold a board open, for `paifang evacuate`, which writes them beside a server that hangs."""
    return b"".join(encode_command(Command(address, _HOLDS[direction])) for direction in escape)


class Board4Gate:
    """A `drivers.base.Gate`. `path` is the tty (better its link under /dev/serial/by-id), `address` the board's number.

    Counters go on in `epoch` unless `resume` says otherwise; a reset of the board begins an epoch with a new name.
    `rng` makes pauses and names.  Raises ValueError for a rate or an address that cannot be.
    """

    capabilities = GateCapabilities(
        counts=True, direction=True, drop_arm=False, hold_open=True, anti_pinch=True, fire_input=True
    )

    def __init__(
        self,
        path: str,
        baud: int,
        address: int,
        *,
        poll_s: float = 0.1,
        epoch: str = "0",
        escape: tuple[Direction, ...] = ESCAPE,
        rng: random.Random | None = None,
    ) -> None:
        if not 1 <= address <= 0xFF:
            raise ValueError(f"board address {address}; 1 to 255 are possible, 0 is for all boards")
        if not escape:
            raise ValueError("a gate has at least one escape direction")
        self._path = path
        self._baud = check_baud(baud)
        self._address = address
        self._poll_s = poll_s
        self._rng = rng or random.Random()
        self._backoff = Backoff(self._rng)
        self._meter = Meter()
        self._wishes = Wishes(escape)
        self._tally = Tally(epoch, self._new_epoch)
        self._barrier = Barrier.UNKNOWN
        self._status: Status | None = None  # the last one believed, as long as the board is heard
        self._believed_at = 0.0
        self._announce = False  # say DeviceUp again: the counts were put on another footing
        self._alarms: dict[AlarmKind, float] = {}  # when each was last seen
        self._nap: trio.CancelScope | None = None
        self._emit: Emit = _to_nobody

    # --- commands -----------------------------------------------------------------------------------------------

    def open(self, direction: Direction, pax: int, deadline_s: float) -> None:
        """See `Gate.open`. Asked again before that turn has ended, it changes nothing.

        A turn ends when all have passed, when the board closes, with `close`, or when the board is not heard.  For the
        other direction, the turn that is open is closed first.
        """
        now = trio.current_time()
        self._wishes.open(direction, pax, now + deadline_s, now)
        self._wake()

    def close(self) -> None:
        """See `Gate.close`. Ignored as well while the board is sensed held open, by whomever."""
        self._wishes.close(trio.current_time())
        self._wake()

    def release(self) -> None:
        self._wishes.release()
        self._wake()

    def rearm(self) -> None:
        self._wishes.rearm(trio.current_time())
        self._wake()

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """See `Gate.resume`. Older knowledge than the driver's own changes nothing; it is answered all the same."""
        self._tally.resume(epoch, entries, exits)
        if (counts := self._tally.counts) is not None:
            self._wishes.rebase(counts)
        self._announce = True
        self._wake()

    def statistics(self) -> DriverStatistics:
        self._note_refusal()
        return self._meter.snapshot()

    # --- the loop -----------------------------------------------------------------------------------------------

    async def run(self, emit: Emit) -> None:
        """Serve the board until cancelled."""
        self._emit = emit
        self._status = None
        self._wishes.lost()
        try:
            await reconnecting(self._connect, self._serve, self._lost, self._backoff)
        finally:
            self._emit = _to_nobody

    def _connect(self) -> SerialLine:
        line = open_line(self._path, self._baud)
        if self._meter.frames_out:
            self._meter.reconnects += 1
        return line

    def _lost(self, exc: DeviceError) -> None:
        self._down(str(exc))

    async def _serve(self, line: SerialLine) -> None:
        framer = Board4Framer()
        next_poll = self._believed_at = trio.current_time()
        while True:
            now = trio.current_time()
            self._check_silence(now)
            if self._announce and self._status is not None:
                self._say_up(self._status)
            if (order := self._due(now)) is not None:
                await self._send_order(line, order)
                await self._hear_answer(line, framer)
            elif now >= next_poll:
                next_poll = now + self._poll_s
                await self._send(line, query(self._address), WRITE_DEADLINE_S)
                await self._hear_answer(line, framer)
            else:
                await self._rest(line, framer, next_poll - now)

    def _due(self, now: float) -> Order | None:
        """What to send; only a release is sent on old news.

        A server that was stopped for a while would otherwise open for somebody, or shut the barrier in an evacuation
        that it slept through, before it has looked.
        """
        if now - self._believed_at > NEWS_S and not self._wishes.released:
            return None
        return self._wishes.due(now)

    def _check_silence(self, now: float) -> None:
        silent_s = now - self._believed_at
        if silent_s >= SILENT_AFTER_S and self._meter.availability is not Availability.UNAVAILABLE:
            self._down(f"{self._path}: no answer from board {self._address}")
        if silent_s >= REOPEN_AFTER_S:
            raise DeviceUnavailable(f"{self._path}: no answer for {silent_s:.0f} s")

    async def _rest(self, line: SerialLine, framer: Board4Framer, pause_s: float) -> None:
        """Until the next poll or the next wish; what the board says of its own accord is heard."""
        with trio.move_on_after(pause_s) as self._nap:
            while True:
                await self._hear(line, framer)
        self._nap = None

    async def _hear_answer(self, line: SerialLine, framer: Board4Framer) -> None:
        """Give the board its turn on the line. Not cut short by a wish: two who speak at once are both garbled."""
        with trio.move_on_after(REPLY_WAIT_S):
            while not await self._hear(line, framer):
                pass

    async def _hear(self, line: SerialLine, framer: Board4Framer) -> bool:
        """Read once; True when a status of our board was among it."""
        since = trio.current_time()
        data = await line.receive_some(READ_BYTES)
        self._meter.heard(len(data))
        if trio.current_time() - since > NEWS_S:  # no wait is that long: we were stopped, and this is from before
            return False
        bad_before, answered = framer.bad_frames, False
        for frame in framer.feed(data):
            try:
                status = decode_status(frame)
            except BoardError:
                self._meter.bad_frames += 1
                continue
            if status.address == self._address:
                self._meter.frames_in += 1
                answered = True
                self._observe(status)
        self._meter.bad_frames += framer.bad_frames - bad_before
        if len(data) >= READ_BYTES:
            await trio.sleep(FLOOD_PAUSE_S)
        return answered

    async def _send_order(self, line: SerialLine, order: Order) -> None:
        frame = encode_command(Command(self._address, order.action, order.pax))
        if order.deadline is None:
            await self._send(line, frame, WRITE_DEADLINE_S)
        else:
            # until it is on the wire, not merely in the kernel: from there it could still come out late
            left_s = order.deadline - trio.current_time()
            await self._send(line, frame, min(left_s, WRITE_DEADLINE_S), drain=True)

    async def _send(self, line: SerialLine, frame: bytes, deadline_s: float, *, drain: bool = False) -> None:
        await line.send_all(frame, deadline_s, drain=drain)
        self._meter.sent(len(frame))

    def _wake(self) -> None:
        if self._nap is not None:
            self._nap.cancel()

    # --- what was heard -----------------------------------------------------------------------------------------

    def _observe(self, status: Status) -> None:
        """One status. Synchronous, so that nothing can come between what was seen and what is said about it."""
        now = trio.current_time()
        step = self._tally.read(status.entries, status.exits)
        if step is None:
            return
        counts = self._tally.counts
        assert counts is not None
        self._believed_at = now
        self._backoff.reset()
        if step.restarted and self._status is not None:
            self._down(f"{self._path}: the board's counters jumped; it was reset or changed")
        self._wishes.observe(status.state, counts, now)
        self._note_refusal()
        barrier = self._sense(status)
        if self._status is None:
            self._barrier = barrier
            self._say_up(status)
        else:
            self._say_changes(status, barrier, step)
        self._status = status
        self._say_alarm(status, now)

    def _sense(self, status: Status) -> Barrier:
        barrier = barrier_of(status.state)
        if barrier is None:  # an alarm hides it: as last seen
            return self._barrier if self._status is not None else Barrier.UNKNOWN
        if self._wishes.released and self._wishes.hold_sent and status.state in OPEN_STATES:
            return Barrier.RELEASED  # some boards show a hold as open for entry or exit
        return barrier

    def _say_up(self, status: Status) -> None:
        self._announce = False
        self._meter.now(Availability.AVAILABLE)
        self._status = status
        self._emit(DeviceUp(counters=self._tally.counts, barrier=self._barrier))

    def _say_changes(self, status: Status, barrier: Barrier, step: Step) -> None:
        """Whoever was let in is told after the opening and before the closing that show in the same status."""
        opening = barrier in (Barrier.OPENING, Barrier.OPEN, Barrier.RELEASED)
        if opening:
            self._say_barrier(status, barrier)
        counts = self._tally.counts
        assert counts is not None
        for direction, more, count in (
            (Direction.ENTRY, step.entries, counts.entries),
            (Direction.EXIT, step.exits, counts.exits),
        ):
            for counter in range(count - more + 1, count + 1):
                self._emit(PassageCounted(direction=direction, epoch=counts.epoch, counter=counter))
        if not opening:
            self._say_barrier(status, barrier)

    def _say_barrier(self, status: Status, barrier: Barrier) -> None:
        if barrier is not self._barrier:
            self._barrier = barrier
            self._emit(BarrierChanged(barrier=barrier, detail=word(status), counters=self._tally.counts))

    def _say_alarm(self, status: Status, now: float) -> None:
        kind = alarm_of(status.state)
        if kind is None:
            return
        seen_at = self._alarms.get(kind)
        self._alarms[kind] = now
        if seen_at is None or now - seen_at > ALARM_OVER_S:
            self._emit(GateAlarm(kind=kind))

    def _down(self, reason: str) -> None:
        self._status = None
        self._wishes.lost()
        self._note_refusal()
        self._meter.error(reason)  # last, because it is the cause
        if self._meter.now(Availability.UNAVAILABLE):
            self._barrier = Barrier.UNKNOWN
            self._emit(DeviceDown(reason=reason))

    def _note_refusal(self) -> None:
        if self._wishes.refused:
            self._meter.error(self._wishes.refused)
            self._wishes.refused = ""

    def _new_epoch(self) -> str:
        return f"{int(time.time()):x}-{self._rng.getrandbits(16):04x}"


def _to_nobody(event: object) -> None:
    """Before `run` and after it there is nobody to tell."""
