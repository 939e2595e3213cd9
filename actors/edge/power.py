"""Watches the power supply: people hear of the battery, and a nearly empty one ends the lane controller in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from actors._common import offer
from core import Address, Stop
from drivers.errors import DeviceError
from protocols.messages import Telemetry
from protocols.nut import PowerSource, PowerState
from storage.interfaces import OpenCase

POLL_S = 5.0
LOST_AFTER = 3  # questions in a row without an answer
LOW_TIMES = 2  # answers in a row that say "low": one may be a self-test

log = structlog.get_logger(__name__)


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


class PowerActor:
    """The actor. `read` asks the supply and may raise DeviceError; `low` is called once, when the battery is nearly
    empty: it stops the process, and closes nothing."""

    def __init__(
        self,
        *,
        read: Callable[[], Awaitable[PowerState]],
        lane: str,
        ledger: Address,
        low: Callable[[], None],
        clock: Callable[[], float],
        poll_s: float = POLL_S,
    ) -> None:
        self._read = read
        self._lane = lane
        self._ledger = ledger
        self._low = low
        self._clock = clock
        self._poll_s = poll_s
        self._missing = 0
        self._lows = 0
        self.state = PowerState(source=PowerSource.UNKNOWN)

    async def run(self, me: Address) -> None:
        me.set_timer("tick", 0.0, _Tick())
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case _Tick():
                    await self._look()
                    me.set_timer("tick", self._poll_s, _Tick())
                case Stop():
                    return

    async def _look(self) -> None:
        try:
            with trio.fail_after(self._poll_s * 2):
                state = await self._read()
        except (DeviceError, trio.TooSlowError) as exc:
            self._missing += 1
            if self._missing == LOST_AFTER:
                log.warning("lane.power_unknown", error=str(exc)[:200])
                self._say("power_unknown", "warning", str(exc))
                self.state = PowerState(source=PowerSource.UNKNOWN)
            return
        self._missing = 0
        before, self.state = self.state, state
        if state.source is not before.source:
            log.warning("lane.power", source=state.source, charge=state.charge, runtime_s=state.runtime_s)
            if state.source in (PowerSource.BATTERY, PowerSource.LOW):
                left = "" if state.runtime_s is None else f"{state.runtime_s / 60:.0f} min left"
                self._say(f"power_{state.source}", "warning", left)
            elif state.source is PowerSource.MAINS and before.source in (PowerSource.BATTERY, PowerSource.LOW):
                self._say("power_mains", "info", "")
        self._lows = self._lows + 1 if state.source is PowerSource.LOW else 0
        if self._lows == LOW_TIMES:
            self._low()

    def _say(self, kind: str, severity: str, detail: str) -> None:
        at = self._clock()
        key = f"{kind}/{self._lane}/{at:.0f}"
        offer(
            self._ledger,
            OpenCase(key=key, kind=kind, lane=self._lane, severity=severity, detail=detail[:200], at=at),
        )
