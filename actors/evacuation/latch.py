"""The evacuation latch: one small preallocated file that says whether the site is released.

Outside every database, so that it survives a full disk (its blocks exist already), a stopped PostgreSQL and a killed
server.  Two slots are written in turn and carry a sequence number and a checksum: a power cut while
one is written leaves the other.  Writing is synchronous and blocks for a disk flush; callers that must not wait write
from a thread.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Literal

import msgspec

SLOT_BYTES = 16384  # room for the names of all lanes; a torn write is known by its checksum
HEADER_BYTES = 8  # length and CRC-32, big endian
LANES_BYTES_MAX = 15_000  # of the names of lanes in one slot; what does not fit stands for all lanes


class LatchError(Exception):
    """The latch file cannot be read or written; the text names the file and the cure."""


class Latch(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says. `incident` is the present one, or the last one when `state` is `normal`.

    `lanes` are those of a release that is not for the whole site; none: all of them.  `pending` are the lanes that wait
    for re-arming: while `state` is `restoring` at least one, and none there stands for all, because their names did not
    fit.  While `released`, lanes of an earlier incident may wait.
    """

    sequence: int = 0
    state: Literal["normal", "released", "restoring"] = "normal"
    incident: int | None = None
    drill: bool = False
    by: str = ""
    at: float = 0.0
    pending: list[str] = []
    lanes: list[str] = []


def read_latch(path: Path) -> Latch:
    """The newest whole slot. A missing file is `normal`; one with two damaged slots is `released`: when in doubt, open.

    Raises LatchError when the file is there and cannot be read.
    """
    return max(read_slots(path), key=lambda slot: slot.sequence)


def read_slots(path: Path) -> list[Latch]:
    """Every whole slot, one at least: the newest is what holds, the other one is what somebody wrote before it.

    Raises LatchError when the file is there and cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [Latch()]
    except OSError as exc:
        raise LatchError(f"{path}: cannot be read ({exc.strerror}); give the server's account read access") from exc
    slots = [_decode(data[start : start + SLOT_BYTES]) for start in (0, SLOT_BYTES)]
    whole = [slot for slot in slots if slot is not None]
    if not whole:
        blank = not any(data)
        return [Latch() if blank else Latch(state="released", by="damaged latch file")]
    return whole


def prepare_latch(path: Path) -> None:
    """Create the file with all its blocks, once, so that a later write needs no space. Raises LatchError."""
    if path.exists() and path.stat().st_size == 2 * SLOT_BYTES:
        return
    write_latch(path, Latch())


def write_latch(path: Path, latch: Latch) -> Latch:
    """Write the next sequence of `latch` and flush it to disk. Returns it as written. Raises LatchError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size < 2 * SLOT_BYTES:
                _pwrite_all(descriptor, bytes(2 * SLOT_BYTES - size), size)
            slots = [_decode(os.pread(descriptor, SLOT_BYTES, start)) for start in (0, SLOT_BYTES)]
            newest = max((slot.sequence for slot in slots if slot is not None), default=0)
            written = msgspec.structs.replace(latch, sequence=newest + 1)
            first, second = slots
            # never overwrite the newest whole slot
            where = 0 if first is None or (second is not None and first.sequence < second.sequence) else 1
            _pwrite_all(descriptor, _encode(written), where * SLOT_BYTES)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise LatchError(f"{path}: cannot be written ({exc.strerror}); free space or fix its permissions") from exc
    return written


def _pwrite_all(descriptor: int, data: bytes, start: int) -> None:
    """A disk that is nearly full takes a part and reports no error: the next try, for the rest, gets it."""
    while data:
        count = os.pwrite(descriptor, data, start)
        data, start = data[count:], start + count


def _encode(latch: Latch) -> bytes:
    names = len(msgspec.msgpack.encode([latch.pending, latch.lanes]))
    if names > LANES_BYTES_MAX:  # all of them: when in doubt, open
        latch = msgspec.structs.replace(latch, pending=[], lanes=[])
    body = msgspec.msgpack.encode(msgspec.structs.replace(latch, by=latch.by[:100]))
    header = len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big")
    return (header + body).ljust(SLOT_BYTES, b"\0")


def _decode(slot: bytes) -> Latch | None:
    length = int.from_bytes(slot[:4], "big")
    body = slot[HEADER_BYTES : HEADER_BYTES + length]
    if not 0 < length <= SLOT_BYTES - HEADER_BYTES or zlib.crc32(body) != int.from_bytes(slot[4:8], "big"):
        return None
    try:
        return msgspec.msgpack.decode(body, type=Latch)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
