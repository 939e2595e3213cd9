"""A site whose visitors hold cards and codes before OSDP readers and a triggered QR reader, from the site file alone.

The server is a process of its own; the readers are our own simulators (`sim.osdp`, for which libosdp's device side
speaks, and `sim.scanner`) on real pseudo terminals, in the test's process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.accounts import User
from core.testing import patient_time_with_processes
from drivers.osdp._library import library
from paifang.check import load
from paifang.keys import KeyRing
from paifang.testing import USERS, SiteRig, _password_hash, free_ports, site_text, until
from paifang.users import write_users
from protocols.console import Done, RearmLane, RestoreRequest, Snapshot, Trigger
from protocols.messages import Direction, PassageKind
from sim.osdp import SimOsdpBus, SimOsdpReader
from sim.scanner import SimScanner
from sim.truth import Truth
from storage.testing import fresh_database

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

PATIENCE_S = 30.0
UID = "04A1B2C3D4E5F6"
KEYS = [os.urandom(16), os.urandom(16)]

READERS = {
    "s1": 'readers = [{ kind = "osdp", path = "dev/bus", baud = 115200, address = 1, key = "keys/osdp-1.key" }]',
    "s2": 'readers = [{ kind = "osdp", path = "dev/bus", baud = 115200, address = 2, key = "keys/osdp-2.key" },'
    ' { path = "dev/s2-scan", trigger = "newland" }]',
}
SEASON = """
[[products]]
id = "season"
name = "年卡"
name_en = "Season"
class = "annual"
price_cents = 30000
zones = ["park"]
uses = 0
days = 365

