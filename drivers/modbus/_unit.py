"""What every driver of one unit on a Modbus bus does: poll it in turn, notice its silence, come back to it."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod

import trio

from drivers._statistics import Meter
from drivers.base import RETRY_MAX_S, SILENT_AFTER_S, Availability, DeviceDown, DeviceEvent, DriverStatistics, Emit
from drivers.errors import DeviceError
from drivers.modbus._bus import ModbusBus, Turn
from drivers.serial import Backoff
from protocols.modbus import UNIT_MAX, Answer, Request

LEAVE_S = 0.5  # for undoing what must not stay, when a driver is stopped
SUSPECT_PAUSE_S = 0.4  # after a missing answer: the others on the bus come first


class Unit(ABC):
    """Base of the drivers on a bus. Raises ValueError for a unit number that no device has."""

    def __init__(self, bus: ModbusBus, unit: int, poll_s: float, rng: random.Random | None) -> None:
        if not 1 <= unit <= UNIT_MAX:
            raise ValueError(f"Modbus unit {unit}; 1 to {UNIT_MAX} are possible")
        if poll_s <= 0:
            raise ValueError(f"poll_s {poll_s}; it must be above 0")
        self._bus = bus
        self._unit = unit
        self._poll_s = poll_s
        self._rng = rng or random.Random()
        self._backoff = Backoff(self._rng)
        self._retry_max_s = RETRY_MAX_S
        self._meter = Meter()
        self._heard_at = 0.0  # Trio's clock: the last good answer
        self._complete_at = 0.0  # and the last round in which every answer was good
        self._nap: trio.CancelScope | None = None
        self._woken = False  # there is news since the round began
        self._emit: Emit = to_nobody
        self._opened = -1  # the bus' line that the last round used

    async def run(self, emit: Emit) -> None:
        """Serve the unit until cancelled."""
        self._emit = emit
        self._heard_at = self._complete_at = trio.current_time()
        try:
            async with self._bus.attached():
                try:
                    while True:
                        await self._rest(await self._turn())
                finally:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVE_S):
                        await self._leave()
        finally:
            self._emit = to_nobody

    def statistics(self) -> DriverStatistics:
        return self._meter.snapshot()

    # --- for the drivers ----------------------------------------------------------------------------------------

    @abstractmethod
    async def _round(self) -> float:
        """Do what is due and return how long to rest, at most `_poll_s`. Raises DeviceError."""

    async def _leave(self) -> None:  # noqa: B027 - most leave nothing behind
        """The driver is being stopped: undo what must not stay as it is."""

    def _forget(self) -> None:  # noqa: B027 - most have nothing to forget
        """The unit was lost: what was known of it is not known any more."""

    async def _ask(self, request: Request, turn: Turn = Turn.POLL, *, deadline: float = float("inf")) -> Answer:
        answer = await self._bus.call(request, turn, self._meter, deadline=deadline)
        self._meter.frames_in += 1
        self._heard_at = trio.current_time()
        return answer

    def _release_turn(self) -> Turn:
        return Turn.RELEASE if self._meter.availability is Availability.AVAILABLE else Turn.RELEASE_DEAD

    def _up(self, event: DeviceEvent) -> None:
        """Say that the unit answers; `event` carries what is known of it."""
        self._meter.now(Availability.AVAILABLE)
        self._emit(event)

    def _down(self, reason: str) -> None:
        self._forget()
        self._meter.error(reason)
        if self._meter.now(Availability.UNAVAILABLE):
            self._emit(DeviceDown(reason=reason))

    def _wake(self) -> None:
        self._woken = True
        if self._nap is not None:
            self._nap.cancel()

    def _new_epoch(self) -> str:
        return f"{int(time.time()):x}-{self._rng.getrandbits(16):04x}"

    # --- the loop -----------------------------------------------------------------------------------------------

    async def _turn(self) -> float:
        """One round, and how long to rest after it, s."""
        self._woken = False
        try:
            pause_s = await self._round()
        except DeviceError as exc:  # silent, busy, or asked for an address that it does not have
            self._meter.error(exc)
            if trio.current_time() - self._complete_at < SILENT_AFTER_S:
                return SUSPECT_PAUSE_S
            self._down(str(exc))
            return min(self._backoff.next_s(), self._retry_max_s)
        self._backoff.reset()
        self._complete_at = trio.current_time()
        if self._opened not in (-1, self._bus.opened):
            self._meter.reconnects += 1
        self._opened = self._bus.opened
        return pause_s

    async def _rest(self, pause_s: float) -> None:
        if self._woken:
            return
        with trio.CancelScope() as self._nap:
            await trio.sleep(max(0.0, pause_s))
        self._nap = None


def to_nobody(event: object) -> None:
    """Before `run` and after it there is nobody to tell."""
