"""One end of a simulated serial line: a pty whose other end stands as a link where the site file says.

Like a real line it has no flow control and no memory: what is sent while nobody has the port open, or faster than the
other side reads, is lost.
"""

from __future__ import annotations

import errno
import os
import select
import tty
from pathlib import Path

import trio

READ_BYTES = 4096
DEAF_POLL_S = 0.05  # how often to look whether somebody opened the port


class SimLine:
    """A pty with its slave linked at `path`. Close it with `close`, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost_bytes = 0  # sent while nobody listened
        self._master = -1
        self.plug()

    def __enter__(self) -> SimLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def plug(self) -> None:
        """Make the line, at first or after `unplug`. A link that an earlier run left behind is replaced."""
        master, slave = os.openpty()
        tty.setraw(slave)
        name = os.ttyname(slave)
        os.close(slave)  # so that the master can tell whether anybody has the port open
        os.set_blocking(master, False)
        self._master = master
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self.path.with_name(f".{self.path.name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(name)
        fresh.replace(self.path)

    def unplug(self) -> None:
        """Pull the cable: the other side sees a hang-up, and the path is gone."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        if self._master >= 0:
            master, self._master = self._master, -1
            trio.lowlevel.notify_closing(master) if _in_trio() else None
            os.close(master)

    @property
    def plugged(self) -> bool:
        return self._master >= 0

    @property
    def listening(self) -> bool:
        """Whether somebody has the port open."""
        if self._master < 0:
            return False
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        return not any(events & select.POLLHUP for _, events in poll.poll(0))

    async def receive(self) -> bytes:
        """The next bytes, however long that takes; waits also while the line is unplugged or the port closed."""
        while True:
            if not self.listening:
                await trio.sleep(DEAF_POLL_S)
                continue
            try:
                await trio.lowlevel.wait_readable(self._master)
                return os.read(self._master, READ_BYTES)
            except trio.ClosedResourceError:
                continue
            except OSError as exc:
                if exc.errno not in (errno.EIO, errno.EAGAIN, errno.EBADF):
                    raise
                await trio.sleep(DEAF_POLL_S)

    def send(self, data: bytes) -> bool:
        """Put bytes on the line; False when some of them were lost because nobody took them."""
        if not self.listening:
            self.lost_bytes += len(data)
            return False
        try:
            sent = os.write(self._master, data)
        except OSError as exc:
            if exc.errno not in (errno.EIO, errno.EAGAIN):
                raise
            sent = 0
        self.lost_bytes += len(data) - sent
        return sent == len(data)


def _in_trio() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True
