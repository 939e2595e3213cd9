"""The actor: release everything at once, keep it released, know who is not open, and restore with two people."""

from __future__ import annotations

import time

import msgspec
import trio

from actors._common import offer
from actors.evacuation._messages import (
    Announce,
    Broadcast,
    EvacuationRefused,
    HoldRestore,
    Notes,
    Show,
    Tick,
    Watch,
    ZonesNow,
)
from actors.evacuation._releasing import REPEAT_S, Releasing, Sign, Verify
from core import Address, Envelope, Failed, Stop
from protocols.console import CountOut, Done, RearmLane, RestoreRequest, Trigger
from protocols.messages import AdoptRelease, PassedReleased, Rearm, ReleaseAck, Restore
from storage.interfaces import IncidentNote, LedgerRefused

__all__ = (
    "REPEAT_S",
    "Announce",
    "Broadcast",
    "Evacuation",
    "EvacuationRefused",
    "HoldRestore",
    "Sign",
    "Verify",
    "ZonesNow",
)

WATCH_S = 0.25  # how soon a latch written by `paifang evacuate` is noticed
NOTE_RETRY_S = 1.0
REARM_TTL_S = 5.0  # a re-arming that its lane reads later than this is dropped: somebody may stand there by then
SHOW_COUNTS_S = 0.5  # the console sees people leave this often at most
PLACES_MAX = 100  # where people count by hand


class Evacuation(Releasing):
    """The actor. `lanes` are all lanes of the site; `latch` is the file; `sign` uses the release key in memory.

    `gates` are the boards' actors, by lane: they are told beside their lanes, so that a lane which is being restarted
    keeps nobody in.  `verify` judges what a device shows that claims to be released.  `places` says where each lane is,
    `unsensing` which of them have gates that cannot tell whether they are open, and `announcer` is told last of all.
    `say` publishes at once on the device link, and never raises (`actors.link.LinkActor.say`).
    """

    async def run(self, me: Address) -> None:
        self._me = me
        self._will_show = False  # timers die with their incarnation
        me.set_timer("notes", NOTE_RETRY_S, Notes())
        self._begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._file.keep)
            nursery.start_soon(self._tallies.keep)
            me.set_timer("watch", WATCH_S, Watch())
            while True:
                envelope = await me.receive()
                if isinstance(envelope.msg, Stop):
                    nursery.cancel_scope.cancel()
                    break
                self._on(envelope)
        await self._file.flush()

    def _on(self, envelope: Envelope) -> None:
        """One message; synchronous."""
        match envelope.msg:
            case Trigger() as trigger:
                self._release(trigger.by or "unknown", trigger.drill, trigger.reason, self._meant(trigger.scope))
                envelope.reply(Done(detail=f"incident {self._latch.incident}"))
            case ReleaseAck() as ack:
                self._on_ack(ack)
            case AdoptRelease() as adopt:
                self._on_adopt(adopt)
            case PassedReleased() as passed:
                self._on_passed(passed)
            case ZonesNow(zones=zones):
                self._zones = zones
                if self._latch.state == "released" and self._counting.late(zones):  # nobody had said it before
                    self._tallies.mark(self._counting.tally)
                    self._show()
            case HoldRestore(source=source, contacts=contacts):
                self._holding[source] = contacts
            case RestoreRequest() as request:
                self._on_restore(request, envelope)
            case RearmLane() as request:
                self._on_rearm(request, envelope)
            case CountOut() as counted:
                self._on_counted(counted, envelope)
            case Tick():
                if self._latch.state == "released":
                    self._repeat()
            case Failed(msg=IncidentNote() as note, error=error):
                if not isinstance(error, LedgerRefused):
                    self._record.came_back(note)
            case Notes():
                self._me.set_timer("notes", NOTE_RETRY_S, Notes())
                self._record.say(self._me)
            case Watch():
                self._me.set_timer("watch", WATCH_S, Watch())
                self._file.look()
            case Show():
                self._show()

    # --- who is out ---------------------------------------------------------------------------------------------

    def _on_passed(self, passed: PassedReleased) -> None:
        """One person passed a released lane. What came before the trigger is in the number inside already."""
        if self._latch.state != "released" or passed.lane not in self._released:
            return
        identity = (passed.device, passed.boot, passed.direction.value, str(passed.seq))
        if self._counting.passed(passed.lane, passed.from_zone, passed.to_zone, identity, time.time()):
            self._tallies.mark(self._counting.tally)
            if not self._will_show:
                self._will_show = True
                self._me.set_timer("show", SHOW_COUNTS_S, Show())

    def _on_counted(self, counted: CountOut, envelope: Envelope) -> None:
        """Somebody counts by hand where no sensor does."""
        place = counted.place.strip()
        if self._latch.state != "released":
            envelope.fail(EvacuationRefused("not_released", "Nothing is released", "当前没有疏散"))
        elif not place:
            envelope.fail(EvacuationRefused("place_required", "Say where they were counted", "请填写计数地点"))
        elif place not in self._counting.tally.by_hand and len(self._counting.tally.by_hand) >= PLACES_MAX:
            envelope.fail(EvacuationRefused("too_many", f"{PLACES_MAX} places at most", "计数地点过多"))
        else:
            now = self._counting.by_hand(place, counted.people)
            self._tallies.mark(self._counting.tally)
            self._note("counted", place if place in self._lanes else "", counted.by, f"{place}: {now}")
            self._show()
            envelope.reply(Done(detail=f"{place}: {now}"))

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
        released = self._released
        pending = sorted(released | {lane for lane in self._latch.pending if lane in self._lanes})
        self._latch = msgspec.structs.replace(
            self._latch, state="restoring", by=request.by, at=time.time(), pending=pending
        )
        self._link.tell(Broadcast(release=None), system=True)
        for lane in sorted(released):
            self._lanes[lane].tell(Restore(incident=incident), system=True)
        self._file.mark()
        self._note_counts("out")
        self._note("restored", "", request.by, f"with {self._requested_by}; {request.reason}")
        first, second, self._requested_by = self._requested_by, request.by, ""
        self._feed("notice", f"{first} 与 {second} 解除疏散", f"{first} and {second} ended the evacuation")
        self._announce("restored", second)
        self._show()

    def _on_rearm(self, request: RearmLane, envelope: Envelope) -> None:
        released = self._released if self._latch.state == "released" else frozenset()
        lanes = sorted(set(self._lanes) - released) if request.lane == "*" else [request.lane]
        if request.lane == "*" and released:
            lanes = [lane for lane in lanes if lane in self._latch.pending]  # of an earlier incident, elsewhere
        if not lanes or released.intersection(lanes):
            envelope.fail(
                EvacuationRefused("restore_first", "Restore first; two people must agree", "请先由两人解除疏散")
            )
            return
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
            self._file.mark()
        elif pending != self._latch.pending:
            self._latch = msgspec.structs.replace(self._latch, pending=pending)
            self._file.mark()
        self._show()
        if busy := ", ".join(lane for lane in lanes if lane not in told):
            envelope.fail(EvacuationRefused("busy", f"No room at {busy}; ask again", f"通道 {busy} 忙，请重试"))
        else:
            envelope.reply(Done(detail=f"{len(lanes)} re-armed"))
