"""Connections that NNG drops by itself, counted: it tells the other end nothing, and us only in its own log.

NNG's statistics know a peer that does not speak SP (`proto`), but count a message above `recv_max_size` together with
every ordinary end of a connection (`other`).  Its log tells them apart, so we listen to the log, through the C function
`nng_log_set_logger` (NNG 1.7 and later), which pynng does not wrap.
"""

from __future__ import annotations

import atexit
import collections
import ctypes
import re
from collections.abc import Callable
from typing import Any

import trio
from pynng import _nng

from drivers.nng import _sockets
from drivers.nng._throttle import LOG_INTERVAL_S

LOG_WARN = 4  # NNG_LOG_WARN; NNG numbers its levels as syslog does
OVERSIZE = b"NNG-RCVMAX"  # "Oversize message of 504 bytes (> 100) on socket<1> pipe<32077139> from TCP 127.0.0.1:59080"
SOCKET = re.compile(rb"socket<(\d+)>")

_oversize: collections.Counter[int] = collections.Counter()  # by NNG's id of the socket
_library: Any = None


def _heard(level: int, facility: int, kind: bytes | None, text: bytes | None) -> None:  # in one of NNG's threads
    found = SOCKET.search(text or b"") if kind == OVERSIZE else None
    if found:
        _oversize[int(found[1])] += 1


_LOGGER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)(_heard)


def _listen() -> None:
    """Hear NNG's log from now on; only once per process. An NNG without a log counts nothing."""
    global _library
    if _library is not None:
        return
    _library = ctypes.CDLL(_nng.__file__)
    if not hasattr(_library, "nng_log_set_logger"):
        return
    _library.nng_log_set_logger(_LOGGER)
    _library.nng_log_set_level(LOG_WARN)
    atexit.register(_library.nng_log_set_logger, None)  # NNG's threads outlive the interpreter


class Drops:
    """How many connections of one server NNG has dropped. `report(new)` is called about once per interval."""

    def __init__(self, report: Callable[[int], None]) -> None:
        _listen()
        self._report = report
        self._bound: _sockets.Bound | None = None
        self._before = 0  # of sockets that are closed
        self._told = 0

    async def watch(self, bound: _sockets.Bound) -> None:
        """Look after a socket that has just been bound, until cancelled."""
        self._bound = bound
        try:
            while True:
                await trio.sleep(LOG_INTERVAL_S)
                self._tell()
        finally:
            self._before = self.total()
            self._bound = None
            self._tell()

    def total(self) -> int:
        """Since the start."""
        if self._bound is None:
            return self._before
        socket = self._bound.socket.socket.id
        return self._before + _oversize[socket] + _sockets.foreign_peers(self._bound.listener)

    def _tell(self) -> None:
        total = self.total()
        if total > self._told:
            self._report(total - self._told)
            self._told = total
