"""For tests: a whole small site on real transports, with the server as a process of its own.

    async with site_rig(tmp_path, serial=2, linked=1) as rig:
        code = await rig.sell("adult")
        assert (await rig.lane("s1").scan(code.code, 3.0, cause="test")).opened

The server, PostgreSQL and every wire are real; boards, readers, gates and the printer are the simulated site's devices
(`sim`), which run in the test's own process so that it can look at them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio

from actors.accounts import User, hash_password
from admin_ws.client import ConsoleClient, ConsoleClosed
from core.ports import free_ports as free_ports
from paifang.check import load
from paifang.keys import KeyRing
from paifang.site import SiteFile
from paifang.users import write_users
from protocols.console import Delta, LaneView, Sell, SellLine, Snapshot, Sold, SoldTicket, Tender
from sim.barrier import Timing
from sim.lane import SimLane
from sim.site import SimSite
from sim.truth import Truth
from storage import _exec_as
from storage.audit import AuditReport, audit
from storage.connection import Dsn
from storage.embedded import Embedded, embedded
from storage.testing import fetch, fresh_database

PASSWORD = "correct horse battery"  # noqa: S105 - of users that exist for a test
READY_S = 60.0
END_S = 20.0
LOOK_S = 0.02
FAST = Timing()
USERS = {
    "cashier": "cashier",
    "operator": "operator",
    "security1": "security",
    "security2": "security",
    "manager": "duty_manager",
    "technician": "system_manager",
}

T = TypeVar("T")


@cache
def _password_hash() -> str:
    """Slow on purpose, and the same for all users of all rigs."""
    return hash_password(PASSWORD)


def _tied() -> list[str]:
    """What makes a server die with a test run that is killed: it would go on and hold other tests' serial lines."""
    ids = (os.geteuid(), os.getegid(), os.getpid(), int(signal.SIGKILL))
    return [sys.executable, "-I", "-S", _exec_as.__file__, *map(str, ids)]


