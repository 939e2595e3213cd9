"""Whatever happens to the database or to us: nothing acknowledged is missing, nothing is doubled, everybody is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio_asyncio import aio_as_trio

from core.testing import Probe, patient_time
from protocols.messages import Denied, Granted, GrantState
from storage.audit import audit
from storage.connection import Dsn
from storage.crowd import Crowd
from storage.embedded import Embedded, embedded
from storage.interfaces import LedgerState, LedgerUnavailable
from storage.testing import Database, LedgerUser, connected, fresh_database, grant_op, ledger_running, quick_folder

patient = pytest.fixture(autouse=True)(patient_time)

COMMIT = b"\x00do_commit\x00"  # the prepared statement in a Bind message, as it crosses the wire
PATIENCE_S = 30.0


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: these tests make many clusters."""
    with quick_folder() as folder:
        yield folder


async def _clean(dsn: Dsn) -> None:
    report = await audit(dsn, "demo")
    assert report.clean, report.broken


class CuttingProxy:
    """Stands between the ledger and PostgreSQL, and cuts the next connections at their COMMIT.

    `cuts` says how, one word per connection: `before` (COMMIT never arrives), `after` (it arrives and is carried out,
    its answer does not come back), `during` (it arrives, and nobody waits), `crash` (`kill` is called instead).
    """

    def __init__(self, server: Dsn, folder: Path, kill: Callable[[], None] | None = None) -> None:
        self._kill = kill
        self._server = f"{server.host}/.s.PGSQL.{server.port}"
        self.dsn = Dsn(host=str(folder), user=server.user, database=server.database)
        self._path = folder / f".s.PGSQL.{server.port}"
        self.cuts: list[str] = []
        self.made = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(str(self._path))
        listener.listen(8)
        task_status.started()
        with listener:
            async with trio.open_nursery() as nursery:
                while True:
                    client, _ = await listener.accept()
                    nursery.start_soon(self._serve, trio.SocketStream(client))

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            server = await trio.open_unix_socket(self._server)
        except OSError:  # not up: whoever connects to us sees as much
            await client.aclose()
            return
        async with client, server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._answers, server, client, nursery.cancel_scope)
                while True:
                    try:
                        data = await client.receive_some()
                    except trio.BrokenResourceError:
                        data = b""
                    if not data:
                        nursery.cancel_scope.cancel()
                        return
                    if self.cuts and COMMIT in data:
                        how = self.cuts.pop(0)
                        self.made += 1
                        nursery.cancel_scope.cancel()
                        if how == "crash":
                            assert self._kill is not None
                            self._kill()
                        elif how != "before":
                            with trio.CancelScope(shield=True):
                                await server.send_all(data)
                                if how == "after":
                                    assert b"COMMIT" in await server.receive_some()
                        return
                    try:
                        await server.send_all(data)
                    except trio.BrokenResourceError:
                        nursery.cancel_scope.cancel()

    async def _answers(
        self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for data in server:
                await client.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()


@asynccontextmanager
async def _behind_a_proxy(folder: Path) -> AsyncIterator[tuple[Database, CuttingProxy, LedgerUser]]:
    async with fresh_database() as database, trio.open_nursery() as nursery:
        proxy = CuttingProxy(database.dsn, folder)
        await nursery.start(proxy.run)
        async with ledger_running(proxy.dsn) as ledger:
            yield database, proxy, ledger
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["before", "after", "during"])
async def test_a_connection_cut_at_commit_is_looked_up_before_anybody_is_answered(how: str, tmp_path: Path) -> None:
    async with _behind_a_proxy(tmp_path) as (database, proxy, ledger):
        tickets = await ledger.sell("adult", 20)
        proxy.cuts.append(how)
        replies = Probe("replies")
        for number, ticket in enumerate(tickets):
            ledger.address.tell(grant_op(ticket.ticket, lane=f"lane{number}"), reply_to=replies)
        answered = set()
        for _ in tickets:
            granted = await replies.expect(Granted, within_s=10)
            assert (granted.state, granted.fresh) == (GrantState.OPEN, True)
            answered.add(granted.grant)
        assert proxy.made == 1
        stored = {row["grant_id"] for row in await database.fetch("select grant_id from grants")}
        assert answered == stored
        statistics = ledger.ledger.statistics()
        assert (statistics.lost, statistics.doubtful, statistics.connects) == (1, 1, 2)
        await _clean(database.dsn)


async def test_a_batch_that_loses_two_connections_is_answered_unavailable_and_can_be_asked_again(
    tmp_path: Path,
) -> None:
    async with _behind_a_proxy(tmp_path) as (database, proxy, ledger):
        (ticket,) = await ledger.sell("adult")
        proxy.cuts += ["before", "before"]
        op = grant_op(ticket.ticket)
        with pytest.raises(LedgerUnavailable):
            await ledger.ask(op)
        assert await database.fetchval("select count(*) from grants") == 0
        await _available(ledger)
        assert (await ledger.ask(op)).fresh
        await _clean(database.dsn)


