"""A site to look at: every method of the console answered with a plausible day, for pictures and for tests of the page.

    python -m admin_ws.showcase --port 8470        serves it; log in as `max` with the password `everything`

A stub of a site, as `admin_ws.testing` has it: what it shares with a real one is the messages and the channel.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from core import Address, Child, Stop, Supervisor, inspect_tree
from core.testing import running
from protocols import console as c
from protocols import modes as m
from protocols.console_methods import METHODS

from .channel import Route
from .testing import USERS, Refusal, StubSite

ENTRANCES = (("北门", "Qianshan", 10), ("南门", "Jade Gate", 8), ("索道站", "summit", 6))
REFUSED = (
    ("already_used", "票已使用", "Ticket already used", 31),
    ("expired", "票已过期", "Ticket has expired", 18),
    ("wrong_zone", "此票不可进入该区域", "This ticket is not for this area", 12),
    ("capacity_hold", "园区已满，请稍候", "The area is full, please wait", 7),
    ("bad_signature", "无效票码", "Not a valid ticket code", 3),
)
ROLES = (
    ("operator", "监控员", "Control-room operator"),
    ("cashier", "售票员", "Cashier"),
    ("system_manager", "系统管理员", "System manager"),
)
HOUR_S = 3600
STEPS = {"minute": (60, 60), "hour": (HOUR_S, 24), "day": (24 * HOUR_S, 14)}
OWN_METHODS = frozenset(
    {"site.inspect", "site.explain", "site.reload", "trace.path", "flow.report", "find.history", "office.find",
     "session.set_password", "session.totp_begin"}
)  # fmt: skip
TRACE = "4f1c0b7a9d22"


class Showcase(StubSite):
    """`lanes` as many as wanted; `seed` makes every picture the same."""

    def __init__(
        self, *, lanes: int = 24, seed: int = 7, port: int = 0, static_folder: Path | None = None
    ) -> None:
        self.random = random.Random(seed)
        self.answers = Address("answers")
        self.tree: Supervisor | None = None
        self.cases = _cases()
        wanted = [name for name in METHODS if name.startswith(("cases.", "users.", "mode.")) or name in OWN_METHODS]
        routes = [
            Route(method=name, params=METHODS[name].params or c.GetTree, address=self.answers, permission="site.view",
                  timeout_s=3.0)
            for name in wanted
        ]  # fmt: skip
        super().__init__(lanes=lanes, port=port, more_routes=routes, static_folder=static_folder)
        self.lanes = [self._lane(number) for number in range(lanes)]

    def _lane(self, number: int) -> c.LaneView:
        place = number
        for entrance, zone, count in (*ENTRANCES, ("东门", "park", 10**6)):  # noqa: B007 - what it ends with is used
            if place < count:
                break
            place -= count
        busy = self.random.random()
        refused = self.random.choice(REFUSED) if busy > 0.8 else None
        return c.LaneView(
            lane=f"lane-{number + 1}",
            name=f"{entrance} {place + 1}",
            entrance=entrance,
            kind=("tripod", "wing", "swing")[len(entrance + zone) % 3],
            transport="link" if number % 3 == 0 else "serial",
            from_zone="outside" if entrance != "索道站" else "Qianshan",
            to_zone=zone,
            mode="normal_exit" if place == 7 else "closed" if number == 5 else "bidirectional",
            state="granted" if number in (1, 11) else "unavailable" if number == 14 else "idle",
            available=number != 14,
            barrier="open" if number in (1, 11) else "unknown" if number == 14 else "closed",
            entries=self.random.randint(180, 940),
            exits=self.random.randint(60, 500),
            passed=3 if number == 11 else 0,
            pax=20 if number == 11 else 1 if number == 1 else 0,
            last_code="ok" if refused is None else refused[0],
            last_text_zh="请通行" if refused is None else refused[1],
            last_text_en="Please pass" if refused is None else refused[2],
            last_at=time.time() - self.random.randint(1, 90),
            alarm="tailgate" if number == 8 else "",
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Showcase]:
        """Run it, with a day behind it."""
        self.tree = Supervisor("answers-tree", [Child(self.answers, self._answers_main)])
        async with running(self.tree), super().open():
            yield self

    def tell_everything(self) -> None:
        """As if the day had been going on since the morning."""
        tell = self.hub_address.tell
        for lane in self.lanes:
            tell(lane)
            kinds = [("gate", 1), ("reader", 2)]
            for kind, count in kinds:
                for number in range(count):
                    tell(self._device(lane, kind, number))
        zones = (
            ("Qianshan", "前山景区", 3120, 4000, "normal", 12.4, 4260.0),
            ("Jade Gate", "玉屏楼", 1480, 1600, "slow", 4.8, 1500.0),
            ("summit", "光明顶", 900, 900, "full", 0.0, None),
            ("park", "花溪谷", 214, None, "normal", -3.2, None),
        )
        for zone, name, inside, limit, state, trend, full_in_s in zones:
            tell(
                c.ZoneView(zone=zone, name=name, inside=inside, held=3, limit=limit, state=state, staff=14,
                           entered=inside + 800, trend_per_min=trend, full_in_s=full_in_s)
            )  # fmt: skip
        for device, kind in (("window-1", "printer"), ("database", "database"), ("link", "link")):
            tell(c.DeviceView(device=device, kind=kind, lane="", availability="available", since=time.time() - 9000))
        minute = time.time() // 60 * 60
        for ago in range(240, 0, -1):
            wave = 40 + 25 * ((240 - ago) % 70) / 70
            tell(
                c.FlowPoint(minute=minute - ago * 60, entries=int(wave + self.random.randint(0, 14)),
                            exits=int(wave / 2 + self.random.randint(0, 9)), refused=self.random.randint(0, 4))
            )  # fmt: skip
        for number in range(60):
            tell(self.line(time.time() - (60 - number) * 11))

    def _device(self, lane: c.LaneView, kind: str, number: int) -> c.DeviceView:
        bad = not lane.available or (lane.lane == "lane-9" and kind == "reader" and number == 1)
        frames = self.random.randint(2_000, 90_000)
        damaged = self.random.choice((0, 0, 0, 2, 190))
        return c.DeviceView(
            device=f"{kind}/{lane.lane}" + (f"/{number + 1}" if kind == "reader" else ""),
            kind=kind,
            lane=lane.lane,
            availability="unavailable" if bad else "available",
            detail="no answer for 2.0 s" if bad else "",
            bad_frames=damaged,
            reconnects=self.random.choice((0, 0, 0, 1, 4)),
            last_said="counted entry" if kind == "gate" else "read a code",
            last_said_at=time.time() - self.random.randint(1, 300),
            since=time.time() - self.random.randint(60, 40_000),
            frames=frames,
            error_rate=damaged / frames,
            firmware="V2.6" if kind == "gate" else "1.04",
            clock_skew_s=7.3 if lane.lane == "lane-4" and kind == "gate" else None,
            entries=lane.entries if kind == "gate" else None,
            exits=lane.exits if kind == "gate" else None,
        )

    def line(self, at: float) -> c.FeedEvent:
        """One more line of the feed."""
        lane = self.random.choice(self.lanes)
        if self.random.random() < 0.2:
            code, zh, en, _ = self.random.choice(REFUSED)
            return c.FeedEvent(at=at, kind="refused", severity="notice", lane=lane.lane, code=code, text_zh=zh,
                               text_en=en, trace=TRACE)  # fmt: skip
        if self.random.random() < 0.05:
            return c.FeedEvent(at=at, kind="alarm", severity="warning", lane=lane.lane, code="tailgate",
                               text_zh="尾随通过", text_en="Somebody followed closely")  # fmt: skip
        return c.FeedEvent(at=at, kind="passage", severity="info", lane=lane.lane, code="ok", text_zh="1 人进入",
                           text_en="1 person entered")  # fmt: skip

    # -- answers ------------------------------------------------------------------------------------------------------

    async def _answers_main(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            message = envelope.msg
            self.sees.append(message)
            if isinstance(message, Stop):
                return
            try:
                envelope.reply(self._answer_more(message))
            except Refusal as refusal:
                envelope.fail(refusal)

    def _answer_more(self, message: Any) -> Any:
        match message:
            case c.GetTree():
                assert self.tree is not None
                return inspect_tree(self.tree)
            case c.GetTrace(trace=trace):
                return _path(trace)
            case c.GetFlowReport(span=span):
                return self._report(span)
            case c.ExplainScan(lane=lane):
                return _explained(lane)
            case c.ReloadSite(dry_run=dry_run):
                return _reloaded(dry_run)
            case c.ListCases(state=state):
                waiting = [case for case in self.cases if case.state not in ("closed", "resolved")]
                return c.CaseList(cases=list(self.cases) if state == "all" else waiting)
            case c.AcknowledgeCase() | c.AssignCase() | c.NoteCase() | c.CloseCase():
                return self._work(message)
            case m.ListModes():
                return _modes()
            case c.FindHistory(text=text):
                return _history(text)
            case c.ListUsers():
                return _users()
            case c.ListRoles():
                return c.RoleList(roles=[
                    c.RoleRow(role=role, name_zh=zh, name_en=en, permissions=["view"])
                    for role, zh, en in ROLES
                ])  # fmt: skip
            case c.ListSessions():
                now = time.time()
                return c.SessionList(sessions=[
                    c.SessionRow(session=f"s{n}", user=user, role=USERS[user][1], since=now - 5000 * n,
                                 last_seen=now - n, ends_at=now + 30_000)
                    for n, user in enumerate(("max", "anna", "chen"), 1)
                ])  # fmt: skip
            case c.CreateUser(user=user) | c.ResetPassword(user=user):
                return c.OneTimePassword(user=user, password="lotus-9-granite-41")  # noqa: S106 - of nobody
        return c.Done()

    def _work(self, message: Any) -> c.Done:
        for index, case in enumerate(self.cases):
            if case.case != message.case:
                continue
            said, changes = "", {}
            match message:
                case c.AcknowledgeCase():
                    said, changes = "acknowledged", {"state": "acknowledged"}
                case c.AssignCase(to=to):
                    said, changes = f"assigned to {to}", {"state": "assigned", "assigned_to": to}
                case c.NoteCase(text=text):
                    said = text
                case c.CloseCase(reason=reason):
                    said, changes = f"closed: {reason}", {"state": "closed"}
            note = c.CaseNote(at=time.time(), by=message.by, text=said)
            self.cases[index] = msgspec.structs.replace(case, notes=[*case.notes, note], **changes)
            return c.Done()
        raise Refusal("unknown_case", "没有此个案", "There is no such case")

    def _report(self, span: str) -> c.FlowReport:
        step_s, count = STEPS[span]
        last = time.time() // step_s * step_s + step_s
        points = [
            c.FlowSum(at=last - (count - n) * step_s, entries=int(20 * step_s**0.5 * (1 + (n % 9) / 3)),
                      exits=int(12 * step_s**0.5 * (1 + (n % 7) / 3)), refused=n % 5)
            for n in range(count)
        ]  # fmt: skip
        return c.FlowReport(
            span=span, step_s=step_s, first=last - count * step_s, last=last, points=points,
            refusals=[c.RefusalCount(code=code, count=n, text_zh=zh, text_en=en) for code, zh, en, n in REFUSED],
            lanes=[
                c.LaneThroughput(lane=lane.lane, entries=lane.entries, exits=lane.exits, refused=index % 6,
                                 busiest_minute=14 + index % 9, median_s=3.9 if index == 3 else 1.4 + index % 5 / 10)
                for index, lane in enumerate(self.lanes)
            ],
        )  # fmt: skip


def _cases() -> list[c.CaseView]:
    now = time.time()
    told = (
        ("tailgate", "lane-9", "alarm", "Two people on one grant at 北门 9", "open", ""),
        ("forced", "lane-3", "warning", "Barrier pushed open for 2.1 s", "open", ""),
        ("unresolved", "lane-12", "warning", "Grant 48211 ended without a statement of the lane", "acknowledged", ""),
        ("device", "lane-15", "notice", "gate/lane-15: no answer for 2.0 s", "assigned", "anna"),
        ("conflict", "lane-4", "warning", "Ticket 20418 was used twice while the lane was alone", "closed", "boris"),
    )
    return [
        c.CaseView(case=311 + n, kind=kind, lane=lane, severity=severity, detail=detail, state=state,
                   opened_at=now - 700 * (n + 1), assigned_to=to,
                   notes=[] if n < 2 else [c.CaseNote(at=now - 300, by="boris", text="Called the gate")])
        for n, (kind, lane, severity, detail, state, to) in enumerate(told)
    ]  # fmt: skip


def _path(trace: str) -> c.TracePath:
    if trace != TRACE:
        return c.TracePath(trace=trace, steps=[])
    at = time.time() - 60
    steps = (
        (0.0, "lane/lane-3", "Scan", 0.1, ""),
        (0.6, "admission", "Decide", 0.3, ""),
        (1.5, "ledger", "GrantOp", 0.4, ""),
        (5.2, "lane/lane-3", "Denied", 0.1, "already_used"),
        (5.5, "consoles", "FeedEvent", 0.2, "already_used"),
    )
    return c.TracePath(trace=trace, steps=[
        c.TraceStep(at=at + ms / 1000, actor=actor, message=message, waited_ms=waited, code=code,
                    text_zh="票已使用" if code else "", text_en="Ticket already used" if code else "")
        for ms, actor, message, waited, code in steps
    ])  # fmt: skip


def _explained(lane: str) -> c.Explanation:
    def step(check: str, zh: str, en: str, text_zh: str, text_en: str, code: str = "") -> c.ExplainStep:
        return c.ExplainStep(check=check, name_zh=zh, name_en=en, verdict="refused" if code else "ok", text_zh=text_zh,
                             text_en=text_en, code=code, cure_zh="明日再来" if code else "",
                             cure_en="with another ticket" if code else "")  # fmt: skip

    return c.Explanation(
        lane=lane, zone="Qianshan", at=time.time(), admitted=False, code="already_used", text_zh="票已使用",
        text_en="Ticket already used", pax=0, ticket=20418, product="adult",
        steps=[step("signature", "签名", "signature", "有效", "good"),
               step("uses", "次数", "uses", "1 次已用 1 次", "1 of 1 used", "already_used")],
    )  # fmt: skip


def _reloaded(dry_run: bool) -> c.Reloaded:
    state = "would_apply" if dry_run else "applied"
    changes = [
        c.SiteChange(subject="reader/lane-4/1", what="changed", detail="path: dev/n4-qr -> dev/n4-qr2", state=state),
        c.SiteChange(subject="lane-25", what="added", detail="name: 东门 1, to_zone: park", state="restart"),
        c.SiteChange(subject="printer window-2", what="removed", detail="", state=state),
    ]
    return c.Reloaded(changes=changes, warnings=["lane lane-25 has no reader on the inner side"])


def _modes() -> m.Modes:
    now = time.time()
    runs = m.ModeView(
        mode=4, kind="one_for_one", subject="summit", zh="一出一进", en="One in for one out", owner="anna",
        reason="Crowd", since=now - 900, until=now + 900, in_force=True,
    )  # fmt: skip
    kinds = [
        m.KindView(kind=row.kind, of=row.of, zh=row.zh, en=row.en, max_minutes=480,
                   subjects=["lane-1", "lane-2"] if row.of == "lane" else ["summit", "park"])
        for row in m.TABLE if row.of != "site"
    ]  # fmt: skip
    return m.Modes(modes=[runs], kinds=kinds)


def _users() -> c.UserList:
    now = time.time()
    rows = [
        c.UserRow(name=name, role=role, disabled=name == "dora", totp=name == "max", must_change=name == "chen",
                  sessions=1, last_login_at=now - 4000 * n, locked_until=now + 200 if name == "boris" else None)
        for n, (name, (_, role, _)) in enumerate(USERS.items(), 1)
    ]  # fmt: skip
    return c.UserList(users=rows)


def _history(text: str) -> c.FindResult:
    if text == "nothing":
        return c.FindResult(orders=[], events=[])
    now = time.time()
    events = (
        (300, "refused", "lane-3", "already_used", "票已使用", "Ticket already used", TRACE),
        (5200, "passage", "lane-2", "ok", "1 人进入", "1 person entered", ""),
        (5203, "admitted", "lane-2", "ok", "请通行", "Please pass", ""),
        (9100, "sale", "", "", "窗口售出 成人票", "Sold at the window: adult", ""),
    )
    return c.FindResult(orders=[], events=[
        c.HistoryLine(at=now - ago, kind=kind, lane=lane, code=code, text_zh=zh, text_en=en, trace=trace)
        for ago, kind, lane, code, zh, en, trace in events
    ])  # fmt: skip


async def _serve(port: int, static_folder: Path | None) -> None:
    async with Showcase(port=port, static_folder=static_folder).open() as site:
        sys.stdout.write(f"{site.url}\n")
        sys.stdout.flush()
        while True:
            await trio.sleep(1.0)
            site.hub_address.tell(site.line(time.time()))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Serve a site to look at.")
    parser.add_argument("--port", type=int, default=8470)
    parser.add_argument("--static", type=Path, default=None, help="a folder of built pages; otherwise the usual one")
    arguments = parser.parse_args()
    trio.run(partial(_serve, arguments.port, arguments.static))


if __name__ == "__main__":
    main()