async def until(condition: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    """Wait for something to become true. Raises AssertionError that says what did not."""
    deadline = trio.current_time() + within_s
    while not condition():
        assert trio.current_time() < deadline, f"not within {within_s:g} s: {what}"
        await trio.sleep(LOOK_S)


def site_text(*, serial: int, linked: int, limit: int, ports: list[int], database: str) -> str:
    """A small site file: lanes s1… on boards, g1… on the device link, all from outside into the park."""
    lanes = [
        f'[[lanes]]\nid = "s{n}"\nname = "S{n}"\nto_zone = "park"\nmode = "bidirectional"\n'
        f'board = {{ path = "dev/s{n}-board" }}\nreaders = [{{ path = "dev/s{n}-qr" }}]\n'
        for n in range(1, serial + 1)
    ] + [
        f'[[lanes]]\nid = "g{n}"\nname = "G{n}"\nto_zone = "park"\nmode = "bidirectional"\ndevice = "gate-{n}"\n'
        for n in range(1, linked + 1)
    ]
    names = ("work", "wake", "release", "safety", "evacuate_release", "evacuate_safety")
    addresses = "\n".join(f'{name} = "tcp://127.0.0.1:{port}"' for name, port in zip(names, ports[2:], strict=True))
    return (
        f'[site]\nid = "test"\nname = "测试"\nname_en = "Test"\n[database]\nurl = "{database}"\n'
        f"[http]\nport = {ports[0]}\n[link]\n{addresses}\n"
        f'[[zones]]\nid = "park"\nname = "Park"\nlimit = {limit}\n'
        + "\n".join(lanes)
        + f'\n[[printers]]\nid = "window"\nhost = "127.0.0.1"\nport = {ports[1]}\n'
        '[[products]]\nid = "adult"\nname = "成人"\nname_en = "Adult"\nclass = "full"\nprice_cents = 8000\n'
        'zones = ["park"]\n'
        '[[products]]\nid = "group"\nname = "团队"\nname_en = "Group"\nclass = "group"\nprice_cents = 60000\n'
        'zones = ["park"]\npax = 10\n'
        '[[products]]\nid = "annual"\nname = "年卡"\nname_en = "Annual"\nclass = "annual"\nprice_cents = 30000\n'
        'zones = ["park"]\nuses = 0\ndays = 365\nneeds_face = true\n'
    )


class SiteRig:
    """The handles of a running site."""

    def __init__(
        self, folder: Path, site_path: Path, site: SiteFile, dsn: Dsn, cluster: Embedded | None, truth: Truth
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.site_path = site_path
        self.site = site
        self.cluster = cluster  # its own: may be stopped, suspended, killed; None: shared with other tests
        self.dsn = dsn
        self.truth = truth
        release_keys = KeyRing.load(self.data / "keys").release_verifiers
        self.devices = SimSite(site, self.data, release_keys, self.truth, timing=FAST)
        self.server: subprocess.Popen[bytes] | None = None
        self.program = ["-m", "paifang"]  # what Python runs; a test may put a script with faults in front of it
        self._sales = 0

    def lane(self, name: str) -> SimLane:
        return self.devices.lanes[name]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.site.http.port}/channel"

    # --- the server -------------------------------------------------------------------------------------------

    async def start(self, *, ready: bool = True) -> float:
        """Start the server and wait for READY. Returns how many seconds that took."""
        assert self.server is None or self.server.poll() is not None
        begun = time.monotonic()
        output = self.folder / "server.out"
        output.write_bytes(b"")
        with output.open("ab") as out, (self.folder / "server.err").open("ab") as err:
            self.server = subprocess.Popen(  # noqa: ASYNC220 - starting is quick, and the handle must be synchronous
                [*_tied(), sys.executable, *self.program, "serve", str(self.site_path), "--data", str(self.data)],
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        if ready:
            await until(lambda: b"READY" in output.read_bytes(), "the server is READY", READY_S)
        return time.monotonic() - begun

    def kill(self) -> None:
        """SIGKILL: nothing of the server's own runs any more."""
        assert self.server is not None
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.wait(END_S)

    def suspend(self) -> None:
        """SIGSTOP: the server hangs, and is not down."""
        assert self.server is not None
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.server is not None
        os.kill(self.server.pid, signal.SIGCONT)

    async def stop(self) -> None:
        """SIGTERM, and wait for the orderly end."""
        if self.server is None or self.server.poll() is not None:
            return
        os.kill(self.server.pid, signal.SIGCONT)
        self.server.terminate()
        with trio.move_on_after(END_S):
            while self.server.poll() is None:  # noqa: ASYNC110 - no event tells of it
                await trio.sleep(LOOK_S)
            return
        self.kill()

    # --- people -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def console(self, user: str) -> AsyncIterator[ConsoleClient]:
        """A logged-in connection of the console channel."""
        async with ConsoleClient.connect(self.url) as client:
            await client.login(user, PASSWORD)
            yield client

    async def ask(self, user: str, method: str, params: object, result: type[T]) -> T:
        """One call of one person. Raises ConsoleError."""
        async with self.console(user) as client:
            return await client.call(method, params, result)

    async def sell(self, product: str = "adult", *, key: str = "", printer: str = "", **line: Any) -> SoldTicket:
        """Sell one at the window, paid in cash. Raises ConsoleError."""
        return (await self.sell_all(product, 1, key=key, printer=printer, **line)).tickets[0]

    async def sell_all(self, product: str, quantity: int, *, key: str = "", printer: str = "", **line: Any) -> Sold:
        self._sales += 1
        price = next(each.price_cents for each in self.site.products if each.id == product)
        order = Sell(
            key=key or f"test-{os.getpid()}-{time.time_ns()}-{self._sales}",
            lines=[SellLine(product=product, quantity=quantity, **line)],
            tenders=[Tender(tender="cash", amount_cents=price * quantity)],
            printer=printer,
        )
        return await self.ask("cashier", "sales.sell", order, Sold)

    async def snapshot(self) -> Snapshot:
        """What a console sees now."""
        async with self.console("operator") as client:
            return await client.subscribe()

    async def view(self, lane: str) -> LaneView:
        return next(view for view in (await self.snapshot()).lanes if view.lane == lane)

    async def shows(self, condition: Callable[[Snapshot], bool], what: str, within_s: float = 30.0) -> Snapshot:
        """Wait until a console shows something. Returns the state that did."""
        with trio.move_on_after(within_s):
            while True:
                try:
                    async with self.console("operator") as client:
                        return await self._shown(client, condition)
                except ConsoleClosed:  # the server is on its way up, or just ended
                    await trio.sleep(LOOK_S * 5)
        raise AssertionError(f"the console did not show within {within_s:g} s: {what}")

    async def _shown(self, client: ConsoleClient, condition: Callable[[Snapshot], bool]) -> Snapshot:
        state = await client.subscribe()
        if condition(state):
            return state
        async for delta in client.deltas():
            state = merge(state, delta)
            if condition(state):
                return state
        raise ConsoleClosed("the connection ended")

    async def lanes_idle(self, within_s: float = 30.0) -> None:
        """Wait until every lane can take a visitor."""
        await self.shows(
            lambda state: (
                len(state.lanes) == len(self.site.lanes)
                and all(lane.available and lane.state == "idle" for lane in state.lanes)
            ),
            "every lane is idle",
            within_s,
        )

    async def admit(self, lane: str, code: str, *, patience_s: float = 10.0) -> bool:
        """One visitor scans and, if the lane opens, walks through."""
        place = self.lane(lane)
        async with place.queue:
            scanned = await place.scan(code, patience_s, cause="test")
            if not scanned.opened:
                return False
            await place.walk(0.2, ticket=None, visitor="test")
            place.done(scanned, 1)
        return True

    # --- the ledger -------------------------------------------------------------------------------------------

    async def rows(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        return await fetch(self.dsn, sql, *arguments)

    async def value(self, sql: str, *arguments: Any) -> Any:
        rows = await self.rows(sql, *arguments)
        return next(iter(rows[0].values())) if rows else None

    async def settled(self, within_s: float = 30.0) -> None:
        """Wait until no grant is open: every lane has said how its grants ended, and it is on disk."""
        deadline = trio.current_time() + within_s
        while await self.value("select count(*) from holds"):
            assert trio.current_time() < deadline, f"grants are still open after {within_s:g} s"
            await trio.sleep(0.05)

    async def audit(self) -> AuditReport:
        return await audit(self.dsn, self.site.site.id)


@asynccontextmanager
async def site_rig(
    folder: Path,
    *,
    serial: int = 1,
    linked: int = 0,
    limit: int = 1000,
    start: bool = True,
    own_database: bool = False,
    configure: Callable[[str], str] = lambda text: text,
) -> AsyncIterator[SiteRig]:
    """A site in a folder of its own: database, server (if `start`) and simulated devices, ended with the block.

    With `own_database` its PostgreSQL is its own (`rig.cluster`) and may be stopped; otherwise it is one database of
    the cluster that all tests share, which is there seconds earlier.  `configure` may change the site file's text.
    """
    async with AsyncExitStack() as stack:
        cluster: Embedded | None = None
        if own_database:
            cluster = await stack.enter_async_context(embedded(folder / "db"))
            dsn = cluster.dsn
        else:
            dsn = (await stack.enter_async_context(fresh_database())).dsn
        url = f"postgresql://{dsn.user}@/{dsn.database}?host={dsn.host}"
        text = configure(site_text(serial=serial, linked=linked, limit=limit, ports=free_ports(8), database=url))
        rig = await stack.enter_async_context(_running_devices(folder, text, dsn, cluster))
        if start:
            await rig.start()
            await rig.lanes_idle()
        yield rig


@asynccontextmanager
async def _running_devices(folder: Path, text: str, dsn: Dsn, cluster: Embedded | None) -> AsyncIterator[SiteRig]:
    """The rig with its devices; the server is stopped when the block ends."""
    data = folder / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    site_path = folder / "site.toml"
    site_path.write_text(text, encoding="utf-8")
    KeyRing.init(data / "keys")
    hashed = _password_hash()
    write_users(data, {name: User(name=name, role=role, password_hash=hashed) for name, role in USERS.items()})
    async with trio.open_nursery() as nursery:
        with Truth(data / "sim" / "truth.jsonl") as truth:
            rig = SiteRig(folder, site_path, load(site_path), dsn, cluster, truth)
            try:
                await nursery.start(rig.devices.run)
                yield rig
            finally:
                with trio.CancelScope(shield=True):  # bounded by END_S
                    if cluster is not None:
                        cluster.resume()
                    await rig.stop()
                nursery.cancel_scope.cancel()


def merge(state: Snapshot, delta: Delta) -> Snapshot:
    """A snapshot with a delta laid over it, as a page does it."""

    def over(old: list[Any], new: list[Any], key: str) -> list[Any]:
        return list(({getattr(v, key): v for v in old} | {getattr(v, key): v for v in new}).values())

    return msgspec.structs.replace(
        state,
        revision=delta.revision,
        server_at=delta.server_at,
        lanes=over(state.lanes, delta.lanes, "lane"),
        zones=over(state.zones, delta.zones, "zone"),
        devices=over(state.devices, delta.devices, "device"),
        flow=over(state.flow, delta.flow, "minute"),
        evacuation=delta.evacuation or state.evacuation,
        feed=[*state.feed, *delta.feed],
    )
