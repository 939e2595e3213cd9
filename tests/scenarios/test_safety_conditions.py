"""One evacuation, whatever else is broken: all lanes open, none closes before the restore, scans cost nobody a use.

| while | test |
|---|---|
| PostgreSQL hangs, or is gone | `…_with_the_database_{suspended,stopped}` |
| the disk has no byte left, a restart included | `…_on_a_disk_that_is_really_full_and_after_a_kill_on_it` |
| 10,000 messages wait before it at each actor | `…_with_ten_thousand_messages_waiting_at_every_actor` |
| every console is gone, and the web port with them | `…_with_all_consoles_gone_and_their_port_down` |
| the session of whoever triggers has expired | `…_by_somebody_whose_session_has_expired` |
| the clock jumps by years, back and forth | `…_with_a_clock_that_jumps` |
| lanes, hub and accounts crash for ever | `…_with_{lanes,the_consoles_actors}_crashing_in_a_loop` |
| the server hangs (SIGSTOP), and `paifang evacuate` is called | `…_of_a_server_that_hangs` |

The server is a process of its own, every wire is real; faults inside it come from `faulty_server.py`.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pynng
import pytest
import trio

from actors.evacuation.latch import read_latch
from admin_ws.client import ConsoleClient, ConsoleClosed, ConsoleRefused
from core.testing import patient_time_with_processes
from paifang.smalldisk_testing import SmallDisk
from paifang.testing import SiteRig, site_rig, until
from protocols import devicelink as link
from protocols.console import Done, RearmLane, RestoreRequest, Snapshot, SoldTicket, Trigger

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

FAULTY = Path(__file__).with_name("faulty_server.py")
PYTHON = [sys.executable]
WITHIN_S = 30.0
HELD_S = 2.0  # nothing closes for so long: the evacuation is repeated twice meanwhile
SCAN_MS = 1500

Act = Callable[[], Awaitable[None]]


class Site:
    """A site with a visitor inside, three tickets that nobody has used yet, and the books as they are now."""

    def __init__(self, rig: SiteRig, tickets: list[SoldTicket]) -> None:
        self.rig = rig
        self.tickets = tickets
        self.faults = rig.folder / "faults"
        self.books: list[dict[str, Any]] = []

    def on(self, fault: str, text: str = "") -> None:
        (self.faults / fault).write_text(text)

    def off(self, fault: str) -> None:
        (self.faults / fault).unlink()

    async def trigger(self) -> None:
        await self.rig.ask("security1", "evacuation.trigger", Trigger(reason="test"), Done)

    async def signal(self) -> None:
        assert self.rig.server is not None
        os.kill(self.rig.server.pid, signal.SIGUSR2)

    async def read_books(self) -> list[dict[str, Any]]:
        """What a scan would cost: uses, redemptions, grants, and what is held."""
        return await self.rig.rows(
            "select (select count(*) from redemptions) redemptions, (select count(*) from grants) grants,"
            " (select count(*) from holds) holds, (select sum(redeemed) from entitlements) redeemed,"
            " (select sum(held) from entitlements) held"
        )

    async def scans(self) -> None:
        """Visitors show their tickets at each lane; and a gate sends a scan as if it had never heard of a release."""
        for lane, ticket in zip(self.rig.devices.lanes.values(), self.tickets, strict=True):
            if lane.gate is None:
                lane.reader.present(ticket.code)
            else:
                await lane.gate.scan(ticket.code, 1.0, cause="test")
        scan = link.Scan(
            device="gate-1", boot=secrets.token_hex(4), seq=1, at=time.time(), nonce=secrets.token_hex(8),
            kind="code", value=self.tickets[-1].code,
        )  # fmt: skip
        with pynng.Req0(recv_timeout=SCAN_MS, send_timeout=SCAN_MS, resend_time=-1) as request:
            try:
                request.dial(self.rig.site.link.work, block=True)
                await request.asend(link.encode(scan))
                answer = link.decode_reply(await request.arecv())
            except pynng.NNGException:
                return  # nobody is there to answer
        assert not isinstance(answer, link.Grant), answer

    async def opened(self) -> None:
        """Every lane is open: by the barriers' own sensors."""
        lanes = self.rig.devices.lanes.values()
        await until(lambda: all(lane.released for lane in lanes), "every lane is open", WITHIN_S)


