"""Giving a reader its key, on a real pty, against our simulated reader (libosdp's own device side)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from drivers.base import DeviceEvent, DeviceUp
from drivers.errors import DeviceRefused, DeviceUnavailable
from drivers.osdp import OsdpBus, install_key
from drivers.serial import LineBusy, open_line
from drivers.testing import open_descriptors
from sim.osdp import SimOsdpBus, SimOsdpReader

patient = pytest.fixture(autouse=True)(patient_time)

KEY = bytes(range(1, 17))


@asynccontextmanager
async def line(tmp_path: Path) -> AsyncIterator[SimOsdpBus]:
    sim = SimOsdpBus(tmp_path / "bus", rng=random.Random(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sim.run)
        yield sim
        nursery.cancel_scope.cancel()


async def give(sim: SimOsdpBus, key: bytes = KEY, timeout_s: float = 15.0) -> str:
    return await install_key(str(sim.line.path), 115200, 1, key, timeout_s=timeout_s)


async def comes_up(sim: SimOsdpBus, reader: SimOsdpReader, key: bytes) -> None:
    """The driver, which speaks nothing but the reader's own key, gets through."""
    events: list[DeviceEvent] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(OsdpBus(str(sim.line.path), 115200).reader(1, key=key).run, events.append)
        with trio.fail_after(20.0):
            while not events:
                await trio.sleep(0.01)
        assert events == [DeviceUp()]
        assert reader.secure
        nursery.cancel_scope.cancel()


async def test_a_reader_without_a_key_takes_one_and_keeps_it(tmp_path: Path) -> None:
    async with line(tmp_path) as sim:
        reader = sim.reader(1)
        before = open_descriptors()
        assert await give(sim) == "vendor 005046 serial 1001"
        assert open_descriptors() == before
        assert reader.keyed
        assert KEY.hex() not in repr(reader.commands) and str(KEY) not in repr(reader.commands)
        await comes_up(sim, reader, KEY)
        reader.power(False)
        reader.power(True)
        await comes_up(sim, reader, KEY)


async def test_a_reader_that_has_the_key_already_is_left_so(tmp_path: Path) -> None:
    async with line(tmp_path) as sim:
        reader = sim.reader(1, key=KEY)
        assert await give(sim)
        assert reader.commands == []


async def test_a_reader_with_another_key_refuses_and_keeps_its_own(tmp_path: Path) -> None:
    async with line(tmp_path) as sim:
        reader = sim.reader(1, key=bytes(16))
        with pytest.raises((DeviceRefused, DeviceUnavailable)) as caught:
            await give(sim, timeout_s=6.0)
        assert "key" in str(caught.value) and KEY.hex() not in str(caught.value)
        await comes_up(sim, reader, bytes(16))


async def test_nobody_there_is_said_so(tmp_path: Path) -> None:
    async with line(tmp_path) as sim:
        sim.reader(2)
        with pytest.raises(DeviceUnavailable, match="address 1 did not take its key in time"):
            await give(sim, timeout_s=2.0)


async def test_while_the_server_holds_the_line_nothing_is_sent(tmp_path: Path) -> None:
    async with line(tmp_path) as sim:
        reader = sim.reader(1)
        with open_line(str(sim.line.path), 115200), pytest.raises(LineBusy):
            await give(sim)
        assert not reader.keyed


@pytest.mark.parametrize(("address", "key"), [(127, KEY), (-1, KEY), (1, b"short"), (1, bytes(range(0x30, 0x40)))])
async def test_what_is_no_key_or_address_is_refused(tmp_path: Path, address: int, key: bytes) -> None:
    with pytest.raises(ValueError, match=r"key|address"):
        await install_key(str(tmp_path / "none"), 115200, address, key)
