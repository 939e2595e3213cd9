"""For tests of drivers: serial lines made of ptys that can be unplugged, and small simulated devices.

Everything here is a stand-in: `BoardDouble` and `PrinterDouble` are simulators written by the same people as the
drivers, from the same descriptions.  What they prove is that a driver keeps its promises against that description and
against faults on the line, not that a real board understands it.
"""

from __future__ import annotations

import os
import pty
import termios
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from protocols import board4, escpos

READ_MAX = 4096  # bytes a simulated device takes at once
OPEN_TIME_S = 0.05  # how long a simulated barrier moves
CREDIT_TIME_S = 5.0  # how long a simulated board keeps an unused opening


class PtyLine:
    """A serial line whose device end the test holds. `path` is a symbolic link, as under /dev/serial/by-id.

    `hang_up` is pulling the plug: the link disappears, whoever has the line open gets a hang-up.  `replug` puts
    another tty behind the same path.  `stall` makes the line take no bytes from the host until `resume`.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._link = path
        self._master = -1
        self._slave = -1  # kept open so that the master does not see a hang-up while no driver is there
        self.replug()

    @property
    def plugged(self) -> bool:
        return self._master >= 0

    def replug(self) -> None:
        """Plug in. Nothing happens if it is."""
        if self.plugged:
            return
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        fresh = self._link.with_name(self._link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(self._link)

    def hang_up(self) -> None:
        """Unplug. Nothing happens if it is."""
        if not self.plugged:
            return
        self._link.unlink(missing_ok=True)
        master, slave, self._master, self._slave = self._master, self._slave, -1, -1
        trio.lowlevel.notify_closing(master)
        os.close(slave)
        os.close(master)

    def stall(self) -> None:
        """The host's bytes go no further than the kernel will take, which is none."""
        termios.tcflow(self._slave, termios.TCOOFF)

    def resume(self) -> None:
        termios.tcflow(self._slave, termios.TCOON)

    async def read(self, max_bytes: int = READ_MAX) -> bytes:
        """What the host wrote. Raises trio.ClosedResourceError when the line is or gets unplugged."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return os.read(self._plugged_master(), max_bytes)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._plugged_master())

    async def write(self, data: bytes) -> None:
        """What the device says. Raises trio.ClosedResourceError when the line is or gets unplugged."""
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._plugged_master(), view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._plugged_master())

    def _plugged_master(self) -> int:
        if self._master < 0:
            raise trio.ClosedResourceError("unplugged")
        return self._master


def open_descriptors() -> int:
    """How many descriptors this process has open: the same before and after, or something leaks."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextmanager
def pty_line(path: Path) -> Iterator[PtyLine]:
    """A line at `path` (a link that must not exist yet), unplugged at the end."""
    line = PtyLine(path)
    try:
        yield line
    finally:
        line.hang_up()


class BoardDouble:
    """A simulated board 4, with faults on command. It is not a real board, and says nothing about one.

    Its rules are the unkind reading of the description: an open *adds* to the people who may pass, an unused opening
    ends by itself after CREDIT_TIME_S, and a hold stays until it is closed or the power goes (`reset`).
    """

    def __init__(self, line: PtyLine, address: int = 1) -> None:
        self.line = line
        self.address = address
        self.entries = 0
        self.exits = 0
        self.alarm: board4.State | None = None
        self.fire = False
        self.commands: list[board4.Command] = []  # executed, in order, without queries
        self.heard: list[board4.Command] = []  # everything that reached it, queries and ignored commands included
        self.lose_replies = 0  # so many answers are swallowed
        self.lose_commands = 0  # so many commands (not queries) are not understood
        self.silent = False  # hears and obeys, answers nothing
        self.deaf = False  # does not even read
        self._credit = {"entry": 0, "exit": 0}
        self._credit_until = 0.0
        self._held: set[str] = set()
        self._moving_until = 0.0

    async def run(self) -> None:
        """Live on the line for ever, through unplugging and plugging in."""
        while True:
            try:
                await self._serve()
            except (trio.ClosedResourceError, OSError):
                await trio.sleep(0.01)

    def person(self, direction: str, *, count: int = 1) -> None:
        """`count` people go through the barrier, if it lets them. Raises AssertionError if it does not."""
        for _ in range(count):
            assert self._open_for(direction), f"the barrier is closed for {direction}"
            self._credit[direction] = max(0, self._credit[direction] - 1)
            if direction == "entry":
                self.entries = (self.entries + 1) % board4.COUNTER_MODULUS
            else:
                self.exits = (self.exits + 1) % board4.COUNTER_MODULUS

    def credit(self, direction: str) -> int:
        """How many people may still pass."""
        self._expire()
        return self._credit[direction]

    def reset(self) -> None:
        """The power was cut: counters, credit and holds are gone."""
        self.entries = self.exits = 0
        self._credit = {"entry": 0, "exit": 0}
        self._held.clear()

    @property
    def state(self) -> board4.State:
        self._expire()
        moving = trio.current_time() < self._moving_until
        if self.alarm is not None:
            return self.alarm
        if self.fire:
            return board4.State.OPEN_FIRE
        if self._held:
            return board4.State.OPENING_EXIT if moving else board4.State.OPEN_IDLE
        if self._credit["entry"]:
            return board4.State.OPENING_ENTRY if moving else board4.State.OPEN_ENTRY
        if self._credit["exit"]:
            return board4.State.OPENING_EXIT if moving else board4.State.OPEN_EXIT
        return board4.State.CLOSED_IDLE

    def _open_for(self, direction: str) -> bool:
        self._expire()
        return self.fire or bool(self._held) or self._credit[direction] > 0

    def _expire(self) -> None:
        if trio.current_time() > self._credit_until:
            self._credit = {"entry": 0, "exit": 0}

    async def _serve(self) -> None:
        framer = board4.Board4Framer()
        while True:
            if self.deaf:
                await trio.sleep(0.01)
                continue
            for frame in framer.feed(await self.line.read()):
                command = board4.decode_command(frame)
                if command.address not in (self.address, board4.BROADCAST):
                    continue
                self.heard.append(command)
                if command.action is not None:
                    if self.lose_commands > 0:
                        self.lose_commands -= 1
                        continue
                    self._execute(command)
                if self.lose_replies > 0:
                    self.lose_replies -= 1
                elif not self.silent:
                    await self.line.write(self.status_frame())

    def status_frame(self) -> bytes:
        """What it would say now."""
        return board4.encode_status(board4.status(self.address, self.state, self.entries, self.exits))

    def _execute(self, command: board4.Command) -> None:
        assert command.action is not None
        self._expire()
        self.commands.append(command)
        direction = "entry" if command.action.name.startswith("ENTER") else "exit"
        if command.action in (board4.Action.ENTER_OPEN, board4.Action.EXIT_OPEN):
            self._credit[direction] += command.pax
            self._credit_until = trio.current_time() + CREDIT_TIME_S
            self._moving_until = trio.current_time() + OPEN_TIME_S
        elif command.action in (board4.Action.ENTER_HOLD, board4.Action.EXIT_HOLD):
            if not self._held:
                self._moving_until = trio.current_time() + OPEN_TIME_S
            self._held.add(direction)
        else:
            self._credit[direction] = 0
            self._held.discard(direction)


