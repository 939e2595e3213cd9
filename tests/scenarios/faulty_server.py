"""`paifang` with faults that a test switches on: `python faulty_server.py FOLDER serve site.toml …`.

Everything is the real program.  A fault is on while a file of its name lies in FOLDER:

* `hub`: the consoles hub crashes at every delta and at every start; `accounts`: that actor at every log-in and start;
* `lane.<id>`: that lane's actor crashes at every message that is no release, and at every start;
* `ledger.deaf`: the ledger reads nothing, and its mailbox is filled to the brim; `session`: sessions last one second;
* `web`: the actor with the console's port crashes, at every start too;
* `queue`: when an evacuation is triggered, 10,000 messages wait before it in each mailbox of `safety`; how many there
  were at least in one, and in how many mailboxes, is written to `queued`;
* `clock`: holds seconds that are added to the wall clock (not to the monotonic one).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import trio

FOLDER = Path(sys.argv[1])
QUEUED = 10_000
LOOK_S = 0.01
_real_time = time.time


def _on(fault: str) -> bool:
    return (FOLDER / fault).exists()


def _shifted() -> float:
    try:
        return _real_time() + float((FOLDER / "clock").read_text())
    except (OSError, ValueError):
        return _real_time()


time.time = _shifted

from actors import accounts  # noqa: E402 - the clock is changed first
from actors.accounts import sessions  # noqa: E402
from actors.lane import BoardLane, LinkLane  # noqa: E402
from admin_ws import channel, hub, server  # noqa: E402
from core import Address  # noqa: E402
from paifang.cli import main  # noqa: E402
from protocols.console import Trigger  # noqa: E402
from protocols.messages import Release  # noqa: E402
from storage import ledger  # noqa: E402
from storage.interfaces import AuditEntry  # noqa: E402


class Sabotage(Exception):
    """A fault that was switched on."""


def _crash_at_start(kind: Any, fault: Any) -> None:
    real = kind.run

    async def run(self: Any, me: Any) -> None:
        if _on(fault(self)):
            raise Sabotage(fault(self))
        await real(self, me)

    kind.run = run


def _crash_in(kind: Any, method: str, fault: Any) -> None:
    real = getattr(kind, method)

    def faulty(self: Any, *arguments: Any, **named: Any) -> Any:
        release = any(isinstance(getattr(each, "msg", each), Release) for each in arguments)
        if _on(fault(self)) and not release:
            raise Sabotage(fault(self))
        return real(self, *arguments, **named)

    setattr(kind, method, faulty)


def _lane_fault(lane: Any) -> str:
    return f"lane.{lane._config.lane}"


for lane_kind, method in ((BoardLane, "_any"), (LinkLane, "_on_request")):
    _crash_at_start(lane_kind, _lane_fault)
    _crash_in(lane_kind, method, _lane_fault)
_crash_at_start(hub.Hub, lambda self: "hub")
_crash_in(hub.Hub, "_flush", lambda self: "hub")
_crash_at_start(accounts.Accounts, lambda self: "accounts")
for method in ("_log_in", "_resume"):
    _crash_in(accounts.Accounts, method, lambda self: "accounts")

_real_serve = server.Console.run


async def _serve(self: Any, me: Any) -> None:
    async def crash() -> None:
        while not _on("web"):
            await trio.sleep(LOOK_S)
        raise Sabotage("web")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash)
        await _real_serve(self, me)
        nursery.cancel_scope.cancel()


server.Console.run = _serve


class Waiting(msgspec.Struct, frozen=True):
    """A message that means nothing to anybody."""


_addresses: list[Address] = []
_real_init, _real_tell = Address.__init__, Address.tell


def _init(self: Address, *arguments: Any, **named: Any) -> None:
    _real_init(self, *arguments, **named)
    _addresses.append(self)


def _tell(self: Address, msg: Any, *arguments: Any, **named: Any) -> Any:
    if isinstance(msg, Trigger) and _on("queue"):
        full = [each for each in _addresses if each.name.split("/")[0] in ("lane", "gate", "link", "evacuation")]
        for each in full:
            each.capacity = 2 * QUEUED
            for _ in range(QUEUED):
                _real_tell(each, Waiting())
        (FOLDER / "queued").write_text(f"{min(each.statistics().depth for each in full)} {len(full)}")
    return _real_tell(self, msg, *arguments, **named)


Address.__init__, Address.tell = _init, _tell

_real_run = ledger.Ledger.run
_real_listen = ledger.Ledger._listen


async def _run(self: Any, me: Any) -> None:
    async def flood() -> None:
        while True:
            while _on("ledger.deaf") and me.statistics().depth < me.capacity:
                me.tell(AuditEntry(user="flood", role="", action="flood", subject="", reason="", at=0.0))
            await trio.sleep(0.005)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        await _real_run(self, me)
        nursery.cancel_scope.cancel()


class _Deaf:
    """A mailbox that is not read while the fault is on."""

    def __init__(self, me: Any) -> None:
        self._me = me

    async def receive(self) -> Any:
        while _on("ledger.deaf"):
            await trio.sleep(0.01)
        return await self._me.receive()


async def _listen(self: Any, me: Any) -> None:
    await _real_listen(self, _Deaf(me))


ledger.Ledger.run, ledger.Ledger._listen = _run, _listen
if _on("session"):
    _real_sessions = sessions.Sessions.__init__

    def _short(self: Any, **named: Any) -> None:
        _real_sessions(self, **(named | {"longest_s": 1.0}))

    sessions.Sessions.__init__, channel.REVALIDATE_S = _short, 0.3

if __name__ == "__main__":
    sys.argv[:2] = ["paifang"]
    main()
