"""Who shares a line: one device on each, unless it is a bus; then one language, one speed, and an address for each."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import msgspec

from paifang._site_devices import Board, CounterDevice, Fire, Printer
from paifang._site_shape import Problem, shown
from paifang.site import Lane


class Placed(msgspec.Struct, kw_only=True):
    """The tables of devices that stand somewhere, with their positions in the file."""

    lanes: list[tuple[int, Lane]]
    fire: list[tuple[int, Fire]]
    printers: list[tuple[int, Printer]]


class _Use(msgspec.Struct, frozen=True):
    """One device at one place. `bus` is the language that several devices of it may speak there, or empty."""

    key: str
    field: str  # that names the place: path or host
    place: str
    bus: str
    address: int
    rate: int


def shared_places(devices: Placed) -> Iterator[Problem]:
    """One line, one device, unless it is a bus: then one language, one speed, and an address of its own for each."""
    used: dict[str, list[_Use]] = {}
    for use in _uses(devices):
        others = used.setdefault(use.place, [])
        if others:
            first = others[0]
            if not use.bus or use.bus != first.bus:
                where = f"{first.key}.{first.field}"
                yield Problem(f"{use.key}.{use.field}", f"{shown(use.place)} is already {where}", "a line of its own")
            elif use.rate != first.rate:
                yield Problem(f"{use.key}.baud", f"{use.rate} on a bus of {first.rate} ({first.key})", f"{first.rate}")
            elif same := next((other for other in others if other.address == use.address), None):
                yield Problem(
                    f"{use.key}.address",
                    f"{use.address} on {shown(use.place)} is already that of {same.key}",
                    "an address of its own",
                )
        others.append(use)
    doors: dict[tuple[str, int], str] = {}
    for position, lane in devices.lanes:
        if lane.board is not None and lane.board.controller is not None and lane.board.door is not None:
            door, key = (lane.board.controller, lane.board.door), f"lanes[{position}].board"
            if door in doors:
                wrong = f"door {door[1]} of {door[0]} is already that of {doors[door]}"
                yield Problem(f"{key}.door", wrong, "a door of its own")
            doors.setdefault(door, key)


def _uses(devices: Placed) -> Iterator[_Use]:
    def use(key: str, path: str, bus: str = "", address: int = 0, rate: int = 0) -> Iterator[_Use]:
        if path:
            yield _Use(key, "path", posixpath.normpath(path), bus, address, rate)

    def unit(key: str, device: Board | Fire | CounterDevice, language: str, address: int) -> Iterator[_Use]:
        yield from use(key, device.path, language, address, device.rate)
        if device.host and not isinstance(device, CounterDevice):
            yield _Use(key, "host", f"{device.host}:{device.port or language}", language, address, 0)

    for position, lane in devices.lanes:
        key = f"lanes[{position}]"
        if lane.board is not None:
            yield from unit(f"{key}.board", lane.board, lane.board.language, lane.board.address)
        if lane.counter is not None:
            yield from unit(f"{key}.counter", lane.counter, "modbus", lane.counter.address)
        for place, reader in enumerate(lane.readers):
            bus = "osdp" if reader.kind == "osdp" else ""
            yield from use(f"{key}.readers[{place}]", reader.path, bus, reader.address, reader.rate)
    for position, fire in devices.fire:
        # several tables may read contacts of one unit, and a relay board has inputs, too: addresses may be shared
        yield from unit(f"fire[{position}]", fire, "modbus", -1 - position)
    for position, printer in devices.printers:
        yield from use(f"printers[{position}]", printer.path, "", 0, printer.rate)


def named_paths(devices: Placed) -> Iterator[tuple[str, str]]:
    for use in _uses(devices):
        if use.field == "path":
            yield f"{use.key}.path", use.place