class PrinterDouble:
    """A simulated ESC/POS printer behind TCP or a pty, with faults on command. It is no real printer.

    It prints what comes, between status requests, which it answers at once; `jobs` has what was printed, cut by cut of
    the connection.  `sequence`: it knows `GS r`, and answers it while it can print.
    """

    def __init__(self) -> None:
        self.status = escpos.PrinterStatus(online=True, cover_open=False, paper_end=False, error=False)
        self.jobs: list[bytes] = []  # what was printed on each connection
        self.connections = 0
        self.answers = 10_000  # so many are given, then it is silent
        self.sequence = True
        self.stray = b""  # said before each answer
        self.on_print: Callable[[], None] = lambda: None  # called when bytes of a job arrive
        self.hang_up_after: int | None = None  # bytes of jobs, on one connection
        self.byte_s = 0.0  # time that a byte takes

    async def serve_tcp(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on a free loopback port, which is what `nursery.start` returns."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._serve_stream, listeners)

    async def serve_line(self, line: PtyLine) -> None:
        """Live on a serial line for ever."""
        while True:
            with suppress(trio.ClosedResourceError, OSError):
                await self._talk(line.read, line.write)
            await trio.sleep(0.01)

    async def _serve_stream(self, stream: trio.SocketStream) -> None:
        async def receive() -> bytes:
            return bytes(await stream.receive_some(READ_MAX))

        with suppress(trio.BrokenResourceError):
            await self._talk(receive, stream.send_all)
        await stream.aclose()

    async def _talk(
        self, receive: Callable[[], Awaitable[bytes]], send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self.connections += 1
        self.jobs.append(b"")
        buffer = b""
        waiting = False  # `GS r` was asked, and cannot be answered before it can print
        while data := await receive():
            buffer += data
            while len(buffer) >= (at := _question(buffer)) + 3:
                await self._print(buffer[:at])
                question, buffer = buffer[at : at + 3], buffer[at + 3 :]
                waiting = waiting or (question[:2] == b"\x1dr" and self.sequence)
                if waiting and self.status.ready and self.answers > 0:
                    waiting = False
                    self.answers -= 1
                    await send(escpos.encode_sequence(self.status))
                if question[:2] != b"\x1dr" and self.answers > 0:
                    self.answers -= 1
                    await send(self.stray + escpos.encode_status(escpos.StatusKind(question[2]), self.status))
            if at == len(buffer) and not buffer.endswith((b"\x10", b"\x1d")):
                await self._print(buffer)
                buffer = b""
            if self.hang_up_after is not None and len(self.jobs[-1]) > self.hang_up_after:
                return

    async def _print(self, data: bytes) -> None:
        if data:
            await trio.sleep(len(data) * self.byte_s)
            self.jobs[-1] += data
            self.on_print()


def _question(data: bytes) -> int:
    """Where the first status request begins; the length of the data when there is none."""
    found = [at for at in (data.find(b"\x10\x04"), data.find(b"\x1dr\x01")) if at >= 0]
    return min(found, default=len(data))
