"""From a device's table in the site file to its driver. The only place that knows which class speaks which language.

Several devices share a line, a connection or a controller: `Wires` keeps one object for each, so that they wait for
each other and for nobody else.  Making a driver does no I/O and needs no running loop; libraries are imported when a
site has such a device.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

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
    from drivers.uhppote import UhppoteController

MODBUS_PORT = 502
MQTT_PORT = 1883
DOOR_OPEN_S = 3  # a strike is open for one person
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
            door = self._controller(controller).door(board.door or 1, open_s=round(board.open_s) or DOOR_OPEN_S)
            return cast(Gate, door)
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
            case "uhppote":
                return self._controller(controller).reader(reader.door or 1, direction=Direction(reader.direction))
            case "pcsc":
                return _or_broken(lambda: self._pcsc(reader))
            case "idcard":
                from drivers.idcard import IdCardReader

                return IdCardReader(self.path(reader.path), reader.rate)
            case "osdp":
                return _or_broken(lambda: self._osdp(reader))
        raise ValueError(f'a reader of kind "{reader.kind}" is not supported')

    def printer(self, printer: PrinterTable) -> Printer:
        """A ticket printer, which prints slips by its template."""
        from drivers.printer import Confirm, FilePrinter, FontGlyphs, LabelPrinter, SerialPrinter, TcpPrinter
        from paifang.slips import SlipPrinter

        driver: FilePrinter | LabelPrinter | SerialPrinter | TcpPrinter
        if printer.language != "escpos":
            driver = LabelPrinter(printer.host, printer.port, language=printer.language)
        elif printer.way == "tcp":
            driver = TcpPrinter(printer.host, printer.port, confirm=Confirm(printer.confirm))
        elif printer.way == "usb":
            driver = FilePrinter(self.path(printer.path), confirm=Confirm(printer.confirm))
        else:
            driver = SerialPrinter(self.path(printer.path), printer.rate, confirm=Confirm(printer.confirm))
        return SlipPrinter(
            driver, language=printer.language, template=printer.template, folder=self._data, glyphs=FontGlyphs
        )

    def counter(self, counter: CounterDevice, lane: str) -> Driver:
        """The driver of a people counter."""
        return _or_broken(lambda: self._counter(counter, lane))

    def contacts(self, fire: Fire, controller: Controller | None = None) -> Driver:
        """The driver of supervised contacts."""
        from drivers.modbus import ContactInputs

        if fire.controller is not None:
            return self._controller(controller).inputs(debounce_s=fire.contacts[0].debounce_s)
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

    def _controller(self, controller: Controller | None) -> UhppoteController:
        from drivers.uhppote import UhppoteController

        if controller is None:
            raise ValueError("a door without its controller")
        return self._once(
            controller,
            lambda: UhppoteController(
                controller.host,
                controller.serial,
                port=controller.port,
                listen_host=controller.listen_host,
                listen_port=controller.listen_port,
            ),
        )

    def _counter(self, counter: CounterDevice, lane: str) -> Driver:
        from drivers.counter import CounterRegisters, HttpPullCounter, HttpPushCounter, ModbusCounter, MqttCounter
        from protocols.peoplecounter import CounterForm

        if counter.kind == "modbus":
            registers = CounterRegisters(
                entries=counter.entries,
                exits=counter.exits,
                table=counter.register_table,
                words=counter.register_words,  # type: ignore[arg-type]  # 1 or 2: the site file says so
                low_word_first=counter.low_word_first,
            )
            return ModbusCounter(self._modbus(counter), counter.address, registers, poll_s=counter.poll_s)
        form = CounterForm(**msgspec.structs.asdict(counter.form))
        secret = read_text_secret(self._data / counter.secret) if counter.secret else ""
        match counter.kind:
            case "http-pull":
                return HttpPullCounter(
                    counter.url, user=counter.user, password=secret, poll_s=counter.poll_s, form=form,
                    serial=counter.serial,
                )  # fmt: skip
            case "http-push":
                return HttpPushCounter(
                    counter.host, counter.port, token=secret, form=form, serial=counter.serial,
                    silent_after_s=counter.silent_after_s,
                )  # fmt: skip
        return MqttCounter(
            counter.host,
            counter.port or MQTT_PORT,
            topic=counter.topic,
            client_id=f"paifang-{self._site}-{lane}",
            user=counter.user,
            password=secret,
            form=form,
            serial=counter.serial,
            silent_after_s=counter.silent_after_s,
        )

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


def read_text_secret(path: Path) -> str:
    """A password or token from a file that only its owner may read. Raises DeviceError, with the cure."""
    try:
        if path.stat().st_mode & 0o077:
            raise DeviceError(f"{path}: may be read by others; chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise DeviceError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise DeviceError(f"{path}: not text") from exc


def read_secret(path: Path) -> bytes:
    """A key as hexadecimal digits, from such a file. Raises DeviceError, with the cure."""
    try:
        return bytes.fromhex(read_text_secret(path))
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
        self._resume: tuple[str, int, int] | None = None

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
                if self._resume is not None:
                    self.resume(*self._resume)
                await self._driver.run(emit)

    def statistics(self) -> DriverStatistics:
        return self._meter.snapshot() if self._driver is None else self._driver.statistics()

    def resume(self, epoch: str, entries: int, exits: int) -> None:
        """Of a counter: told to the driver, also to one that comes later."""
        self._resume = (epoch, entries, exits)
        if (resume := getattr(self._driver, "resume", None)) is not None:
            resume(epoch, entries, exits)

    def signal(self, feedback: Any) -> None:
        """Told to the driver, once there is one."""
        if (tell := getattr(self._driver, "signal", None)) is not None:
            tell(feedback)
