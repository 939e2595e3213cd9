"""Keeps the lane's certificate in force: renewed over the work link weeks before its end, by the lane itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import structlog
import trio

from actors.edge._parts import Ask, Disk, LinkUp, Written
from core import Address, Stop
from drivers.errors import DeviceError
from protocols import devicelink as link
from protocols.messages import Telemetry
from protocols.uploads import RecAlarm
from storage.interfaces import LedgerUnavailable

LOOK_S = 60.0  # for a certificate that somebody has put there by hand, and whether ours is due
ASK_S = 10.0
RETRY_MIN_S = 5.0  # after a failure; doubles
RETRY_MAX_S = 3600.0
ALARM_AFTER = 3  # failures in a row; a server that is being restarted is no trouble
ALARM_EVERY_S = 24 * 3600.0

log = structlog.get_logger(__name__)


class Keeper(Protocol):
    """`paifang.pki_renew.LaneCertificate`. Blocks for the disk."""

    @property
    def days_left(self) -> float: ...
    def due_in_s(self) -> float: ...
    def look(self) -> bool: ...
    def request(self) -> bytes: ...
    def take(self, pem: bytes) -> bool: ...


class _Look(Telemetry, frozen=True, kw_only=True):
    pass


class RenewalActor:
    """The actor. `failures` are the keeper's own errors; `changed` takes another certificate into use.

    `trouble` says why the last try failed, and is empty again after one that did not.
    """

    def __init__(
        self,
        *,
        keeper: Keeper,
        failures: tuple[type[Exception], ...],
        ask: Ask,
        header: Callable[[], Any],
        disk: Disk,
        upload: Address,
        changed: Callable[[], None],
        inline: bool = False,
    ) -> None:
        self._keeper = keeper
        self._failures = failures
        self._ask = ask
        self._header = header
        self._disk = disk
        self._upload = upload
        self._changed = changed
        self._inline = inline
        self._up = False
        self._failed = 0  # in a row
        self._alarmed_at = float("-inf")
        self.renewed = 0
        self.trouble = ""

    async def run(self, me: Address) -> None:
        self._up = False
        self._retry_at = trio.current_time()
        me.set_timer("look", 0.0, _Look())
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case LinkUp(up=up):
                    if up and not self._up:
                        me.set_timer("look", 0.0, _Look())
                    self._up = up
                case _Look():
                    await self._look()
                    wait_s = self._retry_at - trio.current_time() if self.trouble else LOOK_S
                    me.set_timer("look", min(max(wait_s, 0.0), LOOK_S), _Look())
                case Stop():
                    return

    async def _look(self) -> None:
        """Take up what lies there; ask for a new one when it is due."""
        try:
            if await self._do(self._keeper.look):
                self._take_up("found")
            if not self._up or self._keeper.due_in_s() > 0 or trio.current_time() < self._retry_at:
                return
            request = link.Renew(**self._header(), request=await self._do(self._keeper.request))
            reply = await self._ask(request, ASK_S)
            if not isinstance(reply, link.Renewed):
                raise ConnectionError(f"the server answers {getattr(reply, 'text', type(reply).__name__)}")
            if await self._do(lambda: self._keeper.take(reply.certificate)):
                self.renewed += 1
                self._take_up("renewed")
            elif self._keeper.due_in_s() <= 0:  # it is ours that the server thinks good: its clock is not ours
                self._retry_at = trio.current_time() + RETRY_MAX_S
            self._failed, self.trouble = 0, ""
        except Exception as exc:
            if not isinstance(exc, (DeviceError, ConnectionError, *self._failures)):
                raise
            await self._fail(str(exc)[:200])

    async def _do(self, work: Callable[[], Any]) -> Any:
        return work() if self._inline else await trio.to_thread.run_sync(work)

    def _take_up(self, how: str) -> None:
        log.info("lane.certificate", how=how, days_left=round(self._keeper.days_left, 1))
        self._changed()

    async def _fail(self, trouble: str) -> None:
        """Tried again later; people hear of it, once a day."""
        now = trio.current_time()
        trouble = "".join(letter if letter.isprintable() else " " for letter in trouble)
        self._failed += 1
        self.trouble = trouble
        self._retry_at = now + min(RETRY_MIN_S * 2 ** min(self._failed - 1, 16), RETRY_MAX_S)
        log.warning("lane.certificate_not_renewed", error=trouble, tries=self._failed)
        if self._failed < ALARM_AFTER or now - self._alarmed_at < ALARM_EVERY_S:
            return
        detail = f"{self._keeper.days_left:.0f} days are left; {trouble}"
        alarm = RecAlarm(kind="certificate_not_renewed", detail=detail[:200], severity="warning")
        try:
            await self._disk.do(lambda book: book.note(alarm, time.time()))
        except LedgerUnavailable as exc:
            log.warning("lane.not_written", error=str(exc)[:200])
            return
        self._alarmed_at = now
        self._upload.tell(Written())
