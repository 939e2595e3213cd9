"""What hardware is here, and which device a person means."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from drivers.serial import line_holder
from paifang._device_specs import DeviceSpec, device_specs
from paifang._site_devices import Board, Contact, Controller, CounterDevice, Fire, Printer, Reader
from paifang._site_shape import nearest
from paifang._wires import Wires
from paifang.site import Lane, SiteFile, Zone
from paifang.site import Site as SiteTable

DEV = Path("/dev")
SYS = Path("/sys")
READER_KINDS = ("qr", "osdp", "wedge", "pcsc", "idcard")
PRINTER_LANGUAGES = ("escpos", "zpl", "tspl")
KINDS = (*READER_KINDS, "board4", "machpower", "digicon", "tpw", "modbus", *PRINTER_LANGUAGES)


class DeviceToolError(Exception):
    """What was asked for cannot be done. The text says why and what would help."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A port of this computer that a device may be behind. `path` is the name that stays the same."""

    path: str
    tty: str  # what it is called today
    what: str  # serial | keyboard | printer | smart card
    product: str
    holder: str  # who has it open with a lock


def adapters(dev: Path = DEV, sys: Path = SYS) -> list[Adapter]:
    """Serial adapters by their ids, keyboard-like readers and USB printers. Opens nothing."""
    found: list[Adapter] = []
    seen: set[str] = set()
    for link in _sorted(dev / "serial" / "by-id"):
        tty = os.path.realpath(link)
        seen.add(tty)
        found.append(Adapter(str(link), tty, "serial", _product(sys, Path(tty).name), line_holder(tty)))
    for pattern in ("ttyUSB*", "ttyACM*"):  # adapters without a serial number have no id
        for tty_path in sorted(dev.glob(pattern)):
            if str(tty_path) not in seen:
                tty = str(tty_path)
                found.append(Adapter(tty, tty, "serial", _product(sys, tty_path.name), line_holder(tty)))
    found += [
        Adapter(str(link), os.path.realpath(link), "keyboard", link.name.split("-event-")[0].removeprefix("usb-"), "")
        for link in _sorted(dev / "input" / "by-id")
        if link.name.endswith("-event-kbd")
    ]
    found += [Adapter(str(path), str(path), "printer", "", "") for path in sorted((dev / "usb").glob("lp*"))]
    return found


