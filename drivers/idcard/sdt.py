"""A reader of Chinese ID cards on a serial line: find, select, read, and one `CredentialRead` for each presentation.

The number leaves the driver in that event alone, whose repr hides it: not in a log, an error or a statistic.  Name,
address and birth are decoded only as far as the check of the text needs, and dropped.  The photograph is dropped too,
unless `on_photo` asks for it; it is in the makers' own format (WLT), for which they have the decoder.

A document that stays where it is is one presentation, whether the reader finds it once or for ever.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Callable

import trio

from drivers._statistics import Meter
from drivers.base import Availability, CredentialRead, DeviceDown, DeviceUp, DriverStatistics, Emit
from drivers.errors import DeviceError, DeviceRefused, DeviceUnavailable
from drivers.serial import Backoff, SerialLine, check_baud, open_line, reconnecting
from protocols.errors import IdCardError
from protocols.idcard import decode_text
from protocols.messages import CredentialKind
from protocols.sdt import (
    FRAME_BYTES_MAX,
    Answer,
    Command,
    SdtFramer,
    Status,
    decode_answer,
    decode_document,
    encode_request,
    module_number,
)

POLL_S = 0.2  # between questions while nothing lies on the reader
ANSWER_S = 0.4  # for everything but a read; readers answer within 0.1 s
READ_S = 1.0  # beside the time that the answer takes on the wire
LAST_ASKS = 2  # an unanswered question is followed by so many for the status, then the reader is given up
LAST_ASK_S = 0.3
LOST_MAX = 6  # questions in a row without an answer, of a reader that only ever answers that it is well
REREAD_S = 1.0  # a document that keeps being found is looked at this often: it may have been exchanged
GONE_S = 1.0  # a document that was not found for so long was taken away
READ_TRIES = 3  # of one document
QUIET_S = 0.002  # what the line has left from earlier is read away for so long before a search
READ_BYTES = 4096
BITS_PER_BYTE = 10  # 8N1


class _NotAuthorised(DeviceRefused):
    """The security module says that it must not work: a state of its own, which no retry mends."""


class IdCardReader:
    """A `drivers.base.Driver` for an SDT reader at `path` (better its link under /dev/serial/by-id).

    `bad_frames` of its statistics counts damaged frames, stray answers and documents that could not be read;
    `firmware` is the number of the security module.  Raises ValueError for a rate that no line has.
    """

    def __init__(
        self,
        path: str,
        baud: int = 115200,
        *,
        on_photo: Callable[[bytes], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._path = path
        self._baud = check_baud(baud)
        self._on_photo = on_photo
        self._meter = Meter()
        self._backoff = Backoff(rng or random.Random())
        self._opened = 0
        # Of the document that lies there only this is kept, under a key that dies with the process.
        self._key = secrets.token_bytes(16)
        self._present: bytes | None = None
        self._keeps_finding = False  # this reader finds again and again what was read already
        self._seen_at = 0.0
        self._read_at = 0.0

    async def run(self, emit: Emit) -> None:
        """Serve the reader until cancelled."""

        async def serve(line: SerialLine) -> None:
            self._opened += 1
            self._meter.reconnects = self._opened - 1
            talk = _Talk(line, self._meter, self._path)
            found: Answer | None = await self._greet(talk)
            self._backoff.reset()
            if self._meter.now(Availability.AVAILABLE):
                emit(DeviceUp())
            while True:
                await self._look(talk, found, emit)
                await trio.sleep(POLL_S)
                await talk.settle()
                found = await talk.must(Command.FIND)

        def lost(exc: DeviceError) -> None:
            self._meter.error(exc)
            refused = isinstance(exc, _NotAuthorised)
            if self._meter.now(Availability.UNAUTHENTICATED if refused else Availability.UNAVAILABLE):
                emit(DeviceDown(reason=str(exc)))

        await reconnecting(lambda: open_line(self._path, self._baud), serve, lost, self._backoff)

    def statistics(self) -> DriverStatistics:
        return self._meter.snapshot()

    async def _greet(self, talk: _Talk) -> Answer:
        """Whether the reader may work, which security module it has, and what its first search says."""
        self._must_be_well(await talk.must(Command.STATUS))
        answer = await talk.ask(Command.MODULE_NUMBER, ANSWER_S)
        if answer is not None and answer.status == Status.OK:
            try:
                self._meter.firmware = "SAM " + module_number(answer.data)
            except IdCardError as exc:
                self._meter.error(exc)
        found = await talk.must(Command.FIND)
        if found is None:
            raise DeviceUnavailable(f"{self._path}: answers that it is well, and nothing else")
        self._must_be_well(found)
        return found

    def _must_be_well(self, answer: Answer | None) -> None:
        if answer is None:
            return
        if answer.status == Status.NOT_AUTHORISED:
            raise _NotAuthorised(f"{self._path}: {answer.words}")
        if answer.status == Status.SELF_TEST:
            raise DeviceRefused(f"{self._path}: {answer.words}")

    async def _look(self, talk: _Talk, found: Answer | None, emit: Emit) -> None:
        """What a search has found, or may have found: is there a document, and a new one?"""
        self._must_be_well(found)
        now = trio.current_time()
        # Without an answer it may have found one all the same, and most readers say so only once: try to read it.
        if found is not None and found.status != Status.FOUND:
            self._keeps_finding = False
            if now - self._seen_at > GONE_S:
                self._present = None
            return
        if found is not None and self._keeps_finding and now - self._read_at < REREAD_S:
            self._seen_at = now
            return
        data = await self._read(talk, sure=found is not None)
        if data is None:
            return
        number, photo = data
        mark = hashlib.blake2b(number.encode(), key=self._key, digest_size=16).digest()
        self._seen_at = self._read_at = trio.current_time()
        self._keeps_finding = mark == self._present
        if self._keeps_finding:
            return
        self._present = mark
        if self._on_photo is not None:
            self._on_photo(photo)
        emit(CredentialRead(kind=CredentialKind.ID_NUMBER, value=number))

    async def _read(self, talk: _Talk, *, sure: bool) -> tuple[str, bytes] | None:
        """Number and photograph; None when it was taken away, cannot be read, or (not `sure`) was never there."""
        for _ in range(READ_TRIES):
            for command in (Command.SELECT, Command.READ):
                answer = await talk.must(command)
                self._must_be_well(answer)
                if answer is None or answer.status != Status.OK:
                    break
            if answer is None:
                continue  # lost on the line, and counted there
            if answer.status == Status.NO_CARD or (answer.status == Status.SELECT_FAILED and not sure):
                return None
            if answer.status != Status.OK:
                self._unreadable(answer.words)
                continue
            sure = True
            try:
                document = decode_document(answer.data)
                return decode_text(document.text).number, document.photo
            except IdCardError as exc:
                self._unreadable(str(exc))
        return None

    def _unreadable(self, reason: str) -> None:
        self._meter.bad_frames += 1
        self._meter.error(f"a document could not be read: {reason}")


class _Talk:
    """Questions and answers on one open line."""

    def __init__(self, line: SerialLine, meter: Meter, name: str) -> None:
        self._line = line
        self._meter = meter
        self._name = name
        self._framer = SdtFramer()
        self._lost = 0
        self._read_s = READ_S + FRAME_BYTES_MAX * BITS_PER_BYTE / line.baud

    async def settle(self) -> None:
        """Read away what earlier questions left on the line: a late or doubled answer is not that to the next one."""
        with trio.move_on_after(QUIET_S):
            while True:
                data = await self._line.receive_some(READ_BYTES)
                self._meter.heard(len(data))
                self._meter.bad_frames += len(self._feed(data))
        self._reset()

    async def must(self, command: Command) -> Answer | None:
        """The answer; None when it was lost and the reader lives.

        Raises DeviceUnavailable when it does not answer the question for its status either.
        """
        answer = await self.ask(command, self._read_s if command is Command.READ else ANSWER_S)
        if answer is not None:
            self._lost = 0
            return answer
        self._lost += 1
        if self._lost > LOST_MAX:
            raise DeviceUnavailable(f"{self._name}: answers that it is well, and nothing else")
        for _ in range(LAST_ASKS):
            await self.settle()
            status = await self.ask(Command.STATUS, LAST_ASK_S)
            if status is not None:
                return None if status.status == Status.OK else status
        raise DeviceUnavailable(f"{self._name}: does not answer")

    async def ask(self, command: Command, timeout_s: float) -> Answer | None:
        """One question; None when nothing that can answer it came in time."""
        frame = encode_request(command)
        self._meter.sent(len(frame))
        await self._line.send_all(frame)
        with trio.move_on_after(timeout_s):
            while True:
                data = await self._line.receive_some(READ_BYTES)
                self._meter.heard(len(data))
                good: Answer | None = None
                for answer in self._feed(data):
                    if good is None and answer.can_answer(command):
                        good = answer
                    else:
                        self._meter.bad_frames += 1
                if good is not None:
                    return good
        self._reset()
        return None

    def _feed(self, data: bytes) -> list[Answer]:
        answers = []
        before = self._framer.bad_frames
        for body in self._framer.feed(data):
            try:
                answers.append(decode_answer(body))
            except IdCardError:
                self._meter.bad_frames += 1
            else:
                self._meter.frames_in += 1
        self._meter.bad_frames += self._framer.bad_frames - before
        return answers

    def _reset(self) -> None:
        before = self._framer.bad_frames
        self._framer.reset()
        self._meter.bad_frames += self._framer.bad_frames - before
