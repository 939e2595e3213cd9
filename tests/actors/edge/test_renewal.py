"""The lane's certificate: renewed in time, by itself; a failure is tried again and told once a day."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from actors.edge import Disk, LinkUp, RenewalActor, Written
from actors.edge.renewal import ALARM_AFTER, ALARM_EVERY_S, LOOK_S, RETRY_MAX_S
from actors.edge.testing import NOW, Server
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from drivers.nng import LinkTimeout
from protocols import devicelink as link
from protocols.uploads import RecAlarm

DAY_S = 86400.0


class BadFile(Exception):
    """As the keeper's own."""


class Keeper:
    def __init__(self, left_s: float) -> None:
        self.end = trio.current_time() + left_s
        self.taken: list[bytes] = []
        self.found = False
        self.fail: Exception | None = None

    @property
    def days_left(self) -> float:
        return (self.end - trio.current_time()) / DAY_S

    def due_in_s(self) -> float:
        return self.end - trio.current_time() - 60 * DAY_S

    def look(self) -> bool:
        found, self.found = self.found, False
        return found

    def request(self) -> bytes:
        return b"please"

    def take(self, pem: bytes) -> bool:
        if self.fail is not None:
            raise self.fail
        if pem == b"same":
            return False
        self.taken.append(pem)
        self.end = trio.current_time() + 730 * DAY_S
        return True


class Book:
    def __init__(self) -> None:
        self.notes: list[RecAlarm] = []

    def note(self, body: RecAlarm, at: float) -> int:
        self.notes.append(body)
        return len(self.notes)


class Rig:
    def __init__(self, left_s: float) -> None:
        self.answer: bytes | link.Refused | Exception = b"new"
        self.asked: list[link.Renew] = []
        self.server = Server(self._answer)
        self.keeper, self.book = Keeper(left_s), Book()
        self.upload = Probe("upload")
        self.changes = 0
        self.me = Address("renewal", capacity=16)
        self.actor = RenewalActor(
            keeper=self.keeper,
            failures=(BadFile,),
            ask=self.server.ask,
            header=self.server.header,
            disk=Disk(self.book, (), inline=True),  # type: ignore[arg-type]
            upload=self.upload,
            changed=self._changed,
            inline=True,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _answer(self, request: Any) -> Any:
        assert isinstance(request, link.Renew)
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, bytes):
            return link.Renewed(seq=request.seq, server_at=NOW, certificate=self.answer)
        return self.answer


@asynccontextmanager
async def renewal(left_s: float, *, up: bool = True) -> AsyncIterator[Rig]:
    rig = Rig(left_s)
    async with alive(rig.actor.run, rig.me):
        if up:
            rig.me.tell(LinkUp(up=True))
        await settle()
        yield rig


async def test_nothing_is_asked_before_it_is_due_and_one_thing_then(autojump_clock: Any) -> None:
    async with renewal(61 * DAY_S) as rig:
        await trio.sleep(DAY_S - LOOK_S)
        assert rig.asked == []
        await trio.sleep(3 * LOOK_S)
        assert [each.request for each in rig.asked] == [b"please"]
        assert (rig.keeper.taken, rig.changes, rig.actor.renewed) == ([b"new"], 1, 1)
        await trio.sleep(DAY_S)
        assert len(rig.asked) == 1


async def test_it_waits_for_the_link_and_then_asks_at_once(autojump_clock: Any) -> None:
    async with renewal(10 * DAY_S, up=False) as rig:
        await trio.sleep(DAY_S)
        assert rig.asked == []
        rig.me.tell(LinkUp(up=True))
        await settle()
        assert rig.changes == 1


@pytest.mark.parametrize(
    "answer",
    [
        LinkTimeout("no answer"),
        link.Refused(seq=1, server_at=NOW, code="bad_message", text="no\x07\ncertificate"),
        link.Refused(seq=1, server_at=NOW, code="unavailable", text="later"),
        BadFile("full"),
    ],
)
async def test_a_failure_is_tried_again_ever_more_slowly_told_once_a_day_and_over_by_itself(
    autojump_clock: Any, answer: Any
) -> None:
    async with renewal(40 * DAY_S, up=False) as rig:
        if isinstance(answer, BadFile):
            rig.keeper.fail = answer
        else:
            rig.answer = answer
        rig.me.tell(LinkUp(up=True))
        await settle()
        assert rig.actor.trouble
        assert rig.book.notes == [], "once may be anything"
        await trio.sleep(ALARM_EVERY_S / 2)
        [note] = rig.book.notes
        assert (note.kind, note.severity) == ("certificate_not_renewed", "warning")
        assert note.detail.isprintable()
        assert len(only(await heard(rig.upload), Written)) == 1
        assert ALARM_AFTER < len(rig.asked) < 40
        before = len(rig.asked)
        await trio.sleep(ALARM_EVERY_S)
        assert len(rig.book.notes) == 2
        assert ALARM_EVERY_S / RETRY_MAX_S - 2 <= len(rig.asked) - before <= ALARM_EVERY_S / RETRY_MAX_S + 2
        rig.keeper.fail, rig.answer = None, b"new"
        await trio.sleep(2 * RETRY_MAX_S)
        assert (rig.keeper.taken, rig.actor.trouble) == ([b"new"], "")


async def test_a_server_that_thinks_it_too_early_is_not_asked_all_the_time(autojump_clock: Any) -> None:
    async with renewal(40 * DAY_S, up=False) as rig:
        rig.answer = b"same"
        rig.me.tell(LinkUp(up=True))
        await trio.sleep(DAY_S)
        assert 20 < len(rig.asked) < 30
        assert (rig.book.notes, rig.actor.trouble, rig.changes) == ([], "", 0)


async def test_a_certificate_that_was_put_there_by_hand_is_taken_into_use(autojump_clock: Any) -> None:
    async with renewal(700 * DAY_S, up=False) as rig:
        rig.keeper.found = True
        await trio.sleep(2 * LOOK_S)
        assert (rig.changes, rig.asked) == (1, [])
