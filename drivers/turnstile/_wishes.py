"""What a board 4 is wished to do, and which command has to be sent for it next. Pure: time comes in as numbers.

A command of this board is not acknowledged, and opening twice may let twice as many people through.  So a wish is
fulfilled when state or counters show it, and only what is harmless to repeat is repeated: hold and close at will, open
only after the board has been seen closed, with nobody counted, well after the command.
"""

from __future__ import annotations

import msgspec

from drivers.turnstile._meaning import HELD_STATES, is_turn
from protocols.board4 import CLOSED_STATES, CLOSING_STATES, OPEN_STATES, PAX_MAX, Action, State
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

_OPEN = {Direction.ENTRY: Action.ENTER_OPEN, Direction.EXIT: Action.EXIT_OPEN}
_HOLD = {Direction.ENTRY: Action.ENTER_HOLD, Direction.EXIT: Action.EXIT_HOLD}
_CLOSE = {Direction.ENTRY: Action.ENTER_CLOSE, Direction.EXIT: Action.EXIT_CLOSE}
BOTH = (Direction.ENTRY, Direction.EXIT)


class Order(msgspec.Struct, frozen=True):
    """One command for the board. With a `deadline` (on the clock of `due`) it must be on the wire by then or never."""

    action: Action
    pax: int = 1
    deadline: float | None = None


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

    def __init__(self, directions: tuple[Direction, ...], until: float, *, rearm: bool) -> None:
        self.directions = directions
        self.until = until
        self.rearm = rearm
        self.sent_at: float | None = None
        self.left = list(directions)  # of this round


