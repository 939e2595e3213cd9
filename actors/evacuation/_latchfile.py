"""The latch file beside the actor: written after sending, from a thread, and watched for what others write into it."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from pathlib import Path

import trio

from actors.evacuation.latch import Latch, LatchError, read_latch, read_slots, write_latch

LOOKS_AFTER_CHANGE = 2  # a file's time is as coarse as the kernel's tick: two writes within one look like one
KNOWN_MAX = 64  # incidents remembered: a release of one of them in the latch file is no news
LATCH_RETRY_S = 1.0
FLUSH_S = 2.0  # for the latch when the server stops


def _exchange(path: Path, latch: Latch) -> tuple[Latch, list[Latch]]:
    """Write `latch`; returns it as written, and what stood in the file before. Raises LatchError."""
    try:
        found = read_slots(path)
    except LatchError:
        found = []
    return write_latch(path, latch), found


class LatchFile:
    """`current` is what memory says; `heard` is called with a release that another process wrote."""

    def __init__(
        self,
        path: Path,
        current: Callable[[], Latch],
        heard: Callable[[Latch, int], object],
        failed: Callable[[LatchError], None],
    ) -> None:
        self._path = path
        self._current = current
        self._heard = heard
        self._failed = failed
        self._dirty = trio.Event()
        self._written = Latch()
        self._mtime_ns = 0
        self._looks = 0  # at the file that are left although its time has not changed
        self._floor = 0  # sequence of the latch that we began with
        self._known: collections.deque[int] = collections.deque(maxlen=KNOWN_MAX)  # incidents that were ours

    def begin(self) -> Latch:
        """What the file says at a start. Raises LatchError when it cannot be read."""
        try:  # before reading: what is written from now on is news
            self._mtime_ns = self._path.stat().st_mtime_ns
        except OSError:
            self._mtime_ns = 0
        return read_latch(self._path)

    def began(self, read: Latch, taken: Latch) -> None:
        """What was read, and what the actor begins with: memory may be newer than the file."""
        self._floor = read.sequence
        self._written = taken

    def mark(self) -> None:
        """Memory has changed: it will be written."""
        self._dirty.set()

    def know(self, incident: int) -> None:
        """This incident is ours; a file that tells of it tells nothing new."""
        self._known.append(incident)

    def look(self) -> None:
        """Whether somebody else (`paifang evacuate`) wrote a release into the file; then `heard` is called."""
        try:
            mtime_ns = self._path.stat().st_mtime_ns
        except OSError:
            return
        if mtime_ns != self._mtime_ns:
            self._mtime_ns, self._looks = mtime_ns, LOOKS_AFTER_CHANGE
        elif self._looks > 0:
            self._looks -= 1
        else:
            return
        try:
            slots = read_slots(self._path)
        except LatchError:
            return
        newest = max(slots, key=lambda slot: slot.sequence)
        if newest.sequence > self._written.sequence and newest.state == "released" and newest.incident is not None:
            self._heard(newest, newest.incident)
        else:
            self._hear_of_any(slots)  # written before a write of ours that was on its way: in the older slot

    def _hear_of_any(self, slots: list[Latch]) -> None:
        """Take up a release by another process that we did not know, if one stands among `slots`."""
        for latch in slots:
            strange = latch.sequence > self._floor and latch.incident not in self._known
            if strange and latch.state == "released" and latch.incident is not None:
                self._heard(latch, latch.incident)
                return

    async def keep(self) -> None:
        """Bring the file in line with memory, from a thread: a slow disk delays nobody. Tries for ever."""
        while True:
            await self._dirty.wait()
            self._dirty = trio.Event()
            try:
                await self._write_once()
            except LatchError as exc:
                self._dirty.set()
                self._failed(exc)
                await trio.sleep(LATCH_RETRY_S)
            except BaseException:
                self._dirty.set()  # cancelled: whether it is written is unknown
                raise

    async def _write_once(self) -> None:
        # Our own change of the file is looked at like anybody else's: another process may have written in between.
        # A thread on a disk that hangs is left behind: its late write is one of a whole slot, and harms no other.
        write = functools.partial(_exchange, self._path, self._current())
        self._written, found = await trio.to_thread.run_sync(write, abandon_on_cancel=True)
        self._hear_of_any(found)  # two writes of ours in a row would cover it before the next look at the file

    async def flush(self) -> None:
        """Before we go: an evacuation of the last moment must be on disk, unless the disk hangs."""
        if not self._dirty.is_set():
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_S):
            try:
                while self._dirty.is_set():  # again when the file says that another process has released meanwhile
                    self._dirty = trio.Event()
                    await self._write_once()
            except LatchError as exc:
                self._failed(exc)
