"""What a visitor is told at the reader: the outcome of a scan where it was made, an evacuation everywhere."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.testing import board_lane, granted, scan, settle
from drivers.base import Barrier, Outcome
from protocols.messages import Denied, Rearm, Release, Restore


@pytest.mark.parametrize("product_class", ["full", "discount", "annual"])
async def test_a_grant_is_green_in_the_pattern_of_its_class_at_the_reader_that_was_used(
    autojump_clock: Any, product_class: str
) -> None:
    async with board_lane() as rig:
        said = rig.visitors
        await rig.to_idle()
        await rig.to_deciding("n1")
        rig.lane.tell(msgspec.structs.replace(granted("n1"), product_class=product_class))
        await settle()
        [(lane, reader, feedback)] = said
        assert (lane, reader) == ("g1", scan("n1").device)
        assert (feedback.outcome, feedback.product_class) == (Outcome.GO, product_class)
        assert feedback.text_zh == ""  # the pattern's own


async def test_a_refusal_is_red_and_says_why_in_two_languages(autojump_clock: Any) -> None:
    async with board_lane() as rig:
        said = rig.visitors
        await rig.to_idle()
        await rig.to_deciding("n1")
        rig.lane.tell(Denied(nonce="n1", code="already_used"))
        await settle()
        [(_, reader, feedback)] = said
        assert reader == scan("n1").device
        assert feedback.outcome is Outcome.STOP
        assert feedback.text_zh and feedback.text_en


async def test_a_release_is_shown_at_every_reader_and_so_is_its_end(autojump_clock: Any) -> None:
    async with board_lane() as rig:
        said = rig.visitors
        await rig.to_idle()
        rig.lane.tell(Release(incident=1), system=True)
        await rig.move(Barrier.RELEASED)
        assert [(reader, feedback.outcome) for _, reader, feedback in said] == [("", Outcome.EMERGENCY)]
        rig.lane.tell(scan("n1"))
        await settle()
        assert said[-1][2].outcome is Outcome.EMERGENCY  # whoever scans now is told to go, too
        count = len(said)
        rig.lane.tell(Restore(incident=1), system=True)
        await settle()
        assert len(said) == count  # still open: the light stays
        rig.lane.tell(Rearm(user="ann"))
        await settle()
        await rig.move(Barrier.CLOSED)
        await settle()
        assert [(reader, feedback.outcome) for _, reader, feedback in said[count:]] == [("", Outcome.WAIT)]


async def test_a_scan_that_nobody_can_decide_is_red(autojump_clock: Any) -> None:
    async with board_lane() as rig:
        said = rig.visitors
        rig.lane.tell(scan("n1"))
        await settle()
        assert [feedback.outcome for _, _, feedback in said] == [Outcome.STOP]
