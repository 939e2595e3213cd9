"""The evacuation: release everything at once, keep it released, know who is not open, and restore with two people.

Between the trigger and the release there is nothing: no database, no permission look-up, no lock, no flush.  Latch and
record are written afterwards, from a task of their own.  Nothing here waits for a lane.
"""

from __future__ import annotations

import collections
import functools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import trio

from actors._common import offer
from actors.errors import CommandRefused
from actors.evacuation.latch import Latch, LatchError, read_latch, read_slots, write_latch
from actors.gate import GateRelease
from core import Address, Envelope, Failed, MailboxFull, Stop
from protocols import devicelink as link
from protocols.console import Done, EvacuationView, FeedEvent, LaneRelease, RearmLane, RestoreRequest, Trigger
from protocols.errors import LinkError
from protocols.messages import AdoptRelease, Base, Rearm, Release, ReleaseAck, Restore, Telemetry, new_id
from storage.interfaces import IncidentNote, LedgerRefused

REPEAT_S = 1.0  # a lane without a sensed open barrier is told again this often
LOOKS_AFTER_CHANGE = 2  # a file's time is as coarse as the kernel's tick: two writes within one look like one
KNOWN_MAX = 64  # incidents remembered: a release of one of them in the latch file is no news
WATCH_S = 0.25  # how soon a latch written by `paifang evacuate` is noticed
LATCH_RETRY_S = 1.0
NOTES_MAX = 1000  # lines of the record that wait for the ledger; the oldest go first
NOTE_RETRY_S = 1.0
DOUBT_EVERY_S = 10.0  # people are told this often that a lane claims what it cannot show
REARM_TTL_S = 5.0  # a re-arming that its lane reads later than this is dropped: somebody may stand there by then
FLUSH_S = 2.0  # for the latch when the server stops

Sign = Callable[[int, bool], link.Release]
"""(incident, drill) -> the signed release for the safety link."""
Verify = Callable[[link.Release], bool]
"""Is this release genuine, and for this site?"""


class EvacuationRefused(CommandRefused):
    """A restore or re-arming does not fit: nothing is released, or the same person asked twice."""


class Broadcast(Base, frozen=True, kw_only=True):
    """evacuation -> link, system lane: publish this release and answer polls with it; None ends it."""

    release: link.Release | None


class HoldRestore(Base, frozen=True, kw_only=True):
    """fire -> evacuation: while `contacts` are active, nothing is restored; with none, `source` holds nothing back.

    Said again and again, so that either side may be restarted.
    """

    source: str
    contacts: list[str]


class _Tick(Telemetry, frozen=True, kw_only=True):
    pass


class _Watch(Telemetry, frozen=True, kw_only=True):
    pass


class _Notes(Telemetry, frozen=True, kw_only=True):
    pass


def _exchange(path: Path, latch: Latch) -> tuple[Latch, list[Latch]]:
    """Write `latch`; returns it as written, and what stood in the file before. Raises LatchError."""
    try:
        found = read_slots(path)
    except LatchError:
        found = []
    return write_latch(path, latch), found


class _Lane:
    """What is known of one lane's release."""

    def __init__(self) -> None:
        self.acknowledged_at: float | None = None
        self.sensed_open = False
        self.barrier = "unknown"


