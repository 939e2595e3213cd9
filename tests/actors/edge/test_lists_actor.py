"""Lists travel by request and reply; wake-ups are hints, and five hundred of them lose and break nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from actors.edge import Hint, LinkUp, ListActor
from actors.edge.testing import NOW, Server
from actors.testing import alive, settle
from core import Address
from protocols import devicelink as link
from protocols.errors import LinkError
from protocols.lists import ListMark


class Store:
    """Counts what it is given; a whole list has three parts."""

    def __init__(self) -> None:
        self.version = 0
        self.taken: list[str] = []
        self.fail: Exception | None = None
        self.renewed = 0

    def question(self) -> tuple[ListMark | None, ListMark | None, str]:
        return (ListMark(self.version, "t") if self.version else None), None, ""

    def take(self, part: link.ListPart) -> bool:
        if self.fail is not None:
            raise self.fail
        self.taken.append(part.kind)
        if part.cursor:
            return False
        self.version = part.mark.version
        return True

    def renew(self) -> None:
        self.renewed += 1


class Rig:
    def __init__(self) -> None:
        self.server = Server(self._answer)
        self.newest = 1
        self.store = Store()
        self.changes = 0
        self.me = Address("lists", capacity=16)
        self.actor = ListActor(
            store=self.store,
            failures=(OSError,),
            ask=self.server.ask,
            header=self.server.header,
            changed=self._changed,
            inline=True,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _answer(self, request: Any) -> Any:
        assert isinstance(request, link.GetList)
        mark = ListMark(self.newest, "t")
        if request.have == mark:
            return link.ListPart(seq=request.seq, server_at=NOW, kind="same", mark=mark)
        kind = "delta" if request.have else "whole"
        cursor = "more" if kind == "whole" and len(self.store.taken) % 3 != 2 else ""
        return link.ListPart(seq=request.seq, server_at=NOW, kind=kind, mark=mark, cursor=cursor)


@asynccontextmanager
async def lists() -> AsyncIterator[Rig]:
    rig = Rig()
    async with alive(rig.actor.run, rig.me):
        await settle()
        yield rig


async def test_the_first_list_comes_in_parts_as_soon_as_the_server_is_there(autojump_clock: Any) -> None:
    async with lists() as rig:
        await trio.sleep(60)
        assert rig.server.asked == []
        rig.me.tell(LinkUp(up=True))
        await settle()
        await trio.sleep(0.1)
        assert rig.store.taken[:3] == ["whole"] * 3
        assert rig.store.version == 1
        assert rig.changes == 1


async def test_a_delta_comes_without_any_wake_up_and_at_once_with_one(autojump_clock: Any) -> None:
    async with lists() as rig:
        rig.me.tell(LinkUp(up=True))
        await trio.sleep(1)
        rig.newest = 2
        await trio.sleep(6)
        assert rig.store.version == 2
        rig.newest = 3
        rig.me.tell(Hint())
        await settle()
        await trio.sleep(0.1)
        assert rig.store.version == 3


async def test_a_burst_of_wake_ups_loses_nothing_and_asks_little(autojump_clock: Any) -> None:
    async with lists() as rig:
        rig.me.tell(LinkUp(up=True))
        await trio.sleep(1)
        count = len(rig.server.asked)
        rig.server.delay_s = 0.01
        for number in range(500):
            rig.newest = number + 2
            rig.me.tell(Hint())
            if number % 50 == 0:
                await trio.sleep(0.001)
        await trio.sleep(1)
        assert rig.store.version == 501
        assert len(rig.server.asked) - count < 50


async def test_whatever_goes_wrong_is_tried_again(autojump_clock: Any) -> None:
    async with lists() as rig:
        rig.me.tell(LinkUp(up=True))
        for failure in (LinkError("does not fit"), OSError("disk full")):
            rig.store.fail = failure
            rig.newest += 1
            await trio.sleep(30)
            assert rig.actor.trouble == str(failure)
        rig.store.fail = None
        await trio.sleep(30)
        assert rig.store.version == rig.newest
        assert rig.actor.trouble == ""


async def test_a_whole_list_is_asked_for_once_a_day(autojump_clock: Any) -> None:
    async with lists() as rig:
        rig.me.tell(LinkUp(up=True))
        await trio.sleep(3600)
        assert rig.store.renewed == 0
        await trio.sleep(24 * 3600)
        assert rig.store.renewed == 1
