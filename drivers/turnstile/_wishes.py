"""What a board is wished to do, and which command has to be sent for it next. Pure: time comes in as numbers.

Few boards acknowledge a command, and opening twice may let twice as many people through.  So a wish is fulfilled when
state or counters show it, and only what is harmless to repeat is repeated: hold and close at will, open only after the
board has been seen closed, with nobody counted, well after the command.
"""

from __future__ import annotations

from drivers.turnstile._speech import BOTH, OPEN_POSTURES, Act, Order, Posture, Reading, Standing, Style
from protocols.messages import Counters, Direction

RELEASE_REPEAT_S = 0.25  # a hold is sent again this often until the board is sensed open
RELEASE_KEEP_S = 1.0  # and this often while it is open for another reason, which may end
CLOSE_REPEAT_S = 0.4
CLOSE_TRY_S = 5.0  # a barrier that does not close in this time is reported as what it is: open
REARM_TRY_S = 10.0  # the fire contact, or a pulled cable, may keep a board open; then it has to be re-armed again
OPEN_MARGIN_S = 0.03  # an open with less time than this left would not be on the wire in time
OPEN_REPEAT_S = 0.4  # a board needs some time to begin to move
OPEN_CONFIRM_S = 1.0  # an open that shows neither in state nor in counters after this time was not carried out
CLOSED_PROOFS = 2  # statuses in a row that must say `closed` before an open is sent again
TURN_MAX_S = 120.0  # a turn that its board does not end is ended here, should nobody say `close`
FOLLOW_S = 2.0  # who is counted so soon after the last one of a turn followed him through
STAND_REPEAT_S = 0.5
STAND_TRIES = 3  # rounds; a board that confirms ends them sooner

_BLOCKED = {  # the openings that make no sense in a standing
    Standing.NORMAL: (),
    Standing.FREE_ENTRY: (Direction.ENTRY,),
    Standing.FREE_EXIT: (Direction.EXIT,),
}


class _Open:
    """A turn: `pax` people in one direction."""

    def __init__(self, direction: Direction, pax: int, deadline: float) -> None:
        self.direction = direction
        self.pax = pax
        self.deadline = deadline
        self.sent_at: float | None = None
        self.base = 0  # people of that direction counted before it was sent
        self.was_turn = False  # open for that direction when it was sent already, so the state proves nothing
        self.executed = False
        self.closed_proofs = 0


class _Closing:
    """End a turn or, with `rearm`, a release. Sent at least once, and again until sensed."""

    def __init__(self, directions: tuple[Direction, ...], until: float, orders: list[Order], *, rearm: bool) -> None:
        self.directions = directions
        self.until = until
        self.orders = orders
        self.rearm = rearm
        self.sent_at: float | None = None
        self.left = list(orders)  # of this round


class _Stand:
    """Begin or end a standing: some rounds of its commands, fewer when the board confirms."""

    def __init__(self, orders: list[Order], confirmed_by: Standing) -> None:
        self.orders = orders
        self.confirmed_by = confirmed_by
        self.sent_at: float | None = None
        self.left: list[Order] = []
        self.rounds = 0


