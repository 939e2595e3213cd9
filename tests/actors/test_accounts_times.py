"""How long a session lasts is the site's to say; a restart lengthens none."""

from __future__ import annotations

import time

import pytest
import trio

from actors.accounts import User
from actors.accounts.sessions import IDLE_S, SESSION_S, Sessions

ANN = User(name="ann", role="cashier", password_hash="$argon2id$x")


def users(name: str) -> User | None:
    return ANN if name == "ann" else None


@pytest.mark.parametrize(("longest_s", "idle_s"), [(SESSION_S, IDLE_S), (600.0, 120.0), (100.0, 100.0), (60.0, 7200.0)])
async def test_a_session_ends_when_the_site_says(autojump_clock, longest_s, idle_s):
    sessions = Sessions(clock=time.time, site="here", longest_s=longest_s, idle_s=idle_s)
    idle, busy = sessions.open(ANN), sessions.open(ANN)
    assert (idle.ends_at or 0.0) - time.time() == pytest.approx(longest_s, abs=30.0)
    assert idle.idle_s == idle_s
    step_s, begun = min(idle_s, longest_s) / 4, trio.current_time()
    while trio.current_time() - begun + step_s < longest_s:
        await trio.sleep(step_s)
        assert sessions.look(busy.token, users, idle_s=0.0) is not None
        lived_s = trio.current_time() - begun
        assert (sessions.look(idle.token, users) is not None) is (lived_s < idle_s)
        assert len(sessions.rows("ann")) == (2 if lived_s < idle_s else 1)
    await trio.sleep(step_s)
    assert sessions.look(busy.token, users, idle_s=0.0) is None


async def test_a_restart_with_shorter_times_shortens_the_sessions_that_it_takes_over(autojump_clock):
    before = Sessions(clock=time.time, site="here")
    token = before.open(ANN).token
    after = Sessions(clock=time.time, site="here", longest_s=600.0, idle_s=300.0)
    after.restore(before.keep())
    await trio.sleep(299.0)
    assert (shown := after.look(token, users, idle_s=0.0)) is not None
    assert shown.idle_s == 300.0
    assert (shown.ends_at or 0.0) - time.time() == pytest.approx(600.0, abs=30.0)
    await trio.sleep(299.0)
    assert after.look(token, users, idle_s=0.0) is not None
    await trio.sleep(10.0)
    assert after.look(token, users, idle_s=0.0) is None
