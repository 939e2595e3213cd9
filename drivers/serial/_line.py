"""One serial line: a tty on a non-blocking descriptor of our own, waited for with Trio's own poller.

No thread and no pyserial object stand between: a blocked read is cancelled at once, a hang-up wakes it, and closing
never waits.  The lock is the one that pyserial's `exclusive=True` takes (flock on the tty), so either side sees the
other.  TIOCEXCL is not used on purpose: it would also keep out `paifang evacuate`, which must be able to write.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType

import trio

from drivers import trace
from drivers.errors import DeviceUnavailable

READ_MAX = 4096  # bytes taken from a line at once
WRITE_DEADLINE_S = 1.0  # a line that takes no bytes for this long is treated as gone
DRAIN_STEP_S = 0.002  # how often the kernel's output queue is looked at while waiting for it to empty
BITS_PER_BYTE = 10  # 8N1 on the wire

_BAUDS = {
    rate: getattr(termios, f"B{rate}")
    for rate in (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)
}
_CURES = {
    errno.EACCES: "add the user that runs the server to the group of the device (usually dialout)",
    errno.ENOENT: "not plugged in, or the path is wrong",
}


class LineBusy(DeviceUnavailable):
    """Another process (or another driver of this one) holds the line."""


class SerialLine:
    """An open tty: raw, 8N1, no flow control. Made by `open_line`; one task may read and one may write at a time.

    Every failure is `DeviceUnavailable`: hang-up, unplug, a line that takes no bytes.  Use it as a context manager, or
    call `close`, which is immediate and drops what was not sent.
    """

    def __init__(self, path: str, fd: int, baud: int, *, owner: bool) -> None:
        self.path = path
        self.baud = baud
        self._fd = fd
        self._owner = owner
        self._recorder = trace.current()

    def __enter__(self) -> SerialLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def close(self) -> None:
        """Close now. A task that waits on the line gets `trio.ClosedResourceError`."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        trio.lowlevel.notify_closing(fd)
        if self._owner:
            _flush(fd, termios.TCOFLUSH)  # close(2) would otherwise block for up to 30 s while output is pending
        os.close(fd)

    async def receive_some(self, max_bytes: int = READ_MAX) -> bytes:
        """At least one byte, at most `max_bytes`. Cancelling loses nothing. Raises DeviceUnavailable on hang-up."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                data = os.read(self._open_fd(), min(max_bytes, READ_MAX))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._open_fd())
            except OSError as exc:
                raise DeviceUnavailable(f"{self.path}: {_words(exc)}") from exc
            else:
                if not data:  # VMIN is 1, so nothing to read is EAGAIN: an empty read is a hang-up
                    raise DeviceUnavailable(f"{self.path}: hung up")
                if self._recorder is not None:
                    self._recorder.octets(trace.IN, f"serial:{self.path}", data)
                return data

    async def send_all(self, data: bytes, deadline_s: float = WRITE_DEADLINE_S, *, drain: bool = False) -> None:
        """Write all of `data` within `deadline_s`; with `drain`, wait until the kernel has put it on the wire.

        When the time is over, what still lies in the kernel is thrown away, so that it cannot come out late, and
        DeviceUnavailable is raised.  The same on hang-up.
        """
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        with trio.move_on_after(deadline_s) as scope:
            while view:
                try:
                    view = view[os.write(self._open_fd(), view) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._open_fd())
                except OSError as exc:
                    raise DeviceUnavailable(f"{self.path}: {_words(exc)}") from exc
            if self._recorder is not None:
                self._recorder.octets(trace.OUT, f"serial:{self.path}", data)
            if drain:
                await self.drain()
        if scope.cancelled_caught:
            self.discard_output()
            raise DeviceUnavailable(f"{self.path}: takes no bytes (waited {deadline_s:.2f} s)")

    async def drain(self) -> None:
        """Wait until nothing lies in the kernel's output queue. Give it a deadline from outside."""
        while (pending := self._pending_output()) > 0:  # noqa: ASYNC110  no tty says when its queue is empty
            await trio.sleep(max(DRAIN_STEP_S, pending * BITS_PER_BYTE / self.baud))

    def discard_output(self) -> None:
        """Throw away what was written and is not yet on the wire."""
        _flush(self._open_fd(), termios.TCOFLUSH)

    def _pending_output(self) -> int:
        try:
            answer = fcntl.ioctl(self._open_fd(), termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError as exc:
            raise DeviceUnavailable(f"{self.path}: {_words(exc)}") from exc
        return int(struct.unpack("i", answer)[0])

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise trio.ClosedResourceError(f"{self.path} was closed")
        return self._fd


def check_baud(baud: int) -> int:
    """The rate itself. Raises ValueError naming the rates that a line can have."""
    if baud not in _BAUDS:
        raise ValueError(f"baud {baud} is not one of {', '.join(map(str, _BAUDS))}")
    return baud


_BESIDE: ContextVar[bool] = ContextVar("drivers.serial.beside", default=False)


@contextmanager
def beside_the_owner() -> Iterator[None]:
    """Lines that are opened inside, also by drivers that are run inside, are opened like `open_unlocked`.

    For an evacuation only, when the line's owner does not do it.
    """
    token = _BESIDE.set(True)
    try:
        yield
    finally:
        _BESIDE.reset(token)


def open_line(path: str, baud: int) -> SerialLine:
    """Open, lock and configure the tty at `path` (a device or a link such as /dev/serial/by-id/…); drop stale input.

    Raises LineBusy when somebody holds it (named, where the system tells), DeviceUnavailable for everything else that
    is wrong with it, and ValueError for a rate that no line has.
    """
    return _open(path, baud, owner=not _BESIDE.get())


def open_unlocked(path: str, baud: int) -> SerialLine:
    """The same line for one who must get through beside its owner: no lock, no flush.

    For an evacuation only.  Reading here takes bytes away from the owner, and the other way round.
    """
    return _open(path, baud, owner=False)


async def write_unlocked(path: str, baud: int, data: bytes, deadline_s: float) -> None:
    """Put `data` on a line that another process may hold open: open without lock, write, wait until sent, close.

    Raises DeviceUnavailable when that was not possible within `deadline_s`.
    """
    with open_unlocked(path, baud) as line:
        await line.send_all(data, deadline_s, drain=True)


def line_holder(path: str) -> str:
    """Who holds the line now, as "name (pid 12)"; empty when nobody does, or the system does not say. Opens nothing."""
    try:
        return _holder_of(Path(path).stat())
    except OSError:
        return ""


def _open(path: str, baud: int, *, owner: bool) -> SerialLine:
    speed = _BAUDS[check_baud(baud)]
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        cure = _CURES.get(exc.errno or 0)
        raise DeviceUnavailable(f"{path}: {_words(exc)}" + (f" ({cure})" if cure else "")) from exc
    try:
        if not os.isatty(fd):
            raise DeviceUnavailable(f"{path}: is not a serial line")
        if owner:
            _lock(path, fd)
        _configure(path, fd, speed)
        if owner:
            _flush(fd, termios.TCIFLUSH)
    except BaseException:
        os.close(fd)
        raise
    return SerialLine(path, fd, baud, owner=owner)


def _lock(path: str, fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise LineBusy(f"{path}: in use by {_holder(fd) or 'another process'}") from exc
    except OSError as exc:
        raise DeviceUnavailable(f"{path}: cannot be locked: {_words(exc)}") from exc


def _configure(path: str, fd: int, speed: int) -> None:
    try:
        control: list[bytes | int] = list(termios.tcgetattr(fd)[6])
        control[termios.VMIN] = 1
        control[termios.VTIME] = 0
        # CLOCAL: no modem lines. Input and output flags 0: raw bytes, no XON/XOFF, which a frame may contain.
        cflag = termios.CS8 | termios.CREAD | termios.CLOCAL
        settings: list[int | list[bytes | int]] = [0, 0, cflag, 0, speed, speed, control]
        termios.tcsetattr(fd, termios.TCSANOW, settings)
    except (termios.error, OSError) as exc:
        raise DeviceUnavailable(f"{path}: cannot be configured: {_words(exc)}") from exc


def _flush(fd: int, queue: int) -> None:
    try:
        termios.tcflush(fd, queue)
    except (termios.error, OSError):
        return  # the line is gone: nothing is left in it, and the next read or write says so


def _holder(fd: int) -> str:
    """Who holds the flock on this tty, from /proc/locks, as "name (pid 12)"; empty when the system does not say."""
    return _holder_of(os.fstat(fd))


def _holder_of(status: os.stat_result) -> str:
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        for row in Path("/proc/locks").read_text().splitlines():
            fields = row.split()
            if "->" not in fields and len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == wanted:
                pid = int(fields[4])
                return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (pid {pid})"
    except (OSError, ValueError):
        return ""
    return ""


def _words(exc: Exception) -> str:
    """An OS error's own words; termios.error carries (errno, text) without attributes."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc.args[1]) if len(exc.args) > 1 else str(exc)
