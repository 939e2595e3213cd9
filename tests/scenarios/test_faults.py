"""Bad input and faults: each sentence of the promise is a test, on real transports, with the server as a process."""

from __future__ import annotations

import secrets
import sys

import escpos_render
import pynng
import pytest
import trio
import zxingcpp

from actors.evacuation.latch import read_latch
from core.testing import patient_time_with_processes
from paifang.testing import SiteRig, site_rig, until
from protocols import devicelink as link
from protocols.console import Done, RearmLane, RestoreRequest, Trigger
from protocols.escpos import PAPER_80MM
from sim.lane import Result
from sim.truth import Sensor, read

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow  # real devices and processes: too long for every day


SEEN_S = 10.0  # the promised two seconds are proven where both ends are in one process: tests/drivers/test_board4.py


def _device(state, name):
    return next((device for device in state.devices if device.device == name), None)


def _lane(state, name):
    return next(lane for lane in state.lanes if lane.lane == name)


# --- garbage ------------------------------------------------------------------------------------------------------


async def test_garbage_on_a_board_line_is_counted_and_disturbs_no_other_lane(tmp_path):
    async with site_rig(tmp_path, serial=2) as rig:
        tickets = (await rig.sell_all("adult", 2)).tickets
        line = rig.lane("s1").board.line
        for _ in range(20):
            line.send(secrets.token_bytes(200))
            await trio.sleep(0.02)
        assert await rig.admit("s2", tickets[0].code)
        await rig.shows(lambda state: _device(state, "gate/s1").bad_frames > 0, "bad frames are counted")
        await rig.lanes_idle()
        assert await rig.admit("s1", tickets[1].code)