[[feedback]]
outcome = "stop"
text_en = "Ask our staff"
"""


class Site:
    def __init__(self, rig: SiteRig) -> None:
        self.rig = rig
        self.bus = SimOsdpBus(rig.data / "dev" / "bus")
        self.readers = [self.bus.reader(number, key=key) for number, key in enumerate(KEYS, 1)]
        self.scanner = SimScanner(rig.data / "dev" / "s2-scan", "newland")

    async def people(self, *expected: tuple[str, int]) -> None:
        """Until so many people went in at each lane."""
        question = "select lane, count(*)::int as people from passages where direction = 'entry' group by 1 order by 1"
        with trio.fail_after(PATIENCE_S):
            while [(row["lane"], row["people"]) for row in await self.rig.rows(question)] != list(expected):
                await trio.sleep(0.05)

    async def walk_in(self, lane: str) -> None:
        barrier = self.rig.lane(lane).barrier
        assert await barrier.wait_turn(Direction.ENTRY, PATIENCE_S), f"{lane} stays closed"
        assert await barrier.walk(Direction.ENTRY, 0.2) is PassageKind.GRANTED


def told(reader: SimOsdpReader, command: str) -> list[dict[str, Any]]:
    return [said for said in reader.commands if said["command"] == getattr(library(), f"CMD_{command}")]


def lights(reader: SimOsdpReader) -> list[int]:
    return [said["on_color"] for said in told(reader, "LED")]


async def hold(reader: SimOsdpReader, uid: str) -> None:
    """Hold a card before a reader until it shows something new, as people do."""
    before = len(lights(reader))
    with trio.fail_after(PATIENCE_S):
        while len(lights(reader)) == before:
            reader.card(uid)
            with trio.move_on_after(3.0):
                await until(lambda: len(lights(reader)) > before, "the reader was told", PATIENCE_S)


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    async with fresh_database() as database, trio.open_nursery() as nursery:
        dsn = database.dsn
        data = folder / "data"
        data.mkdir(mode=0o700)
        KeyRing.init(data / "keys")
        for number, key in enumerate(KEYS, 1):
            path = data / "keys" / f"osdp-{number}.key"
            path.touch(mode=0o600)
            path.write_text(key.hex())
        hashed = _password_hash()
        write_users(data, {name: User(name=name, role=role, password_hash=hashed) for name, role in USERS.items()})
        url = f"postgresql://{dsn.user}@/{dsn.database}?host={dsn.host}"
        plain = site_text(serial=2, linked=0, limit=1000, ports=free_ports(8), database=url)
        (folder / "plain.toml").write_text(plain, encoding="utf-8")
        with Truth(data / "sim" / "truth.jsonl") as truth:
            rig = SiteRig(folder, folder / "site.toml", load(folder / "plain.toml"), dsn, None, truth)
            made = Site(rig)
            text = plain + SEASON
            for lane, readers in READERS.items():
                text = text.replace(f'readers = [{{ path = "dev/{lane}-qr" }}]', readers)
            rig.site_path.write_text(text, encoding="utf-8")
            rig.site = load(rig.site_path)
            nursery.start_soon(made.bus.run)
            nursery.start_soon(made.scanner.run)
            try:
                await nursery.start(rig.devices.run)
                await rig.start()
                yield made
            finally:
                with trio.CancelScope(shield=True):  # bounded by the rig
                    await rig.stop()
                nursery.cancel_scope.cancel()


def ready(state: Snapshot) -> bool:
    lanes = [(lane.available, lane.state) for lane in state.lanes]
    readers = [device.availability for device in state.devices if device.kind == "reader"]
    return lanes == [(True, "idle")] * 2 and readers == ["available"] * 3


@pytest.mark.slow
@pytest.mark.timeout(240)  # twenty seconds on a machine that has nothing else to do
async def test_cards_and_codes_open_and_the_reader_says_so_in_light_sound_and_text(tmp_path):
    async with site(tmp_path) as made:
        rig, (first, second) = made.rig, made.readers
        await rig.shows(ready, "both lanes and all readers are there", PATIENCE_S)
        assert first.secure and second.secure

        # a season ticket's card: blue, one beep, at the reader where it was held, and nowhere else
        await rig.sell("season", card=UID)
        await hold(first, UID)
        await made.walk_in("s1")
        await made.people(("s1", 1))
        await until(lambda: told(first, "TEXT"), "the reader was told", PATIENCE_S)
        assert lights(first)[0] == library().LED_COLOR_BLUE
        assert told(first, "BUZZER")[0]["rep_count"] == 1
        assert not told(second, "LED")

        # a card that nobody knows: red, two long beeps
        await hold(second, "04FFFFFFFFFFFF")
        await until(lambda: told(second, "TEXT"), "the reader was told", PATIENCE_S)
        assert set(lights(second)) == {library().LED_COLOR_RED}
        assert told(second, "BUZZER")[-1]["rep_count"] == 2
        await made.people(("s1", 1))

        # a code before the triggered reader
        sold = await rig.sell("adult")
        await until(lambda: made.scanner.reading, "the reader was triggered", PATIENCE_S)
        assert made.scanner.present(sold.code)
        assert not made.scanner.reading  # it ends its reading with a code
        await made.walk_in("s2")
        await made.people(("s1", 1), ("s2", 1))
        await until(lambda: made.scanner.reading, "the reader was triggered again", PATIENCE_S)

        # a reader without power for a second says nothing of it to anybody, and reads on
        first.power(False)
        await trio.sleep(1.0)
        first.power(True)
        await hold(first, "04FFFFFFFFFFFF")

        # an evacuation is shown at every reader until it is over
        await rig.ask("security1", "evacuation.trigger", Trigger(reason="drill of the readers"), Done)
        for reader in made.readers:
            await until(
                lambda reader=reader: any(not said["temporary"] for said in told(reader, "LED")),
                "the emergency is shown", PATIENCE_S,
            )  # fmt: skip
            assert lights(reader)[-1] == library().LED_COLOR_GREEN
        for user in ("security1", "security2"):
            await rig.ask(user, "evacuation.restore", RestoreRequest(reason="over"), Done)
        await rig.ask("security1", "lane.rearm", RearmLane(lane="*"), Done)
        await rig.shows(ready, "both lanes work again", PATIENCE_S)
        for reader in made.readers:
            await until(lambda reader=reader: lights(reader)[-1] == library().LED_COLOR_AMBER, "it is over", PATIENCE_S)

        # nothing of a card or a key is in what was written
        written = b"".join(path.read_bytes() for path in tmp_path.glob("server.*"))
        assert UID.encode() not in written and all(key.hex().encode() not in written for key in KEYS)
        report = await rig.audit()
        assert report.clean, report.broken
