"""Users and sessions with the real server: the first log-in, a restart under an open session, and a command's trace."""

from __future__ import annotations

import pytest

from admin_ws.client import ConsoleClient, ConsoleClosed, ConsoleRefused
from core.testing import patient_time_with_processes
from paifang.testing import site_rig, until
from paifang.users import add_first_user, load_users, users_path
from protocols import console as c

patient = pytest.fixture(autouse=True)(patient_time_with_processes)

pytestmark = pytest.mark.slow


async def test_a_new_user_works_a_restart_keeps_the_session_and_a_manager_ends_it(tmp_path):
    async with site_rig(tmp_path, linked=1, serial=0) as rig:
        users_path(rig.data).unlink()
        first = add_first_user(rig.data)
        assert first and add_first_user(rig.data) == "", "printed once"
        async with ConsoleClient.connect(rig.url) as admin:
            session = await admin.login("admin", first)
            assert session.must_change and "users.create" not in session.methods
            session = await admin.call("session.set_password", {"old": first, "new": "long enough 1"}, c.Session)
            assert "users.create" in session.methods and first not in users_path(rig.data).read_text()
            made = await admin.call("users.create", {"user": "eve", "role": "security"}, c.OneTimePassword)
        async with ConsoleClient.connect(rig.url) as console:
            await console.login("eve", made.password)
            change = c.SetPassword(old=made.password, new="quite another 1")
            eve = await console.call("session.set_password", change, c.Session)
            assert (await console.subscribe()).lanes
        assert load_users(rig.data)["eve"].role == "security"

        await until(lambda: eve.session in (rig.data / "sessions.json").read_text(), "the session is kept")
        rig.kill()
        await rig.start()
        async with ConsoleClient.connect(rig.url) as console:
            assert (await console.resume(eve.token)).user == "eve"
            async with ConsoleClient.connect(rig.url) as admin:
                await admin.login("admin", "long enough 1")
                await admin.call("users.disable", {"user": "eve", "disabled": True, "reason": "left"}, c.Done)
            with pytest.raises(ConsoleClosed):
                while True:
                    await console.call("site.subscribe", {}, c.Snapshot)
            with pytest.raises(ConsoleRefused, match="bad_login"):
                async with ConsoleClient.connect(rig.url) as again:
                    await again.login("eve", "quite another 1")
        actions = [row["action"] for row in await rig.rows("select action from audit_log where user_name = 'admin'")]
        assert {"login", "session.set_password", "users.create", "users.disable"} <= set(actions)
        report = await rig.audit()
        assert not report.broken
        await until(lambda: "eve" in users_path(rig.data).read_text(), "the users file")
