"""Cutting byte streams into frames, whatever pieces they arrive in, and finding one's feet again after garbage.

For languages whose frames are found by looking: `cut` says what stands at a place, and a place where nothing stands is
skipped byte by byte, because a real frame may begin inside a damaged one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from protocols.errors import BoardError

F = TypeVar("F")

# Called with the bytes from a place on. Returns the frame and its length, or None when what stands there may be a frame
# that has not come whole; raises BoardError when no frame begins there.
Cut = Callable[[bytes], tuple[F, int] | None]


class Resync(Generic[F]):
    """A framer. `bad_frames` counts damaged or foreign stretches, one for each `stretch` bytes begun.

    Holds at most `longest - 1` bytes between calls, where `longest` is the longest frame of the language.
    """

    def __init__(self, cut: Cut[F], *, stretch: int, longest: int) -> None:
        self.bad_frames = 0
        self.skipped_bytes = 0
        self._cut = cut
        self._stretch = stretch
        self._longest = longest
        self._buffer = b""
        self._run = 0  # bytes skipped since the last good frame

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[F]:
        """Frames completed by `data`. Never raises."""
        frames: list[F] = []
        buffer, position = self._buffer + data, 0
        while position < len(buffer):
            try:
                found = self._cut(buffer[position : position + self._longest])
            except BoardError:
                position += 1
                self._skip(1)
                continue
            if found is None:
                break
            frame, length = found
            frames.append(frame)
            position += length
            self._run = 0
        self._buffer = buffer[position:]
        return frames

    def reset(self) -> None:
        """Drop a half frame: after a pause on the line, or a reconnect."""
        if self._buffer:
            self._skip(len(self._buffer))
        self._buffer = b""
        self._run = 0

    def _skip(self, count: int) -> None:
        begun = -(-self._run // self._stretch)
        self._run += count
        self.bad_frames += -(-self._run // self._stretch) - begun
        self.skipped_bytes += count


def xor(data: bytes) -> int:
    """The exclusive or of all bytes."""
    value = 0
    for octet in data:
        value ^= octet
    return value
