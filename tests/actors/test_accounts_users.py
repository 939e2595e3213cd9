"""Users are managed by those who may, on disk before it is answered, and what they had open ends at once."""

from __future__ import annotations

from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from actors.accounts import Accounts, LoginRefused, User, UsersUnreadable, hash_password
from actors.accounts import actor as module
from actors.accounts import users as rules
from actors.accounts.sessions import IDLE_S, SESSION_S
from actors.accounts.totp import STEP_S
from actors.errors import CommandRefused
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from protocols import console as c
from protocols.console_accounts import CheckSession, EndSessions
from protocols.console_rights import EVACUATE, ROLES
from storage.interfaces import AuditEntry

PASSWORD = "correct horse"
HASH = hash_password(PASSWORD)
EPOCH = 1_800_000_000.0


class Rig:
    def __init__(self) -> None:
        self.users = {
            "root": User(name="root", role="system_manager", password_hash=HASH),
            "ann": User(name="ann", role="operator", password_hash=HASH),
        }
        self.kept, self.disk_full = [], False
        self.hub, self.ledger, self.web = Probe("hub", capacity=500), Probe("ledger", capacity=500), Probe("web")
        self.me = Address("accounts")
        self.start = trio.current_time()
        self.actor = self.make()

    def make(self) -> Accounts:
        return Accounts(
            load_users=lambda: self.users, store_users=self.store, hub=self.hub, ledger=self.ledger, web=self.web,
            site="north", clock=self.clock, load_sessions=lambda: self.kept, store_sessions=self.store_sessions,
        )  # fmt: skip

    def clock(self) -> float:
        return EPOCH + trio.current_time() - self.start

    def store(self, users) -> None:
        if self.disk_full:
            raise UsersUnreadable("users.toml: no space left")
        self.users = dict(users)

    def store_sessions(self, kept) -> None:
        self.kept = kept

    async def login(self, user="ann", password=PASSWORD, totp=""):
        return await self.me.ask(c.Login(user=user, password=password, totp=totp), 60.0)

    async def refused(self, message) -> str:
        with pytest.raises(CommandRefused) as error:
            await self.me.ask(message, 60.0)
        return error.value.code

    async def over(self, session) -> bool:
        try:
            await self.me.ask(c.Resume(token=session.token), 5.0)
        except LoginRefused as refused:
            return refused.code == "session_over"
        return False

    def totp(self, secret: str) -> str:
        import base64

        from actors.accounts.totp import code_at

        raw = base64.b32decode(secret + "=" * (-len(secret) % 8))
        return code_at(raw, int(self.clock()) // STEP_S)


@pytest.fixture
def quick(monkeypatch):
    """Hashes that cost nothing, and threads that take no time."""

    async def run_sync(function, *arguments, **_options):
        await trio.lowlevel.checkpoint()
        if function is module.matches:
            known, password = arguments
            return known == f"hash of {password}" or (known == HASH and password == PASSWORD)
        if function is rules.hash_password:
            return f"hash of {arguments[0]}"
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


@asynccontextmanager
async def accounts():
    rig = Rig()
    async with alive(rig.actor.run, rig.me):
        await settle()
        yield rig


async def test_a_new_user_changes_the_one_time_password_before_anything_else(autojump_clock, quick):
    async with accounts() as rig:
        made = await rig.me.ask(c.CreateUser(user="eve", role="security", by="root"), 60.0)
        assert made.user == "eve" and len(made.password) >= 16 and made.password not in repr(made)
        first = await rig.login("eve", made.password)
        assert first.must_change and first.permissions == [EVACUATE]
        assert await rig.refused(c.SetPassword(old=made.password, new="short", by="eve")) == "weak_password"
        assert await rig.refused(c.SetPassword(old=made.password, new="eve-eve-eve", by="eve")) == "weak_password"
        assert await rig.refused(c.SetPassword(old=made.password, new=made.password, by="eve")) == "same_password"
        assert await rig.refused(c.SetPassword(old="wrong", new="long enough 1", by="eve")) == "bad_login"
        order = c.SetPassword(old=made.password, new="long enough 1", by="eve", by_session=first.session)
        session = await rig.me.ask(order, 60.0)
        assert not session.must_change and set(session.permissions) == ROLES["security"]
        assert await rig.over(first) and not await rig.over(session)
        assert await rig.refused(c.Login(user="eve", password=made.password)) == "bad_login"


async def test_who_changes_the_password_ends_all_other_sessions(autojump_clock, quick):
    async with accounts() as rig:
        here, there = await rig.login(), await rig.login()
        order = c.SetPassword(old=PASSWORD, new="another one 1", by="ann", by_session=here.session)
        new = await rig.me.ask(order, 60.0)
        assert await rig.over(here) and await rig.over(there) and not await rig.over(new)
        assert only(await heard(rig.web), EndSessions) == [EndSessions(sessions=[there.session])]


@pytest.mark.parametrize(
    "order",
    [
        c.DisableUser(user="ann", disabled=True, by="root"),
        c.SetUserRole(user="ann", role="cashier", by="root"),
        c.RemoveUser(user="ann", by="root"),
        c.ResetPassword(user="ann", by="root"),
        c.RevokeSessions(user="ann", by="root"),
    ],
)
async def test_what_is_done_to_a_user_ends_the_sessions_and_channels_at_once(autojump_clock, quick, order):
    async with accounts() as rig:
        one, two, root = await rig.login(), await rig.login(), await rig.login("root")
        await rig.me.ask(order, 60.0)
        assert await rig.over(one) and await rig.over(two) and not await rig.over(root)
        (end,) = only(await heard(rig.web), EndSessions)
        assert set(end.sessions) == {one.session, two.session}
        entry = only(await heard(rig.ledger), AuditEntry)[-1]
        assert entry.user == "root" and entry.action.startswith("users.") and "ann" in entry.subject


async def test_one_session_is_revoked_by_its_name_and_log_out_ends_ones_own(autojump_clock, quick):
    async with accounts() as rig:
        one, two = await rig.login(), await rig.login()
        rows = (await rig.me.ask(c.ListSessions(user="ann"), 5.0)).sessions
        assert {row.session for row in rows} == {one.session, two.session} and rows[0].since == EPOCH
        assert one.token not in repr(rows)
        await rig.me.ask(c.RevokeSessions(session=one.session, by="root"), 5.0)
        assert await rig.over(one) and not await rig.over(two)
        await rig.me.ask(c.Logout(by="ann", by_session=two.session), 5.0)
        assert await rig.over(two)
        assert await rig.refused(c.RevokeSessions(by="root")) == "bad_request"


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (c.CreateUser(user="ann", role="cashier", by="root"), "user_exists"),
        (c.CreateUser(user="Ann Lee", role="cashier", by="root"), "bad_name"),
        (c.CreateUser(user='a"\n[x]', role="cashier", by="root"), "bad_name"),
        (c.CreateUser(user="bob", role="wizard", by="root"), "bad_role"),
        (c.SetUserRole(user="nobody", role="cashier", by="root"), "unknown_user"),
        (c.SetUserRole(user="root", role="cashier", by="root"), "last_manager"),
        (c.DisableUser(user="root", disabled=True, by="root"), "last_manager"),
        (c.RemoveUser(user="root", by="root"), "last_manager"),
        (c.ResetPassword(user="nobody", by="root"), "unknown_user"),
    ],
)
async def test_what_makes_no_sense_changes_nothing(autojump_clock, quick, order, code):
    async with accounts() as rig:
        before = dict(rig.users)
        session = await rig.login("root")
        assert await rig.refused(order) == code
        assert rig.users == before and not await rig.over(session)


