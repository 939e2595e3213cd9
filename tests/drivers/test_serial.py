"""A serial line on real ptys: bytes, deadlines, locks, hang-ups, cancellation, and no descriptor left behind."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import trio
import trio.testing

from core.testing import patient_time
from drivers.base import RETRY_MAX_S, RETRY_MIN_S
from drivers.errors import DeviceError, DeviceUnavailable
from drivers.serial import Backoff, LineBusy, SerialLine, open_line, open_unlocked, reconnecting, write_unlocked
from drivers.testing import PtyLine, open_descriptors, pty_line

patient = pytest.fixture(autouse=True)(patient_time)


async def test_bytes_pass_unchanged_in_both_directions(tmp_path: Path) -> None:
    every_byte = bytes(range(256))
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600) as line, trio.fail_after(5):
        await line.send_all(every_byte, drain=True)
        assert await device.read() == every_byte
        await device.write(every_byte)
        received = b""
        while len(received) < 256:
            received += await line.receive_some()
        assert received == every_byte


async def test_configured_as_raw_8n1_at_the_rate(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 19200):
        fd = os.open(device.path, os.O_RDWR | os.O_NOCTTY)
        try:
            iflag, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(fd)
        finally:
            os.close(fd)
        assert (iflag, oflag, lflag) == (0, 0, 0)
        assert cflag & termios.CSIZE == termios.CS8
        assert not cflag & (termios.PARENB | termios.CSTOPB)
        assert ispeed == ospeed == termios.B19200


async def test_one_read_is_bounded(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600) as line, trio.fail_after(5):
        await device.write(b"x" * 100)
        assert len(await line.receive_some(16)) == 16


async def test_stale_input_is_dropped_at_open(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device:
        await device.write(b"said to nobody")
        await trio.sleep(0.05)
        with open_line(device.path, 9600) as line:
            with trio.move_on_after(0.1) as scope:
                await line.receive_some()
            assert scope.cancelled_caught


@pytest.mark.parametrize("kind", ["absent", "file", "dangling"])
async def test_what_is_no_tty_is_unavailable_and_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tty"
    if kind == "file":
        path.write_text("")
    if kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    before = open_descriptors()
    with pytest.raises(DeviceUnavailable, match=str(path)):
        open_line(str(path), 9600)
    assert open_descriptors() == before


def test_a_rate_that_no_line_has_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="9601"):
        open_line(str(tmp_path / "tty"), 9601)


async def test_second_owner_is_refused_by_path_and_holder(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600):
        before = open_descriptors()
        with pytest.raises(LineBusy) as caught:
            open_line(device.path, 9600)
        assert device.path in str(caught.value)
        assert f"pid {os.getpid()}" in str(caught.value)
        assert open_descriptors() == before


async def test_lock_is_the_one_that_pyserial_takes(tmp_path: Path) -> None:
    script = "import serial, sys; p = serial.Serial(sys.argv[1], exclusive=True); print('ok', flush=True); input()"
    with pty_line(tmp_path / "tty") as device:
        with subprocess.Popen(  # noqa: ASYNC220  one start, waited for on purpose
            [sys.executable, "-c", script, device.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None and other.stdin is not None
            assert other.stdout.readline() == b"ok\n"
            with pytest.raises(LineBusy, match=f"pid {other.pid}"):
                open_line(device.path, 9600)
            other.stdin.close()
        open_line(device.path, 9600).close()


async def test_lock_ends_with_close(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device:
        open_line(device.path, 9600).close()
        open_line(device.path, 9600).close()


async def test_an_evacuation_writes_beside_the_owner(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600) as owner, trio.fail_after(5):
        await write_unlocked(device.path, 9600, b"open!", 1.0)
        assert await device.read() == b"open!"
        await device.write(b"answer")  # the owner still hears its device
        assert await owner.receive_some() == b"answer"
        with open_unlocked(device.path, 9600) as beside:
            await device.write(b"status")
            assert await beside.receive_some() == b"status"


async def test_unlocked_close_leaves_the_owners_lock(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600):
        open_unlocked(device.path, 9600).close()
        with pytest.raises(LineBusy):
            open_line(device.path, 9600)


async def test_a_stalled_line_ends_at_the_deadline_and_sends_nothing_late(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600) as line, trio.fail_after(5):
        device.stall()
        started = trio.current_time()
        with pytest.raises(DeviceUnavailable, match="takes no bytes"):
            await line.send_all(b"late", 0.2)
        assert 0.15 < trio.current_time() - started < 1.0
        device.resume()
        await line.send_all(b"new")
        assert await device.read() == b"new"


async def test_an_unlocked_write_has_a_deadline_too(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device:
        before = open_descriptors()
        device.stall()
        with pytest.raises(DeviceUnavailable):
            await write_unlocked(device.path, 9600, b"x", 0.1)
        assert open_descriptors() == before


async def test_hang_up_wakes_a_waiting_read(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600) as line, trio.fail_after(5):

        async def read() -> None:
            with pytest.raises(DeviceUnavailable, match=device.path):
                await line.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            device.hang_up()


async def test_hang_up_wakes_a_waiting_write(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600) as line, trio.fail_after(5):
        device.stall()

        async def write() -> None:
            with pytest.raises(DeviceUnavailable, match="output error"):
                await line.send_all(b"x", 4.0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await trio.testing.wait_all_tasks_blocked()
            device.hang_up()


@pytest.mark.parametrize("doing", ["reading", "writing", "draining"])
async def test_cancelled_anywhere_the_descriptor_is_closed(tmp_path: Path, doing: str) -> None:
    with pty_line(tmp_path / "tty") as device:
        before = open_descriptors()

        async def use(line: SerialLine) -> None:
            with line:
                if doing == "reading":
                    await line.receive_some()
                elif doing == "writing":
                    device.stall()
                    await line.send_all(b"x", 60.0)
                else:
                    line._pending_output = lambda: 5  # type: ignore[method-assign]  # a pty never has any
                    await line.send_all(b"x", 60.0, drain=True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, open_line(device.path, 9600))
            await trio.sleep(0.02)
            assert open_descriptors() == before + 1
            nursery.cancel_scope.cancel()
        assert open_descriptors() == before


async def test_cancelling_a_read_loses_no_bytes(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600) as line, trio.fail_after(20):
        sent = bytes(i % 256 for i in range(4000))
        received = b""

        async def send() -> None:
            for start in range(0, len(sent), 40):
                await device.write(sent[start : start + 40])
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(received) < len(sent):
                with trio.move_on_after(0.0007):
                    received += await line.receive_some(7)
        assert received == sent


async def test_closing_wakes_the_reader(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, trio.fail_after(5):
        line = open_line(device.path, 9600)

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await line.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            line.close()
            line.close()
        assert line.closed


def test_backoff_grows_to_its_bound_and_starts_again() -> None:
    backoff = Backoff(random.Random(1))
    pauses = [backoff.next_s() for _ in range(12)]
    assert RETRY_MIN_S * 0.5 < pauses[0] <= RETRY_MIN_S
    assert max(pauses) <= RETRY_MAX_S
    assert min(pauses[-4:]) > RETRY_MAX_S * 0.5
    assert len(set(pauses[-4:])) == 4
    backoff.reset()
    assert backoff.next_s() <= RETRY_MIN_S


async def test_reconnecting_pauses_between_tries(autojump_clock: trio.testing.MockClock) -> None:
    tries: list[float] = []

    def connect() -> SerialLine:
        tries.append(trio.current_time())
        raise DeviceUnavailable("not there")

    async def serve(line: SerialLine) -> None:
        raise AssertionError("never reached")

    failures: list[DeviceError] = []
    with trio.move_on_after(600):
        await reconnecting(connect, serve, failures.append, Backoff(random.Random(1)))
    assert 600 / RETRY_MAX_S <= len(tries) < 600 / RETRY_MAX_S * 2
    assert len(failures) == len(tries)


async def test_two_hundred_replugs_leave_no_descriptor(tmp_path: Path) -> None:
    class NoPause(Backoff):
        def next_s(self) -> float:
            return 0.001

    served = 0
    device = PtyLine(tmp_path / "tty")
    before = open_descriptors()

    async def serve(line: SerialLine) -> None:
        nonlocal served
        served += 1
        while True:
            await line.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            reconnecting, lambda: open_line(device.path, 9600), serve, lambda exc: None, NoPause(random.Random(1))
        )
        with trio.fail_after(60):
            for wanted in range(1, 201):
                while served < wanted:
                    await trio.sleep(0.001)
                device.hang_up()
                device.replug()
        nursery.cancel_scope.cancel()
    assert open_descriptors() == before
    device.hang_up()
    assert open_descriptors() == before - 2


async def test_the_lock_is_not_inherited_by_programs_that_are_started(tmp_path: Path) -> None:
    with pty_line(tmp_path / "tty") as device, open_line(device.path, 9600) as line:
        assert fcntl.fcntl(line._fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
