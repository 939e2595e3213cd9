"""Questions to one UHPPOTE controller over UDP: one at a time, repeated a few times, answers believed only from it."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any

import trio

from drivers._statistics import Meter
from drivers.errors import DeviceUnavailable
from protocols.uhppote import Question, UhppoteError, check

ANSWER_S = 0.4  # a controller on its own network answers within milliseconds
TRIES = 3  # then it is away: 1.2 s, so that with the pause between polls it is said within 2 s
DATAGRAM_MAX = 1024
STALE_MAX = 64  # late answers that are thrown away before a question


class Exchange:
    """The two sockets of one controller: for questions, and for the events that it sends by itself.

    `host` is an IPv4 address; `listen` is where events arrive ("" and 0: any address, any free port).  Use it as a
    context manager.
    """

    def __init__(self, host: str, port: int, serial: int, listen: tuple[str, int], meter: Meter) -> None:
        self.name = f"{host}:{port} ({serial})"
        self._serial = serial
        self._meter = meter
        self._peer = (host, port)
        self._questions = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self._events = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self._listen = listen

    async def open(self) -> tuple[str, int]:
        """Bind both; returns the address that the controller is told to send events to. Raises DeviceUnavailable."""
        try:
            await self._questions.bind(("", 0))
            await self._events.bind(self._listen)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(self._peer)  # sends nothing: the system says by which address of ours it is reached
                ours = str(probe.getsockname()[0])
        except OSError as exc:
            raise DeviceUnavailable(f"{self.name}: {exc.strerror or exc}") from exc
        return self._listen[0] or ours, int(self._events.getsockname()[1])

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._questions.close()
        self._events.close()

    async def ask(self, question: Question, *, tries: int = TRIES) -> Any:
        """The reply, as `question.read` reads it. Raises DeviceUnavailable when none comes."""
        await self._discard()
        for _ in range(tries):
            try:
                await self._questions.sendto(question.packet, self._peer)
            except OSError as exc:
                raise DeviceUnavailable(f"{self.name}: {exc.strerror or exc}") from exc
            self._meter.sent(len(question.packet))
            with trio.move_on_after(ANSWER_S):
                return await self._answer(question)
        raise DeviceUnavailable(f"{self.name}: no answer")

    async def _answer(self, question: Question) -> Any:
        while True:
            try:
                packet, sender = await self._questions.recvfrom(DATAGRAM_MAX)
            except OSError:  # an earlier packet of ours was refused: nobody listens there
                continue
            try:
                self._from_it(packet, sender, question.function)
                reply = question.read(packet)
            except UhppoteError:
                self._meter.bad_frames += 1
                continue
            self._meter.heard(len(packet))
            self._meter.frames_in += 1
            return reply

    async def next_event(self) -> bytes:
        """The next packet on the listener's port that this controller sent."""
        while True:
            try:
                packet, sender = await self._events.recvfrom(DATAGRAM_MAX)
                self._from_it(packet, sender, 0x20)
            except UhppoteError:
                self._meter.bad_frames += 1
                continue
            except OSError:
                continue
            self._meter.heard(len(packet))
            self._meter.frames_in += 1
            return packet

    def _from_it(self, packet: bytes, sender: tuple[str, int], function: int) -> None:
        if sender[0] != self._peer[0]:
            raise UhppoteError(f"from {sender[0]}")
        check(packet, self._serial, function)

    async def _discard(self) -> None:
        """Answers to what was given up must not be taken for the next one's."""
        for _ in range(STALE_MAX):
            if not self._questions.is_readable():
                return
            await self._questions.recvfrom(DATAGRAM_MAX)
