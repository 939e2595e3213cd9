"""`paifang demo`: its helpers, and the whole of it as processes on real transports."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from paifang import demo
from paifang.check import load
from paifang.promises import LAST_ACK_MS_MAX
from sim import truth
from storage._processes import processes_in

GONE_S = 30.0
LAST_ACK_HERE_MS = 5000.0
KEYS = [
    "sold", "admitted", "refused", "same_code", "double_passages", "limit_exceeded", "occupancy_error",
    "scan_to_open_ms", "printed", "faces", "evacuation", "kills", "in_flight_at_kill", "acknowledged_lost",
    "acknowledged_doubled", "audit", "loop_lag_ms", "database",
]  # fmt: skip


def test_a_copy_of_the_site_file_gets_free_ports_and_nothing_else(tmp_path: Path) -> None:
    text = demo.SITE.read_text(encoding="utf-8")
    copy = tmp_path / "site.toml"
    copy.write_text(demo.with_free_ports(text), encoding="utf-8")
    site, original = load(copy), load(demo.SITE)
    ports = [site.http.port, site.printers[0].port]
    ports += [int(url.rsplit(":", 1)[1]) for url in (site.link.work, site.link.wake, site.link.release)]
    ports += [int(url.rsplit(":", 1)[1]) for url in (site.link.safety, site.link.evacuate_release)]
    assert len(set(ports)) == len(ports)
    assert original.http.port not in ports
    assert (site.zones, site.lanes, site.products) == (original.zones, original.lanes, original.products)
    strip = re.compile(r":\d+\"|port *= *\d+")
    assert strip.sub("", copy.read_text(encoding="utf-8")) == strip.sub("", text)


async def test_a_folder_that_holds_something_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(demo.DemoError, match="not empty"):
        await demo.demo(5, 7, keep=tmp_path)
    assert (tmp_path / "mine").read_text() == "keep"


async def test_a_folder_that_was_not_kept_by_a_demo_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(demo.DemoError, match=r"truth\.jsonl is missing"):
        await demo.check(tmp_path)


async def test_a_site_file_that_the_server_refuses_ends_the_demo_and_leaves_no_process(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(demo.SITE.read_text(encoding="utf-8").replace('to_zone = "summit"', 'to_zone = "moon"'))
    with pytest.raises(demo.DemoError, match="server ended before it said"):
        await demo.demo(5, 7, keep=tmp_path / "kept", site=wrong, say=lambda line: None)
    assert _processes(tmp_path / "kept") == []


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_everything_once_keeps_every_promise_and_check_gives_the_same_figures(tmp_path: Path) -> None:
    lines: list[str] = []
    report = await demo.demo(20, 7, keep=tmp_path / "kept", say=lines.append)
    assert list(report) == KEYS
    assert _broken(report) == [], "\n".join(lines)
    assert report["refused"]["bad_signature"] > 0
    assert report["refused"]["already_used"] > 0
    assert report["refused"]["not_yet_valid"] > 0
    assert report["refused"]["capacity_hold"] > 0
    assert await demo.check(tmp_path / "kept", say=lines.append) == report
    assert _processes(tmp_path / "kept") == []
    phases = [event.name for event in truth.read(tmp_path / "kept/sim/truth.jsonl") if isinstance(event, truth.Phase)]
    assert phases[-1] == "done"


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_killed_in_the_middle_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    lines: list[str] = []
    report: dict[str, Any] = await demo.demo(20, 7, 6.0, tmp_path / "kept", say=lines.append)
    assert _broken(report) == [], "\n".join(lines)
    assert report["kills"] == 1
    assert report["in_flight_at_kill"] > 0
    assert _processes(tmp_path / "kept") == []


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_interrupted_it_leaves_no_process_behind(tmp_path: Path) -> None:
    with trio.move_on_after(8):
        await demo.demo(30, 7, keep=tmp_path / "kept", say=lambda line: None)
    with trio.move_on_after(GONE_S):  # a PostgreSQL that was just starting learns of its server's end by a signal
        while _processes(tmp_path / "kept"):
            await trio.sleep(0.1)
    assert _processes(tmp_path / "kept") == []


def _broken(report: dict[str, Any]) -> list[str]:
    """The promises that are broken, where a machine that others use may stand still for some seconds."""
    evacuation = report["evacuation"]
    late_ms = evacuation["last_ack_ms"]
    if late_ms is not None and late_ms <= LAST_ACK_HERE_MS:
        report = {**report, "evacuation": {**evacuation, "last_ack_ms": min(late_ms, LAST_ACK_MS_MAX)}}
    return demo.broken(report)


def _processes(folder: Path) -> list[str]:
    """Command lines of processes that name a folder. Ours must not outlive a run."""
    found = [f"postgres {pid}" for pid in processes_in(folder / "pg")]
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found
