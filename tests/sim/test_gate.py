"""The simulated smart gate against real link sockets. The server behind them is a double that a test scripts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.testing import patient_time
from drivers.base import Barrier as Sensed
from drivers.nng import SafetyServer, WorkServer
from paifang.demo import with_free_ports
from paifang.site import Link
from protocols import devicelink as link
from protocols.messages import Direction, PassageKind
from sim import truth
from sim.barrier import Timing
from sim.gate import SimGate

patient = pytest.fixture(autouse=True)(patient_time)

ENTRY, EXIT = Direction.ENTRY, Direction.EXIT
FAST = Timing(opening_s=0.03, closing_s=0.03, open_s=1.0)
KEY = Ed25519PrivateKey.generate()


class Server:
    """Answers like the server does; `grants` are given out in turn, then everything is denied."""

    def __init__(self) -> None:
        self.heard: list[link.WorkRequest] = []
        self.grants: list[tuple[int, int]] = []  # (grant, pax)
        self.silent: Callable[[link.WorkRequest], bool] = lambda request: False
        self.state = "open"
        self.commands: list[link.Command] = []
        self.acks: list[link.ReleaseAck] = []
        self.release: link.Release | None = None
        self._answers: dict[tuple[str, int], link.WorkReply] = {}

    async def work(self, request: link.WorkRequest) -> link.WorkReply:
        if self.silent(request):
            await trio.sleep_forever()
        self.heard.append(request)
        key = (request.boot, request.seq)
        self._answers.setdefault(key, self._answer(request))
        return self._answers[key]

    def _answer(self, request: link.WorkRequest) -> link.WorkReply:
        head = {"seq": request.seq, "server_at": time.time()}
        if isinstance(request, link.Hello):
            return link.Welcome(**head, site="s", lane="g1", mode="bidirectional")  # type: ignore[arg-type]
        if isinstance(request, link.Fetch):
            return link.Commands(**head, commands=[c for c in self.commands if c.id not in request.done])  # type: ignore[arg-type]
        if isinstance(request, link.Scan):
            if not self.grants:
                return link.Deny(**head, nonce=request.nonce, code="already_used", text_zh="已使用", text_en="Used")  # type: ignore[arg-type]
            grant, pax = self.grants.pop(0)
            return link.Grant(
                **head,
                nonce=request.nonce,
                grant=grant,
                pax=pax,
                passed=0,
                ttl_s=2.0,
                state=self.state,
                product_class="full",
                text_zh="",
                text_en="",
                remaining=0,
            )  # type: ignore[arg-type]
        return link.Ack(**head)  # type: ignore[arg-type]

    def safety(self, request: link.SafetyRequest) -> link.SafetyState:
        if isinstance(request, link.ReleaseAck):
            self.acks.append(request)
        return link.SafetyState(release=self.release)

    def of(self, kind: type) -> list[link.WorkRequest]:
        return [request for request in self.heard if isinstance(request, kind)]


def addresses() -> Link:
    names = ("work", "wake", "release", "safety", "evacuate_release", "evacuate_safety")
    text = with_free_ports("\n".join(f'{name} = "tcp://127.0.0.1:1"' for name in names))
    return Link(**dict(line.replace('"', "").split(" = ") for line in text.splitlines()))


@asynccontextmanager
async def serving(server: Server, where: Link) -> AsyncIterator[WorkServer]:
    work = WorkServer(where.work, where.wake, server.work)
    safety = SafetyServer(where.release, where.safety, server.safety)
    async with trio.open_nursery() as nursery:
        await nursery.start(work.run)
        await nursery.start(safety.run)
        yield work
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def gate(tmp_path: Path, where: Link) -> AsyncIterator[SimGate]:
    with truth.Truth(tmp_path / "truth.jsonl") as writer:
        made = SimGate("g1", "gate-g1", where, {"1": KEY.public_key()}, writer, site="s", timing=FAST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            yield made
            nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(0.01)


async def test_scan_open_pass_and_end_are_told_in_order(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    server.grants = [(41, 1)]
    async with serving(server, where), gate(tmp_path, where) as made:
        assert await made.ready(5)
        reply = await made.scan("PF1:X", 3, cause="normal", ticket=7)
        assert isinstance(reply, link.Grant)
        assert await made.barrier.wait_turn(ENTRY, 2)
        assert await made.barrier.walk(ENTRY, 0.05, ticket=7) is PassageKind.GRANTED
        await until(lambda: bool(server.of(link.PassEnd)) and made.unsaid == 0)
    (passed,) = server.of(link.Pass)
    (end,) = server.of(link.PassEnd)
    assert isinstance(passed, link.Pass)
    assert (passed.grant, passed.kind, passed.direction) == (41, "granted", "entry")
    assert isinstance(end, link.PassEnd)
    assert (end.grant, end.passed, end.why) == (41, 1, "complete")
    assert server.heard.index(passed) < server.heard.index(end)
    events = list(truth.read(tmp_path / "truth.jsonl"))
    assert [event.of for event in events if isinstance(event, truth.Acked)] == ["pass", "passend"]
    (sensor,) = (event for event in events if isinstance(event, truth.Sensor))
    assert (sensor.seq, sensor.grant, sensor.ticket) == (passed.seq, 41, 7)


async def test_hello_comes_first(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    async with serving(server, where), gate(tmp_path, where) as made:
        assert await made.ready(5)
    assert isinstance(server.heard[0], link.Hello | link.Fetch)
    assert server.of(link.Hello)
    assert made.mode == "bidirectional"


async def test_denied_it_stays_closed(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    async with serving(server, where), gate(tmp_path, where) as made:
        await made.ready(5)
        reply = await made.scan("PF1:X", 3, cause="used")
        assert isinstance(reply, link.Deny)
        await trio.sleep(0.2)
        assert made.barrier.sensed is Sensed.CLOSED
    answers = [event for event in truth.read(tmp_path / "truth.jsonl") if isinstance(event, truth.Answer)]
    assert [(answer.result, answer.code) for answer in answers] == [("deny", "already_used")]


async def test_a_grant_that_is_not_open_any_more_opens_nothing_and_is_ended(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    server.grants, server.state = [(42, 1)], "expired"
    async with serving(server, where), gate(tmp_path, where) as made:
        await made.ready(5)
        await made.scan("PF1:X", 3, cause="normal")
        await until(lambda: bool(server.of(link.PassEnd)))
        assert made.barrier.sensed is Sensed.CLOSED
    (end,) = server.of(link.PassEnd)
    assert isinstance(end, link.PassEnd)
    assert (end.grant, end.passed, end.why) == (42, 0, "never_opened")


async def test_giving_up_on_an_answer_is_stated_by_nonce(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    server.silent = lambda request: isinstance(request, link.Scan)
    async with serving(server, where), gate(tmp_path, where) as made:
        await made.ready(5)
        assert await made.scan("PF1:X", 0.3, cause="normal") is None
        await until(lambda: bool(server.of(link.PassEnd)))
    (end,) = server.of(link.PassEnd)
    assert isinstance(end, link.PassEnd)
    assert end.grant is None
    assert end.nonce
    assert end.why == "never_opened"


async def test_who_turns_round_ends_the_grant_by_time(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    server.grants = [(43, 2)]
    async with serving(server, where), gate(tmp_path, where) as made:
        await made.ready(5)
        await made.scan("PF1:X", 3, cause="normal")
        await made.barrier.wait_turn(ENTRY, 2)
        await made.barrier.walk(ENTRY, 0.05)
        await made.barrier.wait_turn(ENTRY, 2)
        await made.barrier.walk(ENTRY, 0.05, step_back=True)
        await until(lambda: bool(server.of(link.PassEnd)))
    (end,) = server.of(link.PassEnd)
    assert isinstance(end, link.PassEnd)
    assert (end.passed, end.why) == (1, "timeout")
    assert len(server.of(link.Pass)) == 1


async def test_passages_while_the_server_is_dead_arrive_after_its_restart_with_open_grants_in_the_hello(
    tmp_path: Path,
) -> None:
    server, where = Server(), addresses()
    server.grants = [(44, 1)]
    async with gate(tmp_path, where) as made:
        async with serving(server, where):
            await made.ready(5)
            await made.scan("PF1:X", 3, cause="normal")
        await made.barrier.wait_turn(ENTRY, 2)
        await made.barrier.walk(ENTRY, 0.05)
        await trio.sleep(0.5)
        assert made.barrier.sensed is Sensed.CLOSED
        assert made.unsaid == 2
        again = Server()
        async with serving(again, where):
            await until(lambda: made.unsaid == 0 and bool(again.of(link.Hello)), 10)
    (passed,) = again.of(link.Pass)
    (end,) = again.of(link.PassEnd)
    assert isinstance(passed, link.Pass)
    assert isinstance(end, link.PassEnd)
    assert (passed.grant, end.grant) == (44, 44)
    hello = again.of(link.Hello)[0]
    assert isinstance(hello, link.Hello)
    assert hello.open_grants == [44] or again.heard.index(end) < again.heard.index(hello)


async def test_losing_the_network_opens_nothing(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    async with gate(tmp_path, where) as made:
        async with serving(server, where):
            await made.ready(5)
        await trio.sleep(0.5)
        assert made.barrier.sensed is Sensed.CLOSED
        assert await made.scan("PF1:X", 0.3, cause="normal") is None
        assert made.barrier.sensed is Sensed.CLOSED


async def test_people_walk_out_freely_and_are_told_as_exits(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    async with serving(server, where), gate(tmp_path, where) as made:
        await made.ready(5)
        assert await made.barrier.ask_exit(2)
        await made.barrier.walk(EXIT, 0.05)
        await until(lambda: bool(server.of(link.Pass)))
    (passed,) = server.of(link.Pass)
    assert isinstance(passed, link.Pass)
    assert (passed.direction, passed.kind, passed.grant) == ("exit", "exit", None)


async def test_a_signed_release_opens_and_is_acknowledged_with_what_is_sensed_until_rearmed(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    async with serving(server, where), gate(tmp_path, where) as made:
        await made.ready(5)
        server.release = link.sign_release(KEY, "1", site="s", incident=9)
        await until(lambda: any(ack.sensed_open for ack in server.acks))
        assert made.barrier.sensed is Sensed.RELEASED
        assert await made.barrier.walk(EXIT, 0.05) is PassageKind.EMERGENCY
        await until(lambda: bool(server.of(link.Pass)))
        server.release = None
        server.commands = [link.Command(id=5, name="rearm", ttl_s=60)]
        await until(lambda: made.barrier.sensed is Sensed.CLOSED)
        await until(lambda: any(5 in r.done for r in server.of(link.Fetch) if isinstance(r, link.Fetch)))
    assert all(ack.incident == 9 for ack in server.acks)
    assert server.of(link.Pass)[0].kind == "emergency"  # type: ignore[union-attr]


async def test_a_release_with_a_wrong_signature_opens_nothing(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    async with serving(server, where), gate(tmp_path, where) as made:
        await made.ready(5)
        server.release = link.sign_release(Ed25519PrivateKey.generate(), "1", site="s", incident=9)
        await trio.sleep(2.5)  # two polls
        assert made.barrier.sensed is Sensed.CLOSED
        assert server.acks == []


async def test_a_command_is_carried_out_once_however_often_it_is_fetched(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    async with serving(server, where) as work, gate(tmp_path, where) as made:
        await made.ready(5)
        server.commands = [link.Command(id=6, name="open", ttl_s=3, pax=1)]
        work.wake("gate-g1")
        assert await made.barrier.wait_turn(ENTRY, 5)
        await made.barrier.walk(ENTRY, 0.05)
        work.wake("gate-g1")
        await trio.sleep(0.5)
        assert made.barrier.sensed is Sensed.CLOSED
        await until(lambda: bool(server.of(link.Pass)))
    assert server.of(link.Pass)[0].kind == "free"  # type: ignore[union-attr]


async def test_a_paused_batch_lets_nobody_else_in_and_says_so(tmp_path: Path) -> None:
    server, where = Server(), addresses()
    server.grants = [(41, 20)]
    async with serving(server, where) as work, gate(tmp_path, where) as made:
        assert await made.ready(5)
        await made.scan("PF1:X", 3, cause="group", ticket=7)
        assert await made.barrier.wait_turn(ENTRY, 2)
        for _ in range(2):
            await made.barrier.walk(ENTRY, 0.05, ticket=7)
        server.commands.append(link.Command(id=9, name="pause", ttl_s=5.0))
        work.wake("gate-g1")
        await until(lambda: bool(server.of(link.PassEnd)))
        assert await made.barrier.walk(ENTRY, 0.05) is not PassageKind.GRANTED
    (end,) = server.of(link.PassEnd)
    assert isinstance(end, link.PassEnd)
    assert (end.grant, end.passed, end.why) == (41, 2, "paused")
