"""pcscd through pyscard's low-level calls: one context, one thread, and a way out of both.

The calls block, and may block for ever when the service hangs.  So each runs in a thread that can be left behind: a
wait is woken by SCardCancel (from a thread of its own, because that call speaks to the service too), and whoever comes
back late finds the context closed and releases it.  pyscard's own monitors are not used: they do not survive a restart
of the service.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import trio

from drivers.errors import DeviceError, DeviceUnavailable
from drivers.pcsc._card import CardChannel
from drivers.pcsc._errors import CardGone, ReaderBusy, ReaderGone, ServiceGone

T = TypeVar("T")

SERVICE_S = 3.0  # the service answers in milliseconds; after this it hangs
CLOSE_S = 0.5  # closing waits so long for the thread to come back, and no longer
LEFT_BEHIND_S = 60.0  # a thread that was left behind is waited for in the background to release its context

SUCCESS = 0x00000000
CANCELLED = 0x80100002
TIMEOUT = 0x8010000A
_SERVICE = frozenset({0x80100001, 0x80100003, 0x80100006, 0x80100013, 0x80100014, 0x8010001D, 0x8010001E})
_READER = frozenset({0x80100009, 0x80100017, 0x8010002E})
_CARD = frozenset({0x8010000C, 0x8010000F, 0x80100016, 0x80100066, 0x80100067, 0x80100068, 0x80100069})
_BUSY = frozenset({0x8010000B})

STATE_UNAWARE = 0x0000
STATE_UNKNOWN = 0x0004
STATE_UNAVAILABLE = 0x0008
STATE_PRESENT = 0x0020
STATE_MUTE = 0x0200
STATE_CHANGED = 0x0002


def library() -> Any:
    """pyscard's calls. Raises ServiceGone when it is not installed or finds no PC/SC library."""
    try:
        return importlib.import_module("smartcard.scard")
    except ImportError as exc:
        raise ServiceGone(f"PC/SC is not installed here: install the extra 'pcsc' and pcscd ({exc})") from exc


def check(code: int, doing: str) -> None:
    """Raise the DeviceError that a PC/SC code is."""
    code &= 0xFFFFFFFF
    if code == SUCCESS:
        return
    words = str(library().SCardGetErrorMessage(code)).rstrip(".")
    text = f"{doing}: {words} (0x{code:08X})"
    if code in _CARD:
        raise CardGone(text)
    if code in _READER:
        raise ReaderGone(text)
    if code in _BUSY:
        raise ReaderBusy(f"{doing}: another program holds the card")
    if code in _SERVICE:
        raise ServiceGone(f"the PC/SC service is not there: {text}")
    raise DeviceUnavailable(text)