async def test_a_full_disk_changes_nothing(autojump_clock, quick):
    async with accounts() as rig:
        session = await rig.login()
        rig.disk_full = True
        assert await rig.refused(c.DisableUser(user="ann", disabled=True, by="root")) == "users_file"
        assert not await rig.over(session) and not rig.users["ann"].disabled


async def test_somebody_disabled_looks_like_nobody_and_comes_back(autojump_clock, quick):
    async with accounts() as rig:
        await rig.me.ask(c.DisableUser(user="ann", disabled=True, by="root"), 60.0)
        assert await rig.refused(c.Login(user="ann", password=PASSWORD)) == "bad_login"
        await rig.me.ask(c.DisableUser(user="ann", disabled=False, by="root"), 60.0)
        assert (await rig.login()).user == "ann"


async def test_changes_at_once_are_all_there_afterwards(autojump_clock, quick):
    async with accounts() as rig, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(rig.me.ask, c.CreateUser(user=f"u{number}", role="cashier", by="root"), 60.0)
    assert len(rig.users) == 22


async def test_a_role_is_one_sites(autojump_clock, quick):
    async with accounts() as rig:
        rig.users["ann"] = msgspec.structs.replace(rig.users["ann"], sites={"north": "cashier", "south": "security"})
        assert (await rig.login()).role == "cashier"
        await rig.me.ask(c.SetUserRole(user="ann", role="finance", by="root"), 60.0)
        assert rig.users["ann"].sites == {"north": "finance", "south": "security"}
        assert rig.users["ann"].role == "operator"
        rig.users["ann"] = msgspec.structs.replace(rig.users["ann"], sites={"north": ""})
        assert await rig.refused(c.Login(user="ann", password=PASSWORD)) == "no_access"


