"""OSDP readers on a real pty: our panel against our simulated readers, which libosdp's own device side speaks for.

The other author's panel against the same readers is in `test_foreign_panel.py`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from core.testing import patient_time
from drivers.base import (
    Availability,
    CodeRead,
    CredentialRead,
    DeviceDown,
    DeviceEvent,
    DeviceUp,
    Feedback,
    InputChanged,
    InputState,
    Outcome,
    Signalling,
)
from drivers.feedback import Patterns
from drivers.osdp import OsdpBus, OsdpReader, _seat
from drivers.osdp._library import library
from drivers.serial import open_line
from drivers.testing import open_descriptors
from protocols.messages import CredentialKind
from protocols.osdp import OsdpFramer
from sim.osdp import SimOsdpBus, SimOsdpReader

patient = pytest.fixture(autouse=True)(patient_time)

pytestmark = pytest.mark.slow  # real devices and processes: too long for every day

KEY = bytes(range(1, 17))
BACK_S = 5.0  # the promise: a reader that was unplugged for a second
PATIENCE_S = 30.0


class Seat:
    """One reader: the driver, the simulated device, what the driver told."""

    def __init__(self, driver: OsdpReader, device: SimOsdpReader) -> None:
        self.driver: Signalling = driver
        self.device = device
        self.events: list[DeviceEvent] = []
        self.scope = trio.CancelScope()

    @property
    def cards(self) -> list[str]:
        return [event.value for event in self.events if isinstance(event, CredentialRead)]

    @property
    def news(self) -> list[DeviceEvent]:
        """What it told, each thing once: what is done again and again may be told more than once."""
        return list(dict.fromkeys(self.events))

    @property
    def up(self) -> bool:
        return self.driver.statistics().availability is Availability.AVAILABLE

    @property
    def downs(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, DeviceDown)]

    def told(self, command: str) -> list[dict[str, Any]]:
        return [said for said in self.device.commands if said["command"] == getattr(library(), f"CMD_{command}")]

    async def run(self) -> None:
        with self.scope:
            await self.driver.run(self.events.append)


class Rig:
    def __init__(self, path: Path, nursery: trio.Nursery) -> None:
        self.sim = SimOsdpBus(path, rng=random.Random(2))
        self.bus = OsdpBus(str(path), 115200, rng=random.Random(1))
        self.nursery = nursery
        self.seats: list[Seat] = []

    def add(self, key: bytes | None = KEY, *, reader_key: bytes | str | None = "same", **more: Any) -> Seat:
        address = len(self.seats) + 1
        device_more = {name: more.pop(name) for name in ("capabilities", "unknown") if name in more}
        device = self.sim.reader(address, key=key if reader_key == "same" else reader_key, **device_more)
        seat = Seat(self.bus.reader(address, key=key, **more), device)
        self.seats.append(seat)
        return seat

    def start(self, *seats: Seat) -> None:
        for seat in seats or self.seats:
            self.nursery.start_soon(seat.run)

    async def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> float:
        """Wait for it; how long that took."""
        began_s = trio.current_time()
        with trio.fail_after(timeout_s):
            while not condition():
                await trio.sleep(0.005)
        return trio.current_time() - began_s

    async def all_up(self) -> None:
        await self.until(lambda: all(seat.up for seat in self.seats))

    async def again(
        self, act: Callable[[], object], condition: Callable[[], object], within_s: float = PATIENCE_S
    ) -> float:
        """Do it, again and again as visitors do, until it is noticed; how long that took.

        Once is not enough: what a reader says is lost when the machine stands still for longer than an answer may take.
        """
        began_s = trio.current_time()
        with trio.fail_after(within_s):
            while not condition():
                act()
                with trio.move_on_after(0.4):
                    while not condition():
                        await trio.sleep(0.005)
        return trio.current_time() - began_s

    async def reads(self, seat: Seat, uid: str, within_s: float = PATIENCE_S) -> float:
        """A card held before it is read; how long that took."""
        return await self.again(lambda: seat.device.card(uid), lambda: uid in seat.cards, within_s)


@asynccontextmanager
async def rigged(tmp_path: Path) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        rig = Rig(tmp_path / "bus", nursery)
        nursery.start_soon(rig.sim.run)
        yield rig
        nursery.cancel_scope.cancel()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(tmp_path) as made:
        yield made


# --- what readers say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "secure"])
async def test_cards_and_numbers_are_read(rig: Rig, key: bytes | None) -> None:
    seat = rig.add(key)
    rig.start()
    await rig.all_up()
    assert seat.device.secure is (key is not None)
    await rig.reads(seat, "04A1B2C3D4E5F6")
    await rig.again(lambda: seat.device.wiegand(0x1234, 26), lambda: len(seat.news) == 3)
    await rig.again(lambda: seat.device.keys("12*0042#"), lambda: len(seat.news) == 4)
    assert seat.news == [
        DeviceUp(),
        CredentialRead(kind=CredentialKind.CARD, value="04A1B2C3D4E5F6"),
        CredentialRead(kind=CredentialKind.CARD, value="001234"),
        CodeRead(text="0042"),
    ]
    statistics = seat.driver.statistics()
    assert (statistics.bad_frames, statistics.last_error, statistics.reconnects) == (0, "", 0)
    assert statistics.frames_in >= 6
    assert statistics.firmware == "vendor 005046 model 1.1 serial 1001 firmware 1.2.3"


async def test_a_card_with_wrong_parity_is_counted_and_not_told(rig: Rig) -> None:
    seat = rig.add()
    rig.start()
    await rig.all_up()
    wrong = bytes.fromhex("00800080")
    await rig.again(lambda: seat.device.bits(wrong, 26), lambda: "parity" in seat.driver.statistics().last_error)
    assert seat.driver.statistics().bad_frames >= 1
    await rig.reads(seat, "04A1B2C3")
    assert seat.news == [DeviceUp(), CredentialRead(kind=CredentialKind.CARD, value="04A1B2C3")]


async def test_readers_can_be_told_to_turn_uids_round_and_take_numbers_as_cards(rig: Rig) -> None:
    seat = rig.add(reverse=True, keypad="card")
    silent = rig.add(keypad="off")
    rig.start()
    await rig.all_up()
    await rig.again(lambda: seat.device.card("04A1B2C3"), lambda: "C3B2A104" in seat.cards)
    silent.device.keys("77#")
    await rig.again(lambda: seat.device.keys("77#"), lambda: "77" in seat.cards)
    await rig.reads(silent, "04A1B2C3")
    assert (len(seat.news), len(silent.news)) == (3, 2)


async def test_tamper_power_and_contacts_are_told_as_they_change(rig: Rig) -> None:
    seat = rig.add(capabilities=("led", "input"))
    rig.start()
    await rig.all_up()
    await rig.until(lambda: 0x65 in _refused(seat))  # the simulator cannot say how contacts stand, only what changes
    await rig.until(lambda: len(seat.told("STATUS")) == 3)
    await rig.again(lambda: seat.device.tamper(True), lambda: len(seat.news) == 2)
    await rig.again(lambda: seat.device.power_fails(True), lambda: len(seat.news) == 3)
    await rig.again(lambda: seat.device.tamper(False), lambda: len(seat.news) == 4)
    await rig.again(lambda: seat.device.inputs([0, 1, 0, 0]), lambda: len(seat.news) == 5)
    assert seat.news[1:] == [
        InputChanged(name="tamper", state=InputState.ACTIVE),
        InputChanged(name="power", state=InputState.ACTIVE),
        InputChanged(name="tamper", state=InputState.INACTIVE),
        InputChanged(name="input-2", state=InputState.ACTIVE),
    ]


async def test_a_card_is_not_in_what_is_logged(rig: Rig) -> None:
    seat = rig.add()
    rig.start()
    await rig.all_up()
    await rig.reads(seat, "04A1B2C3D4E5F6")
    shown = repr(seat.events) + repr(seat.driver.statistics())
    assert "A1B2C3" not in shown and KEY.hex() not in shown.lower()


# --- what readers are told --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "secure"])
async def test_each_outcome_has_its_light_sound_and_text(rig: Rig, key: bytes | None) -> None:
    seat = rig.add(key)
    rig.start()
    await rig.all_up()
    said = []
    for feedback in (
        Feedback(outcome=Outcome.GO, product_class="full"),
        Feedback(outcome=Outcome.GO, product_class="discount"),
        Feedback(outcome=Outcome.WAIT),
        Feedback(outcome=Outcome.STOP, text_en="Used already"),
    ):
        before = len(seat.told("TEXT"))
        seat.driver.signal(feedback)
        await rig.until(lambda before=before: len(seat.told("TEXT")) > before)
        light = seat.told("LED")[-1]
        buzzer = seat.told("BUZZER")[-1]
        said.append((light["on_color"], light["timer_count"], buzzer["rep_count"], seat.told("TEXT")[-1]["data"]))
    assert said == [
        (library().LED_COLOR_GREEN, 30, 1, "Welcome"),
        (library().LED_COLOR_GREEN, 30, 2, "Reduced: welcome"),
        (library().LED_COLOR_AMBER, 40, 2, "Please wait"),  # silent: the two beeps are the ones before
        (library().LED_COLOR_RED, 30, 2, "Used already"),
    ]
    beeps = {(buzzer["on_count"], buzzer["rep_count"]) for buzzer in seat.told("BUZZER")}
    assert beeps == {(2, 1), (1, 2), (5, 2)}  # go, reduced, stop


async def test_a_site_has_patterns_of_its_own_and_displays_speak_chinese_where_they_can(rig: Rig) -> None:
    patterns = Patterns().with_changes({"go.child": {"light": {"colour": "white", "lasts_ms": 1000}, "sound": "off"}})
    seat = rig.add(patterns=patterns, text="zh")
    mute = rig.add(text="none")
    rig.start()
    await rig.all_up()
    for each in rig.seats:
        each.driver.signal(Feedback(outcome=Outcome.GO, product_class="child", text_zh="小朋友请通行" * 3))
    await rig.until(lambda: seat.told("TEXT") and mute.told("BUZZER"))
    assert seat.told("LED")[-1]["on_color"] == library().LED_COLOR_WHITE
    assert seat.told("TEXT")[-1]["data"] == "小朋友请通行小朋友请"  # 30 bytes: a reader's display has 32
    assert not seat.told("BUZZER")
    assert not mute.told("TEXT")


async def test_only_the_newest_feedback_counts(rig: Rig) -> None:
    seat = rig.add()
    rig.start()
    await rig.all_up()
    for _ in range(200):
        seat.driver.signal(Feedback(outcome=Outcome.GO))
    seat.driver.signal(Feedback(outcome=Outcome.STOP))
    await rig.until(lambda: seat.told("TEXT"))
    assert {said["data"] for said in seat.told("TEXT")} == {"Please stop"}


async def test_feedback_for_a_reader_that_is_away_is_dropped(rig: Rig) -> None:
    seat = rig.add()
    seat.driver.signal(Feedback(outcome=Outcome.GO))
    seat.device.power(False)
    rig.start()
    await rig.until(lambda: seat.downs)
    seat.driver.signal(Feedback(outcome=Outcome.GO))
    assert "dropped" in seat.driver.statistics().last_error
    seat.device.power(True)
    await rig.all_up()
    await rig.reads(seat, "04A1B2C3")
    assert not seat.told("LED")


async def test_an_emergency_light_stays_through_a_power_cut_until_something_else_is_said(rig: Rig) -> None:
    seat = rig.add()
    rig.start()
    await rig.all_up()
    seat.driver.signal(Feedback(outcome=Outcome.EMERGENCY))
    await rig.until(lambda: seat.told("LED"))
    assert not seat.told("LED")[-1]["temporary"]
    seat.device.commands = []
    seat.device.power(False)
    await rig.until(lambda: not seat.up)
    seat.device.power(True)
    await rig.until(lambda: seat.told("LED"))
    assert seat.told("LED")[-1]["on_color"] == library().LED_COLOR_GREEN
    assert not seat.told("LED")[-1]["temporary"]
    await rig.until(lambda: seat.told("TEXT"))
    seat.driver.signal(Feedback(outcome=Outcome.WAIT))
    await rig.until(lambda: seat.told("LED")[-1]["on_color"] == library().LED_COLOR_AMBER)
    assert seat.told("LED")[-1]["temporary"]
    off = [said for said in seat.told("LED") if said["on_color"] == library().LED_COLOR_NONE]
    assert off and not off[-1]["temporary"]


async def test_an_emergency_light_does_not_outlive_a_command_that_was_lost(rig: Rig) -> None:
    seat = rig.add()
    rig.start()
    await rig.all_up()
    seat.driver.signal(Feedback(outcome=Outcome.EMERGENCY))
    await rig.until(lambda: seat.told("TEXT"))
    seat.device.connected = False
    seat.driver.signal(Feedback(outcome=Outcome.WAIT))
    await rig.until(lambda: not seat.up)
    seat.device.commands = []
    seat.device.connected = True
    await rig.until(lambda: seat.told("LED"))
    await rig.reads(seat, "04A1B2C3")
    for dark in seat.told("LED"):  # and not the amber light, which would come too late
        assert (dark["temporary"], dark["on_color"]) == (False, library().LED_COLOR_NONE)


async def test_a_reader_is_not_told_what_it_has_no_part_for(rig: Rig) -> None:
    seat = rig.add(capabilities=("led",))
    rig.start()
    await rig.all_up()
    seat.driver.signal(Feedback(outcome=Outcome.GO))
    await rig.until(lambda: seat.told("LED"))
    await rig.reads(seat, "04A1B2C3")
    assert not seat.told("TEXT") and not seat.told("BUZZER")
    assert seat.downs == []


async def test_a_command_that_a_reader_refuses_is_not_sent_again(rig: Rig) -> None:
    seat = rig.add(unknown=frozenset({library().CMD_TEXT}))
    rig.start()
    await rig.all_up()
    seat.driver.signal(Feedback(outcome=Outcome.GO))
    await rig.until(lambda: "refuses TEXT" in seat.driver.statistics().last_error or 0x6B in _refused(seat))
    await rig.reads(seat, "04A1B2C3")  # the library had ended the dialogue for it
    for number in range(3):
        seat.device.commands = []
        seat.driver.signal(Feedback(outcome=Outcome.STOP))
        await rig.until(lambda: seat.told("BUZZER"))
        await rig.reads(seat, f"04A1B2{number:02}")
    assert seat.downs == []


def _refused(seat: Seat) -> set[int]:
    assert isinstance(seat.driver, OsdpReader)
    return seat.driver.seat.refused


# --- unplugged --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "secure"])
async def test_a_reader_whose_cable_was_off_for_a_second_is_back_within_five(rig: Rig, key: bytes | None) -> None:
    seat = rig.add(key)
    rig.start()
    await rig.all_up()
    seat.device.connected = False
    await trio.sleep(1.0)
    seat.device.connected = True
    await rig.reads(seat, "04A1B2C3", within_s=BACK_S)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "secure"])
async def test_a_reader_without_power_for_a_second_is_back_within_five(rig: Rig, key: bytes | None) -> None:
    seat = rig.add(key)
    rig.start()
    await rig.all_up()
    seat.device.power(False)
    await trio.sleep(1.0)
    seat.device.power(True)
    assert not seat.device.online  # it remembers nothing of the dialogue
    await rig.reads(seat, "04A1B2C3", within_s=BACK_S)
    assert seat.device.secure is (key is not None)


async def test_a_line_that_was_unplugged_for_a_second_is_back_within_five(rig: Rig) -> None:
    seat = rig.add()
    rig.start()
    await rig.all_up()
    rig.sim.line.unplug()
    await rig.until(lambda: seat.downs, timeout_s=BACK_S)
    await trio.sleep(1.0)
    rig.sim.line.plug()
    await rig.reads(seat, "04A1B2C3", within_s=BACK_S)
    assert [type(event) for event in seat.events[:3]] == [DeviceUp, DeviceDown, DeviceUp]
    assert seat.driver.statistics().reconnects == 1


async def test_a_reader_that_was_away_for_longer_is_told_once_each_way(rig: Rig) -> None:
    """Long enough for the library to have put it off for 300 s."""
    seat = rig.add()
    rig.start()
    await rig.all_up()
    seat.device.power(False)
    gone_s = await rig.until(lambda: not seat.up)
    assert gone_s < 8.0  # two seconds when the machine is free; the library alone takes more than eight
    await trio.sleep(4.0)
    seat.device.power(True)
    await rig.until(lambda: seat.up, timeout_s=BACK_S)
    assert seat.events == [DeviceUp(), DeviceDown(reason="no answer"), DeviceUp()]


async def test_without_our_kick_the_library_would_leave_it_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes the tests above mean something: the same cut, and nobody takes the reader out of its pause."""
    seat = rig.add()
    rig.start()
    await rig.all_up()
    monkeypatch.setattr(_seat.Seat, "kick", lambda self: None)
    seat.device.power(False)
    await trio.sleep(1.0)
    seat.device.power(True)
    with trio.move_on_after(BACK_S):
        await rig.reads(seat, "04A1B2C3")
    assert seat.cards == []


