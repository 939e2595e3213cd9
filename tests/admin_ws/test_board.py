"""Going on where a page left off: whatever was missed, the page ends up with what a new one sees."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from admin_ws import _board
from admin_ws._board import ALL, Board, only
from protocols import console as c
from protocols.console_views import TOPICS

NOW = 1_800_000_000.0


def lane(number: int, mode: str) -> c.LaneView:
    return c.LaneView(
        lane=f"lane-{number}", name="", entrance="", kind="wing", transport="serial", from_zone="outside",
        to_zone="park", mode=mode, state="idle", available=True, barrier="closed", entries=0, exits=0,
    )  # fmt: skip


def device(number: int, availability: str) -> c.DeviceView:
    return c.DeviceView(device=f"d{number}", kind="reader", lane="", availability=availability)


def line(number: int) -> c.FeedEvent:
    return c.FeedEvent(at=NOW, kind="alarm", severity="info", code=str(number))


class Page:
    """What a page keeps, following docs/console-api.md and nothing else."""

    def __init__(self) -> None:
        self.views: dict[str, dict[object, object]] = {topic: {} for topic in ("lanes", "zones", "devices", "flow")}
        self.feed: list[str] = []
        self.evacuation = ""
        self.epoch, self.revision = "", -1

    def snapshot(self, seen: c.Snapshot) -> None:
        for topic in seen.replaces:
            if topic == "feed":
                self.feed = []
            elif topic in self.views:
                self.views[topic] = {}
        self.epoch, self.revision = seen.epoch, seen.revision
        self.evacuation = seen.evacuation.state
        self._merge(seen)

    def delta(self, seen: c.Delta) -> None:
        assert seen.revision == self.revision + 1
        self.revision = seen.revision
        self.evacuation = self.evacuation if seen.evacuation is None else seen.evacuation.state
        self._merge(seen)

    def _merge(self, seen: c.Snapshot | c.Delta) -> None:
        self.views["lanes"].update((view.lane, view) for view in seen.lanes)
        self.views["zones"].update((view.zone, view) for view in seen.zones)
        self.views["flow"].update((view.minute, view) for view in seen.flow)
        for view in seen.devices:
            self.views["devices"][view.device] = view
            if view.availability == "removed":
                del self.views["devices"][view.device]
        self.feed += [event.code for event in seen.feed]

    def looks_like(self, other: Page) -> bool:
        newest = min(len(self.feed), len(other.feed))
        return (
            self.views == other.views
            and self.evacuation == other.evacuation
            and self.feed[len(self.feed) - newest :] == other.feed[len(other.feed) - newest :]
        )


STEPS = st.lists(
    st.tuples(st.sampled_from(["lane", "device", "gone", "feed", "flow", "evacuation", "away"]), st.integers(0, 4)),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 6))
def test_a_page_that_was_away_sees_what_a_new_page_sees(steps: list[tuple[str, int]], feed_lines: int) -> None:
    bounds = _board.FEED_LINES, _board.REMOVED_MAX, _board.FLOW_MINUTES
    _board.FEED_LINES, _board.REMOVED_MAX, _board.FLOW_MINUTES = feed_lines, 2, 3
    try:
        board, page, here = Board(site="s", site_name="s", clock=lambda: NOW), Page(), True
        page.snapshot(board.snapshot())
        for count, (what, number) in enumerate(steps):
            if what == "away":
                here = not here
                if here:
                    before = list(page.feed)
                    again = board.snapshot(epoch=page.epoch, revision=page.revision)
                    page.snapshot(again)
                    if "feed" not in again.replaces:
                        assert page.feed[: len(before)] == before, "what was seen is not sent again"
                continue
            delta = board.apply(
                lanes=[lane(number, str(count))] if what == "lane" else [],
                zones=[],
                devices={"device": [device(number, str(count))], "gone": [device(number, "removed")]}.get(what, []),
                evacuation=c.EvacuationView(state=str(count)) if what == "evacuation" else None,
                flow=[c.FlowPoint(minute=60.0 * count, entries=count, exits=0, refused=0)] if what == "flow" else [],
                feed=[line(count)] if what == "feed" else [],
            )  # fmt: skip
            if here:
                page.delta(delta)
        if not here:
            page.snapshot(board.snapshot(epoch=page.epoch, revision=page.revision))
        new = Page()
        new.snapshot(board.snapshot())
        page.views["flow"] = {k: v for k, v in page.views["flow"].items() if k in new.views["flow"]}  # a bounded curve
        assert page.looks_like(new)
    finally:
        _board.FEED_LINES, _board.REMOVED_MAX, _board.FLOW_MINUTES = bounds


def test_a_revision_of_another_server_or_from_the_future_gets_everything() -> None:
    board = Board(site="s", site_name="s", clock=lambda: NOW)
    board.apply(lanes=[lane(1, "a")], zones=[], devices=[], evacuation=None, flow=[], feed=[])
    for epoch, revision in (("other", 1), (board.epoch, 2), (board.epoch, None), ("", 1), (board.epoch, 9 << 50)):
        seen = board.snapshot(epoch=epoch, revision=revision)
        assert seen.replaces == list(TOPICS) and len(seen.lanes) == 1
    nothing = board.snapshot(epoch=board.epoch, revision=1)
    assert nothing.replaces == ["evacuation", "modes"] and nothing.lanes == [] and nothing.revision == 1


def test_a_topic_that_was_not_asked_for_is_not_there() -> None:
    board = Board(site="s", site_name="s", clock=lambda: NOW)
    delta = board.apply(lanes=[lane(1, "a")], zones=[], devices=[], evacuation=None, flow=[], feed=[line(1)])
    assert only(delta, frozenset({"feed"})).lanes == [] and only(delta, frozenset({"feed"})).feed == [line(1)]
    seen = board.snapshot(frozenset({"feed"}))
    assert (seen.lanes, seen.feed, seen.topics) == ([], [line(1)], ["feed"])
    assert only(delta, ALL) == delta