async def test_the_list_of_users_tells_what_people_ask_and_no_secret(autojump_clock, quick):
    async with accounts() as rig:
        await rig.login()
        for _ in range(3):
            await rig.refused(c.Login(user="root", password="wrong"))
        ann, root = (await rig.me.ask(c.ListUsers(), 5.0)).users
        assert (ann.name, ann.role, ann.sessions, ann.last_login_at) == ("ann", "operator", 1, EPOCH)
        assert root.locked_until is not None and root.last_login_at is None
        assert HASH not in repr((ann, root))
        roles = (await rig.me.ask(c.ListRoles(), 5.0)).roles
        assert {role.role: frozenset(role.permissions) for role in roles} == ROLES
        await rig.me.ask(c.ResetPassword(user="root", by="root"), 60.0)
        assert (await rig.me.ask(c.ListUsers(), 5.0)).users[1].locked_until is None


# --- how long a session lasts -------------------------------------------------------------------------------------


async def test_a_session_without_a_command_ends_and_looking_is_none(autojump_clock, quick):
    async with accounts() as rig:
        session = await rig.login()
        idle_s = 0.0
        while idle_s + 60.0 < IDLE_S:
            await trio.sleep(60.0)
            idle_s += 60.0
            await rig.me.ask(CheckSession(token=session.token, idle_s=idle_s), 5.0)
        await trio.sleep(120.0)
        assert await rig.over(session)


async def test_sessions_outlive_a_restart_but_not_their_time(autojump_clock, quick):
    async with accounts() as rig:
        session = await rig.login()
        await trio.sleep(2.0)
        assert session.token not in repr(rig.kept) and len(rig.kept) == 1
    rig.actor, rig.me = rig.make(), Address("accounts again")
    async with alive(rig.actor.run, rig.me):
        await settle()
        assert not await rig.over(session)
        again = await rig.me.ask(c.Resume(token=session.token), 5.0)
        assert again.permissions == session.permissions
        await rig.me.ask(c.DisableUser(user="ann", disabled=True, by="root"), 60.0)
        await trio.sleep(2.0)
        assert rig.kept == []


@pytest.mark.parametrize(("change_s", "left"), [(-10 * 365 * 86400.0, True), (SESSION_S + 1, False)])
async def test_a_clock_that_jumps_over_a_restart_lengthens_no_session(autojump_clock, quick, change_s, left):
    async with accounts() as rig:
        session = await rig.login()
        await trio.sleep(2.0)
    rig.start -= change_s
    rig.actor, rig.me = rig.make(), Address("accounts again")
    async with alive(rig.actor.run, rig.me):
        await settle()
        assert await rig.over(session) is not left
        for _ in range(int(SESSION_S / 3600) + 1):
            await trio.sleep(3600.0)
            rig.me.tell(CheckSession(token=session.token, idle_s=0.0))
        await settle()
        assert await rig.over(session)


# --- second factor ------------------------------------------------------------------------------------------------