async def test_absent_at_start_is_told_once_and_found_later(rig: Rig) -> None:
    seat = rig.add()
    seat.device.power(False)
    rig.start()
    await rig.until(lambda: seat.events)
    await trio.sleep(1.5)
    assert seat.events == [DeviceDown(reason="no answer")]
    seat.device.power(True)
    await rig.until(lambda: seat.up, timeout_s=BACK_S)


async def test_a_line_that_somebody_else_holds_is_named(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        seat = rig.add()
        with open_line(rig.bus.path, 115200):
            rig.start()
            await rig.until(lambda: seat.events)
            assert "in use by" in seat.downs[0]
        await rig.all_up()
        assert len(seat.downs) == 1


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "readers", "words"),
    [
        (KEY, bytes(16), "another key"),
        (KEY, None, "another key"),  # a reader fresh from the factory has the well-known one
        (None, KEY, "wants a key"),
    ],
    ids=["another", "the default", "ours missing"],
)
async def test_a_wrong_key_is_a_state_of_its_own_and_ends_with_the_right_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, ours: bytes | None, readers: bytes | None, words: str
) -> None:
    monkeypatch.setattr(_seat, "AUTHENTICATION_RETRY_MIN_S", 0.5)
    monkeypatch.setattr(_seat, "AUTHENTICATION_RETRY_MAX_S", 0.5)
    good, seat = rig.add(), rig.add(ours, reader_key=readers)
    rig.start()
    await rig.until(lambda: seat.downs and good.up)
    await trio.sleep(1.5)
    statistics = seat.driver.statistics()
    assert statistics.availability is Availability.UNAUTHENTICATED
    assert statistics.last_error.startswith("authentication failed: ") and words in statistics.last_error
    assert seat.events == [DeviceDown(reason=statistics.last_error)]
    seat.device.card("04A1B2C3")
    await rig.reads(good, "04A1B2C4")
    assert not seat.cards
    seat.device.rekey(ours)
    await rig.until(lambda: seat.up, timeout_s=10.0)
    await rig.reads(seat, "04A1B2C5")
    assert good.downs == []


