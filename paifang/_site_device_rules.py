"""What must hold for the devices of a site file: where they are, what their kind needs, and who shares a bus."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from drivers.feedback import Patterns
from drivers.modbus._wiring import RelayWiring
from drivers.turnstile.models import MODELS, check_people, model_of
from paifang._site_bus_rules import Placed, named_paths, shared_places
from paifang._site_devices import Board, Contact, Controller, CounterDevice, FeedbackPattern, Fire, Printer, Reader
from paifang._site_shape import Problem, nearest, quoted, shown
from paifang._site_types import GROUP_MAX
from paifang._wires import modbus_contact
from paifang.site import Lane
from paifang.templates import load_template, template_names

CONTROLLERS_MAX = 64
FIRE_MAX = 16
CONTACTS_MAX = 16
READERS_PER_LANE_MAX = 8
PATH_MAX_CHARACTERS = 200
BAUD_RATES = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)
MODBUS_UNITS = (1, 247)
DIRECT_BOARDS = ("board4", "machpower", "digicon", "tpw")  # turnstile boards with a language of their own
NETWORK_BOARDS = ("board4", "tpw")  # those that also speak over UDP

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z")
_PLACE_RULE = "a device path such as /dev/serial/by-id/…, or a path below the data folder such as dev/north-1-board"
_FILE_RULE = "a file below the data folder, such as keys/osdp-n1.key"


class Devices(msgspec.Struct, kw_only=True):
    """The device tables that are sound by themselves, with their positions. `controller_ids` is of the raw file."""

    lanes: list[tuple[int, Lane]]
    controllers: list[tuple[int, Controller]]
    fire: list[tuple[int, Fire]]
    feedback: list[tuple[int, FeedbackPattern]]
    printers: list[tuple[int, Printer]]
    controller_ids: list[str]


def problems(devices: Devices) -> Iterator[Problem]:
    """Everything about devices that makes the site impossible to start."""
    known = devices.controller_ids
    for position, lane in devices.lanes:
        yield from _lane(f"lanes[{position}]", lane, known)
    for position, controller in devices.controllers:
        yield from _controller(f"controllers[{position}]", controller)
    for position, fire in devices.fire:
        yield from _fire(f"fire[{position}]", fire, known)
    for position, printer in devices.printers:
        yield from _printer(f"printers[{position}]", printer)
    yield from _feedback(devices.feedback)
    yield from shared_places(_placed(devices))


def warnings(devices: Devices) -> Iterator[Problem]:
    """What works but is probably not meant."""
    for position, controller in devices.controllers:
        if controller.listen_port == 0:
            yield Problem(
                f"controllers[{position}].listen_port",
                "no port for the controller's events: swipes are only seen when it is polled",
                "a port of this server, such as 60001",
            )
    for key, path in named_paths(_placed(devices)):
        if re.match(r"/dev/tty(?:USB|ACM)\d", path):
            wrong = f"{shown(path)} is whichever adapter was plugged in first"
            yield Problem(key, wrong, "its link in /dev/serial/by-id")
    for position, lane in devices.lanes:
        for place, reader in enumerate(lane.readers):
            if reader.kind == "osdp" and not reader.key:
                key = f"lanes[{position}].readers[{place}].key"
                yield Problem(key, "no key: the line can be listened to and spoken on", "a file such as keys/n1.key")
    for position, fire in devices.fire:
        for place, contact in enumerate(fire.contacts):
            if contact.kind == "normally_open" and not fire.controller:
                yield Problem(
                    f"fire[{position}].contacts[{place}].kind",
                    "a cut wire of a plain normally open contact is not noticed",
                    '"antivalent" or "loop"',
                )


def _lane(key: str, lane: Lane, controllers: list[str]) -> Iterator[Problem]:
    ways = [name for name in ("board", "device", "counter") if getattr(lane, name) is not None]
    rule = "a board with readers, or a device on the link, or a counter"
    if len(ways) > 1:
        yield Problem(key, f"has both a {ways[0]} and a {ways[1]}", rule)
    elif lane.kind == "attendant":
        if ways or lane.readers:
            yield Problem(key, "the phone is this lane's only device", "no board, device, counter or readers")
    elif not ways:
        yield Problem(key, "has neither a board nor a device", rule)
    elif lane.board is not None and not lane.readers:
        yield Problem(f"{key}.readers", "a board without a reader: no ticket could be scanned", "[[lanes.readers]]")
    elif lane.device is not None and lane.readers:
        yield Problem(f"{key}.readers", "a device on the link brings its own readers", "no readers beside a device")
    elif lane.counter is not None and lane.readers:
        yield Problem(f"{key}.readers", "nothing can be kept shut where people are only counted", "no readers here")
    if (lane.counter is not None) != (lane.kind == "open") and len(ways) == 1 and lane.kind != "attendant":
        yield Problem(f"{key}.kind", f"{shown(lane.kind)} with a {ways[0]}", '"open" with a counter, and only with one')
    if len(lane.readers) > READERS_PER_LANE_MAX:
        yield Problem(f"{key}.readers", f"{len(lane.readers)} readers", f"at most {READERS_PER_LANE_MAX}")
    if lane.board is not None:
        yield from _board(f"{key}.board", lane.board, lane.max_group, controllers)
    if lane.counter is not None:
        yield from _counter(f"{key}.counter", lane.counter)
    for position, reader in enumerate(lane.readers):
        yield from _reader(f"{key}.readers[{position}]", reader, controllers)


def _board(key: str, board: Board, max_group: int, controllers: list[str]) -> Iterator[Problem]:
    if board.language == "uhppote":
        yield from _door(key, board, controllers, "board")
        return
    yield from _foreign(key, board, {"controller": None, "door": None}, f'a board of language "{board.language}"')
    if board.language == "modbus":
        yield from _modbus(key, board)
        if board.relay is None:
            yield Problem(f"{key}.relay", "missing", "how the relays are wired, at least relay = { open_coil = 0 }")
            return
        try:
            RelayWiring(**msgspec.structs.asdict(board.relay))
        except ValueError as error:
            yield Problem(f"{key}.relay", str(error), "what sites/devices.toml shows")
        return
    yield from _foreign(key, board, {"relay": None}, f'a board of language "{board.language}"')
    yield from _place(key, board, network=board.language in NETWORK_BOARDS)
    try:
        model = model_of(board.language, board.model)
    except ValueError:
        names = [name for name, each in MODELS.items() if each.language == board.language]
        wrong = f"{shown(board.model)} is no model of {board.language}"
        known = {name.lower(): name for name in names}
        meant = known.get(nearest(board.model, known), "")
        yield Problem(f"{key}.model", wrong, quoted(names), suggestion=meant)
        return
    try:
        check_people(model, max_group if max_group <= GROUP_MAX else 1)
    except ValueError:
        at = f"{key.removesuffix('.board')}.max_group"
        yield Problem(at, f"{max_group} people, with {model.name}", f"1 to {model.pax_max}")
    if board.host and board.language == "tpw" and board.port == 0:
        yield Problem(f"{key}.port", "missing", "the port that is set on the board")


def _reader(key: str, reader: Reader, controllers: list[str]) -> Iterator[Problem]:
    own = {
        "trigger": "qr",
        "mode": "qr",
        "reading_s": "qr",
        "address": "osdp",
        "text": "osdp",
        "reverse": "osdp",
        "keypad": "osdp",
        "card": "wedge",
        "key": ("osdp", "pcsc"),
        "reader": "pcsc",
        "require_record": "pcsc",
        "controller": "uhppote",
        "door": "uhppote",
    }
    defaults = {field.name: field.default for field in msgspec.structs.fields(Reader)}
    for name, kinds in own.items():
        if reader.kind not in kinds:
            default = defaults[name]
            yield from _foreign(key, reader, {name: default}, f'a reader of kind "{reader.kind}"')
    if reader.kind == "uhppote":
        yield from _door(key, reader, controllers, "reader")
    elif reader.kind == "pcsc":
        yield from _foreign(key, reader, {"path": "", "baud": 0}, "a PC/SC reader, which is known by its name")
        if reader.require_record and not reader.key:
            yield Problem(f"{key}.key", "missing", "the file of the cards' master key, when records are required")
    elif reader.kind == "wedge":
        if not reader.path.startswith("/dev/input/"):
            yield Problem(f"{key}.path", f"{shown(reader.path)} is not an input device", "/dev/input/by-id/…")
        yield from _foreign(key, reader, {"baud": 0}, "a keyboard-like reader")
    else:
        yield from _serial_line(key, reader.path, reader.rate)
    if reader.mode == "on_demand" and not reader.trigger:
        yield Problem(f"{key}.trigger", "missing: nothing could make it read", "whose commands the reader knows")
    if reader.key:
        yield from _file(f"{key}.key", reader.key)


def _controller(key: str, controller: Controller) -> Iterator[Problem]:
    for field, host in (("host", controller.host), ("listen_host", controller.listen_host or "0.0.0.0")):  # noqa: S104 - the board has to reach us
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            yield Problem(f"{key}.{field}", f"{shown(host)} is not an address", "an IPv4 address")
    if controller.port == 0:
        yield Problem(f"{key}.port", "port 0 cannot be dialled", "1 to 65535, usually 60000")
    if controller.serial > 0xFFFF_FFFF:
        yield Problem(f"{key}.serial", f"{controller.serial} is no serial number", "the number on the board's label")


def _fire(key: str, fire: Fire, controllers: list[str]) -> Iterator[Problem]:
    if not 1 <= len(fire.contacts) <= CONTACTS_MAX:
        yield Problem(f"{key}.contacts", f"{len(fire.contacts)} contacts", f"1 to {CONTACTS_MAX}")
    if fire.id == "boards":
        yield Problem(f"{key}.id", '"boards" is the name of the boards\' own fire inputs', "any other name")
    names = [contact.name for contact in fire.contacts]
    for place, contact in enumerate(fire.contacts):
        at = f"{key}.contacts[{place}]"
        if contact.name in names[:place]:
            yield Problem(f"{at}.name", f'"{contact.name}" is named twice', "a name of its own")
        yield from _contact(at, contact, on_controller=fire.controller is not None)
    if fire.controller is not None:
        yield from _known(f"{key}.controller", fire.controller, controllers)
        yield from _foreign(key, fire, {"path": "", "host": "", "baud": 0}, "an input of a controller")
    else:
        yield from _modbus(key, fire)


def _contact(key: str, contact: Contact, *, on_controller: bool) -> Iterator[Problem]:
    if on_controller:
        if contact.name != "fire":
            yield Problem(f"{key}.name", f"{shown(contact.name)} is no input of a controller", '"fire"')
        return
    try:
        modbus_contact(contact)
    except ValueError as error:
        yield Problem(key, str(error), "what sites/devices.toml shows")


def _counter(key: str, counter: CounterDevice) -> Iterator[Problem]:
    what = f'a counter of kind "{counter.kind}"'
    if counter.kind == "modbus":
        yield from _modbus(key, counter)
        yield from _foreign(key, counter, {"url": "", "topic": "", "secret": ""}, what)
        return
    yield from _foreign(key, counter, {"path": "", "baud": 0, "exits": None, "entries": 0}, what)
    if counter.kind == "http-pull":
        yield from _foreign(key, counter, {"host": "", "topic": ""}, what)
        try:
            url = urlsplit(counter.url)
            sound = url.scheme in ("http", "https") and is_host(url.hostname or "") and not url.password
        except ValueError:
            sound = False
        if not sound:  # not shown: people put passwords into addresses
            yield Problem(f"{key}.url", "not the address of a counter", '"http://10.0.0.9/local/tvpc/.api?live-sum.json"')
    else:
        yield from _foreign(key, counter, {"url": ""}, what)
        if not is_host(counter.host):
            yield Problem(f"{key}.host", f"{shown(counter.host)} is not an address", "an IP address or a host name")
        if counter.kind == "http-push" and counter.port == 0:
            yield Problem(f"{key}.port", "missing", "the port of this server that the counter sends to")
        if counter.kind == "http-push" and not counter.secret:
            yield Problem(f"{key}.secret", "missing: anybody could count", _FILE_RULE)
        if counter.kind == "mqtt" and not counter.topic:
            yield Problem(f"{key}.topic", "missing", "the topic that the counter publishes to")
    if counter.secret:
        yield from _file(f"{key}.secret", counter.secret)


def _printer(key: str, printer: Printer) -> Iterator[Problem]:
    if printer.host and printer.path:
        yield Problem(key, "has both a host and a path", "host and port for TCP, or path for a serial line or USB")
        return
    if not printer.host and not printer.path:
        yield Problem(key, "has neither a host nor a path", "host and port for TCP, or path for a serial line or USB")
        return
    if (printer.way == "tcp") != bool(printer.host):
        yield Problem(f"{key}.transport", f'"{printer.transport}" does not go with this place', '"auto"')
    elif printer.way == "serial":
        yield from _serial_line(key, printer.path, printer.rate)
    elif printer.way == "usb":
        yield from _path(key, printer.path)
    else:
        if not is_host(printer.host):
            yield Problem(f"{key}.host", f"{shown(printer.host)} is not an address", "an IP address or a host name")
        if printer.port == 0:
            yield Problem(f"{key}.port", "port 0 cannot be dialled", "1 to 65535, usually 9100")
    yield from _template(f"{key}.template", printer)
    if printer.language != "escpos" and printer.way != "tcp":
        wrong = f'"{printer.language}" over {printer.way}'
        yield Problem(f"{key}.language", wrong, "label printers are reached by TCP")


def _feedback(tables: list[tuple[int, FeedbackPattern]]) -> Iterator[Problem]:
    """The patterns themselves are the last judge: they know what devices can show."""
    patterns, first = Patterns(), dict[str, int]()
    for position, table in tables:
        if table.key in first:
            other = f"feedback[{first[table.key]}]"
            yield Problem(f"feedback[{position}]", f'"{table.key}" is already that of {other}', "each pattern once")
        first.setdefault(table.key, position)
        try:
            patterns = patterns.with_changes({table.key: table.changes()})
        except ValueError as error:
            yield Problem(f"feedback[{position}]", str(error), "what sites/devices.toml shows")


def _template(key: str, printer: Printer) -> Iterator[Problem]:
    """One of ours has to exist and to speak the printer's language; a file below the data folder is read at a job."""
    name = printer.template
    if not name:
        return
    if "/" in name or name.endswith(".toml"):
        yield from _file(key, name)
        return
    ours = template_names()
    if name not in ours:
        wrong = f"there is no template {shown(name)}"
        yield Problem(key, wrong, f"{quoted(ours)}, or a file that ends in .toml", suggestion=nearest(name, ours))
    elif (language := load_template(name).language) != printer.language:
        yield Problem(key, f"{shown(name)} is for {language}, and the printer speaks {printer.language}", quoted(ours))