class Wishes:
    """Release goes before re-arm, re-arm before close, close before a standing, a standing before open."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._released = False
        self._hold_at: float | None = None
        self._holds: list[Order] = []  # of this round
        self._locked = False  # when it was released
        self._closing: _Closing | None = None
        self._open: _Open | None = None
        self._standing = Standing.NORMAL
        self._stand: _Stand | None = None
        self._last: Reading | None = None  # None: not known at present
        self._counts = Counters("", 0, 0)
        self._residual = dict.fromkeys(BOTH, True)  # the board may let people through whom nobody here knows of
        self._latest: Direction | None = None  # of the last turn
        self._ended: tuple[Direction, float, int] | None = None  # the last turn that all used, when, and the count
        self.refused = ""  # why the last open was not carried out, for the statistics
        self.followed = False  # somebody more was counted than was let in; whoever reports it clears it

    @property
    def released(self) -> bool:
        return self._released

    @property
    def hold_sent(self) -> bool:
        """A hold went out since the board was last (re)connected."""
        return self._hold_at is not None

    @property
    def satisfied(self) -> bool:
        """Released, and sensed so: nothing is left to be hurried."""
        return self._released and self._last is not None and self._last.posture in OPEN_POSTURES

    @property
    def pending(self) -> bool:
        """Something is wished that has to be sent."""
        unsent = self._open is not None and self._open.sent_at is None
        return self._released or self._closing is not None or self._stand is not None or unsent

    @property
    def busy(self) -> bool:
        """A turn is under way, or something is wished: news is worth more than usual."""
        return self.pending or self._open is not None

    @property
    def standing(self) -> Standing:
        return self._standing

    # --- wishes -------------------------------------------------------------------------------------------------

    def open(self, direction: Direction, pax: int, deadline: float, now: float) -> None:
        """At most as many people as one command can let in: fewer is the safe side."""
        if self._released or pax < 1:
            self.refused = "open refused: released" if self._released else f"open refused: for {pax} people"
            return
        if direction in _BLOCKED.get(self._standing, BOTH):
            self.refused = f"open refused: the lane is {self._standing.value}"
            return
        if self._open is not None:
            if self._open.direction is direction:
                return  # the same turn, asked for again
            self.close(now)
        self._open = _Open(direction, min(pax, self._style.pax_max), deadline)
        self._latest = direction

    def close(self, now: float) -> None:
        if self._released or self._posture is Posture.HELD:
            return  # only a re-arm ends a release, whoever made it
        if self._closing is not None and self._closing.rearm:
            return
        turn, self._open = self._open, None
        if turn is not None and turn.sent_at is None and not self._residual[turn.direction]:
            return  # it never reached the board
        if turn is None and self._posture is Posture.CLOSED:
            return
        self._end(BOTH if self._latest is None else (self._latest,), now)

    def release(self) -> None:
        self._open = self._closing = self._stand = None
        if not self._released:
            self._locked = self._standing is Standing.LOCKED
            self._released, self._hold_at, self._holds = True, None, []
        self._standing = Standing.NORMAL

    def rearm(self, now: float) -> None:
        self._released, self._hold_at, self._holds = False, None, []
        self._open = self._stand = None
        self._standing = Standing.NORMAL
        orders = [Order(Act.REARM, step=step) for step in range(self._style.rearm_steps)]
        self._closing = _Closing(BOTH, now + REARM_TRY_S, orders, rearm=True)

    def stand(self, standing: Standing, now: float) -> None:
        """Begin a standing, or end one with NORMAL. Ignored while released: a release is ended by `rearm` alone."""
        if self._released:
            self.refused = f"{standing.value} refused: released"
            return
        if standing is self._standing:
            return
        before, self._standing = self._standing, standing
        if self._open is not None:
            self.close(now)
        orders = [] if before is Standing.NORMAL else self._steps(Act.UNSTAND, before)
        if standing is not Standing.NORMAL:
            orders += self._steps(Act.STAND, standing)
        self._stand = _Stand(orders, standing)

    def lost(self) -> None:
        """The board is not heard any more: a turn is over, a release and a standing are not."""
        if self._open is not None:
            self.refused = "open ended: the board is not heard"
        self._open = self._ended = None
        if self._closing is not None and not self._closing.rearm:
            self._closing = None  # somebody else may have released it when we hear it again
        if self._standing is not Standing.NORMAL and not self._released:
            self._stand = _Stand(self._steps(Act.STAND, self._standing), self._standing)
        self._last = None
        self._hold_at, self._holds = None, []
        self._residual = dict.fromkeys(BOTH, True)

    def _steps(self, act: Act, standing: Standing) -> list[Order]:
        return [Order(act, step=step, standing=standing) for step in range(self._style.stand_steps[standing])]

    def _end(self, directions: tuple[Direction, ...], now: float) -> None:
        orders = [Order(Act.CLOSE, direction) for direction in directions]
        self._closing = _Closing(directions, now + CLOSE_TRY_S, orders, rearm=False)

    # --- what is seen -------------------------------------------------------------------------------------------

    @property
    def _posture(self) -> Posture | None:
        return None if self._last is None else self._last.posture

    def rebase(self, counts: Counters) -> None:
        """The same readings are counted from elsewhere now: nobody passed."""
        if self._open is not None:
            old = self._count(self._open.direction)
            self._counts = counts
            self._open.base += self._count(self._open.direction) - old
        self._counts = counts
        self._ended = None

    def observe(self, reading: Reading, counts: Counters, now: float) -> None:
        """A status came; `counts` as believed."""
        self._last, self._counts = reading, counts
        if reading.posture is Posture.CLOSED:
            self._residual = dict.fromkeys(BOTH, False)
        self._observe_closing(reading)
        self._observe_standing(reading)
        if self._open is not None:
            self._observe_turn(self._open, reading, now)
        elif self._ended is not None:
            direction, ended_at, count = self._ended
            if now - ended_at > FOLLOW_S:
                self._ended = None
            elif (more := self._count(direction)) > count:
                self.followed = True
                self._ended = (direction, ended_at, more)
        if not self._style.closes_itself:
            self._end_leftover(reading, now)

    def _observe_turn(self, turn: _Open, reading: Reading, now: float) -> None:
        if turn.sent_at is None:
            return
        passed = self._count(turn.direction) - turn.base
        if passed > 0 or (reading.is_turn(turn.direction) and not turn.was_turn):
            turn.executed = True
        if reading.posture is Posture.CLOSED:
            turn.was_turn = False
            turn.closed_proofs += 1
        else:
            turn.closed_proofs = 0
        if passed >= turn.pax:
            self.followed = self.followed or passed > turn.pax
            self._ended = (turn.direction, now, self._count(turn.direction))
            self._residual[turn.direction] = False
            self._open = None
            if not self._style.closes_itself:
                self._end((turn.direction,), now)
        elif turn.executed and reading.posture is Posture.CLOSED:
            self._open = None  # the turn is over, with places left
        elif not turn.executed and now >= max(turn.deadline, turn.sent_at + OPEN_CONFIRM_S):
            self._residual[turn.direction] = turn.closed_proofs < CLOSED_PROOFS
            self.refused = "open sent, and never seen executed"
            self._open = None
            if not self._style.closes_itself:
                self._end((turn.direction,), now)
        elif not self._style.closes_itself and now >= turn.sent_at + TURN_MAX_S:
            self._open = None
            self._end((turn.direction,), now)

    def _end_leftover(self, reading: Reading, now: float) -> None:
        """A turn of nobody's, on a board that would keep it for ever: from before a silence or a restart."""
        idle = self._open is None and self._closing is None and not self._released
        if idle and self._standing is Standing.NORMAL and reading.posture is Posture.OPEN:
            self._end(BOTH if reading.facing is None else (reading.facing,), now)

    def _observe_closing(self, reading: Reading) -> None:
        closing = self._closing
        if closing is None or closing.sent_at is None or closing.left:
            return
        quiet = reading.posture in (Posture.CLOSED, Posture.CLOSING)
        if not closing.rearm and reading.posture is not Posture.HELD:
            quiet = quiet or any(reading.is_turn(other) for other in BOTH if other not in closing.directions)
        if quiet:
            for direction in closing.directions:
                self._residual[direction] = False
            self._closing = None

    def _observe_standing(self, reading: Reading) -> None:
        stand = self._stand
        if stand is not None and stand.sent_at is not None and not stand.left:
            held = reading.posture is Posture.HELD and stand.confirmed_by is Standing.HELD
            if held or reading.standing is stand.confirmed_by:
                self._stand = None

    def _count(self, direction: Direction) -> int:
        return self._counts.entries if direction is Direction.ENTRY else self._counts.exits

    # --- what to send -------------------------------------------------------------------------------------------

    def due(self, now: float) -> Order | None:
        """The command to send now, taken as sent; None when nothing is due."""
        if self._released:
            return self._due_hold(now)
        if self._closing is not None:
            return self._due_close(self._closing, now)
        if self._stand is not None and (order := self._due_stand(self._stand, now)) is not None:
            return order
        if self._open is not None:
            return self._due_open(self._open, now)
        return None

    def _due_hold(self, now: float) -> Order | None:
        if self._holds:
            return self._holds.pop(0)
        if self._hold_at is not None:
            if self._last is not None and self._last.steady and self._last.posture is Posture.HELD:
                return None
            pause_s = RELEASE_KEEP_S if self._posture in OPEN_POSTURES else RELEASE_REPEAT_S
            if now - self._hold_at < pause_s:
                return None
        self._hold_at = now
        unlock = self._steps(Act.UNSTAND, Standing.LOCKED) if self._locked else []
        first, *self._holds = unlock + [Order(Act.RELEASE, step=step) for step in range(self._style.release_steps)]
        return first

    def _due_close(self, closing: _Closing, now: float) -> Order | None:
        if closing.sent_at is None:
            if now >= closing.until or (self._posture is Posture.HELD and not closing.rearm):
                self._closing = None  # too late, or held open by somebody else meanwhile: only a re-arm ends that
                return None
            if self._last is None and not closing.rearm:
                return None  # learn first
        if not closing.left:
            assert closing.sent_at is not None
            if now - closing.sent_at < CLOSE_REPEAT_S:
                return None
            if now >= closing.until:
                self.refused = "re-arm given up: the board stays open" if closing.rearm else "the board does not close"
                self._closing = None
                return None
            closing.left = list(closing.orders)
        closing.sent_at = now
        return closing.left.pop(0)

    def _due_stand(self, stand: _Stand, now: float) -> Order | None:
        if not stand.left:
            if stand.sent_at is not None and now - stand.sent_at < STAND_REPEAT_S:
                return None
            if stand.rounds >= STAND_TRIES:
                self._stand = None
                return None
            stand.left = list(stand.orders)
            stand.rounds += 1
        stand.sent_at = now
        return stand.left.pop(0)

    def _due_open(self, turn: _Open, now: float) -> Order | None:
        last = self._last
        late = now >= turn.deadline - OPEN_MARGIN_S
        if late and turn.sent_at is None:
            self.refused = "open dropped: its time was over before it could be sent"
            self._open = None
            return None
        if last is None or last.posture is Posture.UNKNOWN:
            return None  # learn first; there is time until the deadline
        if turn.sent_at is not None:
            overdue = now - turn.sent_at >= OPEN_REPEAT_S and turn.closed_proofs >= CLOSED_PROOFS
            if late or not overdue:  # a turn that was seen executed never has proofs
                return None
        elif last.posture is Posture.HELD:
            self.refused = "open refused: the board is held open"
            self._open = None
            return None
        elif self._residual[turn.direction] and last.is_turn(turn.direction):
            # open for whom? An open on top would add people to those: end that turn first
            self._end((turn.direction,), now)
            assert self._closing is not None
            return self._due_close(self._closing, now)
        turn.sent_at = now
        turn.base = self._count(turn.direction)
        turn.was_turn = last.is_turn(turn.direction)
        turn.closed_proofs = 0
        return Order(Act.OPEN, turn.direction, turn.pax, turn.deadline)
