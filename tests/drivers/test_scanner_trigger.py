"""QR readers that read on command, over real ptys, against our own simulated reader of each family."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from drivers.base import Availability, CodeRead, DeviceDown, DeviceEvent, DeviceUp
from drivers.scanner import QrScanner
from protocols.scanner import TRIGGERS
from sim.scanner import SimScanner

patient = pytest.fixture(autouse=True)(patient_time)

FAMILIES = sorted(TRIGGERS)
ANSWERING = ["gm65", "newland"]
PATIENCE_S = 20.0


class Rig:
    def __init__(self, path: Path, family: str, mode: str, reading_s: float) -> None:
        self.device = SimScanner(path, family)
        self.scanner = QrScanner(
            str(path), 9600, rng=random.Random(1), trigger=family, mode=mode, reading_s=reading_s
        )
        self.events: list[DeviceEvent] = []

    @property
    def codes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, CodeRead)]

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not condition():
                await trio.sleep(0.005)


@asynccontextmanager
async def rigged(tmp_path: Path, family: str, mode: str = "on_demand", reading_s: float = 60.0) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "qr", family, mode, reading_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.device.run)
        nursery.start_soon(rig.scanner.run, rig.events.append)
        await rig.until(lambda: rig.events)
        yield rig
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("family", FAMILIES)
async def test_on_demand_it_reads_from_the_start_to_the_first_code(tmp_path: Path, family: str) -> None:
    async with rigged(tmp_path, family) as rig:
        assert not rig.device.present("PF1:EARLY")
        rig.scanner.start_reading()
        await rig.until(lambda: rig.device.reading)
        assert rig.scanner.reading
        assert rig.device.present("PF1:ABC")
        await rig.until(lambda: rig.codes)
        await rig.until(lambda: not rig.scanner.reading)
        await trio.sleep(0.6)
        assert not rig.device.reading
        assert rig.events == [DeviceUp(), CodeRead(text="PF1:ABC")]
        assert 1 <= rig.device.starts <= 3  # more than once only if its answer came late
        assert (rig.scanner.statistics().bad_frames, rig.scanner.statistics().last_error) == (0, "")


@pytest.mark.parametrize("family", [name for name in FAMILIES if TRIGGERS[name].stop])
async def test_it_is_stopped_when_told_and_when_the_time_is_over(tmp_path: Path, family: str) -> None:
    async with rigged(tmp_path, family) as rig:
        rig.scanner.start_reading()
        await rig.until(lambda: rig.device.reading)
        rig.scanner.stop_reading()
        await rig.until(lambda: not rig.device.reading)
        rig.scanner.start_reading(0.3)
        await rig.until(lambda: rig.device.reading)
        await rig.until(lambda: not rig.device.reading)
        assert rig.device.stops == 2


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_continuous_reader_with_a_trigger_is_kept_reading(tmp_path: Path, family: str) -> None:
    async with rigged(tmp_path, family, mode="continuous") as rig:
        for number in range(3):
            await rig.until(lambda: rig.device.reading)
            assert rig.device.present(f"PF1:{number}")
            await rig.until(lambda number=number: len(rig.codes) == number + 1)
        assert rig.codes == ["PF1:0", "PF1:1", "PF1:2"]
        rig.scanner.stop_reading()
        await rig.until(lambda: rig.device.reading)


async def test_a_reader_that_ended_by_itself_is_told_again(tmp_path: Path) -> None:
    async with rigged(tmp_path, "honeywell", mode="continuous", reading_s=0.5) as rig:
        for _ in range(2):
            await rig.until(lambda: rig.device.reading)
            rig.device.reading = False


async def test_after_a_re_plug_it_is_told_again(tmp_path: Path) -> None:
    async with rigged(tmp_path, "newland", mode="continuous") as rig:
        await rig.until(lambda: rig.device.reading)
        rig.device.line.unplug()
        rig.device.reading = False
        await rig.until(lambda: isinstance(rig.events[-1], DeviceDown))
        rig.device.line.plug()
        await rig.until(lambda: rig.device.reading)


@pytest.mark.parametrize("family", ANSWERING)
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_an_answer_is_never_a_code(tmp_path: Path, family: str, in_pieces: bool) -> None:
    async with rigged(tmp_path, family) as rig:
        rig.device.in_pieces = in_pieces
        with trio.fail_after(PATIENCE_S):
            for code in ("PF1:0", "PF1:1", "PF1:2"):
                while code not in rig.codes:  # an answer that is cut in two by a long pause takes a code with it
                    rig.scanner.start_reading()
                    await rig.until(lambda: rig.device.reading)
                    rig.device.present(code)
                    with trio.move_on_after(1.0):
                        await rig.until(lambda code=code: code in rig.codes)
        assert set(rig.codes) == {"PF1:0", "PF1:1", "PF1:2"}


@pytest.mark.parametrize("family", ANSWERING)
async def test_an_answer_in_the_middle_of_a_code_does_not_harm_it(tmp_path: Path, family: str) -> None:
    async with rigged(tmp_path, family) as rig:
        rig.device.garbage(b"PF1:" + rig.device.reply() + b"ABC\r")
        await rig.until(lambda: rig.codes)
        assert rig.codes == ["PF1:ABC"]


async def test_what_only_begins_like_an_answer_does_not_keep_a_code_back(tmp_path: Path) -> None:
    async with rigged(tmp_path, "gm65") as rig:
        rig.device.garbage(b"\x02\x00\x00\xff\rPF1:ABC\r")  # says that 255 bytes will come
        await rig.until(lambda: rig.codes)
        assert rig.codes == ["PF1:ABC"]


@pytest.mark.parametrize("family", ANSWERING)
async def test_a_trigger_that_is_refused_or_not_answered_is_an_error_in_words(tmp_path: Path, family: str) -> None:
    async with rigged(tmp_path, family) as rig:
        rig.device.refuses = True
        rig.scanner.start_reading()
        await rig.until(lambda: "refuses" in rig.scanner.statistics().last_error)
        rig.device.refuses, rig.device.deaf = False, True
        rig.scanner.start_reading()
        await rig.until(lambda: "does not answer" in rig.scanner.statistics().last_error)
        assert rig.scanner.statistics().availability is Availability.AVAILABLE
        rig.device.deaf = False
        rig.scanner.start_reading()
        await rig.until(lambda: rig.device.reading)


async def test_a_lost_command_is_said_again(tmp_path: Path) -> None:
    async with rigged(tmp_path, "gm65") as rig:
        rig.device.deaf = True
        rig.scanner.start_reading()
        await rig.until(lambda: rig.scanner.statistics().frames_out >= 1)
        rig.device.deaf = False
        await rig.until(lambda: rig.device.reading)


@pytest.mark.parametrize(
    "wrong",
    [
        {"trigger": "unheard-of"},
        {"mode": "on_demand"},
        {"trigger": "gm65", "mode": "sometimes"},
        {"trigger": "gm65", "reading_s": 0.0},
        {"trigger": "gm65", "reading_s": float("nan")},
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"trigger|mode|reading_s"):
        QrScanner("/dev/null", **wrong)  # type: ignore[arg-type]