async def _available(ledger: LedgerUser) -> None:
    with trio.fail_after(PATIENCE_S):
        while not ledger.ledger.state.available:
            await trio.sleep(0.02)


async def test_a_session_that_is_ended_costs_nobody_an_answer() -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        tickets = await ledger.sell("adult", 5)
        for ticket in tickets:
            ended = await database.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                "where application_name like 'paifang ledger%' and datname = current_database()"
            )
            assert ended == 1
            await trio.sleep(0.05)
            assert isinstance(await _until_granted(ledger, ticket.ticket), Granted)
        await _clean(database.dsn)


async def _until_granted(ledger: LedgerUser, ticket: int) -> Granted:
    """Ask as a lane does: the same nonce until there is an answer."""
    op = grant_op(ticket)
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                answer = await ledger.ask(op)
            except LedgerUnavailable:
                await trio.sleep(0.05)
                continue
            assert isinstance(answer, Granted), answer
            return answer


@asynccontextmanager
async def _own_cluster(folder: Path) -> AsyncIterator[tuple[Embedded, LedgerUser]]:
    async with embedded(folder / "data") as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.keep)
        async with ledger_running(server.dsn) as ledger:
            yield server, ledger
        nursery.cancel_scope.cancel()


async def test_a_database_that_hangs_is_told_apart_from_one_that_answers(tmp_path: Path) -> None:
    async with _own_cluster(tmp_path) as (server, ledger):
        assert (await ledger.states.expect(LedgerState)).available
        tickets = await ledger.sell("adult", 10)
        server.suspend()
        asked_at = trio.current_time()
        replies: list[object] = []

        async def scan(ticket: int) -> None:
            try:
                replies.append(await ledger.scan(ticket))
            except LedgerUnavailable as exc:
                replies.append(exc)

        async with trio.open_nursery() as nursery:
            for ticket in tickets:
                nursery.start_soon(scan, ticket.ticket)
        assert trio.current_time() - asked_at < 5.0
        assert all(isinstance(reply, LedgerUnavailable) for reply in replies), replies
        assert not (await ledger.states.expect(LedgerState, within_s=1)).available
        with pytest.raises(LedgerUnavailable), trio.fail_after(0.5):  # now at once
            await ledger.scan(tickets[0].ticket)
        server.resume()
        await _available(ledger)
        for ticket in tickets:
            answer = await ledger.scan(ticket.ticket)
            assert isinstance(answer, Granted | Denied)  # a grant of the batch that hung may have been written
            assert isinstance(answer, Granted) or answer.code == "in_progress"
        await _clean(server.dsn)


async def test_a_database_that_hangs_while_nobody_asks_is_noticed(tmp_path: Path) -> None:
    async with _own_cluster(tmp_path) as (server, ledger):
        assert (await ledger.states.expect(LedgerState)).available
        server.suspend()
        assert not (await ledger.states.expect(LedgerState, within_s=8)).available
        server.resume()
        while not (await ledger.states.expect(LedgerState, within_s=PATIENCE_S)).available:
            pass


@pytest.mark.once
async def test_a_transaction_id_that_a_crash_has_given_out_again_is_not_taken_for_the_lost_batch(
    tmp_path: Path,
) -> None:
    """What was lost with the crash is not on disk, though a transaction of its id has been committed since."""
    (tmp_path / "proxy").mkdir()
    async with embedded(tmp_path / "data") as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.keep)
        proxy = CuttingProxy(server.dsn, tmp_path / "proxy", server.kill)
        await nursery.start(proxy.run)
        async with ledger_running(proxy.dsn) as ledger:
            for ticket in await ledger.sell("adult", 5):
                proxy.cuts.append("crash")
                granted = await _until_granted(ledger, ticket.ticket)
                assert not proxy.cuts
                assert granted.grant in {
                    row["grant_id"] for row in await Database(server.dsn).fetch("select grant_id from grants")
                }
        await _clean(server.dsn)
        nursery.cancel_scope.cancel()