def _modbus(key: str, unit: Board | Fire | CounterDevice) -> Iterator[Problem]:
    yield from _place(key, unit, network=True)
    if not MODBUS_UNITS[0] <= unit.address <= MODBUS_UNITS[1]:
        yield Problem(f"{key}.address", f"{unit.address} is no unit of a Modbus", "1 to 247")


def _place(key: str, device: Board | Fire | CounterDevice, *, network: bool) -> Iterator[Problem]:
    ways = "path of a serial line, or host and port" if network else "path of a serial line"
    if device.path and device.host:
        yield Problem(key, "has both a path and a host", ways)
    elif device.host:
        if not network:
            yield Problem(f"{key}.host", "this kind of board has no network", ways)
        elif not is_host(device.host):
            yield Problem(f"{key}.host", f"{shown(device.host)} is not an address", "an IP address or a host name")
    elif not device.path and network:
        yield Problem(f"{key}.path", '"" is not the path of a serial line', f"{_PLACE_RULE}; or host and port")
    else:
        yield from _serial_line(key, device.path, device.rate)


def _door(key: str, device: Board | Reader, controllers: list[str], what: str) -> Iterator[Problem]:
    if device.controller is None:
        yield Problem(f"{key}.controller", "missing", quoted(controllers) or "the id of one of [[controllers]]")
    else:
        yield from _known(f"{key}.controller", device.controller, controllers)
    if device.door is None:
        yield Problem(f"{key}.door", "missing", "1 to 4")
    yield from _foreign(key, device, {"path": "", "baud": 0}, f"a {what} at a controller's door")


