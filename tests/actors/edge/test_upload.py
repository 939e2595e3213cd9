"""The journal reaches the server in order, every record at least once, and is forgotten when it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from actors.edge import Disk, LinkUp, UploadActor, Uploaded, Written
from actors.edge.testing import NOW, Server, granting
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from protocols import devicelink as link
from protocols.uploads import RecAlarm
from storage.journal import JournalError, open_journal
from storage.lanebook import LaneBook


class Rig:
    def __init__(self, folder: Path) -> None:
        self.server = Server(self._answer)
        self.taken: list[int] = []
        self.lose_answers = 0
        self.refuse = ""
        self.keep_upto: int | None = None
        self.journal = open_journal(folder / "journal.sqlite")
        self.book = LaneBook(self.journal, "n1", lambda at: "day")
        self.decider = Probe("admission")
        self.me = Address("upload", capacity=64)
        self.actor = UploadActor(
            disk=Disk(self.book, (JournalError,), inline=True),
            ask=self.server.ask,
            header=self.server.header,
            decider=self.decider,
        )

    def _answer(self, request: Any) -> Any:
        assert isinstance(request, link.Upload)
        assert request.journal == self.book.boot
        assert request.oldest == request.records[0].seq
        if self.refuse:
            return link.Refused(seq=request.seq, server_at=NOW, code=self.refuse, text="")
        self.taken += [record.seq for record in request.records]
        if self.lose_answers:
            self.lose_answers -= 1
            return link.Refused(seq=0, server_at=NOW, code="bad_message", text="")
        if self.keep_upto is not None:
            return link.UploadAck(seq=request.seq, server_at=NOW, journal=request.journal, upto=self.keep_upto)
        return granting(request)

    def write(self, count: int) -> None:
        for _ in range(count):
            self.book.note(RecAlarm(kind="test"), NOW)
        self.me.tell(Written())

    async def empty(self) -> None:
        with trio.fail_after(600):
            while self.book.waiting:
                await trio.sleep(0.05)


@asynccontextmanager
async def upload(folder: Path) -> AsyncIterator[Rig]:
    rig = Rig(folder)
    async with alive(rig.actor.run, rig.me):
        await settle()
        yield rig
    rig.journal.close()


async def test_what_waited_goes_when_the_server_is_back_in_order(tmp_path: Path, autojump_clock: Any) -> None:
    async with upload(tmp_path) as rig:
        rig.write(600)
        await trio.sleep(10)
        assert rig.server.asked == []
        rig.me.tell(LinkUp(up=True))
        await rig.empty()
        assert rig.taken == list(range(1, 601))
        assert [len(request.records) for request in rig.server.asked] == [256, 256, 88]
        assert only(await heard(rig.decider), Uploaded)


async def test_what_is_written_while_online_goes_at_once(tmp_path: Path, autojump_clock: Any) -> None:
    async with upload(tmp_path) as rig:
        rig.me.tell(LinkUp(up=True))
        for _ in range(3):
            rig.write(2)
            start = trio.current_time()
            await rig.empty()
            assert trio.current_time() - start < 1.0
        assert rig.taken == [1, 2, 3, 4, 5, 6]


async def test_a_lost_answer_is_asked_for_again(tmp_path: Path, autojump_clock: Any) -> None:
    async with upload(tmp_path) as rig:
        rig.lose_answers = 2
        rig.me.tell(LinkUp(up=True))
        rig.write(3)
        await rig.empty()
        assert rig.taken == [1, 2, 3] * 3


async def test_a_server_without_its_database_is_asked_again_and_not_hammered(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with upload(tmp_path) as rig:
        rig.refuse = "unavailable"
        rig.me.tell(LinkUp(up=True))
        rig.write(3)
        for _ in range(60):
            await trio.sleep(1.0)
            rig.me.tell(LinkUp(up=True))  # it beats on
        assert 5 <= len(rig.server.asked) <= 30
        assert only(await heard(rig.decider), Uploaded) == []
        rig.refuse = ""
        await rig.empty()


async def test_only_what_the_server_has_is_forgotten(tmp_path: Path, autojump_clock: Any) -> None:
    async with upload(tmp_path) as rig:
        rig.keep_upto = 2
        rig.write(5)
        rig.me.tell(LinkUp(up=True))
        await trio.sleep(5)
        assert [record.seq for record in rig.book.pending(10)] == [3, 4, 5]
        rig.keep_upto = None
        await rig.empty()


async def test_an_answer_of_another_journal_forgets_nothing(tmp_path: Path, autojump_clock: Any) -> None:
    async with upload(tmp_path) as rig:
        rig.server.answer = lambda request: link.UploadAck(
            seq=request.seq, server_at=NOW, journal="another", upto=10**9
        )
        rig.write(5)
        rig.me.tell(LinkUp(up=True))
        await trio.sleep(5)
        assert rig.book.waiting == 5


async def test_a_lost_link_ends_the_tries_until_it_is_back(tmp_path: Path, autojump_clock: Any) -> None:
    async with upload(tmp_path) as rig:
        rig.me.tell(LinkUp(up=True))
        await settle()
        rig.server.up = False
        rig.write(1)
        await trio.sleep(1)
        rig.me.tell(LinkUp(up=False))
        await trio.sleep(60)
        count = len(rig.server.asked)
        await trio.sleep(600)
        assert len(rig.server.asked) == count
        rig.server.up = True
        rig.me.tell(LinkUp(up=True))
        await rig.empty()
