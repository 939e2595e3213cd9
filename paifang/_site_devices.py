"""The tables of the site file that describe devices: boards, readers, controllers, contacts, counters, printers.

Where a device is: `path` is a tty of the server (better its link under /dev/serial/by-id), relative ones below the
data folder; `host` and `port` are for devices on the network.  `baud` 0 is what that kind of device usually speaks.
Devices with the same `path`, or the same `host` and `port`, share one bus; `address` tells them apart.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from paifang._site_types import Count, Name, NotNegative, Port, Positive, Table

Address = Annotated[int, msgspec.Meta(ge=1, le=255)]  # 0 is for all at once
Door = Annotated[int, msgspec.Meta(ge=1, le=4)]
Coil = Annotated[int, msgspec.Meta(ge=0, le=65535)]
NotNegativeSeconds = Annotated[float, msgspec.Meta(ge=0, le=60)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=60_000)]

BAUDS = {  # what a kind of device usually speaks
    "board4": 9600,
    "machpower": 9600,
    "digicon": 115200,
    "tpw": 9600,
    "modbus": 9600,
    "qr": 9600,
    "osdp": 9600,
    "idcard": 115200,
    "escpos": 19200,
}
BAUD_OTHERWISE = 9600


class Relay(Table, frozen=True, kw_only=True):
    """How a Modbus relay board is wired to its barrier. Numbers are coils, inputs and registers, counted from 0."""

    open_coil: Coil
    hold_coil: Coil | None = None  # absent: the open coil, kept on
    exit_coil: Coil | None = None
    pulse_s: Positive = 0.5
    pulse: Literal["server", "board"] = "server"  # who ends the pulse
    open_input: Coil | None = None
    closed_input: Coil | None = None
    entry_input: Coil | None = None
    exit_input: Coil | None = None
    entry_register: Coil | None = None
    exit_register: Coil | None = None
    register_table: Literal["input", "holding"] = "input"
    register_words: Annotated[int, msgspec.Meta(ge=1, le=2)] = 1
    low_word_first: bool = False
    hold_releases: bool = True  # false: the hold coil is on in normal work and off to release (fail-safe magnets)


class Board(Table, frozen=True, kw_only=True):
    """What moves a lane's barrier: a turnstile board, a Modbus relay board, or a door of a controller."""

    language: Literal["board4", "machpower", "digicon", "tpw", "modbus", "uhppote"] = "board4"
    model: str = ""  # where one language has several; empty: the usual one
    path: str = ""
    baud: NotNegative = 0
    host: str = ""
    port: Port = 0  # 0: what the language usually has
    address: Address = 1
    relay: Relay | None = None  # of a Modbus board
    controller: Name | None = None  # of a door
    door: Door | None = None
    open_s: NotNegativeSeconds = 0.0  # how long it stays open, where it does not say so itself; 0: as usual
    entry_is: Literal["left", "right"] = "right"  # which way a visitor who enters walks, for boards with two sides
    fire: Literal["site", "lane"] = "site"  # what the board's own fire input opens
    escape: Literal["exit", "entry", "both"] = "exit"  # which way people leave

    @property
    def rate(self) -> int:
        """Bits per second on the line."""
        return self.baud or BAUDS.get(self.language, BAUD_OTHERWISE)


class Reader(Table, frozen=True, kw_only=True):
    """What a visitor presents a ticket, a card or a document to."""

    kind: Literal["qr", "osdp", "wedge", "pcsc", "idcard", "uhppote"] = "qr"
    path: str = ""
    baud: NotNegative = 0
    trigger: Literal["", "honeywell", "datalogic", "cipherlab", "newland", "gm65"] = ""  # whose commands it knows
    mode: Literal["continuous", "on_demand"] = "continuous"  # of a QR reader that can be triggered
    reading_s: Positive = 5.0  # how long it reads after a trigger
    address: Annotated[int, msgspec.Meta(ge=0, le=126)] = 0  # of an OSDP reader on its bus
    key: str = ""  # file of an OSDP reader's key or of the cards' master key, below the data folder
    text: Literal["en", "zh", "none"] = "en"  # what an OSDP reader's display can show
    reverse: bool = False  # a card's UID comes with its bytes the other way round
    keypad: Literal["code", "card", "off"] = "code"  # what digits typed at it are
    card: Literal["no", "text", "decimal"] = "no"  # what a keyboard-like reader types: a code, or a card's number
    reader: str = ""  # a PC/SC reader's name, or a part of it; empty: the first one
    require_record: bool = False  # cards without an authentic record of ours are refused
    controller: Name | None = None
    door: Door | None = None
    direction: Literal["entry", "exit"] = "entry"

    @property
    def rate(self) -> int:
        return self.baud or BAUDS.get(self.kind, BAUD_OTHERWISE)