@asynccontextmanager
async def site(folder: Path, *faults: str, **options: Any) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        rig = await stack.enter_async_context(site_rig(folder, serial=1, linked=2, start=False, **options))
        (rig.folder / "faults").mkdir()
        rig.program = [str(FAULTY), str(rig.folder / "faults")]
        for fault in faults:
            (rig.folder / "faults" / fault).write_text("")
        await rig.start()
        await rig.lanes_idle(WITHIN_S)
        sold = (await rig.sell_all("adult", 4)).tickets
        assert await rig.admit("s1", sold[0].code)
        await rig.settled(WITHIN_S)
        found = Site(rig, sold[1:])
        found.books = await found.read_books()
        yield found


async def nothing() -> None:
    """The condition needs no end."""


async def evacuated(at: Site, trigger: Act, *, over: Act = nothing) -> None:
    """From the trigger under some condition to the restore after it; `over` ends the condition, with all lanes open."""
    rig = at.rig
    await trigger()
    await at.opened()
    closed: list[str] = []

    async def watch() -> None:
        while True:
            lanes = rig.devices.lanes.items()
            closed.extend(f"{name} {each.barrier.sensed}" for name, each in lanes if not each.released)
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await at.scans()
        await trio.sleep(HELD_S)
        await over()
        await rig.shows(all_sensed, "every lane is sensed open", WITHIN_S)
        await at.scans()
        await until(lambda: read_latch(rig.data / "evacuation.latch").state == "released", "it is latched", WITHIN_S)
        await rig.settled(WITHIN_S)
        nursery.cancel_scope.cancel()
    assert closed == []
    assert await at.read_books() == at.books, "scans consumed something"
    for user in ("security1", "security2"):
        await rig.ask(user, "evacuation.restore", RestoreRequest(reason="over"), Done)
    await rig.ask("security1", "lane.rearm", RearmLane(lane="*"), Done)
    await rig.lanes_idle(WITHIN_S)
    for lane, ticket in zip(rig.devices.lanes, at.tickets, strict=True):
        assert await rig.admit(lane, ticket.code, patience_s=WITHIN_S), "the ticket that was shown is as good as before"
    await rig.settled(WITHIN_S)
    assert (await rig.audit()).broken == []


def all_sensed(state: Snapshot) -> bool:
    lanes = state.evacuation.lanes
    return state.evacuation.state == "released" and bool(lanes) and all(lane.sensed_open for lane in lanes)


async def test_an_evacuation_with_the_database_suspended(tmp_path):
    async with site(tmp_path, own_database=True) as at:
        at.rig.cluster.suspend()

        async def over() -> None:
            at.rig.cluster.resume()

        await evacuated(at, at.trigger, over=over)


async def test_an_evacuation_with_the_database_stopped(tmp_path):
    async with site(tmp_path, own_database=True) as at:
        await at.rig.cluster.stop()
        await evacuated(at, at.trigger, over=at.rig.cluster.start)


async def test_an_evacuation_on_a_disk_that_is_really_full_and_after_a_kill_on_it(tmp_path):
    with SmallDisk(tmp_path / "disk", megabytes=16) as small:
        disk = small.path
        (disk / "data").mkdir(mode=0o700)
        (tmp_path / "data").symlink_to(disk / "data")
        (tmp_path / "sim").mkdir()
        (disk / "data" / "sim").symlink_to(tmp_path / "sim")  # the world outside the server has room
        async with site(tmp_path) as at:
            small.fill()
            with pytest.raises(OSError, match="No space left"):
                (disk / "data" / "more").write_bytes(b"x")

            async def killed() -> None:
                at.rig.kill()
                await at.rig.start(ready=False)
                await at.rig.shows(all_sensed, "released, and every lane sensed open, on a disk that is full", WITHIN_S)
                with pytest.raises(OSError, match="No space left"):
                    (disk / "data" / "more").write_bytes(b"x")
                small.empty()

            await evacuated(at, at.trigger, over=killed)


