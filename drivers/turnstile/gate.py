"""The gate that every turnstile board is, whatever its language: `drivers.base.Gate`, and the standings of a lane."""

from __future__ import annotations

import random
import time

import trio

from drivers.base import DriverStatistics, Emit, GateCapabilities
from drivers.turnstile._bus import Bus
from drivers.turnstile._speech import Dialect, Standing
from drivers.turnstile._tally import OwnCount, Tally
from drivers.turnstile._unit import Unit
from drivers.turnstile.models import Model, check_standing
from protocols.messages import Direction

ESCAPE = (Direction.EXIT,)  # which way people leave; a hold for entry as well would end it on boards with one mode


class TurnstileGate:
    """A `drivers.base.Gate` on a bus. Made by `drivers.turnstile.Buses.gate`, or by a language's own constructor."""

    def __init__(
        self, bus: Bus, model: Model, dialect: Dialect, count: Tally | OwnCount, place: int, poll_s: float
    ) -> None:
        self.model = model
        self.dialect = dialect
        self._bus = bus
        self._unit = Unit(
            bus.name if place == 0 else f"{bus.name}: board {place}",
            place,
            dialect,
            count,
            poll_s,
            trusts_acknowledgement=model.acknowledges,
            infers_tailgating=not model.senses_barrier,
        )

    @property
    def capabilities(self) -> GateCapabilities:
        return self.model.capabilities

    # --- commands -----------------------------------------------------------------------------------------------

    def open(self, direction: Direction, pax: int, deadline_s: float) -> None:
        """See `Gate.open`. Asked again before that turn has ended, it changes nothing.

        A turn ends when all have passed, when the board closes, with `close`, or when the board is not heard.  For the
        other direction, the turn that is open is closed first.
        """
        now = trio.current_time()
        self._unit.wishes.open(direction, pax, now + deadline_s, now)
        self._bus.wake()

    def close(self) -> None:
        """See `Gate.close`. Ignored as well while the board is sensed held open, by whomever."""
        self._unit.wishes.close(trio.current_time())
        self._bus.wake()

    def release(self) -> None:
        """See `Gate.release`."""
        self._unit.wishes.release()
        self._bus.wake(release=True)

    def rearm(self) -> None:
        """See `Gate.rearm`. It ends a standing as well: afterwards the lane is normal."""
        self._unit.wishes.rearm(trio.current_time())
        self._bus.wake()

    def look(self) -> None:
        """See `drivers.base.Looking`."""
        self._unit.look(trio.current_time())
        self._bus.wake()

    def stand(self, standing: Standing) -> None:
        """Stand open, free or locked until told otherwise; NORMAL ends it. Held up by a release, not ended.

        Raises `CommandLacking` for a standing that the model has not.
        """
        check_standing(self.model, standing)
        self._unit.wishes.stand(standing, trio.current_time())
        self._bus.wake()

    def passage(self, direction: Direction) -> None:
        """Somebody passed, as a sensor of another device says: for boards that do not count.

        Ignored when the model counts by itself, so that nobody is counted twice.
        """
        if not self.model.capabilities.counts:
            self._unit.count_one(direction)
            self._bus.wake()

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """See `Gate.resume`. Older knowledge than the driver's own changes nothing; it is answered all the same."""
        self._unit.resume(epoch, entries, exits)
        self._bus.wake()

    def statistics(self) -> DriverStatistics:
        self._unit.note_refusal()
        return self._unit.meter.snapshot()

    async def run(self, emit: Emit) -> None:
        """Serve the board until cancelled."""
        await self._bus.carry(self._unit, emit)


def epoch_name(rng: random.Random) -> str:
    """A name that no epoch had before: the time and a random number."""
    return f"{int(time.time()):x}-{rng.getrandbits(16):04x}"