class Evacuation:
    """The actor. `lanes` are all lanes of the site; `latch` is the file; `sign` uses the release key in memory.

    `gates` are the boards' actors, by lane: they are told beside their lanes, so that a lane which is being restarted
    keeps nobody in.  `verify` judges what a device shows that claims to be released.
    """

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
    ) -> None:
        self._lanes = lanes
        self._gates = gates
        self._link = link_address
        self._hub = hub
        self._ledger = ledger
        self._sign = sign
        self._verify = verify
        self._unsaid: collections.deque[IncidentNote] = collections.deque(maxlen=NOTES_MAX)
        self._doubted: dict[str, float] = {}  # lane -> when people were told of its claim, Trio's clock
        self._path = latch
        self._latch = Latch()
        self._seen = {lane: _Lane() for lane in lanes}
        self._triggered = -math.inf  # Trio's clock
        self._requested_by = ""
        self._holding: dict[str, list[str]] = {}  # source -> fire contacts that are active now
        self._dirty = trio.Event()
        self._written = self._latch
        self._mtime_ns = 0
        self._looks = 0  # at the file that are left although its time has not changed
        self._floor = 0  # sequence of the latch that we began with
        self._known: collections.deque[int] = collections.deque(maxlen=KNOWN_MAX)  # incidents that were ours

    async def run(self, me: Address) -> None:
        self._me = me
        me.set_timer("notes", NOTE_RETRY_S, _Notes())
        self._begin()
        if self._latch.state == "released":
            me.set_timer("repeat", REPEAT_S, _Tick())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_latch)
            me.set_timer("watch", WATCH_S, _Watch())
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Trigger() as trigger:
                        self._release(trigger.by or "unknown", trigger.drill, trigger.reason)
                        me.set_timer("repeat", REPEAT_S, _Tick())
                        envelope.reply(Done(detail=f"incident {self._latch.incident}"))
                    case ReleaseAck() as ack:
                        self._on_ack(ack)
                    case AdoptRelease() as adopt:
                        self._on_adopt(adopt)
                        me.set_timer("repeat", REPEAT_S, _Tick())
                    case HoldRestore(source=source, contacts=contacts):
                        self._holding[source] = contacts
                    case RestoreRequest() as request:
                        self._on_restore(request, envelope)
                    case RearmLane() as request:
                        self._on_rearm(request, envelope)
                    case _Tick():
                        if self._latch.state == "released":
                            self._repeat()
                            me.set_timer("repeat", REPEAT_S, _Tick())
                    case Failed(msg=IncidentNote() as note, error=error):
                        if not isinstance(error, LedgerRefused):
                            self._unsaid.append(note)
                    case _Notes():
                        me.set_timer("notes", NOTE_RETRY_S, _Notes())
                        self._say_notes()
                    case _Watch():
                        me.set_timer("watch", WATCH_S, _Watch())
                        if self._noticed():
                            me.set_timer("repeat", REPEAT_S, _Tick())
                    case Stop():
                        nursery.cancel_scope.cancel()
                        break
        await self._flush()

    # --- trigger and release ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Take up what the latch says: a site that was released stays released."""
        self._remember_mtime()  # before reading: what is written from now on is news
        try:
            latch = read_latch(self._path)
        except LatchError:
            latch = Latch(state="released", incident=new_id(), by="unreadable latch file", at=time.time())
        self._floor = latch.sequence
        if self._latch.state == "released":  # this actor was restarted, and memory is newer than the file
            latch = self._latch
        self._latch = self._written = latch
        if latch.state == "released":
            incident = latch.incident if latch.incident is not None else new_id()
            self._latch = msgspec.structs.replace(latch, incident=incident)
            self._triggered = trio.current_time()
            self._send_release()
            self._dirty.set()
            self._note("resumed", "", latch.by, f"since {latch.at:.0f}")
        elif latch.state == "restoring" and latch.incident is not None:
            pending = [lane for lane in latch.pending if lane in self._lanes]  # some may be gone from the site file
            for lane in pending:  # it is open; a lane that knows of no release would take it for somebody's turn
                self._lanes[lane].tell(Release(incident=latch.incident, drill=latch.drill), system=True)
                self._lanes[lane].tell(Restore(incident=latch.incident), system=True)
            if pending != latch.pending:
                state: Literal["restoring", "normal"] = "restoring" if pending else "normal"
                self._latch = msgspec.structs.replace(latch, state=state, pending=pending)
                self._dirty.set()
        self._show()

    def _release(self, by: str, drill: bool, reason: str) -> None:
        """Release at once; everything that may fail or wait comes after."""
        latch = self._latch
        if latch.state == "released":
            if latch.drill and not drill:  # a drill becomes real by one action; a real one never becomes a drill
                self._latch = msgspec.structs.replace(latch, drill=False)
            self._send_release()
            if latch.drill and not drill:
                self._note("became_real", "", by, reason)
        else:
            self._latch = Latch(
                sequence=latch.sequence, state="released", incident=new_id(), drill=drill, by=by, at=time.time()
            )
            self._seen = {lane: _Lane() for lane in self._lanes}
            self._triggered = trio.current_time()
            self._send_release()
            self._note("triggered", "", by, reason)
            self._feed("alarm", f"紧急疏散：全部打开（{by}）", f"Evacuation: everything opens ({by})")
        self._requested_by = ""
        self._dirty.set()
        self._show()

    def _send_release(self) -> None:
        incident = self._latch.incident
        assert incident is not None
        self._known.append(incident)
        order = Release(incident=incident, drill=self._latch.drill)
        for address in self._lanes.values():
            address.tell(order, system=True)
        self._link.tell(Broadcast(release=self._sign(incident, self._latch.drill)), system=True)
        for address in self._gates.values():
            address.tell(GateRelease(), system=True)

    def _repeat(self) -> None:
        """Tell again whoever is not sensed open."""
        incident = self._latch.incident
        assert incident is not None
        silent = [lane for lane, seen in self._seen.items() if not seen.sensed_open]
        for lane in silent:
            offer(self._lanes[lane], Release(incident=incident, drill=self._latch.drill), system=True)
            if lane in self._gates:
                offer(self._gates[lane], GateRelease(), system=True)
        if silent:
            offer(self._link, Broadcast(release=self._sign(incident, self._latch.drill)), system=True)
        self._show()

    def _on_ack(self, ack: ReleaseAck) -> None:
        if ack.incident != self._latch.incident or self._latch.state != "released" or ack.lane not in self._seen:
            return
        seen = self._seen[ack.lane]
        first = seen.acknowledged_at is None
        changed = first or seen.sensed_open != ack.sensed_open or seen.barrier != ack.barrier
        if first:
            seen.acknowledged_at = trio.current_time()
        newly_open = ack.sensed_open and not seen.sensed_open
        seen.sensed_open, seen.barrier = ack.sensed_open, ack.barrier
        if newly_open:
            seen.acknowledged_at = trio.current_time() if first else seen.acknowledged_at
            self._note("acknowledged", ack.lane, "", ack.barrier)
        if changed:
            self._show()

    def _on_adopt(self, adopt: AdoptRelease) -> None:
        """A lane says that it is released.

        The last incident is known, and over: the lane only needs re-arming.  A newer one that was signed with the
        site's key was triggered by `paifang evacuate` or just before we died: it is taken over for all lanes.  Anything
        else opens no other lane, because anybody could claim it; people are told, and that lane waits for re-arming.
        """
        latch = self._latch
        if latch.state == "released" or adopt.lane not in self._lanes:
            return
        newer = latch.incident is None or adopt.incident > latch.incident
        if newer and (release := self._proven(adopt)) is not None:
            self._take_over(adopt.incident, drill=release.drill, by=f"lane {adopt.lane}")
            return
        if adopt.incident != latch.incident:
            self._doubt(adopt)
        self._lanes[adopt.lane].tell(Restore(incident=adopt.incident), system=True)

    def _proven(self, adopt: AdoptRelease) -> link.Release | None:
        """The genuine release that the lane shows, or None."""
        try:
            release = link.decode_release(adopt.proof)
        except LinkError:
            return None
        return release if release.incident == adopt.incident and self._verify(release) else None

    def _doubt(self, adopt: AdoptRelease) -> None:
        now = trio.current_time()
        if now - self._doubted.get(adopt.lane, -math.inf) < DOUBT_EVERY_S:
            return
        self._doubted[adopt.lane] = now
        offer(
            self._hub,
            FeedEvent(
                at=time.time(),
                kind="evacuation",
                severity="alarm",
                lane=adopt.lane,
                code="unknown_release",
                text_zh="通道自称已释放，但无有效的疏散签名；请查看现场",
                text_en="Says that it is released, without a valid signature; look at the gate",
            ),
        )

    def _noticed(self) -> bool:
        """Whether somebody else (`paifang evacuate`) wrote a release into the latch file."""
        try:
            mtime_ns = self._path.stat().st_mtime_ns
        except OSError:
            return False
        if mtime_ns != self._mtime_ns:
            self._mtime_ns, self._looks = mtime_ns, LOOKS_AFTER_CHANGE
        elif self._looks > 0:
            self._looks -= 1
        else:
            return False
        try:
            slots = read_slots(self._path)
        except LatchError:
            return False
        newest = max(slots, key=lambda slot: slot.sequence)
        if newest.sequence > self._written.sequence and newest.state == "released" and newest.incident is not None:
            return self._hear_of(newest, newest.incident)
        return self._heard_of_any(slots)  # written before a write of ours that was on its way: in the older slot

    def _heard_of_any(self, slots: list[Latch]) -> bool:
        """Whether a release by another process that we did not know stands among `slots`; then it is taken up."""
        for latch in slots:
            strange = latch.sequence > self._floor and latch.incident not in self._known
            if strange and latch.state == "released" and latch.incident is not None:
                return self._hear_of(latch, latch.incident)
        return False

    def _hear_of(self, latch: Latch, incident: int) -> bool:
        """Another process released: join, or it was the same evacuation already. True when it is news."""
        self._known.append(incident)
        if self._latch.state == "released":
            if self._latch.drill and not latch.drill:
                self._release(latch.by, False, "")
            return False
        self._take_over(incident, drill=latch.drill, by=latch.by)
        return True

    def _take_over(self, incident: int, *, drill: bool, by: str) -> None:
        self._latch = msgspec.structs.replace(
            self._latch, state="released", incident=incident, drill=drill, by=by, at=time.time(), pending=[]
        )
        self._seen = {lane: _Lane() for lane in self._lanes}
        self._triggered = trio.current_time()
        self._send_release()
        self._requested_by = ""
        self._dirty.set()
        self._note("adopted", "", by, "")
        self._feed("alarm", f"紧急疏散（由 {by} 触发）", f"Evacuation (triggered by {by})")
        self._show()

    # --- restore ----------------------------------------------------------------------------------------------

    def _on_restore(self, request: RestoreRequest, envelope: Envelope) -> None:
        if self._latch.state != "released":
            envelope.fail(EvacuationRefused("not_released", "Nothing is released", "当前没有疏散"))
        elif not request.by:
            envelope.fail(EvacuationRefused("person_required", "A restore needs a person", "需要登录的人员"))
        elif active := ", ".join(contact for contacts in self._holding.values() for contact in contacts):
            text = f"The fire contact is still active: {active}"
            hint = "reset it at the fire panel; one that is out of order is taken out of the site file"
            text_zh = f"消防触点仍在报警：{active}，复位后方可解除疏散"
            envelope.fail(EvacuationRefused("fire_active", text, text_zh, hint))
        elif not self._requested_by:
            self._requested_by = request.by
            self._note("restore_requested", "", request.by, request.reason)
            self._feed(
                "warning", f"{request.by} 申请恢复，等待第二人", f"{request.by} asks to restore; one more must agree"
            )
            self._show()
            envelope.reply(Done(detail="waiting for a second person"))
        elif self._requested_by == request.by:
            envelope.fail(
                EvacuationRefused("second_person", "A second person must agree; you asked already", "需要第二人确认")
            )
        else:
            self._restore(request)
            envelope.reply(Done(detail="restored; re-arm the lanes"))

    def _restore(self, request: RestoreRequest) -> None:
        incident = self._latch.incident
        assert incident is not None
        self._latch = msgspec.structs.replace(
            self._latch, state="restoring", by=request.by, at=time.time(), pending=sorted(self._lanes)
        )
        self._link.tell(Broadcast(release=None), system=True)
        for address in self._lanes.values():
            address.tell(Restore(incident=incident), system=True)
        self._dirty.set()
        self._note("restored", "", request.by, f"with {self._requested_by}; {request.reason}")
        first, second, self._requested_by = self._requested_by, request.by, ""
        self._feed("notice", f"{first} 与 {second} 解除疏散", f"{first} and {second} ended the evacuation")
        self._show()

    def _on_rearm(self, request: RearmLane, envelope: Envelope) -> None:
        if self._latch.state == "released":
            envelope.fail(
                EvacuationRefused("restore_first", "Restore first; two people must agree", "请先由两人解除疏散")
            )
            return
        lanes = sorted(self._lanes) if request.lane == "*" else [request.lane]
        if any(lane not in self._lanes for lane in lanes):
            envelope.fail(EvacuationRefused("unknown_lane", f"There is no lane {request.lane}", "没有此通道"))
            return
        until = trio.current_time() + REARM_TTL_S
        told = [lane for lane in lanes if offer(self._lanes[lane], Rearm(user=request.by), deadline=until)]
        for lane in told:
            self._note("rearmed", lane, request.by, "")
        pending = [lane for lane in self._latch.pending if lane not in told]
        if self._latch.state == "restoring":
            state = "restoring" if pending else "normal"
            self._latch = msgspec.structs.replace(self._latch, state=state, pending=pending)
            self._dirty.set()
        self._show()
        if busy := ", ".join(lane for lane in lanes if lane not in told):
            envelope.fail(EvacuationRefused("busy", f"No room at {busy}; ask again", f"通道 {busy} 忙，请重试"))
        else:
            envelope.reply(Done(detail=f"{len(lanes)} re-armed"))

    # --- afterwards -------------------------------------------------------------------------------------------

    async def _write_latch(self) -> None:
        """Bring the file in line with memory, from a thread: a slow disk delays nobody. Tries for ever."""
        while True:
            await self._dirty.wait()
            self._dirty = trio.Event()
            try:
                await self._write_once()
            except LatchError as exc:
                self._dirty.set()
                self._feed("alarm", f"疏散锁存文件写入失败：{exc}", f"The evacuation latch cannot be written: {exc}")
                await trio.sleep(LATCH_RETRY_S)
            except BaseException:
                self._dirty.set()  # cancelled: whether it is written is unknown
                raise

    async def _write_once(self) -> None:
        # Our own change of the file is looked at like anybody else's: another process may have written in between.
        # A thread on a disk that hangs is left behind: its late write is one of a whole slot, and harms no other.
        write = functools.partial(_exchange, self._path, self._latch)
        self._written, found = await trio.to_thread.run_sync(write, abandon_on_cancel=True)
        if self._heard_of_any(found):  # two writes of ours in a row would cover it before the next look at the file
            self._me.set_timer("repeat", REPEAT_S, _Tick())

    async def _flush(self) -> None:
        """Before we go: an evacuation of the last moment must be on disk, unless the disk hangs."""
        if not self._dirty.is_set():
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_S):
            try:
                while self._dirty.is_set():  # again when the file says that another process has released meanwhile
                    self._dirty = trio.Event()
                    await self._write_once()
            except LatchError as exc:
                self._feed("alarm", f"疏散锁存文件写入失败：{exc}", f"The evacuation latch cannot be written: {exc}")

    def _remember_mtime(self) -> None:
        try:
            self._mtime_ns = self._path.stat().st_mtime_ns
        except OSError:
            self._mtime_ns = 0

    def _note(self, kind: str, lane: str, user: str, detail: str) -> None:
        note = IncidentNote(
            incident=self._latch.incident or 0,
            seq=new_id(),
            at=time.time(),
            kind=kind,
            lane=lane,
            user=user,
            detail=detail[:200].replace("\0", ""),
        )
        self._unsaid.append(note)
        self._say_notes()

    def _say_notes(self) -> None:
        """Tell the ledger what it has not taken yet; what it cannot write now comes back and is told again."""
        while self._unsaid:
            try:
                self._ledger.tell(self._unsaid[0], reply_to=self._me)
            except MailboxFull:
                return
            self._unsaid.popleft()

    def _feed(self, severity: str, text_zh: str, text_en: str) -> None:
        offer(
            self._hub,
            FeedEvent(at=time.time(), kind="evacuation", severity=severity, text_zh=text_zh, text_en=text_en),
        )

    def _show(self) -> None:
        latch = self._latch
        released = latch.state == "released"
        lanes = [
            LaneRelease(
                lane=lane,
                commanded=released,
                acknowledged=seen.acknowledged_at is not None,
                sensed_open=seen.sensed_open,
                barrier=seen.barrier,
                acknowledged_after_ms=None
                if seen.acknowledged_at is None
                else round((seen.acknowledged_at - self._triggered) * 1000, 1),
            )
            for lane, seen in sorted(self._seen.items())
        ]
        self._hub.tell(
            EvacuationView(
                state=latch.state,
                incident=latch.incident if latch.state != "normal" else None,
                drill=latch.drill,
                triggered_by=latch.by,
                triggered_at=latch.at if latch.state != "normal" else None,
                restore_requested_by=self._requested_by,
                lanes=lanes if latch.state != "normal" else [],
            )
        )
