"""A changed site file takes effect on the devices it is about, and on no other; a wrong one on nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from actors.errors import CommandRefused
from core import Address, Child, Supervisor, inspect_tree
from core.testing import Probe, patient_time, running
from drivers.base import Availability, DeviceDown, DeviceUp
from drivers.testing import BoardDouble, PrinterDouble, PtyLine
from paifang._device_specs import device_specs
from paifang._wire_devices import Devices
from paifang.check import load
from paifang.reload import Reloader, plan
from protocols.console import DeviceView, Reloaded, ReloadSite
from protocols.messages import Scan
from storage.interfaces import AuditEntry

patient = pytest.fixture(autouse=True)(patient_time)

WITHIN_S = 15.0

SITE = """
[site]
id = "s"
name = "S"
[[zones]]
id = "park"
name = "Park"
[[lanes]]
id = "n1"
name = "N1"
to_zone = "park"
board = { path = "dev/b1" }
readers = [{ path = "dev/q1" }]
[[lanes]]
id = "n2"
name = "N2"
to_zone = "park"
board = { path = "dev/b2" }
readers = [{ path = "dev/q2" }]
[[printers]]
id = "w1"
host = "127.0.0.1"
port = 9101
"""


class Rig:
    """Two lanes' devices on ptys under a real supervisor, and the actor that reloads them."""

    def __init__(self, folder: Path, text: str = SITE) -> None:
        (folder / "dev").mkdir()
        self.lines = {name: PtyLine(folder / "dev" / name) for name in ("b1", "b1x", "b2", "q1", "q1x", "q2", "q3")}
        self.boards = {name: BoardDouble(self.lines[name]) for name in ("b1", "b1x", "b2")}
        self.path = folder / "site.toml"
        self.write(text)
        site = load(self.path)
        self.lanes: dict[str, Address] = {lane.id: Probe(f"lane/{lane.id}", capacity=4096) for lane in site.lanes}
        for lane in self.lanes.values():
            lane.state = "idle"
        self.hub, self.ledger = Probe("hub", capacity=100_000), Probe("ledger", capacity=1000)
        self.statistics: dict[str, Callable] = {}
        self.devices = Devices(
            site, folder, address=lambda name, capacity: Address(name, capacity=capacity), lanes=self.lanes,
            ledger=self.ledger, hub=self.hub, evacuation=Probe("evacuation"), statistics=self.statistics,
        )  # fmt: skip
        self.supervisor = Supervisor(
            "devices", [self.devices.child(spec) for spec in self.devices.specs.values()], escalate=False
        )
        self.reloader = Reloader(
            path=self.path, started=site, devices=self.devices, supervisor=lambda: self.supervisor,
            lanes=self.lanes, ledger=self.ledger, hub=self.hub,
        )  # fmt: skip
        self.address = Address("reload")

    def write(self, text: str) -> None:
        self.path.write_text(text, encoding="utf-8")

    def change(self, *pairs: tuple[str, str]) -> None:
        text = self.path.read_text(encoding="utf-8")
        for old, new in pairs:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        self.write(text)

    async def reload(self, *, dry_run: bool = False) -> Reloaded:
        result = await self.address.ask(ReloadSite(by="sam", dry_run=dry_run), WITHIN_S)
        assert isinstance(result, Reloaded)
        return result

    def is_up(self, name: str) -> bool:
        return self.statistics[name]().availability is Availability.AVAILABLE

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(WITHIN_S):
            while not condition():
                await trio.sleep(0.01)

    async def said(self, lane: str) -> list[object]:
        """What a lane was told and has not been asked for yet."""
        found = []
        while self.lanes[lane].statistics().depth:
            found.append((await self.lanes[lane].receive()).msg)
        return found


@asynccontextmanager
async def rigged(folder: Path, text: str = SITE) -> AsyncIterator[Rig]:
    rig = Rig(folder, text)
    root = Supervisor(
        "root", [Child(rig.supervisor.address, rig.supervisor.run), Child(rig.address, rig.reloader.run)]
    )
    try:
        async with trio.open_nursery() as nursery:
            for board in rig.boards.values():
                nursery.start_soon(board.run)
            async with running(root):
                wired = [n for n in rig.statistics if not n.startswith("printer/") and (text == SITE or n != "gate/n2")]
                await rig.until(lambda: all(rig.is_up(name) for name in wired))
                yield rig
            nursery.cancel_scope.cancel()
    finally:
        for line in rig.lines.values():
            line.hang_up()


