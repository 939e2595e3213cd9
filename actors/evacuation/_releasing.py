"""What opens: the release itself, by whomever, and what is written, shown and announced after it.

Between the trigger and the release there is nothing: no database, no permission look-up, no lock, no flush.  Latch and
record are written afterwards, from a task of their own.  Nothing here waits for a lane.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import trio

from actors._common import offer
from actors.evacuation._latchfile import LatchFile
from actors.evacuation._messages import Announce, Broadcast, Show, Tick
from actors.evacuation._record import Record
from actors.evacuation._tallyfile import TallyFile, read_tally
from actors.evacuation._view import LaneState, view
from actors.evacuation.counting import Counting
from actors.evacuation.latch import Latch, LatchError
from actors.evacuation.scope import Place, lanes_of, zones_to_leave
from actors.gate import GateRelease
from core import Address
from protocols import devicelink as link
from protocols.errors import LinkError
from protocols.messages import AdoptRelease, Release, ReleaseAck, Restore, new_id

REPEAT_S = 1.0  # a lane without a sensed open barrier is told again this often
DOUBT_EVERY_S = 10.0  # people are told this often that a lane claims what it cannot show
SHOW_S = 0.1  # the console sees lanes open this often at most, at a site of more than
SHOWN_AT_ONCE = 32  # lanes

Sign = Callable[..., link.Release]
"""(incident, drill) -> the signed release of the whole site for the safety link; (…, scope=lane): of one lane."""
Verify = Callable[[link.Release], bool]
"""Is this release genuine, and for this site?"""


class Releasing:
    """The half of `Evacuation` that opens."""

    def __init__(
        self,
        *,
        lanes: Mapping[str, Address],
        gates: Mapping[str, Address],
        link_address: Address,
        hub: Address,
        ledger: Address,
        sign: Sign,
        verify: Verify,
        latch: Path,
        places: Mapping[str, Place] | None = None,
        unsensing: frozenset[str] = frozenset(),
        announcer: Address | None = None,
        say: Callable[[Broadcast], None] = lambda broadcast: None,
    ) -> None:
        self._lanes = lanes
        self._gates = gates
        self._link = link_address
        self._say = say
        self._hub = hub
        self._record = Record(ledger, hub)
        self._sign = sign
        self._signed: dict[tuple[int, bool, str], link.Release] = {}
        self._verify = verify
        self._doubted: dict[str, float] = {}  # lane -> when people were told of its claim, Trio's clock
        self._latch = Latch()
        self._file = LatchFile(latch, lambda: self._latch, self._hear_of, self._not_written)
        self._places = {lane: (places or {}).get(lane, Place(name=lane)) for lane in lanes}
        self._unsensing = unsensing
        self._announcer = announcer
        self._counting = Counting()
        self._tallies = TallyFile(latch.with_name("evacuation.counts"))
        self._zones: dict[str, int] = {}  # people in each, as last told
        self._seen = {lane: LaneState() for lane in lanes}
        self._requested_by = ""
        self._will_show = False
        self._holding: dict[str, list[str]] = {}  # source -> fire contacts that are active now
        self._me: Address

    # --- trigger and release ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Take up what the latch says: a site that was released stays released."""
        try:
            read = self._file.begin()
        except LatchError:
            read = Latch(state="released", incident=new_id(), by="unreadable latch file", at=time.time())
        # this actor may have been restarted, and memory is newer than the file
        latch = self._latch if self._latch.state == "released" else read
        known = [lane for lane in latch.lanes if lane in self._lanes]  # some may be gone from the site file
        latch = msgspec.structs.replace(latch, lanes=known)  # and if all are, everything opens
        self._latch = latch
        self._file.began(read, latch)
        if latch.state == "released":
            incident = latch.incident if latch.incident is not None else new_id()
            self._latch = msgspec.structs.replace(latch, incident=incident)
            self._resume_counting(incident)
            self._send_release(self._released)
            self._file.mark()
            self._note("resumed", "", latch.by, f"since {latch.at:.0f}")
            self._announce("resumed", latch.by)
        elif latch.state == "restoring" and latch.incident is not None:
            waiting = latch.pending or latch.lanes or sorted(self._lanes)
            pending = [lane for lane in waiting if lane in self._lanes]
            for lane in pending:  # it is open; a lane that knows of no release would take it for somebody's turn
                self._lanes[lane].tell(Release(incident=latch.incident, drill=latch.drill), system=True)
                self._lanes[lane].tell(Restore(incident=latch.incident), system=True)
            if pending != latch.pending:
                state: Literal["restoring", "normal"] = "restoring" if pending else "normal"
                self._latch = msgspec.structs.replace(latch, state=state, pending=pending)
                self._file.mark()
        self._show()

    def _resume_counting(self, incident: int) -> None:
        if self._counting.tally.incident == incident:
            return  # only this actor was restarted
        tally = read_tally(self._tallies.path)
        if tally.incident == incident:
            self._counting.resume(tally)
        else:
            self._counting.begin(incident, self._zones, self._zones_of(self._released, ""))

    def _meant(self, scope: str) -> tuple[frozenset[str], str]:
        return lanes_of(scope, self._places), scope

    @property
    def _released(self) -> frozenset[str]:
        """The lanes of the incident."""
        return frozenset(self._latch.lanes) or frozenset(self._lanes)

    def _release(self, by: str, drill: bool, reason: str, meant: tuple[frozenset[str], str]) -> None:
        """Release at once; everything that may fail or wait comes after."""
        latch = self._latch
        if latch.state == "released":
            self._release_more(by, drill, reason, meant)
        else:
            lanes, scope = meant
            incident = new_id()
            pending = [lane for lane in latch.pending if lane not in lanes] if latch.state == "restoring" else []
            self._latch = Latch(
                sequence=latch.sequence,
                state="released",
                incident=incident,
                drill=drill,
                by=by,
                at=time.time(),
                pending=pending,
                lanes=self._named(lanes),
            )
            self._forget(lanes)
            self._send_release(lanes)
            self._counting.begin(incident, self._zones, self._zones_of(lanes, scope))
            self._tallies.mark(self._counting.tally)
            self._note("triggered", "", by, reason)
            self._note_counts("inside")
            if len(lanes) < len(self._lanes):
                self._note("scope", "", by, scope)
            where_zh, where_en = self._where()
            self._feed("alarm", f"紧急疏散：{where_zh}打开（{by}）", f"Evacuation: {where_en} opens ({by})")
            self._announce("triggered", by)
        self._requested_by = ""
        self._file.mark()
        self._show()

    def _release_more(self, by: str, drill: bool, reason: str, meant: tuple[frozenset[str], str]) -> None:
        """While released: a drill becomes real by one action, never the other way round; a scope only grows."""
        latch = self._latch
        real = latch.drill and not drill
        wanted, scope = meant
        before = self._released
        lanes, more = before | wanted, wanted - before
        pending = [lane for lane in latch.pending if lane not in lanes]
        self._latch = msgspec.structs.replace(
            latch, drill=latch.drill and drill, lanes=self._named(lanes), pending=pending
        )
        self._forget(more)
        self._requested_by = ""
        self._send_release(lanes)
        if more:
            self._counting.widen(self._zones, self._zones_of(lanes, scope))
            self._tallies.mark(self._counting.tally)
            self._note("widened", "", by, scope or "site")
            _, where_en = self._where()
            self._feed("alarm", f"疏散范围扩大（{by}）", f"The evacuation grows: {where_en} ({by})")
            self._announce("widened", by)
        if real:
            self._note("became_real", "", by, reason)
            self._announce("became_real", by)

    def _named(self, lanes: Iterable[str]) -> list[str]:
        """As the latch names them: none for all."""
        names = sorted(lanes)
        return [] if len(names) == len(self._lanes) else names

    def _zones_of(self, lanes: Iterable[str], scope: str) -> frozenset[str]:
        return zones_to_leave(lanes, scope, self._places)

    def _forget(self, lanes: Iterable[str]) -> None:
        now = trio.current_time()
        for lane in lanes:
            self._seen[lane] = LaneState(commanded_at=now)

    def _send_release(self, lanes: Iterable[str]) -> None:
        incident, drill = self._latch.incident, self._latch.drill
        assert incident is not None
        self._file.know(incident)
        order = Release(incident=incident, drill=drill)
        broadcast = self._broadcast(incident)
        self._say(broadcast)  # leaves now, whatever the lanes' own actors have to do first
        told = [lane for lane in self._lanes if lane in lanes]
        for lane in told:
            self._lanes[lane].tell(order, system=True)
        self._link.tell(broadcast, system=True)
        for lane, gate in self._gates.items():
            if lane in lanes:
                gate.tell(GateRelease(), system=True)
        self._me.set_timer("repeat", REPEAT_S, Tick())

    def _broadcast(self, incident: int) -> Broadcast:
        drill = self._latch.drill
        if not self._latch.lanes:
            return Broadcast(release=self._sign_once(incident, drill, ""))
        lanes = {lane: self._sign_once(incident, drill, lane) for lane in self._latch.lanes}
        return Broadcast(release=None, lanes=lanes)

    def _sign_once(self, incident: int, drill: bool, lane: str) -> link.Release:
        key = (incident, drill, lane)
        if key not in self._signed:
            if any(other[0] != incident for other in self._signed):
                self._signed.clear()
            sign = self._sign
            self._signed[key] = sign(incident, drill, scope=lane) if lane else sign(incident, drill)
        return self._signed[key]

    def _repeat(self) -> None:
        """Tell again whoever is not sensed open."""
        self._me.set_timer("repeat", REPEAT_S, Tick())
        incident = self._latch.incident
        assert incident is not None
        released = self._released
        silent = [lane for lane, seen in self._seen.items() if lane in released and not seen.sensed_open]
        for lane in silent:
            offer(self._lanes[lane], Release(incident=incident, drill=self._latch.drill), system=True)
            if lane in self._gates:
                offer(self._gates[lane], GateRelease(), system=True)
        if silent:
            offer(self._link, self._broadcast(incident), system=True)
        self._show()

    def _on_ack(self, ack: ReleaseAck) -> None:
        if ack.incident != self._latch.incident or self._latch.state != "released" or ack.lane not in self._released:
            return
        seen = self._seen[ack.lane]
        before = (seen.acknowledged_at is None, seen.sensed_open, seen.barrier)
        if seen.acknowledged_at is None:
            seen.acknowledged_at = trio.current_time()
        if ack.sensed_open and not seen.sensed_open:
            self._note("acknowledged", ack.lane, "", ack.barrier)
        seen.sensed_open, seen.barrier = ack.sensed_open, ack.barrier
        if before != (False, seen.sensed_open, seen.barrier):
            self._show_soon()

    # --- releases by others -------------------------------------------------------------------------------------

    def _on_adopt(self, adopt: AdoptRelease) -> None:
        """A lane says that it is released.

        The last incident is known, and over: the lane only needs re-arming.  A newer one that was signed with the
        site's key was triggered by `paifang evacuate` or just before we died: it is taken over for all lanes that it
        is for.  Anything else opens no other lane, because anybody could claim it; people are told, and that lane
        waits for re-arming.
        """
        latch, lane = self._latch, adopt.lane
        if lane not in self._lanes or (latch.state == "released" and lane in self._released):
            return
        newer = latch.incident is None or adopt.incident > latch.incident
        same = latch.state == "released" and adopt.incident == latch.incident
        if (newer or same) and (release := self._proven(adopt)) is not None:
            lanes = frozenset(self._lanes) if release.scope == "site" else frozenset({lane})
            self._take_over(adopt.incident, drill=release.drill, by=f"lane {lane}", lanes=lanes)
            return
        if adopt.incident != latch.incident:
            self._doubt(adopt)
        self._lanes[lane].tell(Restore(incident=adopt.incident), system=True)

    def _proven(self, adopt: AdoptRelease) -> link.Release | None:
        """The genuine release that the lane shows, or None."""
        try:
            release = link.decode_release(adopt.proof)
        except LinkError:
            return None
        meant = release.incident == adopt.incident and release.scope in ("site", adopt.lane)
        return release if meant and self._verify(release) else None

    def _doubt(self, adopt: AdoptRelease) -> None:
        now = trio.current_time()
        if now - self._doubted.get(adopt.lane, -math.inf) < DOUBT_EVERY_S:
            return
        self._doubted[adopt.lane] = now
        text_zh, text_en = (
            "通道自称已释放，但无有效的疏散签名；请查看现场",
            "Says that it is released, without a valid signature; look at the gate",
        )
        self._record.feed("alarm", text_zh, text_en, lane=adopt.lane, code="unknown_release")

    def _hear_of(self, latch: Latch, incident: int) -> None:
        """Another process released: join, or it was the same evacuation already."""
        self._file.know(incident)
        lanes = frozenset(lane for lane in latch.lanes if lane in self._lanes) or frozenset(self._lanes)
        self._take_over(incident, drill=latch.drill, by=latch.by, lanes=lanes)

    def _take_over(self, incident: int, *, drill: bool, by: str, lanes: frozenset[str]) -> None:
        if self._latch.state == "released":
            if (self._latch.drill and not drill) or lanes - self._released:
                self._release_more(by, drill, "", (lanes, ""))
                self._file.mark()
                self._show()
            return
        pending = self._latch.pending if self._latch.state == "restoring" else []
        self._latch = msgspec.structs.replace(
            self._latch,
            state="released",
            incident=incident,
            drill=drill,
            by=by,
            at=time.time(),
            pending=[lane for lane in pending if lane not in lanes],
            lanes=self._named(lanes),
        )
        self._forget(lanes)
        self._send_release(lanes)
        self._requested_by = ""
        self._counting.begin(incident, self._zones, self._zones_of(lanes, ""))
        self._tallies.mark(self._counting.tally)
        self._file.mark()
        self._note("adopted", "", by, "")
        self._note_counts("inside")
        self._feed("alarm", f"紧急疏散（由 {by} 触发）", f"Evacuation (triggered by {by})")
        self._announce("triggered", by)
        self._show()

    # --- afterwards -------------------------------------------------------------------------------------------

    def _not_written(self, exc: LatchError) -> None:
        self._feed("alarm", f"疏散锁存文件写入失败：{exc}", f"The evacuation latch cannot be written: {exc}")

    def _note(self, kind: str, lane: str, user: str, detail: str) -> None:
        self._record.note(self._me, self._latch.incident, kind, lane, user, detail)

    def _feed(self, severity: str, text_zh: str, text_en: str) -> None:
        self._record.feed(severity, text_zh, text_en)

    def _where(self) -> tuple[str, str]:
        """What opens, in words."""
        lanes = self._latch.lanes
        return (f"{len(lanes)} 条通道", f"{len(lanes)} lanes") if lanes else ("全部", "everything")

    def _announce(self, what: str, by: str) -> None:
        """Last of all: whoever speaks to the crowd is told, and never waited for."""
        latch = self._latch
        if self._announcer is None or latch.incident is None:
            return
        word = Announce(
            what=what,
            incident=latch.incident,
            drill=latch.drill,
            scope=",".join(latch.lanes) or "site",
            by=by,
            at=time.time(),
        )
        offer(self._announcer, word)

    def _show_soon(self) -> None:
        """At once at a small site; of many lanes that answer together, the picture is not drawn anew for each."""
        if len(self._lanes) <= SHOWN_AT_ONCE:
            self._show()
        elif not self._will_show:
            self._will_show = True
            self._me.set_timer("show", SHOW_S, Show())

    def _show(self) -> None:
        self._will_show = False
        self._hub.tell(
            view(
                self._latch,
                self._released,
                self._seen,
                self._places,
                self._unsensing,
                self._counting,
                self._requested_by,
            )
        )

    def _note_counts(self, kind: str) -> None:
        counting = self._counting
        if counting.inside_at_start is None and not (counting.out or counting.back):
            return  # nothing is known
        zones = ", ".join(f"{zone} {people}" for zone, people in sorted(counting.tally.inside.items()))
        unknown = "?"
        left = unknown if counting.left is None else counting.left
        inside = unknown if counting.inside_at_start is None else counting.inside_at_start
        detail = f"inside {inside} ({zones})" if kind == "inside" else f"out {counting.out}, back {counting.back}"
        self._note(kind, "", "", detail if kind == "inside" else f"{detail}, left {left} of {inside}")
