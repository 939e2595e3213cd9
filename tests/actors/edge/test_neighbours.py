"""What one lane lets in, the others of the entrance know: at once, also when a word was lost or a lane was away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from actors.edge import Disk, NeighbourActor, Tell
from actors.testing import alive, settle
from core import Address
from protocols.edge import Notice, Use, seal_notice, subject_of
from storage.journal import JournalError, open_journal
from storage.lanebook import LaneBook

KEY, OTHER_KEY = b"k" * 32, b"x" * 32
SUBJECT = subject_of(KEY, b"ticket")


class Ether:
    """Everybody hears what anybody publishes, unless it is lost."""

    def __init__(self) -> None:
        self.heard: list[Callable[[bytes], None]] = []
        self.said: list[bytes] = []
        self.lose = False

    def outlet(self) -> Outlet:
        return Outlet(self)


class Outlet:
    def __init__(self, ether: Ether) -> None:
        self._ether = ether

    async def run(
        self, heard: Callable[[bytes], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self._ether.heard.append(heard)
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self._ether.heard.remove(heard)

    def publish(self, data: bytes) -> bool:
        self._ether.said.append(data)
        if not self._ether.lose:
            for heard in self._ether.heard:
                heard(data)
        return True


class Lane:
    def __init__(self, name: str, folder: Path, ether: Ether, key: bytes) -> None:
        self.journal = open_journal(folder / f"{name}.sqlite")
        self.book = LaneBook(self.journal, name, lambda at: "day")
        self.name = name
        self.me = Address(f"neighbours/{name}", capacity=256)
        self.actor = NeighbourActor(
            lane=name,
            lanes=[other for other in ("n1", "n2") if other != name],
            key=key,
            outlet=ether.outlet(),
            disk=Disk(self.book, (JournalError,), inline=True),
        )

    def tell(self, grant: int, pax: int = 1) -> Use:
        use = Use(subject=SUBJECT, lane=self.name, grant=grant, zone="park", pax=pax, at=1e9)
        self.me.tell(Tell(uses=[use]))
        return use


@asynccontextmanager
async def lanes(folder: Path, ether: Ether, *names: str, key: bytes = KEY) -> AsyncIterator[list[Lane]]:
    async with AsyncExitStack() as stack:
        made = [Lane(name, folder, ether, key) for name in names]
        for lane in made:
            await stack.enter_async_context(alive(lane.actor.run, lane.me))
            stack.callback(lane.journal.close)
        await settle()
        yield made


async def test_what_one_lets_in_the_other_knows_and_what_it_takes_back_is_forgotten(
    tmp_path: Path, autojump_clock: Any
) -> None:
    async with lanes(tmp_path, Ether(), "n1", "n2") as (first, second):
        use = first.tell(5)
        await settle()
        assert second.book.uses(SUBJECT) == [use]
        first.tell(5, pax=0)
        await settle()
        assert second.book.uses(SUBJECT) == []
        assert second.actor.statistics().heard.keys() == {"n1"}


async def test_a_lost_word_is_said_again(tmp_path: Path, autojump_clock: Any) -> None:
    ether = Ether()
    async with lanes(tmp_path, ether, "n1", "n2") as (first, second):
        ether.lose = True
        use = first.tell(5)
        await settle()
        assert second.book.uses(SUBJECT) == []
        ether.lose = False
        await trio.sleep(6)
        assert second.book.uses(SUBJECT) == [use]
        count = len(ether.said)
        await trio.sleep(300)
        assert len(ether.said) - count <= 15, "and not for ever"


async def test_whoever_was_away_hears_what_it_missed(tmp_path: Path) -> None:
    ether = Ether()
    async with lanes(tmp_path, ether, "n1") as (first,):
        for grant in range(300):
            row = (grant.to_bytes(16, "big"), "n1", grant + 1, "park", 1, time.time())
            first.journal.read("insert into uses values (?, ?, ?, ?, ?, ?)", row)
        async with lanes(tmp_path, ether, "n2") as (second,):
            with trio.fail_after(20):
                while second.actor.statistics().taken < 300:
                    await trio.sleep(0.01)


async def test_strangers_recordings_and_claims_for_others_change_nothing(tmp_path: Path, autojump_clock: Any) -> None:
    ether = Ether()
    async with lanes(tmp_path, ether, "n1", "n2") as (first, second):
        use = Use(subject=SUBJECT, lane="n1", grant=5, zone="park", pax=1, at=1e9)
        notice = Notice(lane="n1", boot="forged", seq=1, uses=[use])
        for data in (
            seal_notice(OTHER_KEY, notice),
            b"edge/" + b"\0" * 100,
            b"",
            seal_notice(KEY, msgspec.structs.replace(notice, lane="n9")),
            seal_notice(KEY, msgspec.structs.replace(notice, lane="n2", uses=[])),
        ):
            for heard in ether.heard:
                heard(data)
        await settle()
        assert second.book.uses(SUBJECT) == []
        first.tell(7)
        await settle()
        recording = ether.said[-1]
        first.tell(7, pax=0)
        await settle()
        for heard in ether.heard:
            heard(recording)
        await settle()
        assert second.book.uses(SUBJECT) == []
        lie = Notice(lane="n1", boot="another", seq=1, uses=[msgspec.structs.replace(use, lane="n3")])
        for heard in ether.heard:
            heard(seal_notice(KEY, lie))
        await settle()
        assert second.book.uses(SUBJECT) == [], "each lane speaks for itself"