@pytest.mark.once
async def test_postgresql_killed_and_restarted_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    async with _own_cluster(tmp_path) as (server, ledger):
        tickets = await ledger.sell("adult", 300)
        waiting = [ticket.ticket for ticket in tickets]

        async def lane(name: str) -> None:
            while waiting:
                ticket = waiting.pop()
                op = grant_op(ticket, lane=name)
                while True:
                    try:
                        granted: Granted = await ledger.ask(op)
                        break
                    except LedgerUnavailable:
                        await trio.sleep(0.05)
                acknowledged.append(granted.grant)

        first_pid = server.pid
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(lane, f"lane{number}")
                while len(acknowledged) < 60:
                    await trio.sleep(0.001)
                server.kill()
        assert server.pid != first_pid
        assert len(acknowledged) == len(set(acknowledged)) == 300
        stored = await Database(server.dsn).fetch("select grant_id from grants")
        assert {row["grant_id"] for row in stored} == set(acknowledged)
        await _clean(server.dsn)


CHILD = """
import sys, json, trio
from storage.connection import Dsn
from storage.testing import ledger_running, passage, end
from protocols.messages import Granted

async def main():
    dsn = Dsn(host=sys.argv[1], user=sys.argv[2], database=sys.argv[3])
    async with ledger_running(dsn) as ledger:
        async def lane(name):
            while True:
                (ticket,) = await ledger.sell("adult")
                print(json.dumps(["ticket", ticket.ticket]), flush=True)
                granted = await ledger.scan(ticket.ticket, lane=name)
                print(json.dumps(["grant", granted.grant]), flush=True)
                op = passage(granted, lane=name, boot=sys.argv[4])
                await ledger.ask(op)
                print(json.dumps(["passage", op.device, op.boot, op.seq]), flush=True)
                await ledger.ends(granted, 1, lane=name)
                print(json.dumps(["end", granted.grant]), flush=True)
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(lane, f"lane{number}")

trio.run(main)
"""


@pytest.mark.once
async def test_after_kill_9_everything_acknowledged_is_there_once(tmp_path: Path) -> None:
    """Three times: a process that runs the ledger under load is killed at some instant."""
    async with embedded(tmp_path / "data") as server:
        database = Database(server.dsn)
        for run in range(3):
            said = await _run_and_kill(server.dsn, f"boot{run}", lines=150 + 70 * run)
            tickets = {row["ticket"] for row in await database.fetch("select ticket from tickets")}
            grants = {row["grant_id"] for row in await database.fetch("select grant_id from grants")}
            ends = {row["grant_id"] for row in await database.fetch("select grant_id from grant_ends")}
            rows = await database.fetch("select device, boot, seq from passages")
            passages = {(row["device"], row["boot"], row["seq"]) for row in rows}
            assert {line[1] for line in said if line[0] == "ticket"} <= tickets
            assert {line[1] for line in said if line[0] == "grant"} <= grants
            assert {line[1] for line in said if line[0] == "end"} <= ends
            assert {tuple(line[1:]) for line in said if line[0] == "passage"} <= passages
            await _clean(server.dsn)


async def _run_and_kill(dsn: Dsn, boot: str, lines: int) -> list[list[object]]:
    """What the child had acknowledged before SIGKILL, in whole lines."""
    words = [sys.executable, "-c", CHILD, dsn.host, dsn.user, dsn.database, boot]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])  # noqa: ASYNC220
    said: list[list[object]] = []
    try:
        assert child.stdout is not None

        def read(count: int) -> None:
            for line in child.stdout or ():
                if line.endswith(b"\n"):
                    said.append(json.loads(line))
                count -= 1
                if not count:
                    return

        with trio.fail_after(PATIENCE_S):
            await trio.to_thread.run_sync(read, lines)
            os.kill(child.pid, signal.SIGKILL)
            await trio.to_thread.run_sync(read, -1)  # what was in the pipe
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]
    assert len(said) >= lines
    return said


async def test_without_a_database_everybody_is_told_and_the_ledger_connects_when_it_comes(tmp_path: Path) -> None:
    """Ready never means connected: the actor is up, and says what it cannot do."""
    nowhere = Dsn(host=str(tmp_path / "data" / "run"), user="paifang", database="paifang")
    async with ledger_running(nowhere, wait=False) as ledger:
        asked_at = trio.current_time()
        with pytest.raises(LedgerUnavailable):
            await ledger.scan(1)
        assert trio.current_time() - asked_at < 2.0
        assert not (await ledger.states.expect(LedgerState)).available
        async with embedded(tmp_path / "data"):
            assert (await ledger.states.expect(LedgerState, within_s=20)).available
            await ledger.sell("adult")


