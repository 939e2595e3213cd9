"""The driver of readers that type, over a FIFO that carries the kernel's key events.

There is no `uinput` on test machines, so no test here has a real input device: that the device is taken for ourselves
alone (EVIOCGRAB) is tested only as far as the request that is made.
"""

from __future__ import annotations

import errno
import fcntl
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from core.testing import patient_time
from drivers.base import Availability, CodeRead, CredentialRead, DeviceDown, DeviceEvent, DeviceUp, Driver
from drivers.testing import open_descriptors
from drivers.wedge import WedgeReader, list_wedges
from protocols.messages import CredentialKind
from protocols.wedge import keystrokes
from sim.wedge import SimWedge

patient = pytest.fixture(autouse=True)(patient_time)

PATIENCE_S = 20.0


class Rig:
    def __init__(self, path: Path, **more: Any) -> None:
        self.device = SimWedge(path)
        self.reader: Driver = WedgeReader(str(path), grab=False, rng=random.Random(1), **more)
        self.events: list[DeviceEvent] = []

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, CodeRead)]

    @property
    def cards(self) -> list[CredentialRead]:
        return [event for event in self.events if isinstance(event, CredentialRead)]

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not condition():
                await trio.sleep(0.005)


@asynccontextmanager
async def rigged(tmp_path: Path, **more: Any) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "usb-reader-event-kbd", **more)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.reader.run, rig.events.append)
        await rig.until(lambda: rig.events)
        yield rig
        nursery.cancel_scope.cancel()
    rig.device.close()


