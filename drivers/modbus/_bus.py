"""One Modbus line or connection, shared by every unit on it: one exchange at a time, the urgent ones first.

The bus has no task of its own.  A unit's driver asks through it and waits for its turn; the line is opened by whoever
asks first and closed when the last unit leaves.  A unit that does not answer costs the others one `answer_s` each time
it is asked, so its driver asks it seldom, and with `Turn.RELEASE_DEAD` after all that answer.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Protocol

import trio

from drivers.errors import DeviceError, DeviceRefused, DeviceUnavailable
from drivers.serial import Backoff, SerialLine, check_baud, open_line
from protocols.modbus import Answer, AnswerReader, ModbusError, Request, encode_request

CONNECT_S = 2.0  # for a TCP connection
WRITE_S = 0.5  # for a request: the longest has 260 bytes, 0.27 s at 9600 baud
READ_BYTES = 1024
SILENCE_CHARACTERS = 3.5  # between frames on a line (Modbus over Serial Line V1.02, 2.5.1.1)
SILENCE_MIN_S = 0.00175  # above 19200 baud, the same section
BITS_PER_CHARACTER = 11
FLOOD_PAUSE_S = 0.02  # after a full read: 51 kB/s, more than any line carries and little work
REOPEN_AFTER_S = 10.0  # without any unit's answer the line is opened anew: that has woken adapters and gateways
LINGER_S = 0.05  # after an answer that did not come: one that is on its way is heard out, not mixed with the next


class TooLate(DeviceError):
    """The deadline of an order was over before it was its turn: it was not sent."""


class Turn(IntEnum):
    """Who goes first when several wait."""

    RELEASE = 0
    RELEASE_DEAD = 1  # of a unit that did not answer lately: it must not hold up the others
    COMMAND = 2
    POLL = 3


class BusStatistics(Protocol):
    """What a unit's meter counts of an exchange."""

    bad_frames: int

    def heard(self, octets: int) -> None: ...
    def sent(self, octets: int) -> None: ...


class _TcpLine:
    """A connection with the few methods of a `SerialLine` that the bus needs."""

    def __init__(self, name: str, stream: trio.SocketStream) -> None:
        self._name = name
        self._stream = stream

    async def receive_some(self, max_bytes: int) -> bytes:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, OSError) as exc:
            raise DeviceUnavailable(f"{self._name}: {exc}") from exc
        if not data:
            raise DeviceUnavailable(f"{self._name}: closed the connection")
        return bytes(data)

    async def send_all(self, data: bytes, deadline_s: float) -> None:
        try:
            with trio.fail_after(deadline_s):
                await self._stream.send_all(data)
        except (trio.TooSlowError, trio.BrokenResourceError, OSError) as exc:
            raise DeviceUnavailable(f"{self._name}: takes no bytes") from exc

    def close(self) -> None:
        self._stream.socket.close()


