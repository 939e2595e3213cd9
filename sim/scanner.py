"""A simulated QR reader that reads on command, behind a pty. It is no real reader: it "reads" the text it is given.

It obeys the start and stop commands of one family and answers as that family does.  Faults on command: deaf, silent,
refusing, answering in pieces or in the middle of a code, noise.
"""

from __future__ import annotations

import binascii
from pathlib import Path

import trio

from protocols.scanner import TRIGGERS
from sim.line import SimLine

HEARD_BYTES_MAX = 256
PIECE_PAUSE_S = 0.02

_CRC_REPLIES = {True: 0, False: 3}


class SimScanner:
    """One reader. `run` serves its line until cancelled; `present` holds a code before it."""

    def __init__(self, path: Path, family: str, *, ending: str = "\r") -> None:
        self.line = SimLine(path)
        self.reading = False
        self.starts = 0
        self.stops = 0
        self.deaf = False  # does not hear its commands
        self.silent = False  # obeys, answers nothing
        self.refuses = False
        self.in_pieces = False  # byte by byte
        self._family = family
        self._trigger = TRIGGERS[family]
        self._ending = ending
        self._heard = b""

    async def run(self) -> None:
        """Serve the line until cancelled."""
        try:
            while True:
                await self._hear(await self.line.receive())
        finally:
            self.line.close()

    def present(self, text: str) -> bool:
        """Hold a code before it; False when it does not read now, or nobody listens. Reading ends with a code."""
        if not self.reading:
            return False
        self.reading = False
        return self.line.send(f"{text}{self._ending}".encode())

    def garbage(self, data: bytes) -> bool:
        return self.line.send(data)

    def reply(self) -> bytes:
        """What it answers to a command; nothing in families that answer nothing."""
        if self._family == "gm65":
            body = bytes((_CRC_REPLIES[not self.refuses], 1, 0))
            return b"\x02\x00" + body + binascii.crc_hqx(body, 0).to_bytes(2, "big")
        if self._family == "newland":
            sign = b"\x15" if self.refuses else b"\x06"
            return b"\x02" + self._trigger.start[1:-2] + sign + b";\x03"
        return b""

    async def _hear(self, data: bytes) -> None:
        if self.deaf:
            return
        self._heard = (self._heard + data)[-HEARD_BYTES_MAX:]
        while True:
            found = [
                (self._heard.find(command), command)
                for command in (self._trigger.start, self._trigger.stop)
                if command and command in self._heard
            ]
            if not found:
                return
            at, command = min(found)
            self._heard = self._heard[at + len(command) :]
            self.starts += command == self._trigger.start
            self.stops += command == self._trigger.stop
            await self._answer()
            if not self.refuses:
                self.reading = command == self._trigger.start

    async def _answer(self) -> None:
        if self.silent:
            return
        if not self.in_pieces:
            self.line.send(self.reply())
            return
        for octet in self.reply():
            self.line.send(bytes((octet,)))
            await trio.sleep(PIECE_PAUSE_S)
