"""Keeps the lane's lists up to date: asked for part by part, by request and reply; a wake-up is only a hint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import structlog
import trio

from actors.edge._parts import Ask, LinkUp
from core import Address, Stop
from drivers.errors import DeviceError
from protocols import devicelink as link
from protocols.errors import LinkError
from protocols.lists import ListMark
from protocols.messages import Telemetry

PART_S = 10.0  # one part may take so long
POLL_S = 5.0  # deltas are asked for this often, whether or not anybody woke us
RENEW_S = 24 * 3600.0  # a whole list, which leaves out what is over, is asked for this often
RETRY_MIN_S = 0.5
RETRY_MAX_S = 10.0

log = structlog.get_logger(__name__)


class ListStore(Protocol):
    """`storage.lanelists.LaneLists`."""

    @property
    def version(self) -> int: ...
    def question(self) -> tuple[ListMark | None, ListMark | None, str]: ...
    def take(self, part: link.ListPart) -> bool: ...
    def renew(self) -> None: ...


class Hint(Telemetry, frozen=True, kw_only=True):
    """link -> lists: the server woke us; there may be something new."""


class _Go(Telemetry, frozen=True, kw_only=True):
    pass


class ListActor:
    """The actor. `failures` are the store's own errors; `changed` is called when another list is in force."""

    def __init__(
        self,
        *,
        store: ListStore,
        failures: tuple[type[Exception], ...],
        ask: Ask,
        header: Callable[[], Any],
        changed: Callable[[], None] = lambda: None,
        inline: bool = False,
    ) -> None:
        self._store = store
        self._failures = failures
        self._ask = ask
        self._header = header
        self._changed = changed
        self._inline = inline
        self._up = False
        self._working = False
        self._hinted = False
        self._pause_s = RETRY_MIN_S
        self._renewed_at: float | None = None
        self.parts = 0
        self.trouble = ""
        self.whole_s: float | None = None  # how long the last whole list took, from its first question
        self.delta_s: float | None = None  # the same of the last delta that brought something
        self._begun = 0.0

    async def run(self, me: Address) -> None:
        self._working = self._up = False
        me.set_timer("go", 0.0, _Go())
        async with trio.open_nursery() as nursery:
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case LinkUp(up=up):
                        came, self._up = up and not self._up, up
                        if came:
                            me.set_timer("go", 0.0, _Go())
                    case Hint():
                        self._hinted = True
                        if not self._working:
                            me.set_timer("go", 0.0, _Go())
                    case _Go():
                        if self._working:
                            continue
                        if self._up:
                            self._working, self._hinted = True, False
                            nursery.start_soon(self._work, me)
                        else:
                            me.set_timer("go", POLL_S, _Go())
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _work(self, me: Address) -> None:
        """Ask until the list is up to date, or something goes wrong."""
        wait_s = POLL_S
        try:
            await self._bring_up_to_date()
            self._pause_s, self.trouble = RETRY_MIN_S, ""
            if self._hinted:  # while we asked
                wait_s = 0.0
        except Exception as exc:
            if not isinstance(exc, (DeviceError, LinkError, ConnectionError, *self._failures)):
                raise
            self.trouble = str(exc)[:200]
            log.warning("lane.lists_wait", error=self.trouble, pause_s=self._pause_s)
            wait_s = self._pause_s
            self._pause_s = min(2 * self._pause_s, RETRY_MAX_S)
        self._working = False
        me.set_timer("go", wait_s, _Go())

    async def _bring_up_to_date(self) -> None:
        before = self._store.version
        now = trio.current_time()
        if self._renewed_at is None:
            self._renewed_at = now
        elif now - self._renewed_at >= RENEW_S:
            self._renewed_at = now
            self._store.renew()
        complete, whole = False, False
        self._begun = trio.current_time()
        while not complete:
            have, part, cursor = self._store.question()
            request = link.GetList(**self._header(), have=have, part=part, cursor=cursor)
            reply = await self._ask(request, PART_S)
            if not isinstance(reply, link.ListPart):
                raise ConnectionError(f"the server answers {type(reply).__name__} {getattr(reply, 'code', '')}")
            self.parts += 1
            whole = whole or reply.kind == "whole"
            if self._inline:
                complete = self._store.take(reply)
            else:
                complete = await trio.to_thread.run_sync(self._store.take, reply)
        if self._store.version != before:
            took_s = trio.current_time() - self._begun
            if whole:
                self.whole_s, self._hinted = took_s, True  # what has changed meanwhile comes at once
            else:
                self.delta_s = took_s
            self._changed()