async def test_a_changed_reader_is_another_one_and_nobody_else_notices(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        untouched = ("gate/n1", "gate/n2", "reader/n2/1")
        before = {name: rig.statistics[name]() for name in untouched}
        polls = len(rig.boards["b2"].heard)
        for lane in rig.lanes:
            await rig.said(lane)
        rig.change(('path = "dev/q1"', 'path = "dev/q1x", baud = 115200'))
        result = await rig.reload()
        assert [(c.subject, c.what, c.state) for c in result.changes] == [("reader/n1/1", "changed", "applied")]
        assert 'path: "dev/q1" → "dev/q1x"' in result.changes[0].detail
        await rig.until(lambda: rig.is_up("reader/n1/1"))
        await rig.lines["q1x"].write(b"NEW\r")
        await rig.lines["q1"].write(b"OLD\r")
        await rig.until(lambda: rig.lanes["n1"].statistics().depth)
        await rig.until(lambda: len(rig.boards["b2"].heard) > polls + 3)  # the neighbour's board is polled on
        scans = [message for message in await rig.said("n1") if isinstance(message, Scan)]
        assert [scan.credential.value for scan in scans] == ["NEW"]
        for name in untouched:
            after = rig.statistics[name]()
            assert (after.reconnects, after.replaced) == (before[name].reconnects, 0), name
            assert after.availability is Availability.AVAILABLE
            assert after.since_s >= before[name].since_s
        assert not [m for m in await rig.said("n2") if isinstance(m, DeviceUp | DeviceDown)]
        assert rig.statistics["reader/n1/1"]().replaced == 1
        assert (await rig.reload()).changes == []


async def test_a_board_that_is_changed_comes_back_on_its_new_line_and_a_release_is_not_forgotten(
    tmp_path: Path,
) -> None:
    async with rigged(tmp_path) as rig:
        rig.boards["b1x"].entries = 7
        rig.change(('path = "dev/b1"', 'path = "dev/b1x"'))
        await rig.reload()
        await rig.until(lambda: len(rig.boards["b1x"].heard) > 2)
        events = [m for m in await rig.said("n1") if isinstance(m, DeviceUp | DeviceDown)]
        await rig.until(lambda: rig.is_up("gate/n1"))
        events += [m for m in await rig.said("n1") if isinstance(m, DeviceUp | DeviceDown)]
        assert [type(event) for event in events] == [DeviceUp, DeviceDown, DeviceUp]
        assert events[-1].counters is not None and events[-1].counters.entries == 7
        slot = rig.devices.slots["gate/n1"]
        slot.release()  # type: ignore[union-attr]
        rig.change(('path = "dev/b1x"', 'path = "dev/b1"'))
        await rig.reload()
        await rig.until(lambda: rig.boards["b1"].state.name.startswith(("OPEN_", "OPENING")))


@pytest.mark.parametrize("state", ["granted", "closing", "deciding", "released", "needs_rearm"])
async def test_the_board_of_a_lane_with_somebody_in_it_waits(tmp_path: Path, state: str) -> None:
    async with rigged(tmp_path) as rig:
        rig.lanes["n1"].state = state
        rig.change(('path = "dev/b1"', 'path = "dev/b1x"'), ('path = "dev/q1"', 'path = "dev/q1x"'))
        result = await rig.reload()
        assert {c.subject: c.state for c in result.changes} == {"gate/n1": "waits", "reader/n1/1": "applied"}
        assert f"lane n1 is {state}" in next(c.detail for c in result.changes if c.subject == "gate/n1")
        assert rig.statistics["gate/n1"]().replaced == 0
        rig.lanes["n1"].state = "idle"
        assert [(c.subject, c.state) for c in (await rig.reload()).changes] == [("gate/n1", "applied")]


async def test_nobody_on_the_line_of_a_busy_lane_is_exchanged(tmp_path: Path) -> None:
    """One line has one speed: a neighbour that took the new one would be alone with it."""
    rig_site = SITE.replace('board = { path = "dev/b2" }', 'board = { path = "dev/b1", address = 2 }')
    async with rigged(tmp_path, rig_site) as rig:
        rig.lanes["n1"].state = "granted"
        rig.write(rig_site.replace('path = "dev/b1"', 'path = "dev/b1", baud = 19200'))
        result = await rig.reload()
        assert {c.subject: c.state for c in result.changes} == {"gate/n1": "waits", "gate/n2": "waits"}
        assert all("lane n1 is granted" in c.detail for c in result.changes)
        rig.lanes["n1"].state = "idle"
        result = await rig.reload()
        assert {c.subject: c.state for c in result.changes} == {"gate/n1": "applied", "gate/n2": "applied"}
        await rig.until(lambda: rig.is_up("gate/n1"))


async def test_devices_come_and_go(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig, trio.open_nursery() as nursery:
        port = await nursery.start(PrinterDouble().serve_tcp)
        rig.change(
            ('readers = [{ path = "dev/q1" }]', 'readers = [{ path = "dev/q1" }, { path = "dev/q3" }]'),
            ('id = "w1"', 'id = "w2"'),
            ("port = 9101", f"port = {port}"),
        )
        result = await rig.reload()
        assert {(c.subject, c.what, c.state) for c in result.changes} == {
            ("reader/n1/2", "added", "applied"),
            ("printer/w2", "added", "applied"),
            ("printer/w1", "removed", "applied"),
        }
        assert list(rig.devices.printers) == ["w2"]
        assert "printer/w1" not in rig.statistics
        await rig.until(lambda: rig.is_up("reader/n1/2"))
        await rig.lines["q3"].write(b"THIRD\r")
        await rig.until(lambda: rig.lanes["n1"].statistics().depth)
        rig.change(('}, { path = "dev/q3" }', "}"))
        await rig.reload()
        assert "reader/n1/2" not in rig.statistics
        assert "reader/n1/2" not in [node.name for node in inspect_tree(rig.supervisor).walk()]
        gone = []
        while rig.hub.statistics().depth:
            message = (await rig.hub.receive()).msg
            if isinstance(message, DeviceView) and message.availability == "removed":
                gone.append(message.device)
        assert gone == ["w1", "reader/n1/2"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('path = "dev/q1"', 'path = "dev/q1x", baud = 9601', "9601 is not a usual line speed"),
        ('path = "dev/q1"', 'path = "dev/b2"', "is already lanes[0].readers[0].path"),
        ('[[printers]]', '[[printers', "not TOML"),
        ('to_zone = "park"\nboard = { path = "dev/b1" }', 'to_zone = "moon"\nboard = { path = "dev/b1" }', "moon"),
    ],
)  # fmt: skip
async def test_a_file_with_a_mistake_changes_nothing_at_all(tmp_path: Path, old: str, new: str, words: str) -> None:
    async with rigged(tmp_path) as rig:
        rig.change(("port = 9101", "port = 9102"), (old, new))
        with pytest.raises(CommandRefused) as refused:
            await rig.reload()
        assert refused.value.code == "bad_site_file"
        assert words in str(refused.value)
        assert all(statistics().replaced == 0 for statistics in rig.statistics.values())
        rig.path.unlink()
        with pytest.raises(CommandRefused, match="cannot be read"):
            await rig.reload()


async def test_a_dry_run_says_everything_and_does_nothing(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        rig.change(('path = "dev/q1"', 'path = "dev/q1x"'), ('name = "Park"', 'name = "Garden"'))
        result = await rig.reload(dry_run=True)
        assert {(c.subject, c.state) for c in result.changes} == {
            ("reader/n1/1", "would_apply"),
            ("zones park", "restart"),
        }
        assert rig.statistics["reader/n1/1"]().replaced == 0
        assert rig.ledger.statistics().depth == 0
        await rig.reload()
        entry = (await rig.ledger.receive()).msg
        assert isinstance(entry, AuditEntry)
        assert (entry.user, entry.action, entry.subject) == ("sam", "site.reload", "1 devices, 1 at the next start")


def test_what_needs_a_restart_is_named_with_what_is_different(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(SITE, encoding="utf-8")
    old = load(path)
    text = SITE.replace('id = "n2"\nname = "N2"', 'id = "n3"\nname = "N2"').replace('name = "N1"', 'name = "N eins"')
    text = text.replace("[site]", "[http]\nport = 9000\n[site]").replace('board = { path = "dev/b1" }', "")
    text = text.replace('readers = [{ path = "dev/q1" }]', 'device = "gate-1"')
    text += '[[products]]\nid = "a"\nname = "A"\nname_en = "A"\nclass = "full"\nprice_cents = 1\nzones = ["park"]\n'
    path.write_text(text, encoding="utf-8")
    found = plan(old, device_specs(old), load(path))
    assert {(c.subject, c.what) for c in found.restart} == {
        ("http", "changed"),
        ("lanes n1", "changed"),
        ("lanes n2", "removed"),
        ("lanes n3", "added"),
        ("products a", "added"),
    }
    details = {c.subject: c.detail for c in found.restart}
    assert details["http"] == "port: 8460 → 9000"
    assert details["lanes n1"].startswith('board → device, name: "N1" → "N eins"')
    assert (found.added, found.changed, found.removed) == ([], [], [])  # devices of those lanes go with them


