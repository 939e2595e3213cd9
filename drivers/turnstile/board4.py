"""Board 4 (`protocols.board4`): the board that senses and says everything but an acknowledgement."""

from __future__ import annotations

import random

from drivers.serial import check_baud
from drivers.turnstile._bus import Bus
from drivers.turnstile._lines import serial_opener
from drivers.turnstile._meaning import reading_of
from drivers.turnstile._speech import BOTH, Act, Heard, Order, Owed, Reading, Standing, Style
from drivers.turnstile._tally import Tally
from drivers.turnstile.gate import ESCAPE, TurnstileGate, epoch_name
from drivers.turnstile.models import model_of
from protocols.board4 import (
    BROADCAST,
    CID_COMMAND,
    FRAME_BYTES,
    PAX_MAX,
    Action,
    Board4Framer,
    Command,
    Frame,
    decode_status,
    encode_command,
    encode_lock,
    query,
)
from protocols.messages import Direction

UDP_PORT = 1004
ANSWER_S = 0.065  # the board's turn-round, a USB adapter's 16 ms, and as much again
POLL_S = 0.1

_OPENS = {Direction.ENTRY: Action.ENTER_OPEN, Direction.EXIT: Action.EXIT_OPEN}
_HOLDS = {Direction.ENTRY: Action.ENTER_HOLD, Direction.EXIT: Action.EXIT_HOLD}
_CLOSES = {Direction.ENTRY: Action.ENTER_CLOSE, Direction.EXIT: Action.EXIT_CLOSE}


def release_frames(address: int, escape: tuple[Direction, ...] = ESCAPE) -> bytes:
    """The bytes that hold a board open, for `paifang evacuate`, which writes them beside a server that hangs."""
    return b"".join(encode_command(Command(address, _HOLDS[direction])) for direction in escape)


class Board4Dialect:
    """How one board 4 is spoken to. Raises ValueError for an address that no board has."""

    answers = True
    broadcasts = True
    firmware = ""

    def __init__(self, address: int, escape: tuple[Direction, ...] = ESCAPE) -> None:
        if not 1 <= address <= 0xFF:
            raise ValueError(f"board address {address}; 1 to 255 are possible, 0 is for all boards")
        if not escape:
            raise ValueError("a gate has at least one escape direction")
        self._address = address
        self._escape = escape
        self.style = Style(
            pax_max=PAX_MAX,
            release_steps=len(escape),
            rearm_steps=len(BOTH),
            stand_steps={Standing.HELD: len(escape), Standing.LOCKED: 1},
        )

    def framer(self) -> Board4Framer:
        return Board4Framer()

    def poll(self) -> bytes:
        return query(self._address)

    def command(self, order: Order) -> bytes:
        if order.standing is Standing.LOCKED:
            return encode_lock(self._address, order.act is Act.STAND)
        return encode_command(Command(self._address, self._action(order), order.pax))

    def broadcast(self) -> bytes:
        return release_frames(BROADCAST, self._escape)

    def asking(self, order: Order | None, now: float) -> None:
        pass

    def hear(self, frame: Frame, now: float) -> Heard | None:
        if frame.source != self._address or frame.cid1 == CID_COMMAND:  # an adapter may echo what we said
            return None
        return Heard(True, reading_of(decode_status(frame)))

    def follow(self) -> Owed | None:
        return None

    def order(self) -> Order | None:
        return None

    def passed(self, direction: Direction, now: float) -> Reading | None:
        return None

    def missed(self, now: float) -> None:
        pass

    def tick(self, now: float) -> Reading | None:
        return None

    def lost(self) -> None:
        pass

    def _action(self, order: Order) -> Action:
        match order.act:
            case Act.OPEN:
                assert order.direction is not None
                return _OPENS[order.direction]
            case Act.CLOSE:
                assert order.direction is not None
                return _CLOSES[order.direction]
            case Act.RELEASE | Act.STAND:
                return _HOLDS[self._escape[order.step]]
            case Act.UNSTAND:
                return _CLOSES[self._escape[order.step]]
            case Act.REARM:
                return _CLOSES[BOTH[order.step]]


class Board4Gate(TurnstileGate):
    """A board 4 alone on its line. `path` is the tty (better its link under /dev/serial/by-id), `address` its number.

    Counters go on in `epoch` unless `resume` says otherwise; a reset of the board begins an epoch with a new name.
    `rng` makes pauses and names.  Raises ValueError for a rate or an address that cannot be.
    """

    def __init__(
        self,
        path: str,
        baud: int,
        address: int,
        *,
        poll_s: float = POLL_S,
        epoch: str = "0",
        escape: tuple[Direction, ...] = ESCAPE,
        rng: random.Random | None = None,
    ) -> None:
        random_ = rng or random.Random()
        bus = Bus(
            path,
            serial_opener(path, check_baud(baud)),
            baud=baud,
            answer_s=ANSWER_S,
            frame_bytes=FRAME_BYTES,
            rng=random_,
        )
        tally = Tally(epoch, lambda: epoch_name(random_))
        dialect = Board4Dialect(address, escape)
        super().__init__(bus, model_of("board4"), dialect, tally, address, poll_s)
