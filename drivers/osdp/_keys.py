"""A reader's key in a file of its own: 32 hexadecimal digits, readable by the owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from drivers.errors import DeviceError

KEY_BYTES = 16  # AES-128, the secure channel's base key (SCBK)
FILE_BYTES_MAX = 1024
OTHERS = 0o077
DEFAULT_KEY = bytes(range(0x30, 0x40))  # SCBK-D of the specification: every installer knows it


class KeyFileError(DeviceError):
    """A key file cannot be used as it is; the text names the file and the cure, never the key."""


def read_key(path: Path) -> bytes:
    """The key of one reader. Raises KeyFileError: missing, readable by others, not a key, the well-known default."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not make us wait
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise KeyFileError(f"{path}: not a regular file")
            if status.st_mode & OTHERS:
                mode = f"{status.st_mode & 0o777:04o}"
                raise KeyFileError(f"{path}: others may read it ({mode}); cure: chmod 600 it, then change the key")
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise KeyFileError(f"{path}: cannot be read: {exc.strerror}") from exc
    try:
        key = bytes.fromhex(data.decode("ascii").strip())
    except ValueError:  # without the cause: its text may quote what it read
        raise KeyFileError(f"{path}: not 32 hexadecimal digits") from None
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path}: not 32 hexadecimal digits")
    if key == DEFAULT_KEY:
        raise KeyFileError(f"{path}: the default key of the specification protects nothing; cure: a key of your own")
    return key
