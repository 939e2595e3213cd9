"""For tests: a site server and lane controllers as processes, with simulated boards and readers at the controllers.

    async with lane_rig(tmp_path, lanes=2) as rig:
        code = (await rig.site.sell()).code
        assert await rig.lanes["c1"].admit(code)
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from actors.accounts import User
from paifang import testing
from paifang.check import load
from paifang.keys import KeyRing
from paifang.lanefile import LaneFile, load_lane_file
from paifang.testing import END_S, FAST, LOOK_S, READY_S, SiteRig, free_ports, until
from paifang.users import write_users
from sim.lane import SimLane
from sim.site import SimSite
from sim.truth import Truth
from storage.testing import fresh_database

LINK_NAMES = ("work", "wake", "release", "safety", "evacuate_release", "evacuate_safety")
ENROL_S = 60.0  # a command at each end, on a machine that others use


class LaneProcess:
    """One lane controller: its file, its folder, its simulated board and reader, and its process."""

    def __init__(self, folder: Path, path: Path, truth: Truth) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.path = path
        self.file: LaneFile = load_lane_file(path)
        self.devices = SimSite(self.file.as_site, self.data, {}, truth, timing=FAST)
        self.process: subprocess.Popen[bytes] | None = None
        self.program = ["-m", "paifang", "lane", "run"]
        self.environment: dict[str, str] = {}  # beside the test's own

    @property
    def name(self) -> str:
        return self.file.lane.id

    @property
    def sim(self) -> SimLane:
        """What a visitor meets."""
        return self.devices.lanes[self.name]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self, *, ready: bool = True) -> None:
        """Start the process; with `ready` wait until it says so."""
        assert self.process is None or self.process.poll() is not None
        output = self.folder / "lane.out"
        output.write_bytes(b"")
        with output.open("ab") as out, (self.folder / "lane.err").open("ab") as err:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - starting is quick, and the handle must be synchronous
                [*testing._tied(), sys.executable, *self.program, str(self.path), "--data", str(self.data)],
                stdout=out,
                stderr=err,
                start_new_session=True,
                env=os.environ | self.environment,
            )
        if ready:
            await until(lambda: b"READY" in output.read_bytes(), f"{self.name} is READY", READY_S)

    async def enrol(self, server: str, code: str) -> None:
        """`paifang lane enrol` at the lane: key, certificate and everything else that it needs."""
        identity = str(self.data / "identity")
        command = [*self.program[:-1], "enrol", "--server", server, "--code", code, "--identity", identity]
        await _succeeds(command)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(END_S)

    async def stop(self) -> int:
        """SIGTERM, and wait for the orderly end. Returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.terminate()
        return await self.ended()

    async def ended(self, within_s: float = END_S + 10) -> int:
        """Wait until the process has ended by itself. Returns the exit code."""
        process = self.process
        assert process is not None
        with trio.move_on_after(within_s):
            while process.poll() is None:  # noqa: ASYNC110 - no event tells of it
                await trio.sleep(LOOK_S)
        code = process.poll()
        if code is None:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {within_s:g} s")
        return code

    def status(self) -> dict[str, Any]:
        """What it wrote last of itself; empty before."""
        try:
            found: dict[str, Any] = json.loads((self.data / "status.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if self.process is not None and found.get("pid") == self.process.pid else {}

    async def shows(self, condition: Callable[[dict[str, Any]], bool], what: str, within_s: float = 20.0) -> None:
        """Wait until its status says something."""
        try:
            await until(lambda: bool(self.status()) and condition(self.status()), f"{self.name}: {what}", within_s)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; it says {self.status()}") from None

    async def works(self, *, mode: str = "online") -> None:
        """Wait until it can take a visitor, in a mode."""
        await self.shows(lambda status: status["state"] == "idle" and status["mode"] == mode, f"idle and {mode}")

    async def scan(self, code: str, *, patience_s: float = 4.0) -> bool:
        """Present a code. True when the barrier opened for it."""
        return (await self.sim.scan(code, patience_s, cause="test")).opened

    async def admit(self, code: str, *, patience_s: float = 4.0) -> bool:
        """One visitor scans and, if the lane opens, walks through."""
        async with self.sim.queue:
            scanned = await self.sim.scan(code, patience_s, cause="test")
            if not scanned.opened:
                return False
            await self.sim.walk(0.1, ticket=None, visitor="test")
            self.sim.done(scanned, 1)
        return True


class LaneRig:
    """The handles."""

    def __init__(self, site: SiteRig, lanes: Mapping[str, LaneProcess]) -> None:
        self.site = site
        self.lanes = lanes

    async def enrol(self) -> None:
        """With TLS: every controller gets its certificate from the running server, by a code and a command."""
        server = self.site.site.link.enrol.removeprefix("tls+tcp://")
        paths = ["--data", str(self.site.data), "--site", str(self.site.site_path)]
        for lane in self.lanes.values():
            code = await _succeeds(["-m", "paifang", "pki", "enrol-code", lane.file.controller.device, *paths])
            await lane.enrol(server, code.strip())

    async def start_lanes(self) -> None:
        """All controllers, until each is online, has its list, and can take a visitor."""
        if self.site.site.link.enrol:
            await self.enrol()
        for lane in self.lanes.values():
            await lane.start()
        for lane in self.lanes.values():
            await lane.works()
            await lane.shows(lambda status: status["list_version"] > 0, "has its list")

    async def listed(self, within_s: float = 20.0) -> None:
        """Wait until what was sold so far is in the lanes' lists: they have been asked for since."""
        now = time.time()
        for lane in self.lanes.values():
            await lane.shows(lambda status: status["list_as_of"] > now, "has new lists", within_s)


async def _succeeds(words: list[str]) -> str:
    """A command of ours. Returns what it prints; raises AssertionError with its complaint."""
    with trio.fail_after(ENROL_S):
        done = await trio.run_process(
            [sys.executable, *words], capture_stdout=True, capture_stderr=True, check=False
        )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def lane_text(
    *,
    lane: str,
    device: str,
    ports: list[int],
    listen: int,
    neighbours: Mapping[str, int],
    extra: str = "",
    scheme: str = "tcp",
) -> str:
    """A lane file for a lane from outside into the park, on loopback."""
    link = "\n".join(f'{name} = "{scheme}://127.0.0.1:{port}"' for name, port in zip(LINK_NAMES, ports, strict=True))
    others = ", ".join(f'{{ lane = "{name}", url = "tcp://127.0.0.1:{port}" }}' for name, port in neighbours.items())
    return (
        f'[controller]\ndevice = "{device}"\n[site]\nid = "test"\nname = "测试"\n[link]\n{link}\n'
        f'[neighbours]\nlisten = "tcp://127.0.0.1:{listen}"\nlanes = [{others}]\n'
        f'[[zones]]\nid = "park"\nname = "Park"\n'
        f'[[lanes]]\nid = "{lane}"\nname = "{lane}"\nto_zone = "park"\n'
        f'board = {{ path = "dev/board" }}\nreaders = [{{ path = "dev/qr" }}]\n{extra}\n'
    )


@asynccontextmanager
async def lane_rig(
    folder: Path,
    *,
    lanes: int = 1,
    start: bool = True,
    extra: str = "",
    configure: Callable[[str], str] = lambda text: text,
    tls: bool = False,
) -> AsyncIterator[LaneRig]:
    """A server with lanes c1… that are controllers, each with a folder of its own. Everything is ended with the block.

    `extra` is added to each lane file; `configure` may change the site file.  With `tls` the link is `tls+tcp://` and
    the lanes enrol as they are started; without it they are given their keys.
    """
    async with AsyncExitStack() as stack:
        dsn = (await stack.enter_async_context(fresh_database())).dsn
        url = f"postgresql://{dsn.user}@/{dsn.database}?host={dsn.host}"
        ports = free_ports(9 + lanes)
        enrol_port = ports.pop()
        names = [f"c{number}" for number in range(1, lanes + 1)]
        text = testing.site_text(serial=0, linked=0, limit=1000, ports=ports[:8], database=url)
        text += "".join(
            f'[[lanes]]\nid = "{name}"\nname = "{name}"\nto_zone = "park"\ndevice = "lane-{name}"\nentrance = "north"\n'
            for name in names
        )
        data = folder / "data"
        data.mkdir(mode=0o700)
        site_path = folder / "site.toml"
        if tls:
            enrol_line = f'enrol = "tcp://127.0.0.1:{enrol_port}"\n'
            text = text.replace("[link]\n", "[link]\n" + enrol_line).replace('"tcp://', '"tls+tcp://')
        site_path.write_text(configure(text), encoding="utf-8")
        keys = KeyRing.init(data / "keys")
        hashed = testing._password_hash()
        users = {name: User(name=name, role=role, password_hash=hashed) for name, role in testing.USERS.items()}
        write_users(data, users)
        truth = stack.enter_context(Truth(data / "sim" / "truth.jsonl"))
        site = SiteRig(folder, site_path, load(site_path), dsn, None, truth)
        for name in names:
            site.devices.lanes.pop(name)  # what the rig would simulate is real here
        listens = dict(zip(names, ports[8:], strict=True))
        shared = secrets.token_hex(32)
        processes = {}
        for name in names:
            own = folder / name
            identity = own / "data" / "identity"
            identity.parent.mkdir(parents=True)
            if not tls:
                identity.mkdir()
                keys.export_release_keys(identity)
                (identity / "neighbour.key").write_text(shared)
            path = own / "lane.toml"
            others = {other: port for other, port in listens.items() if other != name}
            path.write_text(
                lane_text(
                    lane=name,
                    device=f"lane-{name}",
                    ports=ports[2:8],
                    listen=listens[name],
                    neighbours=others,
                    extra=extra,
                    scheme="tls+tcp" if tls else "tcp",
                ),
                encoding="utf-8",
            )
            processes[name] = LaneProcess(own, path, truth)
        async with trio.open_nursery() as nursery:
            rig = LaneRig(site, processes)
            try:
                await nursery.start(site.devices.run)
                for process in processes.values():
                    await nursery.start(process.devices.run)
                if start:
                    await site.start()
                    await rig.start_lanes()
                yield rig
            finally:
                with trio.CancelScope(shield=True):  # bounded by END_S
                    for process in processes.values():
                        if process.process is not None and process.process.poll() is None:
                            process.kill()
                    await site.stop()
                nursery.cancel_scope.cancel()