async def test_a_batch_is_finished_and_answered_even_if_the_actor_is_cancelled_inside_it() -> None:
    async with fresh_database() as database:
        replies = Probe("replies")
        async with ledger_running(database.dsn) as ledger:
            (ticket,) = await ledger.sell("adult")
        async with connected(database.dsn) as other, trio.open_nursery() as nursery:
            started = trio.Event()
            scope = trio.CancelScope()

            async def run() -> None:
                with scope:
                    async with ledger_running(database.dsn) as ledger:
                        await aio_as_trio(other.execute)("begin; select from zones for update")
                        ledger.address.tell(grant_op(ticket.ticket), reply_to=replies)
                        started.set()
                        await trio.sleep_forever()

            nursery.start_soon(run)
            await started.wait()
            with trio.fail_after(PATIENCE_S):  # the batch waits for the other session's lock
                while not await database.fetchval(
                    "select count(*) from pg_stat_activity "
                    "where wait_event_type = 'Lock' and datname = current_database()"
                ):
                    await trio.sleep(0.05)
            scope.cancel()
            await trio.sleep(0.3)
            await replies.expect_nothing(0.1)
            await aio_as_trio(other.execute)("rollback")
            assert (await replies.expect(Granted, within_s=PATIENCE_S)).fresh
        assert await database.fetchval("select count(*) from holds") == 1
        await _clean(database.dsn)


async def test_a_fault_of_our_own_answers_those_who_wait_and_the_ledger_is_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with fresh_database() as database, ledger_running(database.dsn) as ledger:
        (ticket,) = await ledger.sell("adult")
        with monkeypatch.context() as patch:
            patch.setattr("storage._flow.book", None)
            patch.setattr("storage._flow.one_by_one", None)
            with pytest.raises(LedgerUnavailable, match="not known"):
                await ledger.scan(ticket.ticket)
        with trio.fail_after(PATIENCE_S):
            assert (await _until_granted(ledger, ticket.ticket)).fresh
        await _clean(database.dsn)


async def test_a_full_disk_is_told_and_outlived(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "only root can make a small file system"
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=140m,mode=0700", "tmpfs", str(small)]
    await trio.run_process(mount)
    try:
        async with _own_cluster(small) as (server, ledger):
            assert (await ledger.states.expect(LedgerState)).available
            tickets = await ledger.sell("adult", 20)
            ballast = small / "ballast"
            await trio.to_thread.run_sync(_fill, ballast)
            with trio.fail_after(PATIENCE_S):
                told = 0
                while not told:  # what is on disk already has some room left
                    try:
                        await ledger.sell("adult", 400)
                    except LedgerUnavailable as exc:
                        told += "space" in str(exc)
            ballast.unlink()
            granted = [await _until_granted(ledger, ticket.ticket) for ticket in tickets]
            assert len({grant.grant for grant in granted}) == 20
            await _clean(server.dsn)
    finally:
        with trio.CancelScope(shield=True):
            await trio.run_process(["umount", str(small)])


def _fill(ballast: Path) -> None:
    """Take all but half a megabyte of the file system."""
    free = shutil.disk_usage(ballast.parent).free
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - (512 << 10))


@pytest.mark.once
async def test_cuts_at_commit_under_load_leave_nothing_untrue(tmp_path: Path) -> None:
    """Every answer that lanes got is in the tables, whichever way each of nine connections was cut at its COMMIT."""
    async with _behind_a_proxy(tmp_path) as (database, proxy, ledger):
        crowd = Crowd(lambda op: ledger.ask(op, PATIENCE_S), lanes=16)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run)
            with trio.fail_after(PATIENCE_S * 2):
                for cut in range(9):
                    said = crowd.acknowledged
                    while crowd.acknowledged < said + 16:
                        await trio.sleep(0.005)
                    proxy.cuts.append(("before", "after", "during")[cut % 3])
                    while proxy.made <= cut:
                        await trio.sleep(0.005)
                crowd.close()
                while not crowd.done:
                    await trio.sleep(0.01)
        statistics = ledger.ledger.statistics()
        assert statistics.lost == statistics.doubtful == 9
        assert await crowd.missing(database.dsn) == []
        assert len(crowd.ends) == await database.fetchval("select count(*) from grants")
        await _clean(database.dsn)


@pytest.mark.slow
@pytest.mark.once
async def test_postgresql_stopped_and_killed_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Whole visits go on through two SIGSTOPs, longer than a batch may take, and two SIGKILLs."""
    async with _own_cluster(tmp_path) as (server, ledger):
        crowd = Crowd(lambda op: ledger.ask(op, PATIENCE_S), lanes=16)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run)
            with trio.fail_after(PATIENCE_S * 3.5):
                for fault in range(4):
                    said = crowd.acknowledged
                    while crowd.acknowledged < said + 30:
                        await trio.sleep(0.01)
                    if fault % 2:
                        server.kill()
                    else:
                        server.suspend()
                        while ledger.ledger.state.available:
                            await trio.sleep(0.05)
                        server.resume()
                    await _available(ledger)
                crowd.close()
                while not crowd.done:
                    await trio.sleep(0.01)
        assert ledger.ledger.statistics().lost >= 3  # the last one may come when all is said
        assert await crowd.missing(server.dsn) == []
        await _clean(server.dsn)
