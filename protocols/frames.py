"""Frames on a serial line to our own lane boards: COBS stuffing and a CRC-32 around a device-link message.

    00  COBS( message  crc32(message), 4 bytes, big endian )  00

COBS leaves no zero byte inside, so that a zero always is a border: after noise or a half frame the next border is the
way back in.  `docs/serial.md` is the manual; the messages are those of `devicelink`.
"""

from __future__ import annotations

import zlib

from cobs import cobs

from protocols.errors import FrameError

BORDER = 0x00
CRC_BYTES = 4
MAX_MESSAGE_BYTES = 4 * 1024  # a third of a second at 115200 baud; photographs do not travel on serial lines
# COBS adds a byte at the beginning and at most one for each 254
MAX_STUFFED_BYTES = MAX_MESSAGE_BYTES + CRC_BYTES + 1 + (MAX_MESSAGE_BYTES + CRC_BYTES) // 254


def encode(message: bytes) -> bytes:
    """The bytes to send. Raises FrameError when the message is empty or too long."""
    if not 0 < len(message) <= MAX_MESSAGE_BYTES:
        raise FrameError(f"{len(message)} bytes; a frame carries 1 to {MAX_MESSAGE_BYTES}")
    stuffed: bytes = cobs.encode(message + zlib.crc32(message).to_bytes(CRC_BYTES, "big"))
    # a border before it as well: noise that came earlier then costs itself only
    return b"\x00" + stuffed + b"\x00"


def decode(stuffed: bytes) -> bytes:
    """The message between two borders. Raises FrameError when it is damaged, too short or too long."""
    if len(stuffed) > MAX_STUFFED_BYTES:
        raise FrameError(f"more than {MAX_STUFFED_BYTES} bytes without a border")
    try:
        checked: bytes = cobs.decode(stuffed)
    except cobs.DecodeError as exc:
        raise FrameError("wrong stuffing") from exc
    message, crc = checked[:-CRC_BYTES], checked[-CRC_BYTES:]
    if not 0 < len(message) <= MAX_MESSAGE_BYTES:
        raise FrameError("too short or too long for a message")
    if zlib.crc32(message).to_bytes(CRC_BYTES, "big") != crc:
        raise FrameError("wrong checksum")
    return message


class FrameDecoder:
    """Cuts a byte stream into messages, whatever pieces it arrives in.

    Holds at most `MAX_STUFFED_BYTES` between calls.  `bad_frames` counts what stood between two borders and was no
    frame; it is dropped.
    """

    def __init__(self) -> None:
        self.bad_frames = 0
        self._buffer = b""
        self._oversized = False

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Messages completed by `data`. Never raises."""
        *ended, rest = data.split(b"\x00")
        messages: list[bytes] = []
        for piece in ended:
            self._append(piece)
            if self._buffer:
                try:
                    messages.append(decode(self._buffer))
                except FrameError:
                    self.bad_frames += 1
            self._buffer = b""
            self._oversized = False
        self._append(rest)
        return messages

    def reset(self) -> None:
        """Drop a half frame: after a pause on the line, or a reconnect."""
        if self._buffer:
            self.bad_frames += 1
        self._buffer = b""
        self._oversized = False

    def _append(self, piece: bytes) -> None:
        if self._oversized:
            return
        if len(self._buffer) + len(piece) > MAX_STUFFED_BYTES:
            self.bad_frames += 1
            self._oversized = True  # drop everything up to the next border
            self._buffer = b""
        else:
            self._buffer += piece