async def test_an_evacuation_with_ten_thousand_messages_waiting_at_every_actor(tmp_path):
    async with site(tmp_path) as at:
        at.on("queue")
        await evacuated(at, at.trigger)
        waiting, mailboxes = map(int, (at.faults / "queued").read_text().split())
        assert waiting >= 10_000
        assert mailboxes >= 6, "the evacuation, the link, three lanes and a board"


async def test_an_evacuation_with_all_consoles_gone_and_their_port_down(tmp_path):
    async with site(tmp_path) as at:
        async with trio.open_nursery() as nursery:
            gone = []

            async def watch(started: trio.Event) -> None:
                async with at.rig.console("operator") as console:
                    await console.subscribe()
                    started.set()
                    async for _ in console.deltas():
                        pass
                gone.append(console)

            for _ in range(5):
                nursery.start_soon(watch, started := trio.Event())
                await started.wait()
            at.on("web")
            await until(lambda: len(gone) == 5, "every console was thrown out", WITHIN_S)
        with pytest.raises(ConsoleClosed):
            async with ConsoleClient.connect(at.rig.url):
                pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", at.rig.site.http.port), 5.0)

        async def over() -> None:
            at.off("web")

        await evacuated(at, at.signal, over=over)


async def test_an_evacuation_by_somebody_whose_session_has_expired(tmp_path):
    async with site(tmp_path, "session") as at, at.rig.console("security1") as console:
        with trio.fail_after(WITHIN_S):
            while True:
                try:
                    await console.call("cases.list", {}, dict)
                except ConsoleRefused as refused:
                    assert refused.code == "session_over"
                    break
                await trio.sleep(0.1)

        async def trigger() -> None:
            await console.call("evacuation.trigger", Trigger(reason="test"), Done)

        await evacuated(at, trigger)


@pytest.mark.parametrize("jump_s", [10 * 365 * 86_400.0, -10 * 365 * 86_400.0])
async def test_an_evacuation_with_a_clock_that_jumps(tmp_path, jump_s):
    async with site(tmp_path) as at:
        at.on("clock", str(jump_s))

        async def back() -> None:
            at.on("clock", str(-jump_s))
            await trio.sleep(1.0)
            at.off("clock")

        await evacuated(at, at.signal, over=back)


async def test_an_evacuation_with_lanes_crashing_in_a_loop(tmp_path):
    async with site(tmp_path) as at, at.rig.console("security1") as console:
        faults = [f"lane.{lane}" for lane in at.rig.devices.lanes]
        for fault in faults:
            at.on(fault)
        at.rig.lane("s1").reader.present("anything")
        await trio.sleep(2.0)

        async def trigger() -> None:
            await console.call("evacuation.trigger", Trigger(reason="test"), Done)

        async def over() -> None:
            for fault in faults:
                at.off(fault)

        await evacuated(at, trigger, over=over)


async def test_an_evacuation_with_the_consoles_actors_crashing_in_a_loop(tmp_path):
    async with site(tmp_path) as at, at.rig.console("security1") as console:
        at.on("hub")
        at.on("accounts")

        async def trigger() -> None:
            await console.call("evacuation.trigger", Trigger(reason="test"), Done)

        async def over() -> None:
            at.off("hub")
            at.off("accounts")

        await evacuated(at, trigger, over=over)


async def test_an_evacuation_of_a_server_that_hangs(tmp_path):
    async with site(tmp_path) as at:
        rig = at.rig
        rig.suspend()

        async def command() -> None:
            words = ["-m", "paifang", "evacuate", str(rig.site_path), "--data", str(rig.data), "--timeout", "30"]
            await trio.run_process([*PYTHON, *words], capture_stdout=True, capture_stderr=True)

        async def over() -> None:
            rig.resume()

        await evacuated(at, command, over=over)
