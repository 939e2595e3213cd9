"""Releasing a board beside a server that hangs: the bytes to write, and what the board answers, in any language.

For `paifang evacuate`, which writes to the line without owning it, again and again, and reads as far as it can.
"""

from __future__ import annotations

from drivers.base import Barrier
from drivers.turnstile._speech import Act, Dialect, Order, Posture, Standing
from drivers.turnstile.buses import Buses
from drivers.turnstile.gate import ESCAPE
from protocols.errors import BoardError
from protocols.messages import Direction

_SENSED = {
    Posture.CLOSED: Barrier.CLOSED,
    Posture.OPENING: Barrier.OPENING,
    Posture.OPEN: Barrier.OPEN,
    Posture.CLOSING: Barrier.CLOSING,
    Posture.HELD: Barrier.RELEASED,
}


class Listener:
    """One board, released without a driver. `frames` are to be written, `query` behind them to be answered.

    Raises ValueError for a board that cannot be.
    """

    def __init__(
        self,
        language: str,
        address: int = 1,
        *,
        model: str = "",
        escape: tuple[Direction, ...] = ESCAPE,
        entry_is: str = "right",
    ) -> None:
        # nothing is opened: a gate is the shortest way to a dialect that was checked
        gate = Buses().gate(language, model=model, path="-", address=address, escape=escape, entry_is=entry_is)
        self._dialect: Dialect = gate.dialect
        self._framer = self._dialect.framer()
        self._orders = [Order(Act.RELEASE, step=step) for step in range(self._dialect.style.release_steps)]
        if language == "board4":  # for the others, a release lifts a lock; behind it, should a board not know the lock
            self._orders.append(Order(Act.UNSTAND, standing=Standing.LOCKED))
        self.senses = gate.model.senses_barrier

    @property
    def frames(self) -> bytes:
        """Everything that releases the board, in order. Harmless to repeat."""
        return b"".join(self._dialect.command(order) for order in self._orders)

    @property
    def query(self) -> bytes:
        """What a board that senses its barrier answers with its state; empty for others."""
        return (self._dialect.poll() or b"") if self.senses else b""

    def feed(self, data: bytes) -> list[Barrier]:
        """The barrier as sensed by the board, from each of its answers. Empty for boards that sense nothing."""
        sensed = []
        for frame in self._framer.feed(data):
            try:
                heard = self._dialect.hear(frame, 0.0)
            except BoardError:
                continue
            if heard is not None and heard.reading is not None and heard.reading.sensed:
                barrier = _SENSED.get(heard.reading.posture)
                if barrier is not None:
                    sensed.append(barrier)
        return sensed


def release_bytes(
    language: str,
    address: int = 1,
    *,
    model: str = "",
    escape: tuple[Direction, ...] = ESCAPE,
    entry_is: str = "right",
) -> bytes:
    """The bytes that release a board. Raises ValueError for a board that cannot be."""
    return Listener(language, address, model=model, escape=escape, entry_is=entry_is).frames
