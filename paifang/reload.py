"""Taking over a changed site file while the server runs: devices at once, the rest at the next start.

Readers, printers, people counters, fire contacts and boards are put in place without touching the others: a device
that is described as before keeps its connection.  Zones, lanes, products and addresses take effect when the server is
restarted, and a reload says so by name.  A file with a mistake changes nothing at all.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from actors._common import offer
from actors.errors import CommandRefused
from core import Address, Stop, Supervisor
from drivers.base import Driver, Printer
from drivers.errors import DeviceError
from paifang._device_specs import FIRE, GATE, READER, DeviceSpec, device_specs
from paifang._wire_devices import Devices
from paifang.check import Report, check
from paifang.site import Controller, Lane, SiteFile
from protocols.console import FeedEvent, Reloaded, ReloadSite, SiteChange
from storage.interfaces import AuditEntry

READ_DEADLINE_S = 5.0  # a site file on a dead disk
DETAIL_MAX = 300  # characters of one change
REFUSAL_LINES = 20  # of a file with mistakes
QUIET = frozenset({"idle", "unavailable", "recovering", "starting"})  # states of a lane that nobody is in
DEVICE_TABLES = frozenset({"board", "readers", "counter"})  # of a lane
OTHER_TABLES = (
    "site", "database", "http", "web", "sessions", "link", "face", "evacuation", "alarms", "modes", "products", "zones",
)  # fmt: skip

APPLIED, WOULD_APPLY, WAITS, RESTART = "applied", "would_apply", "waits", "restart"

log = structlog.get_logger(__name__)


class Plan(msgspec.Struct, kw_only=True):
    """What a new site file asks for. `restart` cannot be done while the server runs."""

    added: list[Any] = []
    changed: list[Any] = []
    removed: list[Any] = []
    restart: list[SiteChange] = []


def plan(started: SiteFile, running: dict[str, DeviceSpec], new: SiteFile) -> Plan:
    """Compare. `started` is the file that the server was started with, `running` the devices as they are now."""
    found = Plan(restart=list(_tables(started, new)))
    old_lanes = {lane.id: lane for lane in started.lanes}
    fixed_lanes = {lane.id for lane in new.lanes if _transport(old_lanes.get(lane.id)) == _transport(lane)}
    wanted = device_specs(new)
    for name, spec in wanted.items():
        if spec.lane and spec.lane not in fixed_lanes:
            continue  # of a lane that is new or works in another way: said for the lane
        before = running.get(name)
        if before is None:
            found.added.append(spec)
        elif before.kind in (GATE, READER) and before.fixed != spec.fixed:
            key = "board.fire" if before.kind == GATE else "direction"
            detail = f"{key}: {before.fixed[0]} → {spec.fixed[0]}"
            found.restart.append(SiteChange(subject=name, what="changed", detail=detail, state=RESTART))
        elif (before.tables, before.fixed) != (spec.tables, spec.fixed):
            found.changed.append(spec)
    for name, spec in running.items():
        if name not in wanted and (not spec.lane or spec.lane in fixed_lanes):
            found.removed.append(spec)
    return found


def _transport(lane: Lane | None) -> str:
    if lane is None:
        return ""
    if lane.kind == "attendant":
        return "phone"
    return "board" if lane.board is not None else "counter" if lane.counter is not None else "device"


def _tables(started: SiteFile, new: SiteFile) -> Iterator[SiteChange]:
    """What is not about devices."""
    for table in OTHER_TABLES:
        before, after = getattr(started, table), getattr(new, table)
        if isinstance(before, list):
            yield from _entries(table, before, after)
        elif before != after:
            yield SiteChange(subject=table, what="changed", detail=difference(before, after), state=RESTART)
    old, now = {lane.id: lane for lane in started.lanes}, {lane.id: lane for lane in new.lanes}
    for name in dict.fromkeys([*old, *now]):
        what = "added" if name not in old else "removed" if name not in now else "changed"
        detail = difference(old.get(name), now.get(name), without=DEVICE_TABLES) if what == "changed" else ""
        if what == "changed" and (before := _transport(old[name])) != (after := _transport(now[name])):
            detail = ", ".join(part for part in (f"{before} → {after}", detail) if part)
        if detail or what != "changed":
            yield SiteChange(subject=f"lanes {name}", what=what, detail=detail, state=RESTART)


def _entries(table: str, before: list[Any], after: list[Any]) -> Iterator[SiteChange]:
    """Entries of a list, by their ids; several with one id are compared together."""
    old: dict[str, list[Any]] = {}
    now: dict[str, list[Any]] = {}
    for entries, grouped in ((before, old), (after, now)):
        for entry in entries:
            grouped.setdefault(entry.id, []).append(entry)
    for name in dict.fromkeys([*old, *now]):
        if old.get(name) != now.get(name):
            what = "added" if name not in old else "removed" if name not in now else "changed"
            one = len(old.get(name, [])) == len(now.get(name, [])) == 1
            detail = difference(old[name][0], now[name][0]) if one else ""
            yield SiteChange(subject=f"{table} {name}", what=what, detail=detail, state=RESTART)


def difference(before: Any, after: Any, *, without: frozenset[str] = frozenset()) -> str:
    """What is different between two tables, key by key: `baud: 9600 → 19200`."""
    if not (isinstance(before, msgspec.Struct) and isinstance(after, msgspec.Struct)):
        return f"{_shown(before)} → {_shown(after)}"
    parts = []
    for field in msgspec.structs.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.name not in without and old != new:
            inner = isinstance(old, msgspec.Struct) and isinstance(new, msgspec.Struct)
            text = f"({difference(old, new)})" if inner else f"{_shown(old)} → {_shown(new)}"
            parts.append(f"{field.encode_name}: {text}")
    return ", ".join(parts)[:DETAIL_MAX]


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return f"{len(value)} entries"
    if isinstance(value, msgspec.Struct):
        return "a table"
    return f'"{value}"' if isinstance(value, str) else str(value)


def device_difference(before: DeviceSpec, after: DeviceSpec) -> str:
    """What is different in a device's own tables and in those that it refers to."""
    parts = [
        difference(old, new)
        for old, new in zip(before.tables, after.tables, strict=True)
        if old != new and not (isinstance(old, tuple) or isinstance(new, tuple))
    ]
    if any(isinstance(old, tuple) and old != new for old, new in zip(before.tables, after.tables, strict=True)):
        parts.append("feedback patterns")
    return ", ".join(part for part in parts if part) or "its contacts"


