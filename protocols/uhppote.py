"""UHPPOTE access controllers (UT0311-L01/L02/L04): 64-byte UDP packets, as values.

Packets are made and taken apart by the `uhppoted` library; this module checks what it does not (size, serial number,
which question a reply belongs to), names the codes, and raises one error for whatever may come.  Layout: byte 0 is
0x17 (events of firmware 6.62: 0x19), 1 the function, 4 to 7 the serial number, little endian.  An event that the
controller sends by itself has the function of a status reply; only the port on which it arrives tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Any

import msgspec
from uhppoted import decode, encode

from protocols.errors import WireError

PACKET_BYTES = 64
DOORS = (1, 2, 3, 4)
SERIAL_MAX = 0xFFFFFFFF
OPEN_S_MAX = 255
START = 0x17
START_6_62 = 0x19
STATUS = 0x20
FORCED_LOCK_INPUT, FIRE_INPUT = 0x01, 0x02  # bits of `inputs`


class UhppoteError(WireError):
    """A packet that is none, of another controller, or not the reply to what was asked."""


class Mode(IntEnum):
    """How a door is controlled."""

    NORMALLY_OPEN = 1
    NORMALLY_CLOSED = 2
    CONTROLLED = 3


class Reason(IntEnum):
    """Why an event was recorded; those that mean something here."""

    SWIPE = 0x01
    BUTTON = 0x14
    DOOR_OPENED = 0x17
    DOOR_CLOSED = 0x18
    OPEN_TOO_LONG = 0x25
    FORCED = 0x26
    FIRE = 0x27
    REMOTE_OPEN = 0x2C


class EventType(IntEnum):
    NONE = 0
    SWIPE = 1
    DOOR = 2
    ALARM = 3
    OVERWRITTEN = 0xFF  # the memory went round before it was fetched


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded event. `at` is the controller's own local time, None when that is no time."""

    index: int
    type: int
    granted: bool
    door: int
    outward: bool
    card: int
    at: datetime | None
    reason: int

    def __repr__(self) -> str:  # a card number opens a gate
        return f"Event(index={self.index}, type={self.type}, door={self.door}, reason={self.reason:#x})"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the controller senses now. Tuples are doors 1 to 4; `index` is the newest event, 0 if there is none."""

    index: int
    doors_open: tuple[bool, bool, bool, bool]
    buttons: tuple[bool, bool, bool, bool]
    relays: tuple[bool, bool, bool, bool]
    inputs: int
    error: int
    clock: datetime | None

    @property
    def fire(self) -> bool:
        return bool(self.inputs & FIRE_INPUT)


class Question(msgspec.Struct, frozen=True):
    """A request, and how to read its reply. `read` raises UhppoteError."""

    packet: bytes
    read: Callable[[bytes], Any]

    @property
    def function(self) -> int:
        return self.packet[1]


# --- questions ----------------------------------------------------------------------------------------------------


def ask_status(serial: int) -> Question:
    """Answered with `Status`."""
    return Question(bytes(encode.get_status_request(serial)), read_status)


def ask_firmware(serial: int) -> Question:
    """Answered with the firmware's version, such as `v8.92`."""
    return Question(
        bytes(encode.get_controller_request(serial)),
        lambda packet: str(_call(decode.get_controller_response, packet).version),
    )


def ask_event(serial: int, index: int) -> Question:
    """Answered with the `Event` of that index, or None when the controller has it no more."""

    def read(packet: bytes) -> Event | None:
        found = _call(decode.get_event_response, packet)
        if found.event_type == EventType.OVERWRITTEN or found.index == 0:
            return None
        if found.index != index:
            raise UhppoteError(f"event {found.index} instead of {index}")
        return Event(
            index=found.index,
            type=found.event_type,
            granted=found.access_granted,
            door=found.door,
            outward=found.direction == 2,
            card=found.card,
            at=found.timestamp,
            reason=found.reason,
        )

    return Question(bytes(encode.get_event_request(serial, index)), read)


def ask_handled(serial: int) -> Question:
    """Answered with the index of the event that was marked as handled last."""
    return Question(
        bytes(encode.get_event_index_request(serial)),
        lambda packet: int(_call(decode.get_event_index_response, packet).event_index),
    )