async def test_a_code_that_is_typed_is_read(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        rig.device.present("]Q1PF1:6BFOXN%TSMAHN-H%OC*G")
        rig.device.present("PF1:6BFOXN%TSMAHN-H%OC*G")
        await rig.until(lambda: len(rig.events) == 3)
        assert rig.events == [
            DeviceUp(),
            CodeRead(text="PF1:6BFOXN%TSMAHN-H%OC*G", symbology="]Q1"),
            CodeRead(text="PF1:6BFOXN%TSMAHN-H%OC*G"),
        ]
        assert (rig.reader.statistics().frames_in, rig.reader.statistics().bad_frames) == (2, 0)


async def test_cards_are_taken_as_typed_or_as_a_decimal_uid(tmp_path: Path) -> None:
    async with rigged(tmp_path, card="decimal") as rig:
        for typed in ("0078427843", "12ab", "4294967296", "0", "99999999999", "4294967295"):
            rig.device.present(typed)
        await rig.until(lambda: len(rig.cards) == 2)
        assert rig.cards == [
            CredentialRead(kind=CredentialKind.CARD, value="04ACB6C3"),
            CredentialRead(kind=CredentialKind.CARD, value="FFFFFFFF"),
        ]
        assert rig.reader.statistics().bad_frames == 4
        assert "99999" not in rig.reader.statistics().last_error
    async with rigged(tmp_path / "other", card="text") as rig:
        rig.device.present("04a1b2c3")
        rig.device.present("not a card!")
        rig.device.present("NEXT1")
        await rig.until(lambda: len(rig.cards) == 2)
        assert [card.value for card in rig.cards] == ["04A1B2C3", "NEXT1"]


async def test_a_half_code_does_not_join_the_next_one(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        rig.device.events(keystrokes("HALF-"))
        await rig.until(lambda: rig.reader.statistics().bad_frames == 1)
        rig.device.present("WHOLE")
        await rig.until(lambda: rig.texts)
        assert rig.texts == ["WHOLE"]


async def test_events_that_came_in_halves_are_whole(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        events = keystrokes("PF1:AB\r")
        with trio.fail_after(PATIENCE_S):
            while not rig.texts:  # again, if the machine paused for so long that the code was cut in two
                for at in range(0, len(events), 31):
                    rig.device.events(events[at : at + 31])
                    await trio.sleep(0.001)
                await trio.sleep(1.0)
        assert set(rig.texts) == {"PF1:AB"}


async def test_lost_events_drop_the_code_that_they_were_in(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        rig.device.events(keystrokes("PF1:A"))
        rig.device.overrun()
        rig.device.present("BC")
        rig.device.present("PF1:NEXT")
        await rig.until(lambda: rig.texts)
        assert rig.texts == ["PF1:NEXT"]


async def test_unplugged_is_told_at_once_and_comes_back_by_itself(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        rig.device.events(keystrokes("HALF-"))
        rig.device.unplug()
        await rig.until(lambda: isinstance(rig.events[-1], DeviceDown))
        await trio.sleep(0.6)
        rig.device.plug()
        await rig.until(lambda: rig.events[-1] == DeviceUp())
        rig.device.present("WHOLE")
        await rig.until(lambda: rig.texts == ["WHOLE"])
        assert sum(isinstance(event, DeviceDown) for event in rig.events) == 1
        assert rig.reader.statistics().reconnects == 1


async def test_absent_at_start_is_told_once_with_its_path(tmp_path: Path) -> None:
    reader, events = WedgeReader(str(tmp_path / "none"), rng=random.Random(1)), []
    with trio.move_on_after(0.8):
        await reader.run(events.append)
    assert [type(event) for event in events] == [DeviceDown]
    assert str(tmp_path / "none") in reader.statistics().last_error
    assert reader.statistics().availability is Availability.UNAVAILABLE


async def test_what_is_no_input_device_is_not_read(tmp_path: Path) -> None:
    """It might be anything; only an input device can be taken for ourselves alone."""
    device, events = SimWedge(tmp_path / "fifo"), []
    reader = WedgeReader(str(device.path), rng=random.Random(1))
    device.present("PF1:ABC")
    before = open_descriptors()
    with trio.move_on_after(0.3):
        await reader.run(events.append)
    assert [type(event) for event in events] == [DeviceDown]
    assert "not an input device" in reader.statistics().last_error
    assert open_descriptors() == before
    device.close()


async def test_a_reader_that_somebody_else_has_is_said_to_be_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    def refuse(file: int, request: int, value: bytes) -> None:
        requests.append((request, value))
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    device = SimWedge(tmp_path / "fifo")
    reader = WedgeReader(str(device.path), rng=random.Random(1))
    with trio.move_on_after(0.1):
        await reader.run(lambda event: None)
    assert "in use by another process" in reader.statistics().last_error
    assert requests[0] == (0x40044590, b"\x01\0\0\0")  # EVIOCGRAB, 1
    device.close()


async def test_in_a_flood_the_reads_are_limited(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        began_s = trio.current_time()
        events = keystrokes("x\r" * 200)
        with trio.fail_after(PATIENCE_S):
            for _ in range(200):
                rig.device.events(events)
                await trio.sleep(0.005)
        assert len(rig.texts) <= 20 * (trio.current_time() - began_s + 2)
        assert rig.reader.statistics().bad_frames > 50


async def test_a_code_is_not_in_what_is_logged(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        rig.device.present("PF1:SECRETSECRET")
        await rig.until(lambda: rig.texts)
        assert "SECRET" not in repr(rig.events) + repr(rig.reader.statistics())


@pytest.mark.parametrize("delay_s", [0.001, 0.05])
async def test_cancelled_at_any_moment_the_device_is_closed(tmp_path: Path, delay_s: float) -> None:
    device = SimWedge(tmp_path / "fifo")
    before = open_descriptors()
    with trio.move_on_after(delay_s):
        await WedgeReader(str(device.path), grab=False).run(lambda event: None)
    assert open_descriptors() == before
    device.close()


def test_readers_are_listed_by_names_that_last(tmp_path: Path) -> None:
    for name in ("usb-B-event-kbd", "usb-A-event-kbd", "usb-A-event-mouse"):
        (tmp_path / name).touch()
    assert [path.name for path in list_wedges(tmp_path)] == ["usb-A-event-kbd", "usb-B-event-kbd"]
    assert list_wedges(tmp_path / "none") == []


def test_another_kind_of_card_is_refused() -> None:
    with pytest.raises(ValueError, match="card is no, text, decimal"):
        WedgeReader("/dev/null", card="yes")  # type: ignore[arg-type]