class Wishes:
    """Release goes before re-arm, re-arm before close, close before open."""

    def __init__(self, escape: tuple[Direction, ...]) -> None:
        self._escape = escape
        self._released = False
        self._hold_at: float | None = None
        self._holds: list[Direction] = []  # of this round
        self._closing: _Closing | None = None
        self._open: _Open | None = None
        self._state: State | None = None  # None: not known at present
        self._counts = Counters("", 0, 0)
        self._residual = dict.fromkeys(BOTH, True)  # the board may let people through whom nobody here knows of
        self._latest: Direction | None = None  # of the last turn
        self.refused = ""  # why the last open was not carried out, for the statistics

    @property
    def released(self) -> bool:
        return self._released

    @property
    def hold_sent(self) -> bool:
        """A hold went out since the board was last (re)connected."""
        return self._hold_at is not None

    # --- wishes -------------------------------------------------------------------------------------------------

    def open(self, direction: Direction, pax: int, deadline: float, now: float) -> None:
        """At most PAX_MAX people: the board's count has eight bits, and fewer is the safe side."""
        if self._released or pax < 1:
            self.refused = "open refused: released" if self._released else f"open refused: for {pax} people"
            return
        if self._open is not None:
            if self._open.direction is direction:
                return  # the same turn, asked for again
            self.close(now)
        self._open = _Open(direction, min(pax, PAX_MAX), deadline)
        self._latest = direction

    def close(self, now: float) -> None:
        if self._released or self._state in HELD_STATES:
            return  # only a re-arm ends a release, whoever made it
        if self._closing is not None and self._closing.rearm:
            return
        turn, self._open = self._open, None
        if turn is not None and turn.sent_at is None and not self._residual[turn.direction]:
            return  # it never reached the board
        if turn is None and self._state in CLOSED_STATES:
            return
        directions = BOTH if self._latest is None else (self._latest,)
        self._closing = _Closing(directions, now + CLOSE_TRY_S, rearm=False)

    def release(self) -> None:
        self._open = self._closing = None
        if not self._released:
            self._released, self._hold_at, self._holds = True, None, []

    def rearm(self, now: float) -> None:
        self._released, self._hold_at, self._holds = False, None, []
        self._open = None
        self._closing = _Closing(BOTH, now + REARM_TRY_S, rearm=True)

    def lost(self) -> None:
        """The board is not heard any more: a turn is over, a release is not."""
        if self._open is not None:
            self.refused = "open ended: the board is not heard"
        self._open = None
        if self._closing is not None and not self._closing.rearm:
            self._closing = None  # somebody else may have released it when we hear it again
        self._state = None
        self._hold_at, self._holds = None, []
        self._residual = dict.fromkeys(BOTH, True)

    # --- what is seen -------------------------------------------------------------------------------------------

    def rebase(self, counts: Counters) -> None:
        """The same readings are counted from elsewhere now: nobody passed."""
        if self._open is not None:
            old = self._count(self._open.direction)
            self._counts = counts
            self._open.base += self._count(self._open.direction) - old
        self._counts = counts

    def observe(self, state: State, counts: Counters, now: float) -> None:
        """A status came; `counts` as believed."""
        self._state, self._counts = state, counts
        if state in CLOSED_STATES:
            self._residual = dict.fromkeys(BOTH, False)
        self._observe_closing(state)
        turn = self._open
        if turn is None or turn.sent_at is None:
            return
        passed = self._count(turn.direction) - turn.base
        if passed > 0 or (is_turn(state, turn.direction) and not turn.was_turn):
            turn.executed = True
        if state in CLOSED_STATES:
            turn.was_turn = False
            turn.closed_proofs += 1
        else:
            turn.closed_proofs = 0
        if passed >= turn.pax:
            self._residual[turn.direction] = False
            self._open = None
        elif turn.executed and state in CLOSED_STATES:
            self._open = None  # the turn is over, with places left
        elif not turn.executed and now >= max(turn.deadline, turn.sent_at + OPEN_CONFIRM_S):
            self._residual[turn.direction] = turn.closed_proofs < CLOSED_PROOFS
            self.refused = "open sent, and never seen executed"
            self._open = None

    def _observe_closing(self, state: State) -> None:
        closing = self._closing
        if closing is None or closing.sent_at is None or closing.left:
            return
        quiet = state in CLOSED_STATES or state in CLOSING_STATES
        if not closing.rearm and state not in HELD_STATES:
            quiet = quiet or any(is_turn(state, other) for other in BOTH if other not in closing.directions)
        if quiet:
            for direction in closing.directions:
                self._residual[direction] = False
            self._closing = None

    def _count(self, direction: Direction) -> int:
        return self._counts.entries if direction is Direction.ENTRY else self._counts.exits

    # --- what to send -------------------------------------------------------------------------------------------

    def due(self, now: float) -> Order | None:
        """The command to send now, taken as sent; None when nothing is due."""
        if self._released:
            return self._due_hold(now)
        if self._closing is not None:
            return self._due_close(self._closing, now)
        if self._open is not None:
            return self._due_open(self._open, now)
        return None

    def _due_hold(self, now: float) -> Order | None:
        if self._holds:
            return Order(_HOLD[self._holds.pop(0)])
        if self._hold_at is not None:
            if self._state in (State.OPEN_IDLE, State.OPEN_FIRE):
                return None
            pause_s = RELEASE_KEEP_S if self._state in OPEN_STATES else RELEASE_REPEAT_S
            if now - self._hold_at < pause_s:
                return None
        self._hold_at = now
        first, *self._holds = self._escape
        return Order(_HOLD[first])

    def _due_close(self, closing: _Closing, now: float) -> Order | None:
        if closing.sent_at is None:
            if now >= closing.until or (self._state in HELD_STATES and not closing.rearm):
                self._closing = None  # too late, or held open by somebody else meanwhile: only a re-arm ends that
                return None
            if self._state is None and not closing.rearm:
                return None  # learn first
        if not closing.left:
            assert closing.sent_at is not None
            if now - closing.sent_at < CLOSE_REPEAT_S:
                return None
            if now >= closing.until:
                self.refused = "re-arm given up: the board stays open" if closing.rearm else "the board does not close"
                self._closing = None
                return None
            closing.left = list(closing.directions)
        closing.sent_at = now
        return Order(_CLOSE[closing.left.pop(0)])

    def _due_open(self, turn: _Open, now: float) -> Order | None:
        state = self._state
        late = now >= turn.deadline - OPEN_MARGIN_S
        if late and turn.sent_at is None:
            self.refused = "open dropped: its time was over before it could be sent"
            self._open = None
            return None
        if state is None or state in (State.SELF_TEST, State.UNLISTED):
            return None  # learn first; there is time until the deadline
        if turn.sent_at is not None:
            overdue = now - turn.sent_at >= OPEN_REPEAT_S and turn.closed_proofs >= CLOSED_PROOFS
            if late or not overdue:  # a turn that was seen executed never has proofs
                return None
        elif state in HELD_STATES:
            self.refused = "open refused: the board is held open"
            self._open = None
            return None
        elif self._residual[turn.direction] and is_turn(state, turn.direction):
            # open for whom? An open on top would add people to those: end that turn first
            self._closing = _Closing((turn.direction,), now + CLOSE_TRY_S, rearm=False)
            return self._due_close(self._closing, now)
        turn.sent_at = now
        turn.base = self._count(turn.direction)
        turn.was_turn = is_turn(state, turn.direction)
        turn.closed_proofs = 0
        return Order(_OPEN[turn.direction], turn.pax, turn.deadline)