async def set_up(rig, session):
    begun = await rig.me.ask(c.BeginTotp(password=PASSWORD, by="ann", by_session=session.session), 60.0)
    assert begun.uri.startswith("otpauth://totp/") and begun.secret in begun.uri and begun.secret not in repr(begun)
    codes = await rig.me.ask(c.ConfirmTotp(code=rig.totp(begun.secret), by="ann"), 60.0)
    assert len(set(codes.codes)) == 8
    return begun.secret, codes.codes


async def test_a_second_factor_is_asked_for_once_it_is_proved(autojump_clock, quick):
    async with accounts() as rig:
        session = await rig.login()
        assert await rig.refused(c.BeginTotp(password="wrong", by="ann")) == "bad_login"
        assert await rig.refused(c.ConfirmTotp(code="123456", by="ann")) == "totp_not_begun"
        begun = await rig.me.ask(c.BeginTotp(password=PASSWORD, by="ann"), 60.0)
        assert await rig.refused(c.ConfirmTotp(code="000000x", by="ann")) == "bad_otp"
        assert (await rig.login()).user == "ann", "not yet"
        secret, _ = await set_up(rig, session)
        assert secret != begun.secret and secret not in repr(rig.users["ann"])
        assert await rig.refused(c.Login(user="ann", password=PASSWORD)) == "otp_needed"
        assert await rig.refused(c.Login(user="ann", password="wrong", totp=rig.totp(secret))) == "bad_login"
        assert await rig.refused(c.Login(user="ann", password=PASSWORD, totp=rig.totp(secret))) == "bad_otp", "used"
        await trio.sleep(2 * STEP_S)
        code = rig.totp(secret)
        assert (await rig.login(totp=f" {code[:3]} {code[3:]} ")).totp
        assert await rig.refused(c.Login(user="ann", password=PASSWORD, totp=code)) == "bad_otp", "a code opens once"
        assert await rig.refused(c.BeginTotp(password=PASSWORD, by="ann")) == "totp_exists"


async def test_guessing_digits_locks_like_guessing_passwords(autojump_clock, quick):
    async with accounts() as rig:
        await set_up(rig, await rig.login())
        codes = [await rig.refused(c.Login(user="ann", password=PASSWORD, totp="000000")) for _ in range(4)]
        assert codes == ["bad_otp", "bad_otp", "bad_otp", "locked"]


async def test_a_recovery_code_opens_once_also_when_sent_twice_at_once(autojump_clock, quick):
    async with accounts() as rig:
        _, codes = await set_up(rig, await rig.login())
        outcomes = []

        async def attempt() -> None:
            try:
                outcomes.append((await rig.login(totp=codes[0].upper().replace("-", " "))).user)
            except LoginRefused as refused:
                outcomes.append(refused.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt)
            nursery.start_soon(attempt)
        assert sorted(outcomes) == ["ann", "bad_otp"] and len(rig.users["ann"].recovery) == 7
        assert (await rig.login(totp=codes[1])).user == "ann"


async def test_a_second_factor_is_removed_by_its_owner_or_a_manager(autojump_clock, quick):
    async with accounts() as rig:
        _, codes = await set_up(rig, await rig.login())
        assert await rig.refused(c.RemoveTotp(password=PASSWORD, code="000000", by="ann")) == "bad_otp"
        assert await rig.refused(c.RemoveTotp(password=PASSWORD, code="", by="ann")) == "otp_needed"
        await rig.me.ask(c.RemoveTotp(password=PASSWORD, code=codes[0], by="ann"), 60.0)
        assert not rig.users["ann"].totp and not rig.users["ann"].recovery
        await set_up(rig, await rig.login())
        await rig.me.ask(c.ResetTotp(user="ann", by="root"), 60.0)
        assert (await rig.login()).user == "ann"


async def test_a_sealed_secret_that_cannot_be_opened_lets_nobody_in(autojump_clock, quick):
    async with accounts() as rig:
        rig.users["ann"] = msgspec.structs.replace(rig.users["ann"], totp="not base64!")
        assert await rig.refused(c.Login(user="ann", password=PASSWORD, totp="123456")) == "bad_otp"
