"""A running site whose lanes have boards of several languages, two of them on one line; the server is the real one.

The boards are our own simulators.
"""

from __future__ import annotations

import pytest

from core.testing import patient_time_with_processes
from paifang.testing import site_rig
from protocols.console import Done, Trigger
from protocols.messages import Direction

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

BOARDS = {
    'path = "dev/s1-board"': 'path = "dev/bus", address = 1',
    'path = "dev/s2-board"': 'path = "dev/bus", address = 2',
    'path = "dev/s3-board"': 'language = "digicon", path = "dev/s3-board"',
    'path = "dev/s4-board"': 'language = "tpw", path = "dev/s4-board"',
}


def several(text: str) -> str:
    """The same lanes on other boards."""
    for plain, other in BOARDS.items():
        assert plain in text
        text = text.replace(plain, other)
    return text


@pytest.mark.slow
async def test_a_site_with_two_boards_on_one_line_and_two_other_languages(tmp_path):
    async with site_rig(tmp_path, serial=4, configure=several) as rig:
        tickets = (await rig.sell_all("adult", 4)).tickets
        for name, ticket in zip(("s1", "s2", "s3", "s4"), tickets, strict=True):
            assert await rig.admit(name, ticket.code), name
        await rig.settled()
        rows = await rig.rows("select lane, count(*) as n from passages where direction = 'entry' group by lane")
        assert {row["lane"]: row["n"] for row in rows} == {"s1": 1, "s2": 1, "s3": 1, "s4": 1}
        assert not await rig.admit("s2", tickets[0].code), "used"
        rig.kill()
        await rig.start()
        await rig.lanes_idle(60.0)
        fifth = (await rig.sell_all("adult", 2)).tickets
        for name, ticket in zip(("s2", "s3"), fifth, strict=True):
            assert await rig.admit(name, ticket.code), name
        await rig.settled()
        assert await rig.value("select count(*) from passages where direction = 'entry'") == 6
        async with rig.console("security1") as first:
            await first.call("evacuation.trigger", Trigger(reason="test"), Done)
            await rig.shows(
                lambda state: len(state.evacuation.lanes) == 4
                and all(lane.sensed_open for lane in state.evacuation.lanes),
                "all four are open",
                30.0,
            )
        assert all(lane.barrier.passable(Direction.EXIT) for lane in rig.devices.lanes.values())
        assert (await rig.audit()).broken == []
