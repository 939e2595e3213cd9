"""The evacuation as a lane controller keeps it: released by the server's signed word or by the lane's own contact.

A release is carried out first and written afterwards, and survives restarts of the lane and of the server.  It ends by
a re-arming that the server's people order for this lane, and not while the lane's own contact is active.  That the
network is gone is no reason to open; a latch file that cannot be read is one.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import structlog
import trio

from actors._common import offer
from actors.evacuation import HoldRestore
from actors.evacuation.latch import Latch, LatchError, read_latch, write_latch
from actors.gate import GateRelease
from core import Address, Stop
from protocols.console import Done, Trigger
from protocols.messages import Base, Rearm, Release, ReleaseAck, Restore, Telemetry

REPEAT_S = 1.0  # a barrier that is not sensed open is told again this often
LATCH_RETRY_S = 1.0
FLUSH_S = 2.0  # for the latch when the lane stops
OVER_MAX = 300  # incidents that are over and remembered: more than a lane sees in its life
LOCAL_BITS = 40  # of an incident of the lane's own: far below those of the server, which count from the clock

log = structlog.get_logger(__name__)


class ServerRelease(Base, frozen=True, kw_only=True):
    """link -> evacuation, system lane: a release whose signature is good."""

    incident: int
    drill: bool = False


class ServerRearm(Base, frozen=True, kw_only=True):
    """link -> evacuation: people have ended the release and ordered this lane to work again."""

    incident: int | None
    by: str = "server"


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


class EdgeEvacuation:
    """The actor. `lanes` and `gates` are those of this controller; `latch` is its file.

    The latch's `incident` is what the lane is released under, or was last; `pending` are those that are over, so that
    a recording of an old release opens nothing.
    """

    def __init__(
        self,
        *,
        lanes: Mapping[str, Address],
        gates: Mapping[str, Address],
        latch: Path,
        trouble: Callable[[str], None] = lambda words: None,
    ) -> None:
        self._lanes = lanes
        self._gates = gates
        self._path = latch
        self._trouble = trouble
        self._latch = Latch()
        self._open: dict[str, bool] = dict.fromkeys(lanes, False)
        self._barriers: dict[str, str] = dict.fromkeys(lanes, "unknown")
        self._holding: dict[str, list[str]] = {}
        self._dirty = trio.Event()
        self._begun = False

    # --- what the safety link is told -------------------------------------------------------------------------------

    @property
    def released(self) -> bool:
        return self._latch.state == "released"

    @property
    def incident(self) -> int | None:
        """What the lane is released under; None when it is not."""
        return self._latch.incident if self.released else None

    @property
    def holding(self) -> list[str]:
        """The lane's own contacts that are active."""
        return [contact for contacts in self._holding.values() for contact in contacts]

    # ----------------------------------------------------------------------------------------------------------------

    async def run(self, me: Address) -> None:
        if not self._begun:  # an actor that is restarted knows more than the file
            self._begin()
        if self.released:
            self._release()
            me.set_timer("repeat", REPEAT_S, _Tick())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_latch)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case ServerRelease() as release:
                        if self._on_server(release):
                            me.set_timer("repeat", REPEAT_S, _Tick())
                    case Trigger() as trigger:
                        self._on_trigger(trigger)
                        me.set_timer("repeat", REPEAT_S, _Tick())
                        envelope.reply(Done(detail=f"incident {self._latch.incident}"))
                    case HoldRestore(source=source, contacts=contacts):
                        self._holding[source] = list(contacts)
                    case ReleaseAck(lane=lane, barrier=barrier, sensed_open=sensed):
                        if lane in self._open:
                            self._open[lane], self._barriers[lane] = sensed, barrier
                    case ServerRearm() as order:
                        self._on_rearm(order)
                    case _Tick():
                        if self.released:
                            self._repeat()
                            me.set_timer("repeat", REPEAT_S, _Tick())
                    case Stop():
                        nursery.cancel_scope.cancel()
                        break
        await self._flush()

    def _begin(self) -> None:
        self._begun = True
        try:
            self._latch = read_latch(self._path)
        except LatchError as exc:
            self._trouble(str(exc))
            self._latch = Latch(state="released", by="unreadable latch file", at=time.time())
        if self._latch.state == "restoring":  # no state of a lane's: when in doubt, open
            self._latch = _changed(self._latch, state="released")
        if self.released and self._latch.incident is None:
            self._latch = _changed(self._latch, incident=_own_incident())
            self._dirty.set()
        if self.released:
            log.warning("lane.still_released", incident=self._latch.incident, by=self._latch.by)

    def _on_server(self, release: ServerRelease) -> bool:
        """True when it is a release that is in force."""
        if str(release.incident) in self._latch.pending:
            log.warning("lane.old_release", incident=release.incident)
            return False
        if self.incident != release.incident:
            over = self._over(self._latch.incident) if self.released else self._latch.pending
            self._latch = _changed(
                self._latch,
                state="released",
                incident=release.incident,
                drill=release.drill,
                by="server",
                at=time.time(),
                pending=over,
            )
            self._release()
            self._dirty.set()
        return True

    def _on_trigger(self, trigger: Trigger) -> None:
        if not self.released:
            self._latch = _changed(
                self._latch,
                state="released",
                incident=_own_incident(),
                drill=trigger.drill,
                by=trigger.by or "lane",
                at=time.time(),
            )
            self._dirty.set()
            log.warning("lane.released", by=trigger.by, reason=trigger.reason)
        self._release()

    def _on_rearm(self, order: ServerRearm) -> None:
        """End the release: only the one that was meant, and not while the lane's own contact is active."""
        if self.released:
            if order.incident is not None and order.incident != self._latch.incident:
                log.warning("lane.rearm_of_another", incident=order.incident)
                return
            if self.holding:
                log.warning("lane.rearm_refused", contacts=self.holding)
                return
        incident = self._latch.incident or 0
        if self.released:
            self._latch = _changed(self._latch, state="normal", by=order.by, pending=self._over(incident))
            self._dirty.set()
        for lane, address in self._lanes.items():
            self._open[lane] = False
            address.tell(Restore(incident=incident), system=True)
            offer(address, Rearm(user=order.by))

    def _over(self, incident: int | None) -> list[str]:
        known = [*self._latch.pending, *([] if incident is None else [str(incident)])]
        return known[-OVER_MAX:]

    def _release(self) -> None:
        """Tell the lanes, and their gates beside them: a lane's actor may be just restarting."""
        incident = self._latch.incident or 0
        for address in self._gates.values():
            address.tell(GateRelease(), system=True)
        for lane, address in self._lanes.items():
            self._open[lane] = False
            address.tell(Release(incident=incident, drill=self._latch.drill), system=True)

    def _repeat(self) -> None:
        for lane, sensed in self._open.items():
            if not sensed:
                offer(self._lanes[lane], Release(incident=self._latch.incident or 0), system=True)
                if lane in self._gates:
                    offer(self._gates[lane], GateRelease(), system=True)

    async def _write_latch(self) -> None:
        """Bring the file in line with memory, from a thread: a slow disk delays nobody. Tries for ever."""
        while True:
            await self._dirty.wait()
            self._dirty = trio.Event()
            try:
                await trio.to_thread.run_sync(functools.partial(write_latch, self._path, self._latch))
            except LatchError as exc:
                self._dirty.set()
                self._trouble(str(exc))
                await trio.sleep(LATCH_RETRY_S)
            except BaseException:
                self._dirty.set()
                raise

    async def _flush(self) -> None:
        """Before we go: a release of the last moment must be on disk, unless the disk hangs."""
        if not self._dirty.is_set():
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_S):
            try:
                write = functools.partial(write_latch, self._path, self._latch)
                await trio.to_thread.run_sync(write, abandon_on_cancel=True)
            except LatchError as exc:
                self._trouble(str(exc))


def _own_incident() -> int:
    return 1 + secrets.randbits(LOCAL_BITS)


def _changed(latch: Latch, **changes: object) -> Latch:
    return msgspec.structs.replace(latch, **changes)
