"""A simulated reader of Chinese ID cards (SDT) behind a pty. It is no real reader, and its documents are invented.

It keeps the pace of the wire: an answer of 1295 bytes takes 112 ms at 115200 baud.  It can misbehave on command: be
silent or slow, send garbage, answer twice, answer one question late (so that every answer is that to the question
before), damage its answers, lose power, or refuse to work.
"""

from __future__ import annotations

from pathlib import Path

import trio

from protocols.errors import IdCardError
from protocols.idcard import IdDocument, encode_text
from protocols.sdt import (
    PHOTO_BYTES_MAX,
    Command,
    DocumentBytes,
    Request,
    SdtFramer,
    Status,
    decode_request,
    encode_answer,
    encode_document,
)
from sim.line import SimLine

PIECE_BYTES = 64  # the wire's pace is kept in pieces of this size
BITS_PER_BYTE = 10  # 8N1
MODULE_BYTES = bytes.fromhex("0500 0100 97b53301 4e61bc00 d20a1fa5")
HEARD_MAX = 200  # requests that are remembered


class SimIdReader:
    """The reader at `path`. `present` lays a document on it, `remove` takes it away; `run` serves until cancelled."""

    def __init__(self, lane: str, path: Path, baud: int = 115200, *, find_once: bool = True) -> None:
        self.lane = lane
        self.device = f"{lane}-id"
        self.line = SimLine(path)
        self.find_once = find_once  # as most readers: a document is found once for each time it is laid on
        self.authorised = True
        self.healthy = True  # the security module passes its self test
        self.silent = False
        self.half_dead = False  # answers that it is well, and nothing else
        self.delay_s = 0.0  # before each answer
        self.garbage = b""  # said before each answer
        self.twice = False  # every answer comes two times
        self.one_late = False  # every answer is that to the question before
        self.damaged = 0  # so many answers come with a wrong check
        self.cut_off = 0  # so many answers break off in the middle
        self.unreadable = 0  # so many reads fail
        self.photo = bytes(PHOTO_BYTES_MAX)
        self.heard: list[Command] = []  # newest last
        self.found_at: float | None = None  # when the search that found the present document was heard, Trio's clock
        self._baud = baud
        self._document: bytes | None = None
        self._found = False
        self._selected = False
        self._held = b""

    def present(self, document: IdDocument | bytes) -> None:
        """Lay a document (or 256 bytes of any text) on the reader."""
        self._document = encode_text(document) if isinstance(document, IdDocument) else document
        self._found = self._selected = False
        self.found_at = None

    def remove(self) -> None:
        self._document = None
        self._found = self._selected = False

    def power_loss(self) -> None:
        """The cable is out; what lay on the reader must be found again after `restore_power`."""
        self._found = self._selected = False
        self._held = b""
        self.line.unplug()

    def restore_power(self) -> None:
        self.line.plug()

    async def run(self) -> None:
        """Serve the line until cancelled."""
        try:
            await self._serve()
        finally:
            self.line.close()

    async def _serve(self) -> None:
        framer = SdtFramer()
        while True:
            data = await self.line.receive()
            heard_at = trio.current_time()
            for body in framer.feed(data):
                try:
                    request = decode_request(body)
                except IdCardError:
                    continue
                if self.silent or (self.half_dead and request.command is not Command.STATUS):
                    continue
                if isinstance(request.command, Command):
                    self.heard = [*self.heard[1 - HEARD_MAX :], request.command]
                frame = self._answer(request, heard_at)
                # the request itself took its time on the wire, which a pty does not
                await self._say(frame, self.delay_s + len(data) * BITS_PER_BYTE / self._baud)

    async def _say(self, frame: bytes, pause_s: float) -> None:
        if self.one_late:
            frame, self._held = self._held, frame
        if self.damaged > 0:
            self.damaged -= 1
            frame = frame[:-1] + bytes((frame[-1] ^ 0x5A,))
        if self.cut_off > 0:
            self.cut_off -= 1
            frame = frame[: len(frame) // 2]
        frame = self.garbage + frame * (2 if self.twice else 1)
        begin = trio.current_time() + pause_s
        for at in range(0, len(frame), PIECE_BYTES):
            piece = frame[at : at + PIECE_BYTES]
            # a byte has arrived when its last bit has
            await trio.sleep_until(begin + (at + len(piece)) * BITS_PER_BYTE / self._baud)
            self.line.send(piece)

    def _answer(self, request: Request, heard_at: float) -> bytes:
        if not self.healthy:
            return encode_answer(Status.SELF_TEST)
        if not self.authorised:
            return encode_answer(Status.NOT_AUTHORISED)
        match request.command:
            case Command.STATUS | Command.RESET | Command.SET_RADIO_BYTES:
                return encode_answer(Status.OK)
            case Command.MODULE_NUMBER:
                return encode_answer(Status.OK, MODULE_BYTES)
            case Command.FIND:
                if self._document is None or (self._found and self.find_once):
                    return encode_answer(Status.NO_CARD)
                if self.found_at is None:
                    self.found_at = heard_at
                self._found = True
                return encode_answer(Status.FOUND, bytes(4))
            case Command.SELECT:
                self._selected = self._document is not None and self._found
                return encode_answer(Status.OK, bytes(8)) if self._selected else encode_answer(Status.SELECT_FAILED)
            case Command.READ | Command.READ_WITH_FINGERPRINT:
                return self._read(with_fingerprint=request.command is Command.READ_WITH_FINGERPRINT)
            case Command.READ_ADDED_ADDRESS:
                return encode_answer(Status.NO_CONTENT)
        return encode_answer(Status.UNKNOWN_COMMAND)

    def _read(self, *, with_fingerprint: bool) -> bytes:
        if self._document is None or not self._selected:
            return encode_answer(Status.READ_FAILED)
        if self.unreadable > 0:
            self.unreadable -= 1
            return encode_answer(Status.READ_FAILED)
        document = DocumentBytes(text=self._document, photo=self.photo)
        return encode_answer(Status.OK, encode_document(document, fingerprint=with_fingerprint))
