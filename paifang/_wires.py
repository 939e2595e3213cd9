"""From a device's table in the site file to its driver. The only place that knows which class speaks which language.

Several devices share a line, a connection or a controller: `Wires` keeps one object for each, so that they wait for
each other and for nobody else.  Making a driver does no I/O and needs no running loop; libraries are imported when a
site has such a device.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec
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
from drivers.turnstile import Buses, TurnstileGate
from drivers.turnstile.machpower import OPEN_S as MACHPOWER_OPEN_S
from paifang._site_devices import Contact as ContactTable
from paifang.site import Board, Controller, CounterDevice, FeedbackPattern, Fire, Reader
from paifang.site import Printer as PrinterTable
from protocols.messages import Direction
from protocols.ticketcode import site_hash

if TYPE_CHECKING:
    from drivers.modbus import Contact, ModbusBus

MODBUS_PORT = 502
KEY_RETRY_S = 5.0  # how often a missing key file is looked for again
ESCAPES = {
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
        site: the site's id, which is part of what our own cards are signed with.
    """

    def __init__(self, data: Path, feedback: Sequence[FeedbackPattern] = (), *, site: str = "") -> None:
        self._data = data
        self._site = site
        self._buses = Buses()
        self._shared: dict[Hashable, Any] = {}
        self.patterns = patterns(feedback)

    def path(self, path: str) -> str:
        """Where a line or a file is; an absolute path stays what it is."""
        return str(self._data / path)

    # --- by kind ------------------------------------------------------------------------------------------------

    def gate(self, board: Board, controller: Controller | None = None) -> Gate:
        """The driver of what moves a barrier. Raises ValueError for what cannot be."""
        if board.language == "modbus":
            return self._relay(board)
        if board.language == "uhppote":
            raise ValueError('a board of language "uhppote" is not supported')
        return self._buses.gate(
            board.language,
            model=board.model,
            path=self.path(board.path) if board.path else "",
            host=board.host,
            port=board.port,
            baud=board.rate if board.baud else 0,
            address=board.address,
            escape=ESCAPES[board.escape],
            entry_is=board.entry_is,
            open_s=board.open_s or MACHPOWER_OPEN_S,
        )

    def reader(self, reader: Reader, controller: Controller | None = None) -> Driver:
        """The driver of what a visitor presents something to."""
        match reader.kind:
            case "qr":
                from drivers.scanner import QrScanner

                return QrScanner(
                    self.path(reader.path),
                    reader.rate,
                    trigger=reader.trigger,
                    mode=reader.mode,
                    reading_s=reader.reading_s,
                )
            case "wedge":
                from drivers.wedge import WedgeReader

                return WedgeReader(reader.path, card=reader.card)
            case "pcsc":
                return _or_broken(lambda: self._pcsc(reader))
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
        from drivers.modbus import ContactInputs

        if fire.controller is not None:
            raise ValueError("a controller's fire input is not supported")
        contacts = [modbus_contact(contact) for contact in fire.contacts]
        return ContactInputs(self._modbus(fire), fire.address, contacts)

    def forget(self, driver: Any) -> None:
        """A driver is about to be replaced or removed: its place on a line is free again."""
        if isinstance(driver, TurnstileGate):
            self._buses.forget(driver)

    # --- shared ---------------------------------------------------------------------------------------------------

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._shared:
            self._shared[key] = make()
        made: T = self._shared[key]
        return made

    def _modbus(self, unit: Board | Fire | CounterDevice) -> ModbusBus:
        from drivers.modbus import ModbusBus

        if unit.host:
            host, port = unit.host, unit.port or MODBUS_PORT
            return self._once(("modbus", host, port), lambda: ModbusBus.tcp(host, port))
        path = self.path(unit.path)
        return self._once(("modbus", path, unit.rate), lambda: ModbusBus.serial(path, unit.rate))

    def _relay(self, board: Board) -> Gate:
        from drivers.modbus import RelayGate, RelayWiring

        if board.relay is None:
            raise ValueError("a Modbus board needs `relay`: how it is wired")
        return RelayGate(self._modbus(board), board.address, RelayWiring(**msgspec.structs.asdict(board.relay)))

    def _pcsc(self, reader: Reader) -> Driver:
        from drivers.pcsc import CardKeys, CardReader

        keys = None
        if reader.key:
            keys = CardKeys(read_secret(self._data / reader.key), site_hash(self._site))
        return CardReader(reader.reader, keys=keys, require_record=reader.require_record)

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


def modbus_contact(contact: ContactTable) -> Contact:
    """A contact as its driver takes it. Raises ValueError for what cannot be."""
    from drivers.modbus import Contact, ContactKind

    return Contact(
        name=contact.name,
        input=contact.input,
        kind=ContactKind(contact.kind),
        second_input=contact.second_input,
        debounce_s=contact.debounce_s,
        discrepancy_s=contact.discrepancy_s,
    )


def read_secret(path: Path) -> bytes:
    """A secret, as hexadecimal digits in a file that only its owner may read. Raises DeviceError, with the cure."""
    try:
        if path.stat().st_mode & 0o077:
            raise DeviceError(f"{path}: may be read by others; chmod 600 {path}")
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as exc:
        raise DeviceError(f"{path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise DeviceError(f"{path}: not hexadecimal digits") from exc


def patterns(tables: Sequence[FeedbackPattern]) -> Patterns:
    """The defaults with a site's changes. Raises ValueError, which `paifang check` has said before."""
    return Patterns().with_changes({table.key: table.changes() for table in tables})


def _or_broken(make: Callable[[], Driver]) -> Driver:
    """The driver, or one that says why there is none and tries again: a missing key file must not keep a site shut."""
    try:
        return make()
    except (DeviceError, ImportError, OSError, ValueError):
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
            except (DeviceError, ImportError, OSError, ValueError) as exc:
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
