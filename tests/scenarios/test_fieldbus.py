"""A site of relay boards, door controllers, counters and a fire contact, described by the site file alone.

The server is a process of its own; the devices are our own simulators (`sim.modbus`, `sim.uhppote`) on real sockets, in
the test's process.  No console is needed to open the site: the contact does it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from actors.accounts import User
from admin_ws.client import ConsoleRefused
from core.testing import patient_time_with_processes
from paifang.check import load
from paifang.keys import KeyRing
from paifang.testing import USERS, SiteRig, _password_hash, free_ports, site_text, until
from paifang.users import write_users
from protocols.console import Done, RearmLane, RestoreRequest, Snapshot
from protocols.messages import Direction
from protocols.uhppote import Mode
from sim.modbus import SimModbus, SimRelayGate, SimUnit
from sim.reader import SimReader
from sim.truth import Truth
from sim.uhppote import SimUhppote
from storage.testing import fresh_database

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

SERIAL = 405419896
PATIENCE_S = 30.0

EXTRA = """
[[lanes]]
id = "w1"
name = "W1"
to_zone = "park"
readers = [{{ path = "dev/w1-qr" }}]

[lanes.board]
language = "modbus"
host = "127.0.0.1"
port = {modbus}
address = 1

[lanes.board.relay]
open_coil = 0
exit_coil = 1
hold_coil = 2
open_input = 0
closed_input = 1
entry_register = 0
exit_register = 1
pulse_s = 0.2

[[controllers]]
id = "c1"
host = "127.0.0.1"
serial = {serial}
port = {uhppote}

[[lanes]]
id = "d1"
name = "D1"
to_zone = "park"
board = {{ language = "uhppote", controller = "c1", door = 1, open_s = 1.0 }}
readers = [{{ kind = "uhppote", controller = "c1", door = 1 }}]

[[lanes]]
id = "garden"
name = "Garden"
kind = "open"
to_zone = "park"
counter = {{ kind = "modbus", host = "127.0.0.1", port = {modbus}, address = 2, entries = 0, exits = 2, poll_s = 0.05 }}

