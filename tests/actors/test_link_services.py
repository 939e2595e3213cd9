"""Lists and journals go past the actor of a lane to whoever serves them, with the lane that the site names."""

from __future__ import annotations

import pytest

from actors.link import LinkActor
from actors.lists import LaneCall
from core import Address, Child, Supervisor
from core.testing import Probe, running
from protocols import devicelink as link
from protocols.lists import ListMark

MARK = ListMark(1, "t")
HEADER = {"device": "gate-g1", "boot": "b", "seq": 5, "at": 100.0}


class Service:
    """Answers everything, and remembers it."""

    def __init__(self, name: str, reply: link.WorkReply) -> None:
        self.address = Address(name, capacity=16)
        self.reply = reply
        self.calls: list[LaneCall] = []

    async def run(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            if not isinstance(envelope.msg, LaneCall):
                return
            self.calls.append(envelope.msg)
            envelope.reply(self.reply)


def _actor(lane: Address, services: dict[type[link.WorkRequest], Address] | None) -> LinkActor:
    def no_socket(handler: object) -> object:
        raise AssertionError("no socket is opened here")

    return LinkActor(
        site="s",
        lanes={"gate-g1": ("g1", lane)},
        hub=Probe("consoles", capacity=64),
        make_work=no_socket,  # type: ignore[arg-type]
        make_safety=no_socket,  # type: ignore[arg-type]
        services=services,
    )


async def test_each_request_goes_to_its_service_with_its_lane_and_its_own_clock(autojump_clock: object) -> None:
    part = link.ListPart(seq=5, server_at=1.0, kind="same", mark=MARK)
    ack = link.UploadAck(seq=5, server_at=1.0, journal="j", upto=3)
    lists, uploads, lane = Service("lists", part), Service("uploads", ack), Probe("g1")
    children = [Child(service.address, service.run) for service in (lists, uploads)]
    async with running(Supervisor("test", children)):
        actor = _actor(lane, {link.GetList: lists.address, link.Upload: uploads.address})
        ask, upload = link.GetList(have=MARK, **HEADER), link.Upload(journal="j", oldest=1, **HEADER)  # type: ignore[arg-type]
        assert await actor._on_work(ask) == part
        assert await actor._on_work(upload) == ack
    assert lists.calls == [LaneCall(lane="g1", request=ask)]
    assert uploads.calls == [LaneCall(lane="g1", request=upload)]


@pytest.mark.parametrize("request_type", [link.GetList, link.Upload])
async def test_a_stranger_gets_no_list_and_leaves_no_journal(autojump_clock: object, request_type: type) -> None:
    service = Service("service", link.Ack(seq=1, server_at=1.0))
    fields = {"journal": "j", "oldest": 1} if request_type is link.Upload else {}
    async with running(Supervisor("test", [Child(service.address, service.run)])):
        actor = _actor(Probe("g1"), {request_type: service.address})
        reply = await actor._on_work(request_type(**{**HEADER, **fields, "device": "somebody"}))
    assert isinstance(reply, link.Refused)
    assert reply.code == "unknown_device"
    assert service.calls == []


async def test_without_a_service_the_device_is_told_so(autojump_clock: object) -> None:
    lane = Probe("g1")
    reply = await _actor(lane, None)._on_work(link.GetList(**HEADER))  # type: ignore[arg-type]
    assert isinstance(reply, link.Refused)
    assert reply.code == "unavailable"
