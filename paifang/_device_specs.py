"""Every device of a site file by its name, with all that is said about it: for `paifang devices` and for a reload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from drivers.base import Driver, Printer
from paifang._wires import Wires
from paifang.site import Board, CounterDevice, Fire, Lane, Reader, SiteFile
from paifang.site import Printer as PrinterTable

GATE, READER, PRINTER, COUNTER, FIRE = "gate", "reader", "printer", "counter", "fire"


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device.

    `tables` is everything of the site file that its driver is made from: another value is another device.  `fixed` is
    what its actor is made from besides, which cannot be changed by putting in another driver.
    """

    name: str  # gate/n1, reader/n1/1, printer/window-1, people/w1, fire/panel
    kind: str
    lane: str
    language: str  # what it speaks, in the site file's word
    place: str  # where it is, in words
    tables: tuple[Any, ...]
    make: Callable[[Wires], Driver | Printer]
    fixed: tuple[Any, ...] = ()

    @property
    def path(self) -> str:
        """The tty or device file, as written in the site file; empty for devices that have none."""
        return getattr(self.tables[0], "path", "")


def device_specs(site: SiteFile) -> dict[str, DeviceSpec]:
    """Of a site file that was checked."""
    return {spec.name: spec for spec in _specs(site)}


def _specs(site: SiteFile) -> Iterator[DeviceSpec]:
    controllers = {controller.id: controller for controller in site.controllers}
    feedback = tuple(site.feedback)
    for lane in site.lanes:
        if (board := lane.board) is not None:
            yield _gate(lane, board, controllers.get(board.controller or ""))
        for number, reader in enumerate(lane.readers, 1):
            yield _reader(lane, number, reader, controllers.get(reader.controller or ""), feedback)
        if (counter := lane.counter) is not None:
            yield _counter(lane, counter)
    for fire in site.fire:
        yield _fire(fire, controllers.get(fire.controller or ""))
    for printer in site.printers:
        yield _printer(printer)


def _gate(lane: Lane, board: Board, controller: Any) -> DeviceSpec:
    return DeviceSpec(
        name=f"gate/{lane.id}",
        kind=GATE,
        lane=lane.id,
        language=board.language,
        place=_place(board, controller),
        tables=(board, controller),
        make=lambda wires: wires.gate(board, controller),
        fixed=(board.fire,),
    )


def _reader(lane: Lane, number: int, reader: Reader, controller: Any, feedback: tuple[Any, ...]) -> DeviceSpec:
    return DeviceSpec(
        name=f"reader/{lane.id}/{number}",
        kind=READER,
        lane=lane.id,
        language=reader.kind,
        place=_place(reader, controller),
        tables=(reader, controller, feedback if reader.kind == "osdp" else ()),
        make=lambda wires: wires.reader(reader, controller),
        fixed=(reader.direction,),
    )


def _counter(lane: Lane, counter: CounterDevice) -> DeviceSpec:
    return DeviceSpec(
        name=f"people/{lane.id}",
        kind=COUNTER,
        lane=lane.id,
        language=counter.kind,
        place=counter.url or _place(counter, None),
        tables=(counter,),
        make=lambda wires: wires.counter(counter, lane.id),
    )


def _fire(fire: Fire, controller: Any) -> DeviceSpec:
    return DeviceSpec(
        name=f"fire/{fire.id}",
        kind=FIRE,
        lane="",
        language="uhppote" if fire.controller else "modbus",
        place=_place(fire, controller),
        tables=(fire, controller),
        make=lambda wires: wires.contacts(fire, controller),
        fixed=tuple((contact.name, contact.on_broken, contact.text) for contact in fire.contacts),
    )


def _printer(printer: PrinterTable) -> DeviceSpec:
    return DeviceSpec(
        name=f"printer/{printer.id}",
        kind=PRINTER,
        lane="",
        language=printer.language,
        place=_place(printer, None),
        tables=(printer,),
        make=lambda wires: wires.printer(printer),
    )


def _place(device: Any, controller: Any) -> str:
    """Where a device is, for people: a path, a host, a controller's door, an address on a bus."""
    if controller is not None:
        door = getattr(device, "door", None)
        at = f"{controller.host} ({controller.id}, {controller.serial})"
        return f"{at} door {door}" if door else at
    if getattr(device, "host", ""):
        where = f"{device.host}:{device.port}" if device.port else device.host
    elif getattr(device, "kind", "") == "pcsc":
        return device.reader or "the first PC/SC reader"
    else:
        where = device.path
    language = getattr(device, "language", getattr(device, "kind", ""))
    shared = language in ("modbus", "osdp", "board4", "machpower", "tpw") or isinstance(device, Fire)
    return f"{where} #{device.address}" if shared else where
