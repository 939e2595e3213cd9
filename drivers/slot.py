"""A place for one device, in which the driver can be changed while everything round it goes on.

The actors of a site hold slots.  A changed description in the site file puts another driver into the slot: the actor,
its mailbox and every other device are not touched.  The slot also keeps what people ask of any device: what it said
last and when, and one log line when it goes away and one when it is back.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec
import structlog
import trio

from drivers.base import (
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    Driver,
    DriverStatistics,
    Emit,
    Feedback,
    Gate,
    GateCapabilities,
    Printer,
)
from drivers.errors import DeviceError
from drivers.words import said
from protocols.messages import Direction

CHANGED = "its description in the site file was changed"

log = structlog.get_logger(__name__)


class Book:
    """What is known of a device beyond its driver's statistics, and the two log lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.replaced = 0
        self.up: bool | None = None  # as it was last said
        self._since: float | None = None
        self._last = ""
        self._last_at = 0.0

    def heard(self, event: DeviceEvent) -> None:
        """An event is on its way to the actor."""
        self._last, self._last_at = said(event), trio.current_time()
        if isinstance(event, DeviceUp):
            self.is_up()
        elif isinstance(event, DeviceDown):
            self.is_down(event.reason)

    def is_up(self) -> None:
        if self.up is not True:
            log.info("device.up", device=self.name, **self._after())
        self.up = True

    def is_down(self, reason: str) -> None:
        if self.up is not False:
            log.warning("device.down", device=self.name, reason=reason, **self._after())
        self.up = False

    def note(self, words: str) -> None:
        self._last, self._last_at = words, trio.current_time()

    def _after(self) -> dict[str, float]:
        now = trio.current_time()
        before, self._since = self._since, now
        return {} if before is None else {"after_s": round(now - before, 1)}

    def add_to(self, statistics: DriverStatistics) -> DriverStatistics:
        """The driver's own figures with ours."""
        return msgspec.structs.replace(
            statistics,
            last_said=statistics.last_said or self._last,
            last_said_s=trio.current_time() - self._last_at if self._last else statistics.last_said_s,
            replaced=self.replaced,
        )


D = TypeVar("D", bound=Driver)


class Slot(Generic[D]):
    """A `drivers.base.Driver` (and `Signalling`, if what is in it is)."""

    def __init__(self, name: str, driver: D) -> None:
        self.name = name
        self.driver = driver
        self._book = Book(name)
        self._scope: trio.CancelScope | None = None

    async def run(self, emit: Emit) -> None:
        """Run whatever driver is in the slot, until cancelled."""

        def hear(event: DeviceEvent) -> None:
            self._book.heard(event)
            emit(event)

        while True:
            driver = self.driver
            with trio.CancelScope() as self._scope:
                await driver.run(hear)
            self._scope = None
            if driver is self.driver:  # ended by itself, which drivers do not: as if it had been asked to begin anew
                await trio.sleep(1.0)
            elif self._book.up:
                hear(DeviceDown(reason=CHANGED))

    def replace(self, driver: D) -> None:
        """Put another driver in. The old one's line is closed before the new one's is opened."""
        self.driver = driver
        self._book.replaced += 1
        if self._scope is not None:
            self._scope.cancel()

    def signal(self, feedback: Feedback) -> None:
        """Show and sound it, where the device can."""
        if (tell := getattr(self.driver, "signal", None)) is not None:
            tell(feedback)

    def statistics(self) -> DriverStatistics:
        return self._book.add_to(self.driver.statistics())


class GateSlot(Slot[Gate]):
    """A `drivers.base.Gate`. A release outlives a change of the driver."""

    def __init__(self, name: str, driver: Gate) -> None:
        super().__init__(name, driver)
        self._released = False

    @property
    def capabilities(self) -> GateCapabilities:
        return self.driver.capabilities

    def replace(self, driver: Gate) -> None:
        if self._released:
            driver.release()
        super().replace(driver)

    def open(self, direction: Direction, pax: int, deadline_s: float) -> None:
        self.driver.open(direction, pax, deadline_s)

    def close(self) -> None:
        self.driver.close()

    def release(self) -> None:
        self._released = True
        self.driver.release()

    def rearm(self) -> None:
        self._released = False
        self.driver.rearm()

    def look(self) -> None:
        """See `Looking`; nothing for a gate that says by itself what changes."""
        if (look := getattr(self.driver, "look", None)) is not None:
            look()

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        self.driver.resume(epoch, entries, exits)


class CounterSlot(Slot[Driver]):
    """A people counter's driver, which has `resume` beside what every driver has."""

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """See `Gate.resume`."""
        if (resume := getattr(self.driver, "resume", None)) is not None:
            resume(epoch, entries, exits)


class PrinterSlot:
    """A `drivers.base.Printer`. A job that is under way when the driver is changed ends with the old one."""

    def __init__(self, name: str, driver: Printer) -> None:
        self.name = name
        self.driver = driver
        self._book = Book(name)

    def replace(self, driver: Printer) -> None:
        self.driver = driver
        self._book.replaced += 1

    async def print_job(self, payload: bytes, timeout_s: float) -> None:
        """See `Printer.print_job`."""
        try:
            await self.driver.print_job(payload, timeout_s)
        except DeviceError as exc:
            self._book.note(f"not printed: {exc}")
            self._book.is_down(str(exc))
            raise
        self._book.note("printed a job")
        self._book.is_up()

    def statistics(self) -> DriverStatistics:
        return self._book.add_to(self.driver.statistics())