def _sorted(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _product(sys: Path, tty: str) -> str:
    """Maker and product as the USB device says them; empty when the system does not know."""
    here = sys / "class" / "tty" / tty / "device"
    for folder in (here, here / "..", here / ".." / ".."):
        try:
            words = [(folder / name).read_text().strip() for name in ("manufacturer", "product")]
        except OSError:
            continue
        return " ".join(words)
    return ""


# --- which device -------------------------------------------------------------------------------------------------


def find(site: SiteFile, wanted: str, kind: str = "", baud: int = 0, address: int | None = None) -> DeviceSpec:
    """The device that `wanted` names: one of the site file, or a path or HOST:PORT together with `kind`.

    A lane's id is its gate, a printer's id the printer.  Raises DeviceToolError naming what there is.
    """
    specs = device_specs(site)
    for name in (wanted, f"gate/{wanted}", f"printer/{wanted}", f"people/{wanted}", f"fire/{wanted}"):
        if name in specs:
            if kind:
                raise DeviceToolError(f"{name} is {specs[name].language} in the site file; --as is for devices outside")
            return specs[name]
    if wanted.startswith((".", "/")) or ":" in wanted or kind == "pcsc":
        return outside(wanted, kind, baud, address)
    close = nearest(wanted, specs)
    hint = f'. Did you mean "{close}"?' if close else ""
    raise DeviceToolError(f"no device {wanted!r} in the site file{hint} There are: {', '.join(specs) or 'none'}")


def outside(where: str, kind: str = "", baud: int = 0, address: int | None = None) -> DeviceSpec:
    """A device that stands in no site file yet. Raises DeviceToolError."""
    if not kind:
        kind = "wedge" if where.startswith(str(DEV / "input")) else "escpos" if "/usb/lp" in where else "qr"
    if kind not in KINDS:
        raise DeviceToolError(f"--as {kind}: known are {', '.join(KINDS)}")
    place: dict[str, Any] = {}
    if kind != "pcsc":
        host, colon, port = where.rpartition(":")
        if colon and not where.startswith(("/", ".")):
            if not port.isdigit() or not 0 < int(port) < 65536:
                raise DeviceToolError(f"{where}: HOST:PORT is meant, and {port!r} is no port")
            place = {"host": host, "port": int(port)}
        else:
            place = {"path": str(Path(where).absolute())} | ({"baud": baud} if baud else {})
    at = {} if address is None else {"address": address}
    lane: dict[str, Any] = {}
    printers: list[Printer] = []
    try:
        if kind in READER_KINDS:
            if "host" in place:
                raise DeviceToolError(f"{where}: a {kind} reader has no network address")
            extra = {"reader": where if where != "-" else ""} if kind == "pcsc" else place
            lane = {"readers": [msgspec.convert({"kind": kind, **extra, **at}, Reader)]}
        elif kind in PRINTER_LANGUAGES:
            printers = [msgspec.convert({"id": "outside", "language": kind, **place}, Printer)]
        else:
            relay = {"relay": {"open_coil": 0}} if kind == "modbus" else {}
            lane = {"board": msgspec.convert({"language": kind, **place, **at, **relay}, Board)}
    except msgspec.ValidationError as exc:
        raise DeviceToolError(f"{where}: {exc}") from exc
    site = SiteFile(
        site=SiteTable(id="outside", name="outside"),
        zones=[Zone(id="z", name="z")],
        lanes=[Lane(id="outside", name="outside", to_zone="z", **lane)] if lane else [],
        printers=printers,
    )
    return next(iter(device_specs(site).values()))


def made(spec: DeviceSpec, data: Path, site: str = "") -> Any:
    """The driver of a device, as the server makes it. Raises DeviceToolError."""
    try:
        return spec.make(Wires(data, site=site))
    except ValueError as exc:
        raise DeviceToolError(f"{spec.name}: {exc}") from exc


def check_free(spec: DeviceSpec, data: Path) -> None:
    """Raises DeviceToolError when somebody holds the device's line: two who speak at once are both garbled."""
    if not spec.path or not (holder := line_holder(str(data / spec.path))):
        return
    raise DeviceToolError(
        f"{spec.name}: {data / spec.path} is in use by {holder}. While the server runs, its devices are its own: take "
        "this one out of the site file and `paifang reload`, or stop the server, and try again"
    )


# --- as a value, for traces ---------------------------------------------------------------------------------------

_TABLES: dict[str, Any] = {
    each.__name__: each for each in (Board, Reader, Printer, CounterDevice, Fire, Contact, Controller)
}


def described(spec: DeviceSpec) -> dict[str, Any]:
    """A device's tables as plain values, for the head of a trace."""
    tables = [
        {"type": type(table).__name__, **msgspec.to_builtins(table)}
        for table in spec.tables
        if isinstance(table, msgspec.Struct)
    ]
    return {"kind": spec.kind, "language": spec.language, "tables": tables}


def rebuilt(description: dict[str, Any], where: dict[str, str]) -> DeviceSpec:
    """A device from the head of a trace, with its places put elsewhere (`serial:/dev/x` → a path). DeviceToolError."""
    try:
        tables = [_moved(dict(table), where) for table in description["tables"]]
        values = [msgspec.convert(table, _TABLES[table.pop("type")]) for table in tables]
    except (KeyError, TypeError, msgspec.ValidationError) as exc:
        raise DeviceToolError(f"the trace's device is not understood: {exc!r}") from exc
    main = next((value for value in values if not isinstance(value, Controller)), None)
    controllers = [value for value in values if isinstance(value, Controller)]
    parts: dict[str, Any] = {
        "lanes": [],
        "printers": [main] if isinstance(main, Printer) else [],
        "fire": [main] if isinstance(main, Fire) else [],
        "controllers": controllers,
    }
    lane: dict[str, Any] = {"id": "replay", "name": "replay", "to_zone": "z"}
    if isinstance(main, Board):
        parts["lanes"] = [Lane(board=main, **lane)]
    elif isinstance(main, Reader):
        parts["lanes"] = [Lane(readers=[main], **lane)]
    elif isinstance(main, CounterDevice):
        parts["lanes"] = [Lane(kind="open", counter=main, **lane)]
    site = SiteFile(site=SiteTable(id="replay", name="replay"), zones=[Zone(id="z", name="z")], **parts)
    try:
        return next(iter(device_specs(site).values()))
    except StopIteration:
        raise DeviceToolError("the trace names no device") from None


def _moved(table: dict[str, Any], where: dict[str, str]) -> dict[str, Any]:
    """A table whose path, host and port, or URL are where the recording is played."""
    for place, now in where.items():
        wire, _, rest = place.partition(":")
        if wire == "serial":
            if table.get("path"):
                table["path"] = now
            continue
        host, _, port = now.rpartition(":")
        if table.get("url"):
            table["url"] = table["url"].replace(rest, now, 1)
        elif table.get("host"):
            table["host"], table["port"] = host, int(port)
    return table
