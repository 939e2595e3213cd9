"""A simulated QR reader behind a pty. It is no real reader: it "reads" the text it is given."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from sim.line import SimLine


class Ending(StrEnum):
    """How a reader ends a line; real ones differ."""

    CR = "\r"
    CRLF = "\r\n"


class SimReader:
    """The reader of one lane. There is nothing to run: it speaks when something is presented, and listens to nobody."""

    def __init__(self, lane: str, path: Path, *, ending: Ending = Ending.CR, aim_prefix: bool = False) -> None:
        self.lane = lane
        self.device = f"{lane}-qr"
        self.line = SimLine(path)
        self.ending = ending
        self.aim_prefix = aim_prefix

    def present(self, text: str) -> bool:
        """Hold a code before the reader; False when nobody has the line open: the read is lost, as on a real line."""
        prefix = "]Q1" if self.aim_prefix else ""
        return self.line.send(f"{prefix}{text}{self.ending}".encode())

    def garbage(self, data: bytes) -> bool:
        """What a reader with a loose cable sends."""
        return self.line.send(data)

    def close(self) -> None:
        self.line.close()
