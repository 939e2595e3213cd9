"""For tests: a ledger as a process of its own, to be killed: `python -m storage.crowd_process HOST USER DATABASE`.

It begins when the first byte comes.  Then each message, both ways, is four bytes of length and msgpack: (number,
operation) in, (number, answer) out; no answer when the ledger was not available.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from itertools import count
from typing import Any

import msgspec
import trio

from protocols.messages import Base, Booked, Denied, Ended, Granted, Passed, Settled
from storage.connection import Dsn
from storage.interfaces import GrantOp, LedgerUnavailable, SaleBooked, SaleOp
from storage.testing import LedgerUser, ledger_running

LENGTH = struct.Struct("!I")
ASK_S = 20.0

Question = tuple[int, SaleOp | GrantOp | Passed | Ended]
Answer = tuple[int, SaleBooked | Granted | Denied | Booked | Settled | None]
questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def framed(message: object) -> bytes:
    data = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(data)) + data


class Frames:
    """Whole messages out of a stream's pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        self._data += data
        found = []
        while len(self._data) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._data)
            if len(self._data) < LENGTH.size + size:
                break
            found.append(bytes(self._data[LENGTH.size : LENGTH.size + size]))
            del self._data[: LENGTH.size + size]
        return found


class LedgerProcess:
    """The parent's side: `start` early (a process takes long to come up), `begin`, `ask`, `kill`."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._numbers = count(1)
        self._waiting: dict[int, trio.MemorySendChannel[Any]] = {}
        self._dead = False

    @classmethod
    async def start(cls, dsn: Dsn) -> LedgerProcess:
        words = [sys.executable, "-m", "storage.crowd_process", dsn.host, dsn.user, dsn.database]
        quiet = subprocess.DEVNULL
        return cls(await trio.lowlevel.open_process(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet))

    async def begin(self) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"!")

    async def listen(self) -> None:
        """Hand out answers until the process is dead; then those who still wait are told."""
        assert self._process.stdout is not None
        frames = Frames()
        async for data in self._process.stdout:
            for message in frames.feed(data):
                number, answer = answers.decode(message)
                waiting = self._waiting.pop(number, None)
                if waiting is not None:
                    waiting.send_nowait(answer)
        self._dead = True
        for waiting in self._waiting.values():
            waiting.send_nowait(None)

    async def ask(self, op: Base) -> Any:
        """Raises LedgerUnavailable when there is no answer, or none any more."""
        if self._dead:
            raise LedgerUnavailable("the process is dead")
        number = next(self._numbers)
        send, receive = trio.open_memory_channel[Any](1)
        self._waiting[number] = send
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(framed((number, op)))
        except (trio.BrokenResourceError, trio.BusyResourceError) as exc:
            self._waiting.pop(number, None)
            raise LedgerUnavailable("not said") from exc
        answer = await receive.receive()
        if answer is None:
            raise LedgerUnavailable("no answer")
        return answer

    async def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self._process.kill()
        await self._process.wait()


async def main(host: str, user: str, database: str) -> None:
    stdin, stdout = trio.lowlevel.FdStream(0), trio.lowlevel.FdStream(1)
    room = trio.Lock()

    async def carry_out(ledger: LedgerUser, data: bytes) -> None:
        number, op = questions.decode(data)
        try:
            answer = await ledger.ask(op, ASK_S)
        except LedgerUnavailable:
            answer = None
        async with room:
            await stdout.send_all(framed((number, answer)))

    await stdin.receive_some(1)
    frames = Frames()
    dsn = Dsn(host=host, user=user, database=database)
    async with ledger_running(dsn, wait=False) as ledger, trio.open_nursery() as nursery:
        async for data in stdin:
            for message in frames.feed(data):
                nursery.start_soon(carry_out, ledger, message)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
