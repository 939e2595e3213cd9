"""The ID card reader's driver over real ptys: one credential a presentation, and the number in no other place.

The reader is our own simulator (`sim.idcard`), which keeps the pace of the wire; the frames are published ones.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio

from core.testing import patient_time
from drivers.base import Availability, CredentialRead, DeviceDown, DeviceEvent, DeviceUp, Driver
from drivers.idcard import IdCardReader
from drivers.testing import open_descriptors
from protocols import idcard
from protocols.idcard import DocumentKind, IdDocument
from protocols.messages import CredentialKind
from protocols.sdt import Command
from sim.idcard import SimIdReader

patient = pytest.fixture(autouse=True)(patient_time)

pytestmark = pytest.mark.slow  # real devices and processes: too long for every day

WAIT_S = 20.0  # how long a test waits for something that takes a moment


def person(ordinal: int) -> IdDocument:
    first = f"1101051949{ordinal:07d}"
    return IdDocument(kind=DocumentKind.RESIDENT, number=first + idcard.check_digit(first), name=f"测试{ordinal}")


class Bench:
    """A reader, its driver, and what the driver reported."""

    def __init__(self, path: Path, nursery: trio.Nursery, baud: int = 115200, **options: object) -> None:
        self.reader = SimIdReader("lane", path, baud)
        self.driver = IdCardReader(str(path), baud, **options)  # type: ignore[arg-type]
        self.events: list[DeviceEvent] = []
        self.read_s: list[float] = []  # from the search that found a document to its number
        self.nursery = nursery
        self.scope = trio.CancelScope()
        nursery.start_soon(self.reader.run)
        nursery.start_soon(self._drive)

    async def _drive(self) -> None:
        with self.scope:
            await self.driver.run(self._emit)

    def _emit(self, event: DeviceEvent) -> None:
        self.events.append(event)
        if isinstance(event, CredentialRead) and self.reader.found_at is not None:
            self.read_s.append(trio.current_time() - self.reader.found_at)

    def numbers(self) -> list[str]:
        return [event.value for event in self.events if isinstance(event, CredentialRead)]

    async def until(self, what: str, true: object) -> None:
        with trio.move_on_after(WAIT_S):
            while not true():  # type: ignore[operator]
                await trio.sleep(0.005)
            return
        raise AssertionError(f"not {what}; events {self.events}, {self.driver.statistics()}")

    async def up(self) -> None:
        await self.until("up", lambda: any(isinstance(event, DeviceUp) for event in self.events))

    async def take_away(self) -> None:
        """Off the reader, and long enough for the driver to see it."""
        self.reader.remove()
        seen = len(self.reader.heard)
        await trio.sleep(1.1)
        await self.until("asked again", lambda: self.reader.heard[seen:].count(Command.FIND) >= 2)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with trio.open_nursery() as nursery:
        made = Bench(tmp_path / "id", nursery)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_document_becomes_one_credential(bench: Bench) -> None:
    as_seam: Driver = bench.driver
    await bench.up()
    bench.reader.present(person(1))
    await bench.until("read", bench.numbers)
    assert bench.events == [
        DeviceUp(),
        CredentialRead(kind=CredentialKind.ID_NUMBER, value=person(1).number),
    ]
    statistics = as_seam.statistics()
    assert statistics.availability is Availability.AVAILABLE
    assert statistics.firmware == "SAM 05.01-20166039-0012345678-2770275026"
    assert statistics.bad_frames == 0 and statistics.reconnects == 0


async def test_a_full_read_at_the_pace_of_the_wire_takes_at_most_a_fifth_of_a_second(bench: Bench) -> None:
    """Of several reads the best counts: the machine may be busy, the line never is faster than it is."""
    await bench.up()
    with trio.fail_after(60):
        while not bench.read_s or min(bench.read_s) > 0.2:
            bench.reader.present(person(len(bench.numbers()) + 1))
            expected = len(bench.numbers()) + 1
            await bench.until("read", lambda expected=expected: len(bench.numbers()) == expected)
    assert 0.112 < min(bench.read_s) <= 0.2  # 1295 bytes alone are 112 ms: less would be a wire that is none


@pytest.mark.parametrize("find_once", [True, False])
async def test_a_document_that_stays_is_one_presentation_and_the_next_is_another(
    bench: Bench, find_once: bool
) -> None:
    bench.reader.find_once = find_once
    await bench.up()
    bench.reader.present(person(1))
    await bench.until("read", bench.numbers)
    await trio.sleep(2.5)
    assert bench.numbers() == [person(1).number]
    bench.reader.present(person(2))  # laid on top, without a pause
    await bench.until("the second", lambda: len(bench.numbers()) == 2)
    await bench.take_away()
    bench.reader.present(person(2))
    await bench.until("the second again", lambda: len(bench.numbers()) == 3)
    assert bench.numbers() == [person(1).number, person(2).number, person(2).number]


async def test_the_number_is_nowhere_but_in_the_event(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await bench.up()
    document = person(1)
    bench.reader.unreadable = 1
    bench.reader.present(document)
    await bench.until("read", bench.numbers)
    (event,) = [event for event in bench.events if isinstance(event, CredentialRead)]
    assert event.value == document.number
    words = [
        repr(event),
        str(event),
        repr(bench.driver.statistics()),
        str(msgspec.to_builtins(bench.driver.statistics())),
        caplog.text,
        repr(vars(bench.driver)),  # what a traceback with locals would show
    ]
    assert not any(part in text for text in words for part in (document.number, document.number[6:17], document.name))


async def test_a_document_that_lies_there_from_the_start_is_read(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(tmp_path / "id", nursery)
        bench.reader.present(person(1))
        await bench.until("read", bench.numbers)
        assert [type(event) for event in bench.events] == [DeviceUp, CredentialRead]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("wanted", [True, False])
async def test_the_photograph_is_dropped_unless_asked_for(tmp_path: Path, wanted: bool) -> None:
    photos: list[bytes] = []
    async with trio.open_nursery() as nursery:
        bench = Bench(tmp_path / "id", nursery, on_photo=photos.append if wanted else None)
        bench.reader.photo = b"WLT" * 300
        await bench.up()
        bench.reader.present(person(1))
        await bench.until("read", bench.numbers)
        nursery.cancel_scope.cancel()
    assert photos == ([b"WLT" * 300] if wanted else [])


async def test_a_document_whose_number_is_damaged_is_not_reported(bench: Bench) -> None:
    await bench.up()
    text = bytearray(idcard.encode_text(person(1)))
    text[124] ^= 1
    bench.reader.present(bytes(text))
    await bench.until("refused", lambda: bench.driver.statistics().bad_frames >= 3)
    assert bench.numbers() == []
    assert "not sound" in bench.driver.statistics().last_error
    bench.reader.present(person(2))
    await bench.until("the next", lambda: bench.numbers() == [person(2).number])


async def test_a_read_that_fails_is_tried_again(bench: Bench) -> None:
    await bench.up()
    bench.reader.unreadable = 2
    bench.reader.present(person(1))
    await bench.until("read", lambda: bench.numbers() == [person(1).number])
    assert bench.driver.statistics().bad_frames == 2


@pytest.mark.parametrize("fault", ["damaged", "cut_off", "garbage", "twice", "slow"])
async def test_a_bad_line_costs_time_and_nothing_else(bench: Bench, fault: str) -> None:
    await bench.up()
    reader = bench.reader
    if fault in ("damaged", "cut_off"):
        setattr(reader, fault, 2)
    elif fault == "garbage":
        reader.garbage = b"\xaa\xaa\xaa\x96\x69\x00" + bytes(range(200))
    elif fault == "twice":
        reader.twice = True
    else:
        reader.delay_s = 0.25
    for ordinal in (1, 2):
        reader.present(person(ordinal))
        await bench.until("read", lambda ordinal=ordinal: person(ordinal).number in bench.numbers())
    assert bench.numbers() == [person(1).number, person(2).number]
    assert not any(isinstance(event, DeviceDown) for event in bench.events)
    if fault != "slow":
        assert bench.driver.statistics().bad_frames > 0


async def test_answers_that_are_one_question_late_read_nobody_and_end_when_they_do(bench: Bench) -> None:
    await bench.up()
    bench.reader.one_late = True
    await trio.sleep(1.0)
    bench.reader.one_late = False
    bench.reader.present(person(1))
    await bench.until("read", lambda: bench.numbers() == [person(1).number])


async def test_silence_is_noticed_once_and_its_end_too(bench: Bench) -> None:
    await bench.up()
    bench.reader.silent = True
    began = trio.current_time()
    await bench.until("down", lambda: isinstance(bench.events[-1], DeviceDown))
    assert trio.current_time() - began < 10.0  # 2 s on a machine that is not busy
    assert bench.driver.statistics().availability is Availability.UNAVAILABLE
    await trio.sleep(1.5)
    bench.reader.silent = False
    await bench.until("up again", lambda: isinstance(bench.events[-1], DeviceUp))
    assert [type(event) for event in bench.events] == [DeviceUp, DeviceDown, DeviceUp]
    bench.reader.present(person(1))
    await bench.until("read", bench.numbers)


async def test_a_reader_that_is_well_and_finds_nothing_is_down(bench: Bench) -> None:
    await bench.up()
    bench.reader.half_dead = True
    await bench.until("down", lambda: isinstance(bench.events[-1], DeviceDown))
    await trio.sleep(2.0)
    assert [type(event) for event in bench.events] == [DeviceUp, DeviceDown]
    assert "nothing else" in bench.driver.statistics().last_error
    bench.reader.half_dead = False
    await bench.until("up again", lambda: isinstance(bench.events[-1], DeviceUp))
    bench.reader.present(person(1))
    await bench.until("read", bench.numbers)


async def test_a_slow_line_reads_too(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        bench = Bench(tmp_path / "id", nursery, 19200)
        await bench.up()
        bench.reader.present(person(1))
        await bench.until("read", bench.numbers)
        assert bench.driver.statistics().bad_frames == 0
        nursery.cancel_scope.cancel()


async def test_power_lost_under_a_document_is_no_second_presentation(bench: Bench) -> None:
    await bench.up()
    bench.reader.present(person(1))
    await bench.until("read", bench.numbers)
    bench.reader.power_loss()
    await bench.until("down", lambda: isinstance(bench.events[-1], DeviceDown))
    bench.reader.restore_power()
    await bench.until("up again", lambda: isinstance(bench.events[-1], DeviceUp))
    await trio.sleep(1.0)
    assert bench.numbers() == [person(1).number]
    assert bench.driver.statistics().reconnects == 1
    bench.reader.present(person(2))
    await bench.until("the next", lambda: bench.numbers() == [person(1).number, person(2).number])


async def test_a_module_that_must_not_work_is_a_state_of_its_own(bench: Bench) -> None:
    await bench.up()
    bench.reader.authorised = False
    await bench.until("down", lambda: isinstance(bench.events[-1], DeviceDown))
    assert bench.driver.statistics().availability is Availability.UNAUTHENTICATED
    assert "not authorised" in bench.driver.statistics().last_error
    await trio.sleep(1.0)
    assert [type(event) for event in bench.events] == [DeviceUp, DeviceDown]
    bench.reader.authorised = True
    await bench.until("up again", lambda: isinstance(bench.events[-1], DeviceUp))


async def test_a_module_that_fails_its_self_test_is_down(bench: Bench) -> None:
    bench.reader.healthy = False
    await bench.until("down", lambda: bench.events and isinstance(bench.events[-1], DeviceDown))
    assert bench.driver.statistics().availability is Availability.UNAVAILABLE
    assert "self test" in bench.driver.statistics().last_error


async def test_not_plugged_in_at_start_and_plugged_in_later(bench: Bench) -> None:
    bench.reader.power_loss()
    await bench.until("down", lambda: any(isinstance(event, DeviceDown) for event in bench.events))
    bench.reader.restore_power()
    await bench.until("up", lambda: isinstance(bench.events[-1], DeviceUp))


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.05, 0.1, 0.2, 0.4])
async def test_cancelled_at_any_moment_nothing_stays_open(bench: Bench, delay_s: float) -> None:
    await bench.up()
    bench.reader.present(person(1))
    await trio.sleep(delay_s)
    while not bench.reader.line.listening:
        await trio.sleep(0.01)
    before = open_descriptors()
    bench.scope.cancel()
    await bench.until("closed", lambda: not bench.reader.line.listening)
    assert open_descriptors() == before - 1


def test_a_rate_that_no_line_has_is_refused() -> None:
    with pytest.raises(ValueError, match="baud"):
        IdCardReader("/dev/null", 115201)
