"""A simulated reader that types: kernel key events through a FIFO. It is no input device, and cannot be grabbed.

Test machines have no `uinput`; what is simulated is what a driver reads from the device, byte for byte.
"""

from __future__ import annotations

import os
from pathlib import Path

from protocols.wedge import EV_SYN, EVENT, SYN_DROPPED, keystrokes


class SimWedge:
    """One reader, its events readable at `path`. There is nothing to run."""

    def __init__(self, path: Path, *, ending: str = "\r") -> None:
        self.path = path
        self.lost_bytes = 0  # nobody read them, and the FIFO was full
        self._ending = ending
        self._file = -1
        self.plug()

    def plug(self) -> None:
        """Plug in, at first or after `unplug`."""
        if self._file >= 0:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        os.mkfifo(self.path, 0o600)
        # for reading too, so that there is a writer before there is a reader
        self._file = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def unplug(self) -> None:
        """Pull the cable: the driver sees the end, and the path is gone."""
        if self._file < 0:
            return
        self.path.unlink(missing_ok=True)
        file, self._file = self._file, -1
        os.close(file)

    close = unplug

    def present(self, text: str) -> bool:
        """Hold a code or a card before it; False when not all of it was taken."""
        return self.events(keystrokes(text + self._ending))

    def overrun(self) -> bool:
        """Events were lost in the kernel, because nobody read them in time."""
        return self.events(EVENT.pack(0, 0, EV_SYN, SYN_DROPPED, 0))

    def events(self, data: bytes) -> bool:
        """Any events, or parts of them."""
        if self._file < 0:
            return False
        try:
            taken = os.write(self._file, data)
        except BlockingIOError:
            taken = 0
        self.lost_bytes += len(data) - taken
        return taken == len(data)