def mark_handled(serial: int, index: int) -> Question:
    """Kept by the controller, over power cuts too. Answered with whether it was changed."""
    return Question(
        bytes(encode.set_event_index_request(serial, index)),
        lambda packet: bool(_call(decode.set_event_index_response, packet).updated),
    )


def open_door(serial: int, door: int) -> Question:
    """Answered with whether it was opened."""
    return Question(
        bytes(encode.open_door_request(serial, door)),
        lambda packet: bool(_call(decode.open_door_response, packet).opened),
    )


def set_door(serial: int, door: int, mode: Mode, open_s: int) -> Question:
    """How a door is controlled, and for how long it opens. Answered with the `Mode` that it has now."""

    def read(packet: bytes) -> Mode:
        return _mode(_call(decode.set_door_control_response, packet), door)

    return Question(bytes(encode.set_door_control_request(serial, door, int(mode), open_s)), read)


def ask_door(serial: int, door: int) -> Question:
    """Answered with the `Mode` of a door."""

    def read(packet: bytes) -> Mode:
        return _mode(_call(decode.get_door_control_response, packet), door)

    return Question(bytes(encode.get_door_control_request(serial, door)), read)


def set_listener(serial: int, host: str, port: int) -> Question:
    """Where events are sent to. Answered with whether it was taken."""
    packet = bytes(encode.set_listener_request(serial, IPv4Address(host), port, 0))
    return Question(packet, lambda reply: bool(_call(decode.set_listener_response, reply).ok))


def record_special_events(serial: int) -> Question:
    """Doors, buttons and alarms are events too; a new controller has this off. Answered with whether it is on."""
    packet = bytes(encode.record_special_events_request(serial, True))
    return Question(packet, lambda reply: bool(_call(decode.record_special_events_response, reply).updated))


def set_clock(serial: int, now: datetime) -> Question:
    """Answered with the time that the controller has now, None when that is no time."""
    packet = bytes(encode.set_time_request(serial, now))
    return Question(packet, lambda reply: _call(decode.set_time_response, reply).datetime)


# --- what comes ---------------------------------------------------------------------------------------------------


def check(packet: bytes, serial: int, function: int) -> None:
    """Raises UhppoteError unless this is a packet of that controller and function."""
    if len(packet) != PACKET_BYTES:
        raise UhppoteError(f"{len(packet)} bytes")
    event = packet[0] == START_6_62 and packet[1] == STATUS
    if packet[0] != START and not event:
        raise UhppoteError(f"begins with {packet[0]:#04x}")
    if packet[1] != function:
        raise UhppoteError(f"function {packet[1]:#04x} instead of {function:#04x}")
    found = int.from_bytes(packet[4:8], "little")
    if found != serial:
        raise UhppoteError(f"from controller {found} instead of {serial}")


def read_event(packet: bytes, serial: int) -> Event:
    """An event as it is sent to the listener. Raises UhppoteError."""
    check(packet, serial, STATUS)
    found = _call(decode.event, packet)
    return Event(
        index=found.event_index,
        type=found.event_type,
        granted=found.event_access_granted,
        door=found.event_door,
        outward=found.event_direction == 2,
        card=found.event_card,
        at=found.event_timestamp,
        reason=found.event_reason,
    )


def read_status(packet: bytes) -> Status:
    """A status reply. Raises UhppoteError."""
    found = _call(decode.get_status_response, packet)
    clock = None
    if found.system_date is not None and found.system_time is not None:
        clock = datetime.combine(found.system_date, found.system_time)
    return Status(
        index=found.event_index,
        doors_open=(found.door_1_open, found.door_2_open, found.door_3_open, found.door_4_open),
        buttons=(found.door_1_button, found.door_2_button, found.door_3_button, found.door_4_button),
        relays=(bool(found.relays & 1), bool(found.relays & 2), bool(found.relays & 4), bool(found.relays & 8)),
        inputs=found.inputs,
        error=found.system_error,
        clock=clock,
    )


def _call(reader: Callable[[bytes], Any], packet: bytes) -> Any:
    try:
        return reader(packet)
    except Exception as exc:  # the library names ValueError, and its helpers raise what they like
        raise UhppoteError(str(exc)) from exc


def _mode(found: Any, door: int) -> Mode:
    if found.door != door:
        raise UhppoteError(f"door {found.door} instead of {door}")
    try:
        return Mode(found.mode)
    except ValueError as exc:
        raise UhppoteError(f"door mode {found.mode}") from exc
