"""People's commands to zones: stop and resume entry or sale, one in for one out, correct a count.

A stop has an owner, a reason and a latest end, so that nobody can forget it.  A large correction needs two people
(domain model, section 12): the first one asks, a second one asks for the same.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import trio

from actors._asked import Slots
from actors._common import offer
from actors.errors import CommandRefused
from core import Address, Envelope, Stop
from protocols.console import CalibrateZone, Done, FeedEvent, StopZoneFor
from storage.interfaces import AuditEntry, Calibrate, StopZone, ZoneCount

COMMANDS_MAX = 16  # under way at once
LEDGER_S = 3.0
STOP_MINUTES_MAX = 24 * 60
ALONE_MAX = 20  # people that one person may correct a count by
SECOND_PERSON_S = 600.0  # a correction that waits for its second person is forgotten after this
CALIBRATE_MAX = 100_000

WHAT = {
    "entry": ("入园", "entry"),
    "sale": ("售票", "sale"),
    "one_for_one": ("一出一进", "one in for one out"),
}


class Zones:
    """The actor behind `zone.*`. `zones` are the names of the site file; `outside` is none of them."""

    def __init__(self, *, zones: Collection[str], ledger: Address, hub: Address) -> None:
        self._zones = frozenset(zones)
        self._ledger = ledger
        self._hub = hub
        self._asked: dict[tuple[str, int], tuple[str, float]] = {}  # (zone, delta) -> who asked, until when

    async def run(self, me: Address) -> None:
        async with trio.open_nursery() as nursery:
            slots = Slots(nursery, COMMANDS_MAX)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case StopZoneFor() | CalibrateZone():
                        slots.attend(envelope, self._command)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _command(self, envelope: Envelope) -> Done:
        order: StopZoneFor | CalibrateZone = envelope.msg
        self._check(order)
        if isinstance(order, StopZoneFor):
            return Done(detail=await self._stop(order))
        return Done(detail=await self._calibrate(order))

    def _check(self, order: StopZoneFor | CalibrateZone) -> None:
        if order.zone not in self._zones:
            raise CommandRefused("unknown_zone", f"There is no zone {order.zone}", "没有此区域")
        if not order.reason.strip():
            raise CommandRefused("reason_required", "A reason is required", "请填写原因")

    async def _stop(self, order: StopZoneFor) -> str:
        if order.what not in WHAT:
            allowed = ", ".join(WHAT)
            raise CommandRefused("bad_stop", f"{order.what!r} cannot be stopped", "无此操作", f"one of {allowed}")
        if not 0 <= order.minutes <= STOP_MINUTES_MAX:
            raise CommandRefused(
                "bad_minutes", f"A stop lasts 1 to {STOP_MINUTES_MAX} minutes; 0 ends it", "时长为 1 至 1440 分钟"
            )
        now = time.time()
        until = now + order.minutes * 60 if order.minutes else None
        what = order.what
        await self._ledger.ask(
            StopZone(zone=order.zone, what=what, until=until, user=order.by, reason=order.reason, at=now),  # type: ignore[arg-type]
            LEDGER_S,
        )
        detail = f"{what} of {order.zone} for {order.minutes} min" if until else f"{what} of {order.zone} as usual"
        self._record(order.by, "zone.stop", detail, order.reason)
        zh, en = WHAT[what]
        if what == "one_for_one":
            texts = (f"{zh}：{order.zone}", f"{en.capitalize()} at {order.zone}")
            ended = (f"结束{zh}：{order.zone}", f"No longer {en} at {order.zone}")
        else:
            texts = (f"暂停{zh}：{order.zone}", f"Stopped {en} of {order.zone}")
            ended = (f"恢复{zh}：{order.zone}", f"Resumed {en} of {order.zone}")
        zh, en = texts if until else ended
        self._tell(f"{zh}（{order.by}）", f"{en} ({order.by})", f"stop_{what}" if until else f"resume_{what}")
        return detail

    async def _calibrate(self, order: CalibrateZone) -> str:
        delta = order.delta
        if not 0 < abs(delta) <= CALIBRATE_MAX:
            raise CommandRefused("bad_delta", "Correct by at least one person", "校正人数不能为 0")
        now = trio.current_time()
        self._asked = {key: asked for key, asked in self._asked.items() if asked[1] > now}
        if abs(delta) > ALONE_MAX:
            first, _ = self._asked.get((order.zone, delta), ("", 0.0))
            if first in ("", order.by):
                self._asked[order.zone, delta] = (order.by, now + SECOND_PERSON_S)
                self._record(order.by, "zone.calibrate.ask", f"{order.zone} {delta:+d}", order.reason)
                self._tell(
                    f"{order.by} 请求校正 {order.zone} 人数 {delta:+d}，需第二人确认",
                    f"{order.by} asks to correct {order.zone} by {delta:+d}; a second person must agree",
                    "calibration_asked",
                )
                return "waiting for a second person"
            who = f"{first}+{order.by}"
        else:
            who = order.by
        booked: ZoneCount = await self._ledger.ask(
            Calibrate(zone=order.zone, delta=delta, reason=order.reason, user=who, at=time.time(), key=order.key),
            LEDGER_S,
        )
        self._asked.pop((order.zone, delta), None)
        self._record(who, "zone.calibrate", f"{order.zone} {delta:+d}", order.reason)
        self._tell(
            f"{who} 校正 {order.zone} 人数 {delta:+d}，现为 {booked.inside}",
            f"{who} corrected {order.zone} by {delta:+d} to {booked.inside}",
            "calibrated",
        )
        return f"{order.zone}: {booked.inside}"

    def _record(self, user: str, action: str, subject: str, reason: str) -> None:
        entry = AuditEntry(user=user, role="", action=action, subject=subject, reason=reason, at=time.time())
        offer(self._ledger, entry)

    def _tell(self, text_zh: str, text_en: str, code: str) -> None:
        event = FeedEvent(
            at=time.time(), kind="mode", severity="notice", code=code, text_zh=text_zh, text_en=text_en
        )
        offer(self._hub, event)
