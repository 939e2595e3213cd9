"""The QR reader's driver on real ptys: reads, noise, floods, unplugging."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from drivers.base import Availability, CodeRead, DeviceDown, DeviceEvent, DeviceUp, Driver
from drivers.scanner import QrScanner
from drivers.testing import PtyLine, open_descriptors
from protocols.scanner import MAX_LINE_BYTES

patient = pytest.fixture(autouse=True)(patient_time)


class Rig:
    def __init__(self, path: Path) -> None:
        self.line = PtyLine(path)
        self.scanner: Driver = QrScanner(str(path), 9600, rng=random.Random(1))
        self.events: list[DeviceEvent] = []

    @property
    def codes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, CodeRead)]

    async def until(self, condition: Callable[[], object], timeout_s: float = 5.0) -> None:
        with trio.fail_after(timeout_s):
            while not condition():
                await trio.sleep(0.005)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "qr")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.scanner.run, made.events.append)
        await made.until(lambda: made.events)
        yield made
        nursery.cancel_scope.cancel()
    made.line.hang_up()


async def test_one_code_for_each_line(rig: Rig) -> None:
    assert rig.events == [DeviceUp()]
    await rig.line.write(b"]Q1PF1:ABC\r\n\r\nPLAIN\r")
    await rig.until(lambda: len(rig.codes) == 2)
    assert rig.events[1:] == [CodeRead(text="PF1:ABC", symbology="]Q1"), CodeRead(text="PLAIN")]
    statistics = rig.scanner.statistics()
    assert (statistics.frames_in, statistics.bad_frames) == (2, 0)
    assert statistics.availability is Availability.AVAILABLE


async def test_the_same_code_twice_is_told_twice(rig: Rig) -> None:
    await rig.line.write(b"SAME\rSAME\r")
    await rig.until(lambda: rig.codes == ["SAME", "SAME"])


async def test_a_code_that_comes_byte_by_byte_is_one(rig: Rig) -> None:
    for octet in b"SLOW\r":
        await rig.line.write(bytes((octet,)))
        await trio.sleep(0.02)
    await rig.until(lambda: rig.codes == ["SLOW"])


async def test_a_half_line_does_not_join_the_next_code(rig: Rig) -> None:
    await rig.line.write(b"HALF-")
    await trio.sleep(0.5)
    await rig.line.write(b"WHOLE\r")
    await rig.until(lambda: rig.codes)
    assert rig.codes == ["WHOLE"]
    assert rig.scanner.statistics().bad_frames == 1


async def test_a_half_line_before_unplugging_does_not_join_either(rig: Rig) -> None:
    await rig.line.write(b"HALF-")
    await trio.sleep(0.05)
    rig.line.hang_up()
    await rig.until(lambda: isinstance(rig.events[-1], DeviceDown))
    rig.line.replug()
    await rig.until(lambda: rig.events[-1] == DeviceUp())
    await rig.line.write(b"WHOLE\r")
    await rig.until(lambda: rig.codes == ["WHOLE"])


async def test_garbage_and_too_long_lines_are_dropped_and_counted(rig: Rig) -> None:
    await rig.line.write(b"\xff\xfe\x80\r" + b"A" * (MAX_LINE_BYTES + 1) + b"\r" + b"B\x01C\r" + b"GOOD\r")
    await rig.until(lambda: rig.codes)
    assert rig.codes == ["GOOD"]
    assert rig.scanner.statistics().bad_frames == 3


async def test_unplugged_is_told_at_once_and_comes_back_by_itself(rig: Rig) -> None:
    for count in (1, 2):
        rig.line.hang_up()
        started = trio.current_time()
        await rig.until(lambda: isinstance(rig.events[-1], DeviceDown))
        assert trio.current_time() - started < 2.0
        await trio.sleep(0.6)  # several tries fail in the meantime
        rig.line.replug()
        await rig.until(lambda: rig.events[-1] == DeviceUp(), timeout_s=6.0)
        assert rig.scanner.statistics().reconnects == count
    assert sum(isinstance(event, DeviceDown) for event in rig.events) == 2


async def test_absent_at_start_is_told_once_and_found_later(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "qr")
    rig.line.hang_up()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.scanner.run, rig.events.append)
        await trio.sleep(0.7)
        assert [type(event) for event in rig.events] == [DeviceDown]
        assert str(tmp_path / "qr") in rig.scanner.statistics().last_error
        rig.line.replug()
        await rig.until(lambda: rig.events[-1] == DeviceUp(), timeout_s=6.0)
        nursery.cancel_scope.cancel()
    rig.line.hang_up()


async def test_a_flood_leaves_the_processor_free_and_reads_are_limited(rig: Rig) -> None:
    async def flood() -> None:
        with trio.move_on_after(1.0):
            while True:
                await rig.line.write(b"x\r" * 1000)

    worst_s, started = 0.0, trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        for _ in range(60):
            before = time.perf_counter()
            await trio.sleep(0.01)
            worst_s = max(worst_s, time.perf_counter() - before - 0.01)
    assert worst_s < 5.0  # the machine itself may stand still for a second
    assert rig.scanner.statistics().bytes_in / (trio.current_time() - started) < 80_000
    assert len(rig.codes) <= 60
    assert rig.scanner.statistics().bad_frames > 1000


async def test_a_code_is_not_in_what_is_logged(rig: Rig) -> None:
    await rig.line.write(b"PF1:SECRETSECRET\r")
    await rig.until(lambda: rig.codes)
    assert "SECRET" not in repr(rig.events) + repr(rig.scanner.statistics())


@pytest.mark.parametrize("delay_s", [0.001, 0.02, 0.1])
async def test_cancelled_at_any_moment_the_line_is_closed(tmp_path: Path, delay_s: float) -> None:
    line = PtyLine(tmp_path / "qr")
    await line.write(b"HALF")
    before = open_descriptors()
    with trio.move_on_after(delay_s):
        await QrScanner(line.path, 9600).run(lambda event: None)
    assert open_descriptors() == before
    line.hang_up()
