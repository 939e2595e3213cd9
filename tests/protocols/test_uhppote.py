"""UHPPOTE packets, against what a foreign simulator said and heard.

`uhppote_recorded.json` holds packets recorded between the `uhppote-simulator` of the uhppoted project (in Go, MIT) and
the `uhppoted` Python library: requests, replies and events.  None of its code is here, only its bytes.
"""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.uhppote import (
    Event,
    EventType,
    Mode,
    Reason,
    UhppoteError,
    ask_door,
    ask_event,
    ask_firmware,
    ask_handled,
    ask_status,
    check,
    mark_handled,
    open_door,
    read_event,
    read_status,
    record_special_events,
    set_clock,
    set_door,
    set_listener,
)
from sim.uhppote import Recorded, SimUhppote

RECORDED = {row["name"]: row for row in json.loads((Path(__file__).parent / "uhppote_recorded.json").read_text())}
SERIAL = 405419896
THEN = datetime(2026, 11, 21, 9, 30)

QUESTIONS = {
    "get_controller": (ask_firmware(SERIAL), "v8.92"),
    "set_time": (set_clock(SERIAL, THEN), THEN),
    "set_listener": (set_listener(SERIAL, "127.0.0.1", 61001), True),
    "record_special_events": (record_special_events(SERIAL), True),
    "set_door_control": (set_door(SERIAL, 1, Mode.CONTROLLED, 5), Mode.CONTROLLED),
    "get_door_control": (ask_door(SERIAL, 1), Mode.CONTROLLED),
    "door_normally_open": (set_door(SERIAL, 1, Mode.NORMALLY_OPEN, 5), Mode.NORMALLY_OPEN),
    "open_door": (open_door(SERIAL, 1), True),
    "get_event_index": (ask_handled(SERIAL), 0),
    "set_event_index": (mark_handled(SERIAL, 3), True),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_our_questions_are_the_recorded_ones_and_their_replies_are_read(name):
    question, meant = QUESTIONS[name]
    assert question.packet.hex() == RECORDED[name]["request"]
    assert question.read(bytes.fromhex(RECORDED[name]["reply"])) == meant


def test_the_recorded_status_is_read():
    question = ask_status(SERIAL)
    assert question.packet.hex() == RECORDED["get_status"]["request"]
    status = question.read(bytes.fromhex(RECORDED["get_status"]["reply"]))
    assert (status.index, status.doors_open, status.buttons) == (6, (False,) * 4, (True, False, False, False))
    assert status.relays == (True, False, False, False) and not status.fire
    assert status.clock == datetime(2026, 11, 21, 9, 30)


@pytest.mark.parametrize(
    ("name", "index", "kind", "granted", "door", "reason"),
    [
        ("remote open", 1, EventType.DOOR, True, 1, Reason.REMOTE_OPEN),
        ("swipe granted", 2, EventType.DOOR, True, 1, Reason.SWIPE),
        ("swipe denied", 3, EventType.SWIPE, False, 2, 0x12),
        ("door open", 4, EventType.DOOR, True, 1, Reason.DOOR_OPENED),
        ("door closed", 5, EventType.DOOR, True, 1, Reason.DOOR_CLOSED),
        ("button", 6, EventType.DOOR, True, 1, Reason.BUTTON),
    ],
)
def test_the_recorded_events_are_read(name, index, kind, granted, door, reason):
    event = read_event(bytes.fromhex(RECORDED[name]["event"]), SERIAL)
    assert (event.index, event.type, event.door, event.reason, event.granted) == (index, kind, door, reason, granted)
    assert event.at == THEN


def test_the_recorded_event_of_the_memory_is_the_one_that_was_sent():
    sent = read_event(bytes.fromhex(RECORDED["remote open"]["event"]), SERIAL)
    question = ask_event(SERIAL, 1)
    assert question.packet.hex() == RECORDED["get_event"]["request"]
    assert question.read(bytes.fromhex(RECORDED["get_event"]["reply"])) == sent
    with pytest.raises(UhppoteError, match="event 1 instead of 2"):
        ask_event(SERIAL, 2).read(bytes.fromhex(RECORDED["get_event"]["reply"]))


@pytest.mark.parametrize("name", [name for name, row in RECORDED.items() if "event" in row])
def test_our_simulators_events_are_the_recorded_ones_byte_for_byte(name, monkeypatch):
    """But for its own time of day, which stands twice in a packet."""
    packet = bytes.fromhex(RECORDED[name]["event"])
    event = read_event(packet, SERIAL)
    sim = SimUhppote(SERIAL)
    monkeypatch.setattr(sim, "clock", lambda: THEN)
    sim.powered = False  # nothing is unlocked
    sim.doors_open[1] = bool(packet[28])
    sim.buttons[1] = bool(packet[32])
    made = bytearray(
        sim.event_packet(
            Recorded(event.index, packet[12], event.granted, event.door, packet[15], event.card, THEN, event.reason)
        )
    )
    made[48:50] = packet[48:50]  # special information and relays of that moment
    assert made.hex() == packet.hex()


def test_an_event_of_newer_firmware_begins_with_another_byte():
    packet = bytearray(bytes.fromhex(RECORDED["door open"]["event"]))
    packet[0] = 0x19
    assert read_event(bytes(packet), SERIAL).reason == Reason.DOOR_OPENED


@pytest.mark.parametrize(
    "change",
    [
        lambda packet: packet[:63],
        lambda packet: packet + b"\0",
        lambda packet: b"\x18" + packet[1:],
        lambda packet: packet[:1] + b"\x32" + packet[2:],
        lambda packet: packet[:4] + b"\x01" + packet[5:],
        lambda packet: b"\x19" + b"\x94" + packet[2:],
        lambda packet: b"",
    ],
)
def test_a_packet_that_is_not_ours_is_refused(change):
    packet = change(bytes.fromhex(RECORDED["door open"]["event"]))
    with pytest.raises(UhppoteError):
        read_event(packet, SERIAL)


@given(st.binary(max_size=80))
def test_any_bytes_are_an_event_or_our_own_error(data):
    with contextlib.suppress(UhppoteError):
        assert isinstance(read_event(data, SERIAL), Event)


@given(st.sampled_from(sorted(QUESTIONS)), st.binary(min_size=56, max_size=56))
def test_any_reply_with_a_sound_head_is_read_or_our_own_error(name, data):
    question, _ = QUESTIONS[name]
    packet = bytes([0x17, question.function, 0, 0]) + SERIAL.to_bytes(4, "little") + data
    check(packet, SERIAL, question.function)
    for read in (question.read, read_status, ask_event(SERIAL, 5).read, lambda p: read_event(p, SERIAL)):
        try:
            read(packet)
        except UhppoteError:
            continue


def test_a_card_number_is_not_in_what_is_printed():
    event = read_event(bytes.fromhex(RECORDED["swipe granted"]["event"]), SERIAL)
    assert str(event.card) not in repr(event)
