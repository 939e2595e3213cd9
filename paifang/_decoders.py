"""What bytes on a wire mean, for whoever watches a device: one line for each frame, in either direction.

Only for looking at.  A decoder never raises and never shows a ticket's code or a person's number in words; whoever asks
for the bytes themselves sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from drivers.trace import IN
from protocols import board4, digicon, machpower, scanner, sdt, tpw
from protocols.errors import WireError

Words = Callable[[bytes], list[str]]  # the frames that these bytes complete, in words
STATUS_FIXED = 0x12  # bits 1 and 4 of an ESC/POS status are set, 0 and 7 are clear
VALUE_MAX = 60  # characters of one field


class Decoder:
    """Of one device. Keeps a framer for each direction, because frames come in pieces."""

    def __init__(self, language: str) -> None:
        self._words: dict[bool, Words] = {True: _words(language, True), False: _words(language, False)}

    def feed(self, what: str, data: bytes) -> list[str]:
        """What chunk `data`, `in` or `out`, completed."""
        try:
            return self._words[what == IN](data)
        except (WireError, ValueError) as exc:
            return [f"not understood: {exc}"]


def _words(language: str, incoming: bool) -> Words:
    match language:
        case "board4":
            return _board4(incoming)
        case "machpower":
            return _framed(machpower.framer())
        case "digicon":
            return _framed(digicon.framer())
        case "tpw":
            return _framed(tpw.framer(addressed=True))
        case "qr" if incoming:
            return _scans()
        case "idcard":
            return _sdt(incoming)
        case "escpos" if incoming:
            return _printer_status
        case "modbus":
            return _modbus
        case "osdp":
            return _osdp
    return lambda data: []


def _board4(incoming: bool) -> Words:
    framer = board4.Board4Framer()

    def words(data: bytes) -> list[str]:
        found = []
        for frame in framer.feed(data):
            try:
                if incoming:
                    found.append(_shown(board4.decode_status(frame)))
                else:
                    command = board4.decode_command(frame)
                    found.append(f"address {command.address}, query" if command.action is None else _shown(command))
            except WireError as exc:
                found.append(str(exc))
        return found

    return words


def _framed(framer: Any) -> Words:
    return lambda data: [_shown(frame) for frame in framer.feed(data)]


def _scans() -> Words:
    framer = scanner.ScannerFramer()
    return lambda data: [
        f"a code of {len(read.text)} characters {read.symbology}".rstrip() for read in framer.feed(data)
    ]


def _sdt(incoming: bool) -> Words:
    framer = sdt.SdtFramer()

    def words(data: bytes) -> list[str]:
        bodies = framer.feed(data)
        if incoming:
            return [f"{answer.words}, {len(answer.data)} bytes" for answer in map(sdt.decode_answer, bodies)]
        return [f"{_value(sdt.decode_request(body).command)}" for body in bodies]

    return words


def _printer_status(data: bytes) -> list[str]:
    return [f"status {octet:#04x}: {_bits(octet)}" for octet in data[:8]]


def _bits(octet: int) -> str:
    """The meaning of a status byte depends on what was asked; what all kinds share is whether it is one."""
    return "a status" if octet & 0x93 == STATUS_FIXED else "not a status"


def _modbus(data: bytes) -> list[str]:
    """Unit and function of what looks like one frame, RTU or TCP."""
    at = 6 if len(data) >= 8 and data[2:4] == b"\0\0" and int.from_bytes(data[4:6], "big") == len(data) - 6 else 0
    if len(data) < at + 2:
        return []
    function = data[at + 1]
    failed = f", refused: {data[at + 2]}" if function & 0x80 and len(data) > at + 2 else ""
    return [f"unit {data[at]} function {function & 0x7F}{failed}"]


def _osdp(data: bytes) -> list[str]:
    """Address, sequence number, secured or not, and command or reply of a frame that begins here."""
    start = data.find(b"\x53")
    if start < 0 or len(data) < start + 6:
        return []
    address, control = data[start + 1], data[start + 4]
    at = start + 5
    secured = control & 0x08
    if secured:
        at += data[at]
    code = f" code {data[at]:#04x}" if at < len(data) else ""
    side = "reply" if address & 0x80 else "command"
    return [f"reader {address & 0x7F} {side} {control & 3}{code}{' secured' if secured else ''}"]


def _shown(value: Any) -> str:
    """A frame as its fields."""
    if not isinstance(value, msgspec.Struct):
        return _value(value)
    fields: Iterable[tuple[str, Any]] = msgspec.structs.asdict(value).items()
    return ", ".join(f"{name} {_value(each)}" for name, each in fields if each not in (None, b"", ""))


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex(" ")[:VALUE_MAX]
    name = getattr(value, "name", None)
    return str(name if isinstance(name, str) else value).lower()[:VALUE_MAX]
