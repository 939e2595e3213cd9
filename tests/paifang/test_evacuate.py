"""`paifang evacuate` against lanes on real sockets and ptys. The boards are simulated (`drivers.testing`)."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import msgspec
import pytest
import trio

from actors.evacuation.latch import Latch, read_latch, write_latch
from core.testing import patient_time
from drivers.nng import LinkClient, SafetyServer
from drivers.nng.testing import FakeGate, free_addresses, until
from drivers.testing import BoardDouble, PtyLine
from paifang.evacuate import evacuate
from paifang.keys import KeyRing
from paifang.site import Board, Lane, Link, Site, SiteFile, Zone
from protocols.board4 import Action, State
from protocols.devicelink import Pass, ReleaseAck, SafetyState

patient = pytest.fixture(autouse=True)(patient_time)


class Park:
    """A site with one serial lane and one smart gate, each of which can be told to fail."""

    def __init__(self, folder, nursery):
        self.folder = folder
        self.nursery = nursery
        self.keys = folder / "keys"
        self.ring = KeyRing.init(self.keys)
        (folder / "dev").mkdir()
        self.line = PtyLine(folder / "dev" / "n1-board")
        self.board = BoardDouble(self.line)
        self.link = Link(**msgspec.structs.asdict(free_addresses()))
        self.gate = FakeGate()
        self.lines = []
        self.site = SiteFile(
            site=Site(id="demo", name="牌坊"),
            link=self.link,
            zones=[Zone(id="park", name="景区")],
            lanes=[
                Lane(id="n1", name="北门1号", to_zone="park", board=Board(path="dev/n1-board")),
                Lane(id="g1", name="南门2号", to_zone="park", device="gate-g1"),
            ],
            products=[],
        )

    async def open(self, *, gate=True, board=True):
        if board:
            self.nursery.start_soon(self.board.run)
        if gate:
            keys = self.ring.release_verifiers
            client = LinkClient(
                self.link, "gate-g1", keys, site="demo", sensed=self.gate.sensed, on_release=self.gate.release
            )
            await self.nursery.start(client.run)
        return self

    async def evacuate(self, timeout_s=4.0, **options):
        return await evacuate(self.site, self.keys, self.folder, timeout_s=timeout_s, say=self.lines.append, **options)

    @property
    def latch(self):
        return read_latch(self.folder / "evacuation.latch")


@pytest.fixture
async def park(tmp_path, nursery):
    park = Park(tmp_path, nursery)
    yield park
    nursery.cancel_scope.cancel()
    park.line.hang_up()


def outcome(report, lane):
    [found] = [each for each in report.lanes if each.lane == lane]
    return found


async def test_without_any_server_every_lane_opens_and_says_so(park):
    await park.open()
    report = await park.evacuate()
    assert report.complete
    assert report.exit_code == 0
    assert report.problems == []
    assert not report.server_answers
    assert park.board.state is State.OPEN_IDLE
    assert park.board.commands[0].action is Action.EXIT_HOLD
    assert [each.incident for each in park.gate.releases] == [report.incident]
    for lane in ("n1", "g1"):
        assert outcome(report, lane).sensed_open
        assert outcome(report, lane).barrier == "released"
        assert outcome(report, lane).after_s < 2
        assert any(line.startswith(lane) and "已释放" in line for line in park.lines)
    latch = park.latch
    assert (latch.state, latch.incident, latch.drill) == ("released", report.incident, False)
    assert latch.by.startswith("command line")


async def test_a_drill_is_one_in_release_and_latch(park):
    await park.open()
    report = await park.evacuate(drill=True)
    assert report.drill
    assert park.gate.releases[0].drill
    assert park.latch.drill


HUNG_SERVER = """
import sys, trio
from drivers.nng import SafetyServer
from drivers.serial import open_line
from protocols.devicelink import SafetyState
async def main(release, safety, path):
    async with trio.open_nursery() as nursery:
        server = SafetyServer(release, safety, lambda request: SafetyState())
        await nursery.start(server.run)
        with open_line(path, 9600) as line:
            print("ready", flush=True)
            while True:
                await line.receive_some()