async def test_garbage_and_oversized_lines_of_a_reader_are_counted_and_the_next_code_is_read(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        ticket = await rig.sell()
        reader = rig.lane("s1").reader
        reader.garbage(b"\xff\xfe\x00garbage\r" + b"A" * 5000 + b"\r" + b"half a li")
        await trio.sleep(1.0)
        assert await rig.admit("s1", ticket.code)
        await rig.shows(lambda state: _device(state, "reader/s1/1").bad_frames > 0, "bad frames are counted")


async def test_garbage_and_oversized_messages_on_the_device_link_are_refused_and_disturb_nobody(tmp_path):
    async with site_rig(tmp_path, serial=0, linked=1) as rig:
        ticket = await rig.sell()
        for address, limit in (
            (rig.site.link.work, link.MAX_WORK_BYTES),
            (rig.site.link.safety, link.MAX_SAFETY_BYTES),
        ):
            for data in (b"", b"\xc1", b"\x80", secrets.token_bytes(300), bytes(limit + 200_000)):
                with pynng.Req0(recv_timeout=400, send_timeout=400, resend_time=-1) as request:
                    request.dial(address, block=True)
                    try:
                        await request.asend(data)
                        answer = await request.arecv()
                    except pynng.exceptions.NNGException:
                        continue  # dropped: the other permitted outcome
                    if address == rig.site.link.work:
                        assert isinstance(link.decode_reply(answer), link.Refused)
        assert await rig.admit("g1", ticket.code)


async def test_garbage_on_the_console_port_and_channel_disturbs_nobody(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        for data in (b"\x16\x03\x01garbage", b"GET " + b"/" * 20_000, b"GET /channel HTTP/1.1\r\n\r\n", bytes(4000)):
            stream = await trio.open_tcp_stream("127.0.0.1", rig.site.http.port)
            async with stream:
                with trio.move_on_after(6):
                    try:
                        await stream.send_all(data)
                        while await stream.receive_some(4096):
                            pass
                    except trio.BrokenResourceError:
                        pass
        ticket = await rig.sell()
        assert await rig.admit("s1", ticket.code)


async def test_forged_and_foreign_codes_are_refused_and_logged_by_code(tmp_path):
    async with site_rig(tmp_path, serial=0, linked=1) as rig:
        ticket = await rig.sell()
        place = rig.lane("g1")
        broken = ticket.code[:-2] + ("AA" if ticket.code[-2:] != "AA" else "BB")
        assert (await place.scan(broken, 2.0, cause="forged")).code in ("bad_signature", "unknown_code")
        assert (await place.scan("https://example.org/x", 2.0, cause="foreign")).code == "unknown_code"
        assert (await place.scan("", 2.0, cause="empty")).code == "unknown_code"
        assert await rig.value("select count(*) from grants") == 0
        assert await rig.admit("g1", ticket.code)


async def test_an_unknown_device_is_refused_and_shown_on_the_console(tmp_path):
    async with site_rig(tmp_path, serial=0, linked=1) as rig:
        with pynng.Req0(recv_timeout=20_000, send_timeout=20_000, resend_time=-1) as request:
            request.dial(rig.site.link.work, block=True)
            await request.asend(link.encode(link.Heartbeat(device="stranger", boot="b", seq=1, at=0.0)))
            reply = link.decode_reply(await request.arecv())
        assert isinstance(reply, link.Refused) and reply.code == "unknown_device"
        await rig.shows(lambda state: _device(state, "stranger") is not None, "the stranger is shown")


# --- devices ------------------------------------------------------------------------------------------------------


async def test_an_unplugged_board_is_unavailable_within_two_seconds_and_comes_back_by_itself(tmp_path):
    async with site_rig(tmp_path, serial=2) as rig:
        tickets = (await rig.sell_all("adult", 3)).tickets
        line = rig.lane("s1").board.line
        line.unplug()
        await rig.shows(lambda state: not _lane(state, "s1").available, "the lane is unavailable", SEEN_S)
        assert await rig.admit("s2", tickets[0].code)
        await trio.sleep(1.0)
        line.plug()
        await rig.lanes_idle()
        assert await rig.admit("s1", tickets[1].code)


async def test_people_who_pass_while_a_board_is_unplugged_are_booked_when_it_is_back(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        board = rig.lane("s1").board
        board.line.unplug()
        await rig.shows(lambda state: not _lane(state, "s1").available, "the lane is unavailable", SEEN_S)
        board.entries += 2  # the board's own counters: two people were let in with its local button
        board.exits += 1
        board.line.plug()
        await rig.lanes_idle()
        with trio.fail_after(30):
            while await rig.value("select count(*) from passages") < 3:
                await trio.sleep(0.05)
        assert await rig.value("select inside from zones where zone = 'park'") == 1
        kinds = await rig.rows("select direction, kind from passages order by 1, 2")
        assert [(row["direction"], row["kind"]) for row in kinds] == [
            ("entry", "unattended"),
            ("entry", "unattended"),
            ("exit", "exit"),
        ]
        assert (await rig.audit()).broken == []


# --- the database -------------------------------------------------------------------------------------------------


async def _refuses_and_evacuates(rig: SiteRig, code: str) -> None:
    """With the database away: lanes refuse and say why; an evacuation opens everything."""
    scanned = await rig.lane("g1").scan(code, 4.0, cause="test")
    assert (scanned.result, scanned.code) == (Result.DENIED, "unavailable")
    assert (await rig.lane("s1").scan(code, 3.0, cause="test")).result is Result.NOTHING
    await rig.shows(lambda state: _lane(state, "s1").last_code == "unavailable", "the serial lane says `unavailable`")
    async with rig.console("security1") as console:
        await console.call("evacuation.trigger", Trigger(reason="test"), Done)
        await until(lambda: all(lane.released for lane in rig.devices.lanes.values()), "all lanes are open", 1.5)


async def _resumes(rig: SiteRig, code: str) -> None:
    """The database is back: restored and re-armed, the ticket that was refused is good."""
    for user in ("security1", "security2"):
        await rig.ask(user, "evacuation.restore", RestoreRequest(), Done)
    await rig.ask("security1", "lane.rearm", RearmLane(lane="*"), Done)
    await rig.lanes_idle(30.0)
    with trio.fail_after(20):
        while not await rig.admit("g1", code):
            await trio.sleep(0.2)
    await rig.settled()
    assert (await rig.audit()).broken == []


async def test_database_stopped_lanes_refuse_evacuation_works_and_everything_resumes(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1, own_database=True) as rig:
        ticket = await rig.sell()
        await rig.cluster.stop()
        await _refuses_and_evacuates(rig, ticket.code)
        await rig.cluster.start()
        await _resumes(rig, ticket.code)


async def test_database_hung_lanes_refuse_evacuation_works_and_everything_resumes(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1, own_database=True) as rig:
        ticket = await rig.sell()
        rig.cluster.suspend()
        await _refuses_and_evacuates(rig, ticket.code)
        rig.cluster.resume()
        await _resumes(rig, ticket.code)


async def test_booted_with_the_database_down_lanes_are_up_refuse_and_evacuation_works(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1, own_database=True) as rig:
        ticket = await rig.sell()
        await rig.stop()
        await rig.cluster.stop()
        await rig.start()
        assert await rig.lane("g1").gate.ready(10.0)
        await _refuses_and_evacuates(rig, ticket.code)
        await rig.cluster.start()
        await _resumes(rig, ticket.code)


# --- the server ---------------------------------------------------------------------------------------------------


async def test_evacuated_database_stopped_server_killed_started_again_nothing_closes(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1, own_database=True) as rig:
        async with rig.console("security1") as console:
            await console.call("evacuation.trigger", Trigger(), Done)
        await until(lambda: all(lane.released for lane in rig.devices.lanes.values()), "all lanes are open", 1.5)
        latch = rig.data / "evacuation.latch"  # written after sending
        await until(lambda: read_latch(latch).state == "released", "it is on disk", 30.0)
        await rig.cluster.stop()
        rig.kill()
        closed: list[str] = []
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                while True:
                    closed.extend(name for name, lane in rig.devices.lanes.items() if not lane.released)
                    await trio.sleep(0.01)

            nursery.start_soon(watch)
            await rig.start()
            state = await rig.shows(
                lambda state: (
                    state.evacuation.state == "released" and all(lane.sensed_open for lane in state.evacuation.lanes)
                ),
                "the restarted server is released and senses every lane open",
                15.0,
            )
            await trio.sleep(2.0)
            nursery.cancel_scope.cancel()
        assert closed == []
        assert len(state.evacuation.lanes) == 2


async def test_killed_between_sensor_and_commit_on_a_serial_lane_the_passage_is_booked_at_restart(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        ticket = await rig.sell()
        place = rig.lane("s1")
        scanned = await place.scan(ticket.code, 4.0, cause="test")
        assert scanned.opened
        rig.suspend()  # the server sees nothing of what the sensor sees …
        await place.walk(0.2, ticket=None, visitor="test")
        place.done(scanned, 1)
        rig.kill()  # … and never will
        assert await rig.value("select count(*) from passages") == 0
        await rig.start()
        await rig.lanes_idle()
        await rig.settled()
        rows = await rig.rows("select kind, grant_id is not null as granted from passages")
        assert [(row["kind"], row["granted"]) for row in rows] == [("granted", True)]
        assert await rig.value("select sum(pax) from redemptions") == 1
        assert await rig.value("select inside from zones where zone = 'park'") == 1
        assert not await rig.admit("s1", ticket.code, patience_s=1.5)
        assert (await rig.audit()).broken == []


async def test_killed_after_the_grant_before_anybody_passed_the_ticket_is_free_again(tmp_path):
    async with site_rig(tmp_path, serial=1) as rig:
        ticket = await rig.sell()
        place = rig.lane("s1")
        assert (await place.scan(ticket.code, 4.0, cause="test")).opened
        rig.kill()
        await rig.start()
        await rig.lanes_idle(30.0)
        await rig.settled()
        assert await rig.value("select count(*) from passages") == 0
        assert await rig.admit("s1", ticket.code)
        assert (await rig.audit()).broken == []


@pytest.mark.slow
async def test_kill_9_during_traffic_then_audit_finds_nothing(tmp_path):
    async with site_rig(tmp_path, serial=2, linked=2) as rig:
        sold = [ticket.code for _ in range(6) for ticket in (await rig.sell_all("adult", 10)).tickets]
        waiting = list(sold)
        admitted: list[str] = []

        async def visitors(lane: str) -> None:
            while waiting:
                code = waiting.pop()
                if await rig.admit(lane, code, patience_s=3.0):
                    admitted.append(code)

        async with trio.open_nursery() as nursery:
            for lane in ("s1", "s2", "g1", "g2"):
                nursery.start_soon(visitors, lane)
            for _ in range(3):
                before = len(admitted)
                await trio.sleep(2.0)
                await until(lambda before=before: len(admitted) > before, "somebody was let in", 30.0)
                rig.kill()
                await rig.start()
            await trio.sleep(3.0)
            nursery.cancel_scope.cancel()
        assert admitted
        await rig.lanes_idle(30.0)
        assert await rig.devices.said(20.0)
        await rig.settled(20.0)
        report = await rig.audit()
        assert report.broken == [] and report.checked
        truth = read(rig.data / "sim" / "truth.jsonl")
        passed = sum(isinstance(event, Sensor) and event.direction == "entry" for event in truth)
        assert await rig.value("select inside from zones where zone = 'park'") == passed


# --- evacuation without the server --------------------------------------------------------------------------------


async def test_paifang_evacuate_releases_every_lane_while_the_server_is_stopped_by_sigstop(tmp_path):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        rig.suspend()
        command = [
            "-m",
            "paifang",
            "evacuate",
            str(rig.site_path),
            "--data",
            str(rig.data),
            "--timeout",
            "15",
            "--json",
        ]
        done = await trio.run_process([sys.executable, *command], capture_stdout=True, capture_stderr=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert all(lane.released for lane in rig.devices.lanes.values())
        rig.resume()
        state = await rig.shows(
            lambda state: (
                state.evacuation.state == "released" and all(lane.sensed_open for lane in state.evacuation.lanes)
            ),
            "the server that woke up adopts the release",
            10.0,
        )
        assert state.evacuation.incident is not None
        assert all(lane.released for lane in rig.devices.lanes.values())


# --- the printed ticket -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["s1", "g1"])
async def test_a_printed_ticket_rendered_and_decoded_opens_the_lane(tmp_path, lane):
    async with site_rig(tmp_path, serial=1, linked=1) as rig:
        sold = await rig.sell(printer="window")
        printed = rig.data / "sim" / "printed"
        await until(lambda: printed.exists() and any(printed.iterdir()), "a job came out of the printer")
        (job,) = printed.iterdir()
        picture = escpos_render.render(job.read_bytes(), PAPER_80MM.dots).image
        (symbol,) = [s for s in zxingcpp.read_barcodes(picture) if s.format == zxingcpp.BarcodeFormat.QRCode]
        assert symbol.text == sold.code
        assert await rig.admit(lane, symbol.text)
        state = await rig.value("select state from print_jobs")
        assert state == "done"
