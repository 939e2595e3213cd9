"""The count of who is out, kept over a restart in a file of its own. Losing it loses a figure and nothing else."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import msgspec
import trio

from actors.evacuation.counting import Tally

WRITE_EVERY_S = 2.0
TALLY_BYTES_MAX = 1024 * 1024


def read_tally(path: Path) -> Tally:
    """What was kept; an empty one when there is none, or none that can be read."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(TALLY_BYTES_MAX), type=Tally)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Tally()


def write_tally(path: Path, data: bytes) -> None:
    """Replace the file as a whole. Raises OSError."""
    other = path.with_suffix(".counts.new")
    descriptor = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    other.replace(path)


class TallyFile:
    """Writes in a task of its own, from a thread; a disk that is full or hangs costs nobody anything."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._dirty = trio.Event()
        self._tally = Tally()

    def mark(self, tally: Tally) -> None:
        """To be written soon."""
        self._tally = tally
        self._dirty.set()

    async def keep(self) -> None:
        """Write what was marked, every `WRITE_EVERY_S` at most."""
        while True:
            await self._dirty.wait()
            self._dirty = trio.Event()
            write = functools.partial(write_tally, self.path, msgspec.json.encode(self._tally))
            try:
                await trio.to_thread.run_sync(write, abandon_on_cancel=True)
            except OSError:
                self._dirty.set()
            await trio.sleep(WRITE_EVERY_S)