def _line_of(spec: DeviceSpec) -> Any:
    """What a device shares with others: its controller, its serial line, its address on the network."""
    controller = next((table for table in spec.tables[1:] if isinstance(table, Controller)), None)
    if controller is not None:
        return controller.id
    table = spec.tables[0]
    return getattr(table, "path", "") or (getattr(table, "host", "") or spec.name, getattr(table, "port", 0))


class Reloader:
    """The actor behind `site.reload` and SIGHUP: one reload at a time.

    Args:
        path: the site file.
        started: what it said when the server was started.
        devices: the devices that run; `supervisor` is the one above them.
        lanes: addresses of the lanes, whose states say whether somebody is in them.
    """

    def __init__(
        self,
        *,
        path: Path,
        started: SiteFile,
        devices: Devices,
        supervisor: Callable[[], Supervisor],
        lanes: dict[str, Address],
        ledger: Address,
        hub: Address,
    ) -> None:
        self._path = path
        self._started = started
        self._devices = devices
        self._supervisor = supervisor
        self._lanes = lanes
        self._ledger = ledger
        self._hub = hub

    async def run(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case ReloadSite() as order:
                    try:
                        result = await self.reload(order)
                    except CommandRefused as exc:
                        log.error("site.reload.refused", by=order.by, reason=str(exc))
                        self._say("alarm", f"站点文件未生效：{exc.text_zh}", f"The site file was not taken over: {exc}")
                        envelope.fail(exc)
                        continue
                    envelope.reply(result)
                case Stop():
                    return

    async def reload(self, order: ReloadSite) -> Reloaded:
        """Read, check, compare, apply. Raises CommandRefused, and then nothing was changed."""
        report = await self._read()
        assert report.site is not None
        new = report.site
        todo = plan(self._started, self._devices.specs, new)
        busy = self._busy(todo.changed)
        ready = [spec for spec in todo.changed if spec.name not in busy]
        changes = [
            *(self._change(spec, "removed", order.dry_run, busy) for spec in todo.removed),
            *(self._change(spec, "changed", order.dry_run, busy) for spec in todo.changed),
            *(self._change(spec, "added", order.dry_run, busy) for spec in todo.added),
        ]
        if not order.dry_run:
            await self._apply(new, todo, ready)
            self._record(order, [*changes, *todo.restart])
        warnings = [str(warning) for warning in report.warnings]
        return Reloaded(changes=[*changes, *todo.restart], warnings=warnings)

    async def _read(self) -> Report:
        report: Report | None = None
        with trio.move_on_after(READ_DEADLINE_S):
            report = await trio.to_thread.run_sync(check, self._path, abandon_on_cancel=True)
        if report is None:
            wrong = f"{self._path}: cannot be read within {READ_DEADLINE_S:g} s"
            raise CommandRefused("bad_site_file", wrong, f"{self._path}：读取超时")
        if report.site is None:
            lines = report.lines()[:REFUSAL_LINES]
            raise CommandRefused("bad_site_file", "\n".join(lines), "\n".join(["站点文件有误：", *lines]))
        return report

    def _busy(self, changed: list[DeviceSpec]) -> dict[str, str]:
        """Devices that have to wait, and for which lane: a board with somebody in its lane, or released, is left alone.

        So is whatever else was changed on its line or at its controller: one line has one speed and one owner.
        """
        lines: dict[Any, str] = {}
        for spec in changed:
            if spec.kind == GATE and self._lanes[spec.lane].state not in QUIET:
                for version in (self._devices.specs[spec.name], spec):
                    lines[_line_of(version)] = spec.lane
        found: dict[str, str] = {}
        for spec in changed:
            for version in (self._devices.specs[spec.name], spec):
                if _line_of(version) in lines:
                    found[spec.name] = lines[_line_of(version)]
        return found

    def _change(self, spec: DeviceSpec, what: str, dry_run: bool, busy: dict[str, str]) -> SiteChange:
        before = self._devices.specs.get(spec.name)
        detail = device_difference(before, spec) if what == "changed" and before is not None else spec.place
        state = WAITS if what == "changed" and spec.name in busy else APPLIED
        if state == WAITS:
            lane = busy[spec.name]
            detail += f" (lane {lane} is {self._lanes[lane].state}: reload again)"
        elif dry_run:
            state = WOULD_APPLY
        return SiteChange(subject=spec.name, what=what, detail=detail[:DETAIL_MAX], state=state)

    async def _apply(self, new: SiteFile, todo: Plan, ready: list[DeviceSpec]) -> None:
        """First everything that can fail, then what cannot."""
        made: list[tuple[DeviceSpec, Driver | Printer]] = []
        try:
            self._devices.patterns(new)
            self._devices.free(spec.name for spec in [*ready, *todo.removed])
            made = [(spec, self._devices.new_driver(spec)) for spec in [*ready, *todo.added]]
        except (ValueError, DeviceError) as exc:
            raise CommandRefused("bad_site_file", str(exc), f"站点文件有误：{exc}") from exc
        supervisor = self._supervisor()
        for spec in todo.removed:
            await self._take_away(supervisor, spec)
        for spec, driver in made:
            if spec.kind == FIRE and spec.name in self._devices.specs:
                await self._take_away(supervisor, spec)  # its actor knows the contacts by name: it is made anew
            if spec.name in self._devices.specs:
                self._devices.put(spec, driver)
            else:
                self._devices.specs[spec.name] = spec
                await supervisor.start_child(self._devices.child(spec, driver))

    async def _take_away(self, supervisor: Supervisor, spec: DeviceSpec) -> None:
        with contextlib.suppress(KeyError):  # it has ended by itself and was not started again
            await supervisor.stop_child(spec.name)
        self._devices.forget(spec.name)

    def _record(self, order: ReloadSite, changes: list[SiteChange]) -> None:
        for change in changes:
            log.info("site.reload", by=order.by, **msgspec.structs.asdict(change))
        done = sum(change.state == APPLIED for change in changes)
        later = sum(change.state == RESTART for change in changes)
        subject = f"{done} devices, {later} at the next start"
        entry = AuditEntry(user=order.by, role="", action="site.reload", subject=subject, reason="", at=time.time())
        offer(self._ledger, entry)
        self._say(
            "notice",
            f"{order.by} 重新读取站点文件：{done} 台设备已更新，{later} 项重启后生效",
            f"{order.by} reloaded the site file: {done} devices changed, {later} changes wait for a restart",
        )

    def _say(self, severity: str, text_zh: str, text_en: str) -> None:
        event = FeedEvent(
            at=time.time(), kind="device", severity=severity, code="reload", text_zh=text_zh, text_en=text_en
        )
        offer(self._hub, event)