[[fire]]
id = "panel"
host = "127.0.0.1"
port = {modbus}
address = 3
contacts = [{{ name = "hall", input = 0, kind = "antivalent", second_input = 1, text = "hall" }}]
"""


class Site:
    """The server, one lane on a turnstile board (s1), and the field devices."""

    def __init__(self, rig: SiteRig) -> None:
        self.rig = rig
        self.gate = SimRelayGate(1)
        self.counter = SimUnit(2)
        self.panel = SimUnit(3)
        self.panel.inputs[1] = True  # the contact at rest
        self.doors = SimUhppote(SERIAL)

    def fire(self, on: bool) -> None:
        self.panel.inputs[0], self.panel.inputs[1] = on, not on

    def all_open(self) -> bool:
        return self.rig.lane("s1").released and self.gate.coils[2] and self.doors.modes[1] is Mode.NORMALLY_OPEN

    async def people(self) -> list[tuple[str, str, str, int]]:
        rows = await self.rig.rows(
            "select lane, direction, kind, count(*)::int as people from passages group by 1, 2, 3 order by 1, 2, 3"
        )
        return [(row["lane"], row["direction"], row["kind"], row["people"]) for row in rows]

    async def until_people(self, *expected: tuple[str, str, str, int]) -> None:
        with trio.fail_after(PATIENCE_S):
            while (found := await self.people()) != list(expected):
                assert all(row[3] <= 100 for row in found)
                await trio.sleep(0.05)


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    async with fresh_database() as database, trio.open_nursery() as nursery:
        dsn = database.dsn
        data = folder / "data"
        data.mkdir(mode=0o700)
        KeyRing.init(data / "keys")
        hashed = _password_hash()
        write_users(data, {name: User(name=name, role=role, password_hash=hashed) for name, role in USERS.items()})
        url = f"postgresql://{dsn.user}@/{dsn.database}?host={dsn.host}"
        plain = site_text(serial=1, linked=0, limit=1000, ports=free_ports(8), database=url)
        (folder / "plain.toml").write_text(plain, encoding="utf-8")
        with Truth(data / "sim" / "truth.jsonl") as truth:
            rig = SiteRig(folder, folder / "site.toml", load(folder / "plain.toml"), dsn, None, truth)
            made = Site(rig)
            modbus = await nursery.start(SimModbus(made.gate, made.counter, made.panel).serve_tcp)
            uhppote = await nursery.start(made.doors.serve)
            extra = EXTRA.format(modbus=modbus, uhppote=uhppote, serial=SERIAL)
            at = plain.index("[[printers]]")
            rig.site_path.write_text(plain[:at] + extra + plain[at:], encoding="utf-8")
            try:
                await nursery.start(rig.devices.run)
                await rig.start()
                yield made
            finally:
                with trio.CancelScope(shield=True):  # bounded by the rig
                    await rig.stop()
                nursery.cancel_scope.cancel()


def ready(state: Snapshot) -> bool:
    states = {lane.lane: (lane.available, lane.state) for lane in state.lanes}
    busy = [states.get(name) for name in ("s1", "w1", "d1")]
    return busy == [(True, "idle")] * 3 and states.get("garden") == (True, "counting")


def sensed(state: Snapshot) -> bool:
    lanes = {lane.lane: lane.sensed_open for lane in state.evacuation.lanes}
    return state.evacuation.state == "released" and lanes == dict.fromkeys(("s1", "w1", "d1", "garden"), True)


@pytest.mark.slow
async def test_a_site_of_field_devices_admits_counts_and_opens_by_the_fire_contact_alone(tmp_path):
    async with site(tmp_path) as made:
        rig = made.rig
        await rig.shows(ready, "every lane can take a visitor", PATIENCE_S)

        # a ticket at the relay gate
        code = await rig.sell("adult")
        reader = SimReader("w1", rig.data / "dev/w1-qr")
        try:
            await until(lambda: reader.line.listening, "the reader's line is open", PATIENCE_S)
            assert reader.present(code.code)
            await until(lambda: made.gate.may_pass(Direction.ENTRY), "the relay gate opens", PATIENCE_S)
            made.gate.person()
            await made.until_people(("w1", "entry", "granted", 1))
            assert made.gate.openings == 1
        finally:
            reader.close()

        # a card that nobody knows at the door, and the open passage
        made.doors.swipe(10058400)
        await rig.shows(
            lambda state: any(lane.lane == "d1" and lane.last_code for lane in state.lanes), "refused", PATIENCE_S
        )
        assert made.doors.opened == []
        made.counter.set_counter(0, 4, words=2)
        made.counter.set_counter(2, 1, words=2)
        await made.until_people(
            ("garden", "entry", "free", 4), ("garden", "exit", "free", 1), ("w1", "entry", "granted", 1)
        )

        # a broken wire is an alarm, and opens nothing
        made.panel.inputs[1] = False
        with trio.fail_after(PATIENCE_S):
            while not await rig.value("select count(*) from cases where kind = 'fire_contact_broken'"):
                await trio.sleep(0.05)
        assert not made.gate.coils[2] and made.doors.modes[1] is Mode.CONTROLLED
        made.panel.inputs[1] = True

        # the contact opens everything; nobody had to do anything
        made.fire(True)
        await until(made.all_open, "every lane is open", PATIENCE_S)
        await rig.shows(sensed, "every lane is sensed open", PATIENCE_S)
        assert made.doors.opened == [] and made.gate.openings == 1

        # while it is active nobody restores
        for user in ("security1", "security2"):
            with pytest.raises(ConsoleRefused, match="fire contact is still active: hall"):
                await rig.ask(user, "evacuation.restore", RestoreRequest(reason="over"), Done)
        assert made.all_open()

        # a server that is killed and started again finds the fire still burning
        rig.kill()
        await rig.start()
        await rig.shows(sensed, "released again after the restart", PATIENCE_S)
        made.fire(False)
        with trio.fail_after(PATIENCE_S):
            for user in ("security1", "security2"):
                while True:
                    try:
                        await rig.ask(user, "evacuation.restore", RestoreRequest(reason="over"), Done)
                    except ConsoleRefused:  # the contact has not been seen quiet yet
                        await trio.sleep(0.1)
                    else:
                        break
        await rig.ask("security1", "lane.rearm", RearmLane(lane="*"), Done)
        await rig.shows(ready, "every lane works again", PATIENCE_S)
        assert not made.gate.coils[2] and made.doors.modes[1] is Mode.CONTROLLED
        made.counter.set_counter(0, 6, words=2)
        await made.until_people(
            ("garden", "entry", "free", 6), ("garden", "exit", "free", 1), ("w1", "entry", "granted", 1)
        )

        # a fire contact at one turnstile board is a fire on the site
        board = rig.lane("s1").board
        assert board is not None
        board.fire(True)
        await until(lambda: made.gate.coils[2] and made.doors.modes[1] is Mode.NORMALLY_OPEN, "open", PATIENCE_S)
        await rig.shows(sensed, "every lane is sensed open", PATIENCE_S)
        with pytest.raises(ConsoleRefused, match="fire contact is still active"):
            await rig.ask("security1", "evacuation.restore", RestoreRequest(reason="over"), Done)
        board.fire(False)
        report = await rig.audit()
        assert report.clean, report.broken
