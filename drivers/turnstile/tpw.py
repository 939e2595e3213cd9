"""TPW's boards (`protocols.tpw`): modes that stay until another is set, and two counters.

A turn is a mode as well: `entry open` until all have been counted, then `normally closed` again.  Setting a mode twice
changes nothing, so a lost acknowledgement is no danger; but a mode does not end by itself, so the driver ends it when
all have passed, when nobody says so for too long, and when it finds one that nobody here knows of.

What it says of the barrier are its modes, read back when the line opens and acknowledged when set; nothing is sensed.
"""

from __future__ import annotations

from drivers.turnstile._speech import Act, Heard, Order, Owed, Posture, Reading, Standing, Style
from protocols import tpw
from protocols._resync import Resync
from protocols.messages import Direction
from protocols.tpw import Arm, Counter, Frame, Kind, Mode, Passing

PAX_MAX = 255  # people of one turn; the bound is ours
POLL_S = 0.1
ANSWER_S = 0.25  # published are 2 s, as the longest; nobody would wait for a dead board so long on a line of many
FRAME_BYTES = 20
VERIFY_POLLS = 200  # the modes are read back after so many questions: an acknowledgement may have been another's
# How many digits a counter has is not published. The last six of a wider one say as much; one with fewer looks like a
# reset when it wraps.
COUNTER_MODULUS = 10**6

_PARAMETERS = frozenset(
    {
        Kind.MODEL,
        Kind.VERSION,
        Kind.IDENTITY,
        Kind.MODE,
        Kind.PASSAGE,
        Kind.DELAY,
        Kind.SPEED,
        Kind.SENSITIVITY,
        Kind.ARM,
    }
)
_CONTROLLED = (Passing.CONTROLLED, Passing.CONTROLLED)
_PASSINGS = {
    Standing.FREE: (Passing.FREE, Passing.FREE),
    Standing.FREE_ENTRY: (Passing.FREE, Passing.CONTROLLED),
    Standing.FREE_EXIT: (Passing.CONTROLLED, Passing.FREE),
    Standing.LOCKED: (Passing.FORBIDDEN, Passing.FORBIDDEN),
}
_STANDINGS = {pair: standing for standing, pair in _PASSINGS.items()}
_TURNS = {Direction.ENTRY: Mode.ENTRY_OPEN, Direction.EXIT: Mode.EXIT_OPEN}
_POSTURES = {
    Mode.NORMALLY_OPEN: (Posture.HELD, None),
    Mode.NORMALLY_CLOSED: (Posture.CLOSED, None),
    Mode.ENTRY_OPEN: (Posture.OPEN, Direction.ENTRY),
    Mode.EXIT_OPEN: (Posture.OPEN, Direction.EXIT),
}