def test_a_wrong_key_is_tried_more_and_more_rarely() -> None:
    tries = _seat.Tries(_seat.AUTHENTICATION_RETRY_MIN_S, _seat.AUTHENTICATION_RETRY_MAX_S, random.Random(1))
    pauses = [tries.next_s() for _ in range(8)]
    for pause, nominal in zip(pauses, (5, 10, 20, 40, 80, 80, 80, 80), strict=True):
        assert nominal * _seat.JITTER_LOW <= pause <= nominal


# --- noise ------------------------------------------------------------------------------------------------------------


async def test_answers_said_twice_echoes_and_chatter_cost_nothing(rig: Rig) -> None:
    seat, other = rig.add(), rig.add()
    rig.sim.echo = True
    rig.start()
    await rig.all_up()
    seat.device.twice = 20
    await rig.until(lambda: seat.device.twice == 0)
    rig.sim.line.send(b"\x53\x82\x08\x00\x04\x40" + bytes(range(0x60, 0x90)))
    for number in range(4):
        await rig.reads(seat, f"04A1B2{number:02}")
        await rig.reads(other, f"04A1B3{number:02}")
    assert [seat.downs, other.downs] == [[], []]
    assert seat.driver.statistics().bad_frames >= 10


async def test_damaged_and_noisy_answers_are_asked_for_again(rig: Rig) -> None:
    seat = rig.add()
    rig.start()
    await rig.all_up()
    seat.device.damage = 1
    await rig.until(lambda: seat.device.damage == 0)
    await rig.reads(seat, "04A1B2C3", within_s=BACK_S)
    seat.device.garbage = 1
    await rig.until(lambda: seat.device.garbage == 0)
    await rig.reads(seat, "04A1B2C4", within_s=BACK_S)
    assert seat.device.secure


