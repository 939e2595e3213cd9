"""`paifang lanes restart`: the controllers of lanes, one after the other, over the console channel of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from admin_ws.client import ConsoleClient
from protocols.console import Done, LaneView, SetMode

RESTART = "restart"
GONE_WITHIN_S = 5.0  # the server shows at once that it has told the lane
BACK_WITHIN_S = 50.0  # a lane waits for the visitor who is just passing, ends, and is started again
LOOK_S = 0.25
WORKING = frozenset({"idle", "granted", "deciding", "closing", "released", "needs_rearm", "rearming"})


class RestartError(Exception):
    """A lane did not go or did not come back; the text says which, and the others were left alone."""


async def restart_lanes(
    url: str, user: str, password: str, lanes: Sequence[str], say: Callable[[str], None] = print
) -> None:
    """Restart these lanes one by one; each must be back before the next one goes.

    Raises ConsoleError for a lane that cannot be told, RestartError for one that does not come back.
    """
    async with ConsoleClient.connect(url) as client:
        await client.login(user, password)
        for lane in lanes:
            before = await _view(client, lane)
            if not before.available:
                raise RestartError(f"{lane}: does not answer; see to it first")
            started = trio.current_time()
            await client.call("lane.set_mode", SetMode(lane=lane, mode=RESTART, reason="rolling restart"), Done)
            await _until(client, lane, lambda view: not view.available, GONE_WITHIN_S, "did not restart")
            await _until(
                client, lane, lambda view: view.available and view.state in WORKING, BACK_WITHIN_S, "did not come back"
            )
            say(f"{lane}: restarted in {trio.current_time() - started:.1f} s")


async def _view(client: ConsoleClient, lane: str) -> LaneView:
    for view in (await client.subscribe()).lanes:
        if view.lane == lane:
            return view
    raise RestartError(f"there is no lane {lane}")


async def _until(
    client: ConsoleClient, lane: str, condition: Callable[[LaneView], bool], within_s: float, otherwise: str
) -> None:
    with trio.move_on_after(within_s):
        while not condition(await _view(client, lane)):  # noqa: ASYNC110 - asked, as people would look
            await trio.sleep(LOOK_S)
        return
    raise RestartError(f"{lane}: {otherwise} within {within_s:g} s; the others were left alone")