class ModbusBus:
    """Made by `serial` or `tcp`. Units `attach` while they run, and `call` in turn."""

    def __init__(
        self, name: str, *, path: str = "", baud: int = 9600, host: str = "", port: int = 0, answer_s: float,
        rng: random.Random | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.rtu = bool(path)
        self.answer_s = answer_s
        self.opened = 0  # how often the line was opened
        self._path = path
        self._baud = baud
        self._host = host
        self._port = port
        self._backoff = Backoff(rng or random.Random())
        self._line: SerialLine | _TcpLine | None = None
        self._attached = 0
        self._busy = False
        self._waiting: list[tuple[Turn, int, trio.Event]] = []
        self._arrivals = 0
        self._retry_at = 0.0
        self._failure = ""
        self._transaction = 0
        self._quiet_at = 0.0  # when the line may be spoken on again
        self._unclean = False  # an answer may still be on its way
        self._heard_at = 0.0
        characters_s = SILENCE_CHARACTERS * BITS_PER_CHARACTER / baud
        self._gap_s = max(SILENCE_MIN_S, characters_s) if self.rtu else 0.0

    @classmethod
    def serial(
        cls, path: str, baud: int = 9600, *, answer_s: float = 0.2, rng: random.Random | None = None
    ) -> ModbusBus:
        """An RTU line, 8N1. `answer_s` is how long a unit may take. Raises ValueError for a rate that no line has."""
        return cls(path, path=path, baud=check_baud(baud), answer_s=answer_s, rng=rng)

    @classmethod
    def tcp(cls, host: str, port: int = 502, *, answer_s: float = 0.5, rng: random.Random | None = None) -> ModbusBus:
        """A Modbus TCP device, or a gateway with several units behind it."""
        return cls(f"{host}:{port}", host=host, port=port, answer_s=answer_s, rng=rng)

    @asynccontextmanager
    async def attached(self) -> AsyncIterator[None]:
        """A unit lives on the bus for as long as this is open; the last to leave closes the line."""
        self._attached += 1
        try:
            yield
        finally:
            self._attached -= 1
            if self._attached == 0 and not self._busy:
                self._close()

    async def call(self, request: Request, turn: Turn, meter: BusStatistics, *, deadline: float = math.inf) -> Answer:
        """Ask and return the answer. `deadline` (Trio's clock): not sent after it.

        Raises DeviceUnavailable when the line or the unit is silent, DeviceRefused when the unit says no, and TooLate.
        """
        async with self._turn(turn):
            if trio.current_time() >= deadline:
                raise TooLate(f"{self.name}: too late for the order")
            line = await self._opened()
            try:
                answer = await self._exchange(line, request, meter)
            except ModbusError as exc:
                meter.bad_frames += 1
                if not self.rtu:
                    self._close()
                raise DeviceUnavailable(f"{self.name}: unit {request.unit}: {exc}") from exc
            except DeviceUnavailable:
                self._close()
                raise
        if answer is None:
            raise DeviceUnavailable(f"{self.name}: no answer from unit {request.unit}")
        if answer.exception:
            raise DeviceRefused(f"{self.name}: unit {request.unit}: {answer.refusal}")
        return answer

    # --- whose turn it is ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _turn(self, turn: Turn) -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        if self._busy:
            mine = trio.Event()
            self._arrivals += 1
            entry = (turn, self._arrivals, mine)
            heapq.heappush(self._waiting, entry)
            try:
                await mine.wait()  # whoever is before us has a deadline for everything it does
            except BaseException:
                if mine.is_set():
                    self._hand_on()  # it was our turn already
                else:
                    self._waiting.remove(entry)
                    heapq.heapify(self._waiting)
                raise
        self._busy = True
        try:
            yield
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        if self._waiting:
            heapq.heappop(self._waiting)[2].set()
        else:
            self._busy = False
            if self._attached == 0:
                self._close()

    # --- the line -----------------------------------------------------------------------------------------------

    async def _opened(self) -> SerialLine | _TcpLine:
        if self._line is not None:
            return self._line
        if trio.current_time() < self._retry_at:
            raise DeviceUnavailable(self._failure)
        try:
            self._line = open_line(self._path, self._baud) if self.rtu else await self._connect()
        except DeviceUnavailable as exc:
            self._failure = str(exc)
            self._retry_at = trio.current_time() + self._backoff.next_s()
            raise
        self._backoff.reset()
        self._unclean = False
        self._heard_at = trio.current_time()
        self.opened += 1
        return self._line

    async def _connect(self) -> _TcpLine:
        try:
            with trio.fail_after(CONNECT_S):
                stream = await trio.open_tcp_stream(self._host, self._port)
        except trio.TooSlowError as exc:
            raise DeviceUnavailable(f"{self.name}: does not accept a connection") from exc
        except OSError as exc:
            raise DeviceUnavailable(f"{self.name}: {exc.strerror or exc}") from exc
        return _TcpLine(self.name, stream)

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    async def _exchange(self, line: SerialLine | _TcpLine, request: Request, meter: BusStatistics) -> Answer | None:
        """Send and hear; None when nothing came in time."""
        if self.rtu:
            await self._quiet(line, meter)
        self._transaction = self._transaction % 0xFFFF + 1
        reader = AnswerReader(request, self._transaction, rtu=self.rtu)
        frame = encode_request(request, self._transaction, rtu=self.rtu)
        self._unclean = True
        await line.send_all(frame, WRITE_S)
        meter.sent(len(frame))
        answer: Answer | None = None
        with trio.move_on_after(self.answer_s + (len(frame) * BITS_PER_CHARACTER / self._baud if self.rtu else 0.0)):
            while answer is None:
                data = await line.receive_some(READ_BYTES)
                meter.heard(len(data))
                answer = reader.feed(data)
                if len(data) >= READ_BYTES:
                    await trio.sleep(FLOOD_PAUSE_S)
        self._quiet_at = trio.current_time() + self._gap_s
        self._unclean = answer is None
        meter.bad_frames += bool(reader.skipped)
        if answer is not None:
            self._heard_at = trio.current_time()
        elif trio.current_time() - self._heard_at > REOPEN_AFTER_S:
            self._close()
        return answer

    async def _quiet(self, line: SerialLine | _TcpLine, meter: BusStatistics) -> None:
        """Let the line fall silent; what is still said belongs to an exchange that was given up."""
        if self._unclean:
            with trio.move_on_after(LINGER_S):
                while True:
                    meter.heard(len(await line.receive_some(READ_BYTES)))
            self._unclean = False
        pause_s = self._quiet_at - trio.current_time()
        if pause_s > 0:
            await trio.sleep(pause_s)