class Controller(Table, frozen=True, kw_only=True):
    """A UHPPOTE door controller on the network. `listen_port` is where it sends its events; 0: polled only."""

    id: Name
    kind: Literal["uhppote"] = "uhppote"
    host: str
    serial: Count
    port: Port = 60000
    listen_host: str = ""
    listen_port: Port = 0


class Contact(Table, frozen=True, kw_only=True):
    """One supervised contact: with two inputs (`antivalent`) or a closed loop, a cut wire is an alarm."""

    name: Name
    input: Coil = 0
    kind: Literal["normally_open", "normally_closed", "antivalent", "loop"] = "normally_open"
    second_input: Coil | None = None
    debounce_s: Positive = 0.05
    discrepancy_s: Positive = 0.5
    on_broken: Literal["alarm", "release"] = "alarm"
    text: str = ""


class Fire(Table, frozen=True, kw_only=True):
    """Contacts that open the whole site by themselves: inputs of a Modbus board, or a controller's fire input."""

    id: Name
    path: str = ""
    baud: NotNegative = 0
    host: str = ""
    port: Port = 502
    address: Address = 1
    controller: Name | None = None
    contacts: list[Contact]

    @property
    def rate(self) -> int:
        return self.baud or BAUDS["modbus"]


class Light(Table, frozen=True, kw_only=True):
    """`on_ms` lit and `off_ms` dark, again and again for `lasts_ms`; 0: until something else is said."""

    colour: Literal["off", "red", "green", "amber", "blue", "magenta", "cyan", "white"] | None = None
    on_ms: Milliseconds | None = None
    off_ms: Milliseconds | None = None
    lasts_ms: Milliseconds | None = None


class Sound(Table, frozen=True, kw_only=True):
    """`count` beeps of `on_ms` with `off_ms` between them; 0 of them is silence."""

    on_ms: Milliseconds | None = None
    off_ms: Milliseconds | None = None
    count: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None


class FeedbackPattern(Table, frozen=True, kw_only=True):
    """Light, sound and text for one outcome, or for one class of products in it. What is not said stays as it comes."""

    outcome: Literal["go", "wait", "stop", "emergency"]
    class_: str = msgspec.field(name="class", default="")
    light: Light | None = None
    sound: Sound | None = None
    text_zh: str | None = None
    text_en: str | None = None

    @property
    def key(self) -> str:
        """As `drivers.feedback.Patterns.with_changes` names it."""
        return f"{self.outcome}.{self.class_}" if self.class_ else self.outcome

    def changes(self) -> dict[str, object]:
        """What this table says, and nothing that it leaves out."""
        found: dict[str, object] = {}
        for name in ("light", "sound"):
            part = getattr(self, name)
            if part is not None:
                found[name] = {k: v for k, v in msgspec.structs.asdict(part).items() if v is not None}
        return found | {
            name: text for name, text in (("text_zh", self.text_zh), ("text_en", self.text_en)) if text is not None
        }


class CounterForm(Table, frozen=True, kw_only=True):
    """Where in a counter's JSON its figures are, as dotted paths."""

    entries: str = "in"
    exits: str = "out"
    serial: str = "serial"


class CounterDevice(Table, frozen=True, kw_only=True):
    """A people counter of a lane without a barrier."""

    kind: Literal["modbus", "http-pull", "http-push", "mqtt"]
    path: str = ""
    baud: NotNegative = 0
    host: str = ""
    port: Port = 0
    address: Address = 1
    entries: Coil = 0  # registers of a Modbus counter
    exits: Coil | None = None
    register_table: Literal["input", "holding"] = "input"
    register_words: Annotated[int, msgspec.Meta(ge=1, le=2)] = 2
    low_word_first: bool = False
    url: str = ""  # of http-pull
    user: str = ""
    secret: str = ""  # file of the password or token, below the data folder
    topic: str = ""  # of mqtt
    serial: str = ""  # only words of this counter are believed; empty: of any
    poll_s: Positive = 1.0
    silent_after_s: Positive = 120.0
    form: CounterForm = CounterForm()

    @property
    def rate(self) -> int:
        return self.baud or BAUDS["modbus"]


class Printer(Table, frozen=True, kw_only=True):
    """A ticket printer: TCP (`host` and `port`, usually 9100), a serial `path`, or a USB file such as /dev/usb/lp0."""

    id: Name
    host: str = ""
    port: Port = 9100
    path: str = ""
    baud: NotNegative = 0
    transport: Literal["auto", "tcp", "serial", "usb"] = "auto"
    language: Literal["escpos", "zpl", "tspl"] = "escpos"
    template: str = ""  # a shipped template's name, or a file below the data folder; empty: the plain ticket
    confirm: Literal["auto", "status", "sequence"] = "auto"  # how the printer is asked whether a job is done

    @property
    def rate(self) -> int:
        return self.baud or BAUDS["escpos"]

    @property
    def way(self) -> str:
        """tcp, serial or usb."""
        if self.transport != "auto":
            return self.transport
        if self.host:
            return "tcp"
        return "usb" if self.path.startswith("/dev/usb/") else "serial"
