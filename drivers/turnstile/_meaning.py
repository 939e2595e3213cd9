"""What board 4's states mean to the rules: where the barrier stands, or an alarm, or both."""

from __future__ import annotations

from drivers.base import AlarmKind
from drivers.turnstile._speech import Posture, Reading
from protocols.board4 import CLOSED_STATES, CLOSING_STATES, OPENING_STATES, State, Status
from protocols.messages import Direction

# Open, and not for somebody's turn: by a hold command, the fire contact or the button on the board. The board does not
# say which of them, and none ends by itself, so each is a release.
HELD_STATES = frozenset({State.OPEN_IDLE, State.OPEN_FIRE, State.OPEN_MANUAL})

_POSTURES: dict[State, Posture] = {
    **dict.fromkeys(CLOSED_STATES, Posture.CLOSED),
    **dict.fromkeys(OPENING_STATES, Posture.OPENING),
    **dict.fromkeys(CLOSING_STATES, Posture.CLOSING),
    **dict.fromkeys(HELD_STATES, Posture.HELD),
    State.OPEN_ENTRY: Posture.OPEN,
    State.OPEN_EXIT: Posture.OPEN,
    State.SELF_TEST: Posture.UNKNOWN,
    State.UNLISTED: Posture.UNKNOWN,
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
_FACING = {
    **dict.fromkeys((State.OPENING_ENTRY, State.OPENING_ENTRY_PUSHED, State.OPEN_ENTRY), Direction.ENTRY),
    **dict.fromkeys((State.OPENING_EXIT, State.OPENING_EXIT_PUSHED, State.OPEN_EXIT), Direction.EXIT),
}
_FIRES = frozenset({State.CLOSED_FIRE, State.OPEN_FIRE})
_STEADY = frozenset({State.OPEN_IDLE, State.OPEN_FIRE})


def reading_of(status: Status) -> Reading:
    """A status, as the rules see it. The states of an alarm hide the barrier."""
    posture = _POSTURES.get(status.state, Posture.HIDDEN)
    says_fire = posture not in (Posture.HIDDEN, Posture.UNKNOWN)
    return Reading(
        posture=posture,
        facing=_FACING.get(status.state),
        steady=status.state in _STEADY,
        word=_word(status),
        alarm=_ALARMS.get(status.state),
        counts=(status.entries, status.exits),
        fire=status.state in _FIRES if says_fire else None,
    )


def _word(status: Status) -> str:
    """The board's own word for its state."""
    return f"code {status.code:#04x}" if status.state is State.UNLISTED else status.state.name.lower().replace("_", " ")
