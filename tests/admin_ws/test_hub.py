"""The hub in virtual time: views coalesce, events do not, one delta per batch, one encoding per wire form."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from admin_ws.hub import (
    BATCH_S,
    FEED_LINES,
    FLOW_MINUTES,
    GATHER_S,
    HEARTBEAT_S,
    HUB_MAILBOX_CAPACITY,
    Hub,
    Subscribe,
    Unsubscribe,
)
from core import Address, Child, Supervisor
from core.testing import running
from protocols.console import Delta, EvacuationView, FeedEvent, FlowPoint, LaneView, Snapshot, ZoneView
from protocols.jsonrpc import Frame, Wire, decode_response, decode_value


class Page:
    """A subscriber that keeps every frame; `room` says how many it takes before it is gone."""

    def __init__(self, wire: Wire = Wire.MSGPACK, room: int = 1_000_000) -> None:
        self.wire, self.room = wire, room
        self.frames: list[Frame] = []
        self.at: list[float] = []

    def offer(self, frame: Frame) -> bool:
        if len(self.frames) >= self.room:
            return False
        self.frames.append(frame)
        self.at.append(trio.current_time())
        return True

    @property
    def snapshot(self) -> Snapshot:
        return decode_value(self.wire, decode_response(self.wire, self.frames[0]).result, Snapshot)

    @property
    def deltas(self) -> list[Delta]:
        responses = [decode_response(self.wire, frame) for frame in self.frames]
        return [decode_value(self.wire, r.params, Delta) for r in responses if r.method == "site.delta"]


@asynccontextmanager
async def hub_running(hub: Hub | None = None) -> AsyncIterator[tuple[Hub, Address]]:
    hub = hub or Hub(site="here", site_name="Here", clock=lambda: 1_000.0)
    address = Address("consoles", capacity=HUB_MAILBOX_CAPACITY)
    async with running(Supervisor("top", [Child(address, hub.run)])):
        yield hub, address


async def join(address: Address, page: Page) -> None:
    await address.ask(Subscribe(page, 7), 1.0)


def lane(name: str = "l1", entries: int = 0) -> LaneView:
    return LaneView(
        lane=name, name=name, entrance="", kind="wing", transport="serial", from_zone="outside", to_zone="park",
        mode="bidirectional", state="idle", available=True, barrier="closed", entries=entries, exits=0,
    )  # fmt: skip


def event(number: int) -> FeedEvent:
    return FeedEvent(at=float(number), kind="passage", severity="info", code=str(number))


async def test_subscribing_answers_the_request_with_a_snapshot_of_everything(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (_, address):
        address.tell(lane())
        address.tell(ZoneView(zone="park", name="Park", inside=3, held=0, limit=5, state="normal"))
        address.tell(EvacuationView(state="released", incident=4))
        address.tell(FlowPoint(minute=60.0, entries=1, exits=0, refused=0))
        address.tell(event(1))
        await trio.sleep(BATCH_S * 2)
        page = Page()
        await join(address, page)
        assert decode_response(page.wire, page.frames[0]).id == 7
        shown = page.snapshot
        assert (shown.site, shown.site_name, shown.server_at) == ("here", "Here", 1_000.0)
        assert shown.lanes == [lane()]
        assert shown.zones[0].inside == 3
        assert shown.evacuation.incident == 4
        assert shown.flow[0].minute == 60.0
        assert shown.feed == [event(1)]


async def test_of_many_views_of_a_key_within_a_batch_only_the_newest_goes_out(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (_, address):
        page = Page()
        await join(address, page)
        for entries in range(100):
            address.tell(lane(entries=entries))
            address.tell(lane("l2", entries=1_000 + entries))
        await trio.sleep(BATCH_S * 3)
        sent = [view.entries for delta in page.deltas for view in delta.lanes if view.lane == "l1"]
        assert sent[-1] == 99
        assert sent == [99]


async def test_no_event_is_dropped_and_their_order_is_kept(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (_, address):
        page = Page()
        await join(address, page)
        for number in range(3_000):
            address.tell(event(number))
            if number % 500 == 0:
                await trio.sleep(0.01)
        await trio.sleep(1.0)
        assert [line.code for delta in page.deltas for line in delta.feed] == [str(number) for number in range(3_000)]


async def test_a_page_gets_at_most_one_frame_per_batch(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (_, address):
        page = Page()
        await join(address, page)
        for number in range(1_000):
            address.tell(event(number))
            await trio.sleep(0.001)
        times = page.at[1:]
        assert len(times) >= 15
        assert all(later - earlier >= BATCH_S - 1e-9 for earlier, later in itertools.pairwise(times))


async def test_a_change_after_a_quiet_time_does_not_wait_for_a_batch(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (_, address):
        page = Page()
        await join(address, page)
        await trio.sleep(0.5)
        told_at = trio.current_time()
        address.tell(EvacuationView(state="released", incident=1))
        await trio.sleep(0.02)
        assert page.at[-1] - told_at <= GATHER_S + 1e-9
        assert page.deltas[-1].evacuation is not None


async def test_a_delta_is_encoded_once_per_wire_form_whatever_the_number_of_pages(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with hub_running() as (hub, address):
        pages = [Page(wire) for wire in (Wire.JSON, Wire.MSGPACK) for _ in range(50)]
        for page in pages:
            await join(address, page)
        before = hub.statistics()
        address.tell(event(1))
        await trio.sleep(0.01)
        after = hub.statistics()
        assert after.encodings - before.encodings == 2
        assert after.frames - before.frames == 100
        assert all(page.deltas[-1].feed == [event(1)] for page in pages)
        assert isinstance(pages[0].frames[-1], str)
        assert isinstance(pages[-1].frames[-1], bytes)
        assert pages[0].frames[-1] is pages[1].frames[-1]


async def test_a_page_that_joins_within_a_batch_sees_each_event_once(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (_, address):
        address.tell(event(1))
        await trio.sleep(0.02)  # sent at once; the next waits for the end of its batch
        address.tell(event(2))
        await trio.sleep(0.001)
        page = Page()
        await join(address, page)
        await trio.sleep(BATCH_S * 2)
        seen = [line.code for line in page.snapshot.feed] + [line.code for delta in page.deltas for line in delta.feed]
        assert seen == ["1", "2"]


async def test_revisions_have_no_gap(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (_, address):
        page = Page()
        await join(address, page)
        for number in range(50):
            address.tell(event(number))
            await trio.sleep(0.03)
        revisions = [page.snapshot.revision] + [delta.revision for delta in page.deltas if delta.feed]
        assert revisions == list(range(revisions[0], revisions[0] + len(revisions)))


async def test_silence_is_broken_once_a_second_without_a_new_revision(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (hub, address):
        page = Page()
        await join(address, page)
        await trio.sleep(HEARTBEAT_S * 10 + 0.5)
        assert 9 <= len(page.deltas) <= 11
        assert {delta.revision for delta in page.deltas} == {page.snapshot.revision}
        gaps = [later - earlier for earlier, later in itertools.pairwise(page.at[1:])]
        assert max(gaps) <= HEARTBEAT_S + 1e-9
        assert hub.statistics().deltas == 0


async def test_a_busy_hub_sends_no_heartbeats(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (hub, address):
        for number in range(30):
            address.tell(event(number))
            await trio.sleep(0.2)
        assert hub.statistics().heartbeats == 0


async def test_a_page_that_is_gone_is_forgotten_and_the_others_go_on(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (hub, address):
        good, full, left = Page(), Page(room=2), Page()
        for page in (good, full, left):
            await join(address, page)
        await address.ask(Unsubscribe(left), 1.0)
        for number in range(5):
            address.tell(event(number))
            await trio.sleep(0.1)
        assert hub.statistics().subscribers == 1
        assert len([line for delta in good.deltas for line in delta.feed]) == 5
        assert len(full.frames) == 2
        assert len(left.frames) == 1


async def test_feed_and_flow_of_a_snapshot_are_bounded(autojump_clock: trio.abc.Clock) -> None:
    async with hub_running() as (hub, address):
        for number in range(FEED_LINES + 20):
            address.tell(event(number))
        for minute in range(FLOW_MINUTES + 30):
            await address.put(FlowPoint(minute=minute * 60.0, entries=minute, exits=0, refused=0))
        await trio.sleep(1.0)
        shown = hub.snapshot()
        assert [shown.feed[0].code, shown.feed[-1].code] == ["20", str(FEED_LINES + 19)]
        assert len(shown.feed) == FEED_LINES
        assert [shown.flow[0].minute, shown.flow[-1].minute] == [30 * 60.0, (FLOW_MINUTES + 29) * 60.0]
        assert len(shown.flow) == FLOW_MINUTES


async def test_a_restarted_hub_goes_on_with_the_same_pages_and_loses_no_event(
    autojump_clock: trio.abc.Clock,
) -> None:
    page = Page()
    async with hub_running() as (hub, address):
        await join(address, page)
        address.tell(event(1))
        await trio.sleep(0.01)
        address.tell(event(2))  # waits for its batch when the hub stops
    async with hub_running(hub) as (_, address):
        address.tell(event(3))
        await trio.sleep(0.2)
        assert [line.code for delta in page.deltas for line in delta.feed] == ["1", "2", "3"]


async def test_what_the_hub_does_not_know_changes_nothing(autojump_clock: trio.abc.Clock) -> None:
    class Strange(msgspec.Struct, frozen=True):
        number: int

    async with hub_running() as (hub, address):
        page = Page()
        await join(address, page)
        address.tell(Strange(1))
        address.tell(event(1))
        await trio.sleep(0.2)
        assert [line.code for delta in page.deltas for line in delta.feed] == ["1"]
        assert hub.statistics().events == 1
