"""A Linux input device on a non-blocking descriptor, for ourselves alone."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from types import TracebackType

import trio

from drivers.errors import DeviceUnavailable

BY_ID = Path("/dev/input/by-id")
READ_BYTES = 4096
GRAB = 0x40044590  # EVIOCGRAB of linux/input.h: _IOW('E', 0x90, int)
_CURES = {
    errno.EACCES: "add the user that runs the server to the group input",
    errno.ENOENT: "not plugged in, or the path is wrong",
}


class WedgeBusy(DeviceUnavailable):
    """Another process has the device for itself."""


def list_wedges(folder: Path = BY_ID) -> list[Path]:
    """Everything that types, by names that survive a re-plug; keyboards of people are among it."""
    try:
        return sorted(folder.glob("*-event-kbd"))
    except OSError:
        return []


class InputDevice:
    """An open input device. Every failure is `DeviceUnavailable`. Use it as a context manager, or call `close`."""

    def __init__(self, path: str, *, grab: bool) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            cure = _CURES.get(exc.errno or 0)
            raise DeviceUnavailable(f"{path}: {exc.strerror}" + (f" ({cure})" if cure else "")) from exc
        try:
            if grab:
                self._grab()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> InputDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        trio.lowlevel.notify_closing(fd)
        os.close(fd)

    async def receive_some(self) -> bytes:
        """At least one byte. Cancelling loses nothing. Raises DeviceUnavailable when it is unplugged."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                data = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._fd)
            except OSError as exc:
                raise DeviceUnavailable(f"{self.path}: {exc.strerror}") from exc
            else:
                if not data:
                    raise DeviceUnavailable(f"{self.path}: unplugged")
                return data

    def _grab(self) -> None:
        """Take the device for ourselves: nobody's terminal must get what visitors scan, and no desktop act on it."""
        try:
            fcntl.ioctl(self._fd, GRAB, struct.pack("i", 1))
        except OSError as exc:
            if exc.errno == errno.EBUSY:
                raise WedgeBusy(f"{self.path}: in use by another process") from exc
            raise DeviceUnavailable(f"{self.path}: is not an input device ({exc.strerror})") from exc
