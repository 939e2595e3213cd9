"""From a device's table in the site file to its driver. The only place that knows which class speaks which language.

Several devices share a line, a connection or a controller: `Wires` keeps one object for each, so that they wait for
each other and for nobody else.  Making a driver does no I/O and needs no running loop; libraries are imported when a
site has such a device.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import trio

from drivers._statistics import Meter
from drivers.base import (
    Availability,
    DeviceDown,
    Driver,
    DriverStatistics,
    Emit,
    Gate,
    Printer,
)
from drivers.errors import DeviceError
from drivers.feedback import Patterns
from paifang.site import Board, Controller, CounterDevice, FeedbackPattern, Fire, Reader
from paifang.site import Printer as PrinterTable
from protocols.messages import Direction

KEY_RETRY_S = 5.0  # how often a missing key file is looked for again
_ESCAPES = {
    "exit": (Direction.EXIT,),
    "entry": (Direction.ENTRY,),
    "both": (Direction.EXIT, Direction.ENTRY),
}

T = TypeVar("T")


class Wires:
    """The lines, connections and controllers of one site, each made once.

    Args:
        data: the data folder; paths of lines and key files that do not begin with `/` are below it.
        feedback: the site's own patterns of light and sound.
    """

    def __init__(self, data: Path, feedback: Sequence[FeedbackPattern] = ()) -> None:
        self._data = data
        self._shared: dict[Hashable, Any] = {}
        self.patterns = patterns(feedback)

    def path(self, path: str) -> str:
        """Where a line or a file is; an absolute path stays what it is."""
        return str(self._data / path)

    # --- by kind ------------------------------------------------------------------------------------------------

    def gate(self, board: Board, controller: Controller | None = None) -> Gate:
        """The driver of what moves a barrier."""
        escape = _ESCAPES[board.escape]
        match board.language:
            case "board4" if not board.host:
                from drivers.turnstile import Board4Gate

                return Board4Gate(self.path(board.path), board.rate, board.address, escape=escape)
        raise ValueError(f'a board of language "{board.language}" is not supported')

    def reader(self, reader: Reader, controller: Controller | None = None) -> Driver:
        """The driver of what a visitor presents something to."""
        match reader.kind:
            case "qr":
                from drivers.scanner import QrScanner

                return QrScanner(self.path(reader.path), reader.rate)
            case "idcard":
                from drivers.idcard import IdCardReader

                return IdCardReader(self.path(reader.path), reader.rate)
            case "osdp":
                return _or_broken(lambda: self._osdp(reader))
        raise ValueError(f'a reader of kind "{reader.kind}" is not supported')

    def printer(self, printer: PrinterTable) -> Printer:
        """The driver of a ticket printer."""
        from drivers.printer import SerialPrinter, TcpPrinter

        if printer.way == "tcp":
            return TcpPrinter(printer.host, printer.port)
        return SerialPrinter(self.path(printer.path), printer.rate)

    def counter(self, counter: CounterDevice, lane: str) -> Driver:
        """The driver of a people counter."""
        raise ValueError(f'a counter of kind "{counter.kind}" is not supported')

    def contacts(self, fire: Fire, controller: Controller | None = None) -> Driver:
        """The driver of supervised contacts."""
        raise ValueError("fire contacts are not supported")

    # --- shared ---------------------------------------------------------------------------------------------------

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._shared:
            self._shared[key] = make()
        made: T = self._shared[key]
        return made

    def _osdp(self, reader: Reader) -> Driver:
        from drivers.osdp import OsdpBus, read_key

        path = self.path(reader.path)
        bus: OsdpBus = self._once(("osdp", path, reader.rate), lambda: OsdpBus(path, reader.rate))
        key = read_key(self._data / reader.key) if reader.key else None
        return bus.reader(
            reader.address,
            key=key,
            patterns=self.patterns,
            text=reader.text,
            reverse=reader.reverse,
            keypad=reader.keypad,
        )


def patterns(tables: Sequence[FeedbackPattern]) -> Patterns:
    """The defaults with a site's changes. Raises ValueError, which `paifang check` has said before."""
    return Patterns().with_changes({table.key: table.changes() for table in tables})  # type: ignore[misc]


def _or_broken(make: Callable[[], Driver]) -> Driver:
    """The driver, or one that says why there is none and tries again: a missing key file must not keep a site shut."""
    try:
        return make()
    except (DeviceError, OSError, ValueError):
        return Broken(make)


class Broken:
    """A driver that could not be made yet, because a file that it needs is missing or wrong."""

    def __init__(self, make: Callable[[], Driver], rng: random.Random | None = None) -> None:
        self._make = make
        self._rng = rng or random.Random()
        self._meter = Meter()
        self._driver: Driver | None = None

    async def run(self, emit: Emit) -> NoReturn:
        while True:
            try:
                self._driver = self._make()
            except (DeviceError, OSError, ValueError) as exc:
                self._meter.error(exc)
                if self._meter.now(Availability.UNAVAILABLE):
                    emit(DeviceDown(reason=str(exc)))
                await trio.sleep(KEY_RETRY_S * self._rng.uniform(0.6, 1.0))
            else:
                await self._driver.run(emit)

    def statistics(self) -> DriverStatistics:
        return self._meter.snapshot() if self._driver is None else self._driver.statistics()

    def signal(self, feedback: Any) -> None:
        """Told to the driver, once there is one."""
        if (tell := getattr(self._driver, "signal", None)) is not None:
            tell(feedback)