def _known(key: str, controller: str, controllers: list[str]) -> Iterator[Problem]:
    if controller not in controllers:
        yield Problem(
            key,
            f'unknown controller "{controller}"',
            quoted(controllers) or "one of [[controllers]], and there is none",
            suggestion=nearest(controller, controllers),
        )


def _foreign(key: str, device: msgspec.Struct, defaults: dict[str, object], what: str) -> Iterator[Problem]:
    """Keys that say something about another kind of device."""
    for name, default in defaults.items():
        if getattr(device, name) != default:
            yield Problem(f"{key}.{name}", f"does not belong to {what}", "leave it out")


def _file(key: str, name: str) -> Iterator[Problem]:
    if name.startswith("/") or ".." in name.split("/") or len(name) > PATH_MAX_CHARACTERS:
        yield Problem(key, f"{shown(name)} is not below the data folder", _FILE_RULE)


def _serial_line(key: str, path: str, baud: int) -> Iterator[Problem]:
    yield from _path(key, path)
    if baud not in BAUD_RATES:
        allowed = ", ".join(str(rate) for rate in BAUD_RATES)
        yield Problem(f"{key}.baud", f"{baud} is not a usual line speed", allowed)


def _path(key: str, path: str) -> Iterator[Problem]:
    if not path or len(path) > PATH_MAX_CHARACTERS or path.endswith("/"):
        yield Problem(f"{key}.path", f"{shown(path)} is not the path of a serial line", _PLACE_RULE)
    elif not path.startswith("/") and ".." in path.split("/"):
        yield Problem(f"{key}.path", f"{shown(path)} leaves the data folder", _PLACE_RULE)


def _placed(devices: Devices) -> Placed:
    return Placed(lanes=devices.lanes, fire=devices.fire, printers=devices.printers)


def is_host(host: str) -> bool:
    """An IP address or a host name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(_HOST.match(host)) and ".." not in host and not host.replace(".", "").isdigit()
    return True