async def test_a_reader_that_answers_too_late_is_down_and_does_not_disturb_the_others(rig: Rig) -> None:
    good, slow = rig.add(), rig.add()
    slow.device.slow_s = 0.3
    rig.start()
    await rig.until(lambda: slow.downs and good.up)
    for number in range(4):
        await rig.reads(good, f"04A1B2{number:02}")
    assert good.downs == []
    assert not slow.up
    slow.device.slow_s = 0.05
    await rig.until(lambda: slow.up)


async def test_a_flood_keeps_no_card_from_being_read(rig: Rig) -> None:
    seat = rig.add()
    rig.start()
    await rig.all_up()
    before = seat.driver.statistics().bytes_in
    with trio.fail_after(PATIENCE_S):
        for _ in range(200):
            rig.sim.line.send(b"\x53\x81\xff\x00" * 1000)
            await trio.sleep(0.005)
    await rig.reads(seat, "04A1B2C3")
    assert seat.driver.statistics().bytes_in - before < 20_000  # noise is not heard as the reader's


# --- several on one bus -----------------------------------------------------------------------------------------------


async def test_dead_readers_do_not_hold_the_live_ones(rig: Rig) -> None:
    for _ in range(8):
        rig.add()
    dead, live = rig.seats[::3], [seat for seat in rig.seats if seat not in rig.seats[::3]]
    for seat in dead:
        seat.device.power(False)
    rig.start()
    await rig.until(lambda: all(seat.up for seat in live) and all(seat.downs for seat in dead))
    waits = []
    for number in range(10):
        seat = live[number % len(live)]
        waits.append(await rig.reads(seat, f"04A1B2{number:02}"))
    assert sorted(waits)[len(waits) // 2] < 1.0, waits  # milliseconds, and 200 more when a dead one is just tried
    assert all(seat.downs == [] for seat in live)
    assert all(len(seat.downs) == 1 for seat in dead)
    for seat in dead:
        seat.device.power(True)
    await rig.all_up()


async def test_one_question_is_on_the_bus_at_a_time(rig: Rig) -> None:
    for _ in range(4):
        rig.add()
    rig.sim.keep_heard = 100_000
    for seat in rig.seats:
        seat.device.slow_s = 0.03  # as on a wire: there is time to talk at once
    rig.start()
    await rig.all_up()
    for number, seat in enumerate(rig.seats):
        await rig.reads(seat, f"04A1B2{number:02}")
    heard, answers = b"".join(rig.sim.heard), sum(seat.device.answers for seat in rig.seats)
    framer = OsdpFramer()
    questions = framer.feed(heard)
    assert framer.bad_frames == 0  # two at once would have run into each other
    assert len(questions) - answers <= 1
    assert max(len(OsdpFramer().feed(piece)) for piece in rig.sim.heard) == 1


async def test_readers_come_and_go_without_the_others_noticing(rig: Rig) -> None:
    first, second, third = rig.add(), rig.add(), rig.add()
    rig.start(first, second)
    await rig.until(lambda: first.up and second.up)
    first.scope.cancel()  # the one that served the line
    await rig.reads(second, "04A1B2C3")
    rig.start(third)
    await rig.until(lambda: third.up)
    await rig.reads(second, "04A1B2C4")
    await rig.reads(third, "04A1B2C5")
    assert second.downs == []
    assert second.driver.statistics().reconnects == 0
    assert first.downs == []


async def test_a_reader_may_be_replaced_at_its_address(rig: Rig) -> None:
    seat = rig.add(text="none")
    rig.start()
    await rig.all_up()
    again = Seat(rig.bus.reader(1, key=KEY), seat.device)
    rig.seats = [again]
    rig.start(again)  # as at a reload: the new one is there before the old one has left
    await rig.reads(seat, "04A1B2C2")
    assert again.events == []
    seat.scope.cancel()
    await rig.all_up()
    await rig.reads(again, "04A1B2C3")


def test_what_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    bus = OsdpBus(str(tmp_path / "none"))
    for wrong in ({"address": 127}, {"address": -1}, {"address": 1, "key": b"short"}, {"address": 1, "text": "fr"},
                  {"address": 1, "keypad": "pin"}):  # fmt: skip
        with pytest.raises(ValueError, match=r"OSDP|text|keypad"):
            bus.reader(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="baud"):
        OsdpBus("x", 1234)
    for address in range(32):
        bus.reader(address)
    bus.reader(31)  # in place of the earlier one
    with pytest.raises(ValueError, match="more than 32"):
        bus.reader(32)


@pytest.mark.parametrize("delay_s", [0.001, 0.03, 0.2])
async def test_cancelled_at_any_moment_the_line_is_closed(tmp_path: Path, delay_s: float) -> None:
    sim = SimOsdpBus(tmp_path / "bus")
    sim.reader(1, key=KEY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sim.run)
        await trio.sleep(0.02)
        before = open_descriptors()
        driver = OsdpBus(str(tmp_path / "bus"), 115200).reader(1, key=KEY)
        with trio.move_on_after(delay_s):
            await driver.run(lambda event: None)
        assert open_descriptors() == before
        nursery.cancel_scope.cancel()
