"""`paifang sim` as a whole, without a server: what it needs, what it says, and that it ends."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from core.testing import patient_time
from paifang.check import load
from paifang.demo import with_free_ports
from paifang.keys import KeyRing
from paifang.site import SiteFile
from sim import run as sim_run
from sim import truth
from sim.run import SimError, SimOptions, run_sim

patient = pytest.fixture(autouse=True)(patient_time)

SITE = Path(__file__).resolve().parents[2] / "sites" / "demo.toml"
ANY_WORD = "not a secret"


@pytest.fixture
def site(tmp_path: Path) -> SiteFile:
    copy = tmp_path / "site.toml"
    copy.write_text(with_free_ports(SITE.read_text(encoding="utf-8")), encoding="utf-8")
    return load(copy)


async def test_without_a_password_it_says_which_variable_to_set(
    site: SiteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PAIFANG_DEMO_PASSWORD", raising=False)
    with pytest.raises(SimError, match="PAIFANG_DEMO_PASSWORD"):
        await run_sim(site, tmp_path, SimOptions(), say=lambda line: None)


async def test_an_unknown_script_is_refused(site: SiteFile, tmp_path: Path) -> None:
    with pytest.raises(SimError, match="no script"):
        await run_sim(site, tmp_path, SimOptions(script="other", password=ANY_WORD), say=lambda line: None)


async def test_without_keys_it_says_that_no_server_runs_here(
    site: SiteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sim_run, "KEYS_LIMIT_S", 0.3)
    with pytest.raises(SimError, match="no release key"):
        await run_sim(site, tmp_path, SimOptions(password=ANY_WORD), say=lambda line: None)


async def test_without_a_server_the_devices_are_there_and_it_ends_in_time(site: SiteFile, tmp_path: Path) -> None:
    KeyRing.init(tmp_path / "keys")
    lines: list[str] = []
    options = SimOptions(password=ANY_WORD, seconds=1.0, speed=600.0)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def look() -> None:
                await trio.sleep(0.7)
                assert (tmp_path / "dev" / "n1-board").resolve().is_char_device()
                assert (tmp_path / "dev" / "t1-qr").resolve().is_char_device()
                await (await trio.open_tcp_stream("127.0.0.1", site.printers[0].port)).aclose()

            nursery.start_soon(look)
            await run_sim(site, tmp_path, options, say=lines.append)
    assert all(line.startswith("simulator:") for line in lines)
    assert "no real device" in lines[0]
    events = list(truth.read(tmp_path / "sim" / "truth.jsonl"))
    assert isinstance(events[0], truth.Phase)
    assert not any(isinstance(event, truth.Sensor) for event in events)


def test_options_do_not_show_the_password() -> None:
    assert ANY_WORD not in repr(SimOptions(password=ANY_WORD))
    assert msgspec.structs.asdict(SimOptions())["lost_replies"] == 0.0
