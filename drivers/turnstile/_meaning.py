"""What board 4's states mean to the seam: a sensed barrier, or an alarm, or both."""

from __future__ import annotations

from drivers.base import AlarmKind, Barrier
from protocols.board4 import CLOSED_STATES, CLOSING_STATES, OPENING_STATES, State, Status
from protocols.messages import Direction

# Open, and not for somebody's turn: by a hold command, the fire contact or the button on the board. The board does not
# say which of them, and none ends by itself, so each is a release.
HELD_STATES = frozenset({State.OPEN_IDLE, State.OPEN_FIRE, State.OPEN_MANUAL})

_BARRIERS: dict[State, Barrier] = {
    **dict.fromkeys(CLOSED_STATES, Barrier.CLOSED),
    **dict.fromkeys(OPENING_STATES, Barrier.OPENING),
    **dict.fromkeys(CLOSING_STATES, Barrier.CLOSING),
    **dict.fromkeys(HELD_STATES, Barrier.RELEASED),
    State.OPEN_ENTRY: Barrier.OPEN,
    State.OPEN_EXIT: Barrier.OPEN,
    State.SELF_TEST: Barrier.UNKNOWN,
    State.UNLISTED: Barrier.UNKNOWN,
}
_ALARMS = {
    State.CLOSED_FIRE: AlarmKind.FIRE,
    State.OPEN_FIRE: AlarmKind.FIRE,
    State.CLOSED_POWER_LOSS: AlarmKind.POWER_LOSS,
    State.CLOSING_ENTRY_PINCH: AlarmKind.PINCH,
    State.CLOSING_EXIT_PINCH: AlarmKind.PINCH,
    State.OPENING_ENTRY_PUSHED: AlarmKind.FORCED,
    State.OPENING_EXIT_PUSHED: AlarmKind.FORCED,
    State.LOITERING: AlarmKind.LOITERING,
    State.INTRUSION: AlarmKind.INTRUSION,
    State.REVERSE: AlarmKind.REVERSE,
    State.TAILGATING: AlarmKind.TAILGATE,
    State.EXTERNAL_ALARM: AlarmKind.EXTERNAL,
    State.SELF_TEST: AlarmKind.SELF_TEST,
}
_TURNS = {
    Direction.ENTRY: frozenset({State.OPENING_ENTRY, State.OPENING_ENTRY_PUSHED, State.OPEN_ENTRY}),
    Direction.EXIT: frozenset({State.OPENING_EXIT, State.OPENING_EXIT_PUSHED, State.OPEN_EXIT}),
}


def barrier_of(state: State) -> Barrier | None:
    """The sensed barrier; None for the alarm states, which say nothing about it."""
    return _BARRIERS.get(state)


def alarm_of(state: State) -> AlarmKind | None:
    return _ALARMS.get(state)


def is_turn(state: State, direction: Direction) -> bool:
    """Whether the barrier is opening or open for somebody's turn in `direction`."""
    return state in _TURNS[direction]


def word(status: Status) -> str:
    """The board's own word for its state."""
    return f"code {status.code:#04x}" if status.state is State.UNLISTED else status.state.name.lower().replace("_", " ")
