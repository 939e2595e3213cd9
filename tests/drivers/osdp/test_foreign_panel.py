"""Our simulated reader against a control panel that somebody else wrote: the package `osdp` 1.6 from PyPI.

It gets an environment of its own, because it and libosdp both install a module named `osdp`.  What it proves is that
our reader simulator, against which our own panel is tested, speaks OSDP as others understand it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bootstrap
import fetch_uv
import pytest
import trio

from core.testing import patient_time
from drivers.osdp._library import library
from protocols.osdp import card_value
from sim.osdp import SimOsdpBus, SimOsdpReader

patient = pytest.fixture(autouse=True)(patient_time)

FOREIGN = "osdp==1.6"
SCRIPT = Path(__file__).with_name("foreign_panel.py")
ROOT = Path(__file__).parents[3]
INSTALL_LIMIT_S = 100
ANSWER_LIMIT_S = 30.0
KEY = bytes(range(1, 17))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def foreign_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds nothing but the foreign panel."""
    uv = str(fetch_uv.ensure_uv(ROOT / ".tools", lambda text: None))
    folder = tmp_path_factory.mktemp("foreign") / "venv"
    env = bootstrap.environment()
    index = fetch_uv.configured_index(env)
    env |= {"UV_DEFAULT_INDEX": index} if index else {}
    python = folder / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--no-project", f"--python={bootstrap.base_python()}", str(folder)],
        [uv, "pip", "install", "--quiet", f"--python={python}", FOREIGN],
    ):
        done = subprocess.run(
            command, cwd=folder.parent, env=env, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
        assert done.returncode == 0, f"the foreign panel could not be installed: {done.stderr}"
    return python


class Panel:
    """The foreign panel at work. `said` is everything that it told, in order."""

    def __init__(self, process: trio.Process) -> None:
        self.said: list[dict[str, Any]] = []
        self._process = process

    async def listen(self) -> None:
        buffer = b""
        assert self._process.stdout is not None
        async for data in self._process.stdout:
            *lines, buffer = (buffer + data).split(b"\n")
            self.said += [json.loads(line) for line in lines]

    async def event(self, name: str, act: Callable[[], object] = lambda: None, **wanted: object) -> dict[str, Any]:
        """An event with these fields, for which `act` is done again and again: a late answer may swallow one."""
        with trio.fail_after(ANSWER_LIMIT_S):
            while True:
                act()
                with trio.move_on_after(1.0):
                    while True:
                        for said in self.said:
                            if said.get("event") == name and wanted.items() <= said.items():
                                return said
                        await trio.sleep(0.01)

    async def ask(self, question: str) -> dict[str, Any]:
        name = question.split()[0]
        nth = sum(said.get("answer") == name for said in self.said)
        assert self._process.stdin is not None
        await self._process.stdin.send_all(question.encode() + b"\n")
        return await self._wait("answer", name, nth)

    async def until(self, **wanted: bool) -> None:
        """Until the panel says that it is online, secure or not."""
        with trio.fail_after(ANSWER_LIMIT_S):
            while True:
                state = await self.ask("state")
                if all(state[name] == value for name, value in wanted.items()):
                    return
                await trio.sleep(0.1)

    async def _wait(self, kind: str, name: str, nth: int) -> dict[str, Any]:
        with trio.fail_after(ANSWER_LIMIT_S):
            while len(found := [said for said in self.said if said.get(kind) == name]) <= nth:
                await trio.sleep(0.01)
        return found[nth]


@asynccontextmanager
async def at_work(python: Path, tmp_path: Path, ours: bytes | None, theirs: bytes | None) -> AsyncIterator[
    tuple[Panel, SimOsdpReader]
]:
    """A simulated reader with the key `ours`, and the panel with `theirs`."""
    sim = SimOsdpBus(tmp_path / "bus")
    reader = sim.reader(1, key=ours, capabilities=("led", "buzzer", "text", "output"))
    command = [str(python), "-I", str(SCRIPT), str(tmp_path / "bus"), "1", theirs.hex() if theirs else "-"]
    with (tmp_path / "panel.log").open("wb") as log:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sim.run)
            process = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=dict(os.environ)
            )
            panel = Panel(process)
            try:
                nursery.start_soon(panel.listen)
                yield panel, reader
            finally:
                process.kill()
                with trio.CancelScope(shield=True), trio.move_on_after(5.0):
                    await process.wait()
                    await process.stdin.aclose()  # type: ignore[union-attr]
                nursery.cancel_scope.cancel()
    await process.stdout.aclose()  # type: ignore[union-attr]


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "secure"])
async def test_another_authors_panel_works_with_our_reader(
    foreign_python: Path, tmp_path: Path, key: bytes | None
) -> None:
    async with at_work(foreign_python, tmp_path, key, key) as (panel, reader):
        started = await panel.event("started")
        assert str(foreign_python.parent.parent) in started["file"]  # the foreign module, not libosdp's of that name
        await panel.until(online=True, secure=key is not None)
        assert reader.online and reader.secure is (key is not None)

        identity = await panel.ask("id")
        assert (identity["vendor"], identity["model"]) == ("465000", 1)
        functions = set((await panel.ask("capabilities"))["functions"])
        assert {library().CAP_READER_LED_CONTROL, library().CAP_READER_TEXT_OUTPUT} <= functions

        card = await panel.event("card", lambda: reader.card("04A1B2C3D4E5F6"), bits=56)
        assert card_value(bytes.fromhex(card["data"])[:7], 56) == "04A1B2C3D4E5F6"
        card = await panel.event("card", lambda: reader.wiegand(0x1234, 26), bits=26)
        assert card_value(bytes.fromhex(card["data"])[:4], 26) == "001234"
        keys = await panel.event("keys", lambda: reader.keys("42#"))
        assert bytes.fromhex(keys["data"])[:3] == b"42\r"
        await panel.event("local", lambda: reader.tamper(True), tamper=True)

        assert (await panel.ask("led Green 30"))["ok"]
        light = [said for said in reader.commands if said["command"] == library().CMD_LED][-1]
        assert (light["on_color"], light["timer_count"]) == (library().LED_COLOR_GREEN, 30)
        assert (await panel.ask("output 30")).get("ok")


async def test_another_authors_panel_with_a_wrong_key_gets_nothing(foreign_python: Path, tmp_path: Path) -> None:
    async with at_work(foreign_python, tmp_path, KEY, bytes(16)) as (panel, reader):
        await panel.event("started")
        with trio.fail_after(ANSWER_LIMIT_S):
            while not reader.online:
                await trio.sleep(0.05)
        reader.card("04A1B2C3D4E5F6")
        await trio.sleep(3.0)
        assert not reader.secure
        assert not [said for said in panel.said if said.get("event") == "card"]