class TpwDialect:
    """How one board is spoken to. `address` is None over UDP; `arm` is whether it is a tripod.

    Raises ValueError for an address that no board has.
    """

    answers = True
    broadcasts = False
    firmware = ""

    def __init__(self, address: int | None, *, arm: bool = False) -> None:
        if address is not None and not 0 <= address <= 0xFF:
            raise ValueError(f"board address {address}; 0 to 255 are possible")
        self._address = address
        self._arm = arm
        self._asked: Order | None = None
        self._connecting = False
        self._owed: Owed | None = None
        self._mode: Mode | None = None
        self._passing: tuple[Passing, Passing] | None = None
        self._home = _CONTROLLED  # what the directions are in when nothing is wished
        self._dropped = False
        self._counts: dict[Kind, int] = {}
        self._turn = Counter.ENTRY  # which is read next
        self._polls = 0  # since the modes were read back
        stands = dict.fromkeys((Standing.HELD, *_PASSINGS), 1)
        if arm:
            stands[Standing.ARM_DROPPED] = 1
        self.style = Style(
            pax_max=PAX_MAX,
            release_steps=3 if arm else 2,
            rearm_steps=3 if arm else 2,
            stand_steps=stands,
            closes_itself=False,
        )

    @property
    def _reads_back(self) -> bool:
        """Whether the modes have to be learnt, at first or again."""
        known = self._mode is not None and self._passing is not None and len(self._counts) == 2
        return not known or self._polls >= VERIFY_POLLS

    def framer(self) -> Resync[Frame]:
        return tpw.framer(addressed=self._address is not None)

    def poll(self) -> bytes:
        if self._reads_back:
            return tpw.connect(self._address)
        return tpw.read_counter(self._address, self._turn)

    def command(self, order: Order) -> bytes:
        match order.act:
            case Act.OPEN:
                assert order.direction is not None
                return tpw.set_mode(self._address, _TURNS[order.direction])
            case Act.CLOSE:
                return tpw.set_mode(self._address, Mode.NORMALLY_CLOSED)
            case Act.RELEASE:
                return (
                    tpw.set_mode(self._address, Mode.NORMALLY_OPEN),
                    tpw.set_passing(self._address, Passing.FREE, Passing.FREE),
                    tpw.move_arm(self._address, Arm.DROP),
                )[order.step]
            case Act.REARM:
                return (
                    tpw.set_passing(self._address, *self._home),
                    tpw.set_mode(self._address, Mode.NORMALLY_CLOSED),
                    tpw.move_arm(self._address, Arm.RAISE),
                )[order.step]
            case Act.STAND | Act.UNSTAND:
                return self._stand(order.standing, order.act is Act.STAND)

    def broadcast(self) -> bytes:
        return b""

    def asking(self, order: Order | None, now: float) -> None:
        self._asked = order
        self._connecting = order is None and self._reads_back
        self._polls = 0 if self._connecting else self._polls + 1

    def hear(self, frame: Frame, now: float) -> Heard | None:
        if frame.address != self._address:
            return None
        match frame.kind:
            case Kind.CONNECT:
                if self._connecting:
                    self._owed = Owed(tpw.connect(self._address), True)
                return Heard(self._connecting)
            case Kind.ENTRIES | Kind.EXITS:
                return Heard(True, self._counted(frame))
            case Kind.DONE:
                asked, self._asked = self._asked, None
                if asked is not None:
                    self._carried_out(asked)
                return Heard(True, self._reading())
            case Kind.FAILED:
                self._asked = None
                return Heard(True, self._reading())
            case kind if kind in _PARAMETERS and self._connecting:
                return Heard(True, self._parameter(frame))
            case _:
                return Heard(False)

    def follow(self) -> Owed | None:
        owed, self._owed = self._owed, None
        return owed

    def order(self) -> Order | None:
        return None

    def passed(self, direction: Direction, now: float) -> Reading | None:
        return None

    def missed(self, now: float) -> None:
        if self._asked is not None:  # carried out or not: nobody knows, so it is read back
            self._mode = self._passing = None
        self._asked = None

    def tick(self, now: float) -> Reading | None:
        return None

    def lost(self) -> None:
        self._asked, self._owed, self._connecting = None, None, False
        self._mode, self._passing, self._dropped = None, None, False
        self._counts = {}

    def _stand(self, standing: Standing, begin: bool) -> bytes:
        if standing is Standing.HELD:
            return tpw.set_mode(self._address, Mode.NORMALLY_OPEN if begin else Mode.NORMALLY_CLOSED)
        if standing is Standing.ARM_DROPPED:
            return tpw.move_arm(self._address, Arm.DROP if begin else Arm.RAISE)
        return tpw.set_passing(self._address, *(_PASSINGS[standing] if begin else self._home))

    def _counted(self, frame: Frame) -> Reading | None:
        self._counts[frame.kind] = tpw.count(frame)
        self._turn = Counter.EXIT if frame.kind is Kind.ENTRIES else Counter.ENTRY
        if self._connecting:
            # a tripod has no parameters after this one
            last = frame.kind is Kind.EXITS and self._arm
            self._owed = Owed(tpw.connect(self._address), not last)
        else:
            self._owed = Owed(tpw.done(self._address), False)
        return self._reading()

    def _parameter(self, frame: Frame) -> Reading | None:
        if frame.kind is Kind.VERSION:
            self.firmware = frame.content
        elif frame.kind is Kind.MODE:
            self._mode = tpw.mode(frame)
        elif frame.kind is Kind.PASSAGE:
            self._passing = tpw.passing(frame)
            if self._passing not in (_PASSINGS[Standing.FREE], _PASSINGS[Standing.LOCKED]):
                self._home = self._passing  # as it was set up: a lane with free exit keeps it
        self._owed = Owed(tpw.connect(self._address), frame.kind is not Kind.SENSITIVITY)
        return None

    def _carried_out(self, order: Order) -> None:
        match order.act, order.step, order.standing:
            case Act.OPEN, _, _:
                assert order.direction is not None
                self._mode = _TURNS[order.direction]
            case (Act.CLOSE, _, _) | (Act.REARM, 1, _) | (Act.UNSTAND, _, Standing.HELD):
                self._mode = Mode.NORMALLY_CLOSED
            case (Act.RELEASE, 0, _) | (Act.STAND, _, Standing.HELD):
                self._mode = Mode.NORMALLY_OPEN
            case Act.RELEASE, 1, _:
                self._passing = _PASSINGS[Standing.FREE]
            case (Act.RELEASE, 2, _) | (Act.STAND, _, Standing.ARM_DROPPED):
                self._dropped = True
            case (Act.REARM, 2, _) | (Act.UNSTAND, _, Standing.ARM_DROPPED):
                self._dropped = False
            case (Act.REARM, 0, _) | (Act.UNSTAND, _, _):
                self._passing = self._home
            case Act.STAND, _, standing:
                self._passing = _PASSINGS[standing]

    def _reading(self) -> Reading | None:
        if self._mode is None or self._passing is None or len(self._counts) < 2:
            return None
        posture, facing = _POSTURES[self._mode]
        standing = Standing.HELD if posture is Posture.HELD else _STANDINGS.get(self._passing, Standing.NORMAL)
        if self._dropped:
            posture, facing, standing = Posture.HELD, None, Standing.ARM_DROPPED
        elif posture is Posture.CLOSED and standing is Standing.FREE:
            posture = Posture.HELD
        if self._passing == self._home and standing in (Standing.FREE_ENTRY, Standing.FREE_EXIT):
            standing = Standing.NORMAL
        return Reading(
            posture=posture,
            facing=facing,
            sensed=False,
            word=f"{self._mode.name.lower().replace('_', ' ')}, as set",
            counts=(self._counts[Kind.ENTRIES] % COUNTER_MODULUS, self._counts[Kind.EXITS] % COUNTER_MODULUS),
            standing=standing,
        )