class Context:
    """One connection to pcscd. Made by `open_context`; one task uses it at a time."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._scard = library()
        self._idle = threading.Event()
        self._idle.set()
        self._leave = threading.Event()
        self._threads = trio.CapacityLimiter(1)

    async def aclose(self) -> None:
        """Leave: a waiting thread is woken, the context is released by whoever is last. Takes at most CLOSE_S."""
        self._leave.set()
        with trio.move_on_after(CLOSE_S, shield=True):
            # a limiter of its own: threads that were left behind do not keep others from theirs
            await trio.to_thread.run_sync(self._release, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))

    async def readers(self) -> list[str]:
        """Names of all readers, sorted. Raises ServiceGone, DeviceUnavailable."""

        def work() -> list[str]:
            code, names = self._scard.SCardListReaders(self._handle, [])
            if code & 0xFFFFFFFF in _READER:
                return []
            check(code, "listing readers")
            return sorted(names)

        return await self._call(work, SERVICE_S)

    async def wait(self, reader: str, known: int, wait_s: float) -> tuple[int, bytes]:
        """Until the reader's state is not `known`, at most `wait_s`: (state, ATR of the card).

        Raises ServiceGone, ReaderGone.
        """

        def work() -> tuple[int, bytes]:
            code, states = self._scard.SCardGetStatusChange(self._handle, int(wait_s * 1000), [(reader, known)])
            if code & 0xFFFFFFFF in (TIMEOUT, CANCELLED):
                return known, b""
            check(code, f"watching {reader}")
            _, state, atr = states[0]
            if state & (STATE_UNKNOWN | STATE_UNAVAILABLE):
                raise ReaderGone(f"{reader}: not there any more")
            return state & ~STATE_CHANGED, bytes(atr)

        return await self._call(work, wait_s + SERVICE_S)

    async def use(self, reader: str, job: Callable[[CardChannel], T], timeout_s: float) -> T:
        """Connect to the card, do `job` with it, disconnect; all in the thread.

        Raises DeviceError, and what `job` raises.
        """

        def work() -> T:
            code, handle, protocol = self._scard.SCardConnect(
                self._handle,
                reader,
                self._scard.SCARD_SHARE_EXCLUSIVE,
                self._scard.SCARD_PROTOCOL_T0 | self._scard.SCARD_PROTOCOL_T1,
            )
            check(code, f"{reader}: connecting to the card")
            try:
                return job(_Channel(self._scard, handle, protocol, reader, self._leave))
            finally:
                self._scard.SCardDisconnect(handle, self._scard.SCARD_LEAVE_CARD)

        return await self._call(work, timeout_s)

    async def _call(self, function: Callable[[], T], timeout_s: float) -> T:
        def work() -> T:
            try:
                return function()
            finally:
                self._idle.set()

        self._idle.clear()
        outcome: list[T] = []
        with trio.move_on_after(timeout_s):
            try:
                outcome.append(await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads))
            except trio.Cancelled:
                self._leave.set()
                raise
        if not outcome:
            raise ServiceGone("the PC/SC service does not answer")
        return outcome[0]

    def _release(self) -> None:
        """In a thread of its own: wake the other one, wait until it is done, release."""
        if not self._idle.is_set():
            self._scard.SCardCancel(self._handle)
            if not self._idle.wait(LEFT_BEHIND_S):
                return  # it hangs for good; the service forgets the context with this process
        self._scard.SCardReleaseContext(self._handle)


async def open_context() -> Context:
    """Connect to pcscd. Raises ServiceGone."""
    scard = library()
    turn = threading.Lock()
    handles: list[int] = []
    left = False

    def work() -> None:
        code, handle = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
        check(code, "connecting to pcscd")
        with turn:
            if not left:
                handles.append(int(handle))
                return
        scard.SCardReleaseContext(handle)  # nobody waits for it any more

    done = False
    try:
        with trio.move_on_after(SERVICE_S):
            await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
            done = True
    finally:
        if not done:
            with turn:
                left = True
            for handle in handles:
                threading.Thread(target=scard.SCardReleaseContext, args=(handle,), daemon=True).start()
    if not done:
        raise ServiceGone("the PC/SC service does not answer")
    return Context(handles[0])


def choose(readers: Sequence[str], wanted: str) -> str:
    """The reader whose name is or contains `wanted`; the first one for an empty one. Raises ReaderGone."""
    for name in readers:
        if name == wanted:
            return name
    for name in readers:
        if wanted in name:
            return name
    there = ", ".join(readers) or "none at all"
    raise ReaderGone(f"no reader {wanted!r}; there is {there}" if wanted else "there is no reader")


class _Channel:
    """A connected card, in the thread of its context."""

    def __init__(self, scard: Any, handle: int, protocol: int, reader: str, leave: threading.Event) -> None:
        self._scard = scard
        self._handle = handle
        self._protocol = protocol
        self._reader = reader
        self._leave = leave

    def transmit(self, command: bytes) -> bytes:
        if self._leave.is_set():
            raise DeviceError(f"{self._reader}: given up")
        scard = self._scard
        header = scard.SCARD_PCI_T1 if self._protocol == scard.SCARD_PROTOCOL_T1 else scard.SCARD_PCI_T0
        code, answer = scard.SCardTransmit(self._handle, header, list(command))
        check(code, f"{self._reader}: speaking to the card")
        if not answer:  # what some readers give instead of an error
            raise CardGone(f"{self._reader}: speaking to the card: no answer, it has left")
        return bytes(answer)

    def reset(self) -> None:
        code, self._protocol = self._scard.SCardReconnect(
            self._handle,
            self._scard.SCARD_SHARE_EXCLUSIVE,
            self._scard.SCARD_PROTOCOL_T0 | self._scard.SCARD_PROTOCOL_T1,
            self._scard.SCARD_RESET_CARD,
        )
        check(code, f"{self._reader}: waking the card")