trio.run(main, *sys.argv[1:])
"""


@contextlib.contextmanager
def server_process(park):
    """A server's sockets and its locked serial line, in a process that can be stopped."""
    command = [sys.executable, "-c", HUNG_SERVER, park.link.release, park.link.safety, park.line.path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


async def test_lanes_open_while_the_server_is_stopped_by_sigstop(park):
    await park.open()
    with server_process(park) as process:
        await trio.sleep(1)  # the gate is linked to it
        os.kill(process.pid, signal.SIGSTOP)
        report = await park.evacuate()
        assert report.exit_code == 0, park.lines
        assert not report.server_answers
        assert any("不应答" in line or "无应答" in line for line in park.lines)
        assert max(lane.after_s for lane in report.lanes) < 2


async def test_a_server_that_lives_keeps_its_serial_lines_to_itself(park):
    """It reports its serial lanes on the evacuation's sockets; their lines are written, and not read."""
    await park.open()
    acks = []

    async def report_lane():
        from drivers.nng import ask_safety

        await until(lambda: park.gate.releases)
        incident = park.gate.releases[0].incident
        ack = ReleaseAck(device="n1", incident=incident, barrier="released", sensed_open=True, at=0.0)
        acks.append(await ask_safety(park.link.evacuate_safety, ack, 2))

    async with trio.open_nursery() as nursery:
        await nursery.start(SafetyServer(park.link.release, park.link.safety, lambda request: SafetyState()).run)
        park.board.silent = True  # so that reading it could not have told
        nursery.start_soon(report_lane)
        report = await park.evacuate()
        nursery.cancel_scope.cancel()
    assert report.exit_code == 0
    assert report.server_answers
    assert acks[0].release.incident == report.incident
    assert park.board.state is State.OPEN_IDLE


async def test_a_server_that_lives_but_says_nothing_is_not_waited_for(park):
    await park.open()
    async with trio.open_nursery() as nursery:
        await nursery.start(SafetyServer(park.link.release, park.link.safety, lambda request: SafetyState()).run)
        report = await park.evacuate(6)
        nursery.cancel_scope.cancel()
    assert report.exit_code == 0
    assert report.server_answers


async def test_a_lane_that_does_not_acknowledge_is_named_and_fails_the_command(park):
    await park.open(gate=False)
    report = await park.evacuate(1.5)
    assert report.exit_code == 1
    assert outcome(report, "n1").sensed_open
    assert not outcome(report, "g1").sensed_open
    assert outcome(report, "g1").after_s is None


async def test_a_gate_that_acknowledges_without_opening_is_not_open(park):
    park.gate = FakeGate(opens_as="closed")
    await park.open()
    report = await park.evacuate(1.5)
    assert report.exit_code == 1
    assert outcome(report, "g1").barrier == "closed"
    assert len(park.gate.releases) == 1


async def test_a_board_that_is_open_for_a_visitor_only_is_not_released(park):
    await park.open()
    park.board.alarm = State.OPEN_ENTRY
    report = await park.evacuate(1.5)
    assert not outcome(report, "n1").sensed_open
    assert outcome(report, "n1").barrier == "open"


async def test_a_board_that_is_plugged_in_late_is_released(park):
    park.line.hang_up()
    await park.open()

    async def plug_in():
        await trio.sleep(1)
        park.line.replug()

    park.nursery.start_soon(plug_in)
    report = await park.evacuate()
    assert report.exit_code == 0
    assert outcome(report, "n1").after_s > 1
    assert "n1-board" in outcome(report, "n1").detail


async def test_a_board_that_loses_commands_is_told_again(park):
    await park.open()
    park.board.lose_commands = 4
    report = await park.evacuate()
    assert report.exit_code == 0


async def test_without_keys_serial_lanes_open_and_the_rest_is_said(park):
    for file in park.keys.iterdir():
        file.unlink()
    await park.open()
    report = await park.evacuate(1.5)
    assert report.exit_code == 1
    assert outcome(report, "n1").sensed_open
    assert park.gate.releases == []
    assert any("release" in problem for problem in report.problems)
    assert park.latch.state == "released"


async def test_an_address_in_use_is_tried_again_until_it_is_free(park):
    await park.open()
    taken = socket.create_server(("127.0.0.1", int(park.link.evacuate_release.rpartition(":")[2])))

    async def free():
        await trio.sleep(1)
        taken.close()

    park.nursery.start_soon(free)
    report = await park.evacuate(6)
    assert report.exit_code == 0
    assert any("evacuate_release" in problem for problem in report.problems)
    assert outcome(report, "n1").after_s < 1
    assert outcome(report, "g1").after_s > 1


async def test_a_remote_address_is_refused_and_serial_lanes_open(park):
    park.site = msgspec.structs.replace(
        park.site, link=msgspec.structs.replace(park.link, evacuate_safety="tcp://0.0.0.0:8466")
    )
    await park.open()
    report = await park.evacuate(1.5)
    assert outcome(report, "n1").sensed_open
    assert any("link.evacuate_safety" in problem for problem in report.problems)
    assert park.latch.state == "released"


async def test_a_latch_that_cannot_be_written_keeps_nobody_in(park):
    (park.folder / "evacuation.latch").mkdir()
    await park.open()
    report = await park.evacuate()
    assert report.exit_code == 0
    assert not report.latch_written
    assert any("evacuation.latch" in problem for problem in report.problems)


@pytest.mark.parametrize(
    ("latched_drill", "asked_drill", "is_drill"), [(True, False, False), (False, True, False), (True, True, True)]
)
async def test_an_evacuation_that_is_going_on_is_continued(park, latched_drill, asked_drill, is_drill):
    """The same incident; a drill may become real, a real one never a drill."""
    latch = Latch(state="released", incident=77, drill=latched_drill, by="console", at=1.0)
    write_latch(park.folder / "evacuation.latch", latch)
    await park.open()
    report = await park.evacuate(drill=asked_drill)
    assert (report.incident, report.drill) == (77, is_drill)
    assert park.gate.releases[0].incident == 77
    assert park.gate.releases[0].drill is is_drill
    assert park.latch.drill is is_drill


async def test_an_old_incident_is_not_continued(park):
    latch = Latch(state="restoring", incident=77, by="console", at=1.0, pending=["n1"])
    write_latch(park.folder / "evacuation.latch", latch)
    await park.open()
    report = await park.evacuate()
    assert report.incident != 77
    assert park.latch.incident == report.incident


async def test_what_others_say_on_the_safety_socket_opens_no_lane(park):
    """Acknowledgements of other incidents, of unknown devices, and messages of the work link."""
    from drivers.nng import ask_safety

    await park.open(gate=False)
    lines = []

    async def chatter():
        messages = [
            ReleaseAck(device="gate-g1", incident=1, barrier="released", sensed_open=True, at=0.0),
            ReleaseAck(device="stranger", incident=1, barrier="released", sensed_open=True, at=0.0),
            Pass(device="gate-g1", boot="b", seq=1, at=0.0),
        ]
        lines.extend([await ask_safety(park.link.evacuate_safety, message, 0.4) for message in messages])

    park.nursery.start_soon(chatter)
    report = await park.evacuate(2)
    assert not outcome(report, "g1").sensed_open
    assert lines[0] is not None
    assert lines[2] is None
