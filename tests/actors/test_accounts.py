"""Log-in: the same work whether a user exists or not, no guessing in bulk, and nobody on duty is locked out."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from actors.accounts import (
    EVACUATE,
    RESTORE,
    ROLES,
    Accounts,
    LoginRefused,
    User,
    UsersUnreadable,
    hash_password,
    locks,
)
from actors.accounts import actor as module
from actors.accounts import sessions as sessions_module
from actors.accounts.locks import FAILURES_FREE, LOCK_MAX_S, LOCK_MIN_S
from actors.accounts.sessions import IDLE_S, SESSION_S
from actors.testing import alive, heard, only, settle
from core import Address
from core.testing import Probe
from protocols.console import FeedEvent, Login, Resume
from protocols.console_accounts import CheckSession
from storage.interfaces import AuditEntry

PASSWORD = "correct horse"
HASH = hash_password(PASSWORD)


class Hasher:
    """Instead of a slow hash: counts what it is asked, and takes `slow_s` of virtual time."""

    def __init__(self) -> None:
        self.asked = []
        self.slow_s = 0.0
        self.busy = self.busy_max = 0

    async def run_sync(self, function, *arguments, **_options):
        if function is not module.matches:
            return function(*arguments)
        self.busy += 1
        self.busy_max = max(self.busy, self.busy_max)
        try:
            await trio.sleep(self.slow_s)
            known, password = arguments
            self.asked.append(known)
            return known == HASH and password == PASSWORD
        finally:
            self.busy -= 1


class Rig:
    def __init__(self) -> None:
        self.users = {
            "ann": User(name="ann", role="duty_manager", password_hash=HASH),
            "bob": User(name="bob", role="cashier", password_hash=HASH),
        }
        self.unreadable = False
        self.hub, self.ledger = Probe("consoles", capacity=2000), Probe("ledger")
        self.me = Address("accounts", capacity=2000)
        self.actor = Accounts(load_users=self.load, hub=self.hub, ledger=self.ledger)

    def load(self):
        if self.unreadable:
            raise UsersUnreadable("users.toml: line 3 makes no sense")
        return self.users

    async def login(self, user="ann", password=PASSWORD):
        return await self.me.ask(Login(user=user, password=password), 60.0)

    async def refused(self, *arguments) -> str:
        with pytest.raises(LoginRefused) as refused:
            await self.login(*arguments)
        return refused.value.code

    async def fail(self, times: int, user="ann") -> None:
        for _ in range(times):
            assert await self.refused(user, "wrong") == "bad_login"


@pytest.fixture
def hasher(monkeypatch):
    hasher = Hasher()
    monkeypatch.setattr(trio.to_thread, "run_sync", hasher.run_sync)
    return hasher


@asynccontextmanager
async def accounts(*, crashes=0):
    rig = Rig()
    async with alive(rig.actor.run, rig.me, crashes=crashes):
        await settle()
        yield rig


# --- who gets in ------------------------------------------------------------------------------------------------


async def test_the_right_password_opens_a_session_with_the_roles_permissions(autojump_clock, hasher):
    async with accounts() as rig:
        session = await rig.login()
        assert (session.user, session.role) == ("ann", "duty_manager")
        assert session.permissions == sorted(ROLES["duty_manager"])
        other = await rig.login()
        assert other.token != session.token and len(session.token) >= 32
        entries = only(await heard(rig.ledger), AuditEntry)
        assert [(entry.user, entry.role, entry.action) for entry in entries] == [("ann", "duty_manager", "login")] * 2


async def test_with_real_argon2_as_well():
    async with accounts() as rig:
        assert (await rig.login()).user == "ann"
        assert await rig.refused("ann", PASSWORD + " ") == "bad_login"


@pytest.mark.parametrize("user", ["ann", "nobody", "", "ann\0"])
async def test_a_wrong_password_and_an_unknown_user_look_the_same_and_cost_the_same_work(autojump_clock, hasher, user):
    async with accounts() as rig:
        hasher.slow_s = 0.07
        before = trio.current_time()
        assert await rig.refused(user, "wrong") == "bad_login"
        assert trio.current_time() - before == pytest.approx(0.07)
        (known,) = hasher.asked
        assert known.startswith("$argon2id$") and known.split("$")[3] == HASH.split("$")[3], "the same parameters"
        assert await heard(rig.ledger) == []


async def test_a_broken_hash_lets_nobody_in():
    async with accounts() as rig:
        rig.users["ann"] = User(name="ann", role="operator", password_hash="")
        assert await rig.refused() == "bad_login"
        rig.users["ann"] = User(name="ann", role="operator", password_hash="$argon2id$nonsense")
        assert await rig.refused() == "bad_login"


def test_everybody_on_duty_may_trigger_an_evacuation_and_only_some_may_end_one():
    assert all(EVACUATE in permissions for permissions in ROLES.values())
    assert {role for role, permissions in ROLES.items() if RESTORE in permissions} == {"security", "duty_manager"}


async def test_a_role_that_nobody_knows_may_do_nothing(autojump_clock, hasher):
    async with accounts() as rig:
        rig.users["eve"] = User(name="eve", role="wizard", password_hash=HASH)
        assert (await rig.login("eve")).permissions == []


# --- guessing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["ann", "nobody"])
async def test_after_a_few_wrong_passwords_the_user_is_locked_for_longer_and_longer(autojump_clock, hasher, user):
    async with accounts() as rig:
        await rig.fail(FAILURES_FREE, user)
        lock_s = LOCK_MIN_S
        for _ in range(9):
            asked = len(hasher.asked)
            assert await rig.refused(user, PASSWORD) == "locked"
            assert len(hasher.asked) == asked, "not even looked at"
            await trio.sleep(lock_s - 0.1)
            assert await rig.refused(user, "wrong") == "locked"
            await trio.sleep(0.2)
            await rig.fail(1, user)
            lock_s = min(LOCK_MAX_S, lock_s * 2)
        assert lock_s == LOCK_MAX_S
        lines = only(await heard(rig.hub), FeedEvent)
        assert len(lines) == 10 and all(line.code == "locked" and line.severity == "warning" for line in lines)


async def test_a_lock_is_one_users_and_the_right_password_ends_the_count(autojump_clock, hasher):
    async with accounts() as rig:
        await rig.fail(FAILURES_FREE)
        assert (await rig.login("bob")).user == "bob"
        await trio.sleep(LOCK_MIN_S + 0.1)
        assert (await rig.login()).user == "ann"
        await rig.fail(FAILURES_FREE - 1)
        assert (await rig.login()).user == "ann"


async def test_guessing_many_passwords_at_once_gets_no_further(autojump_clock, hasher):
    async with accounts() as rig:
        hasher.slow_s = 0.07
        codes = []

        async def guess(number: int) -> None:
            codes.append(await rig.refused("ann", f"guess {number}"))

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(guess, number)
        assert codes.count("bad_login") <= FAILURES_FREE + module.CHECKS_MAX
        assert len(hasher.asked) <= FAILURES_FREE + module.CHECKS_MAX
        assert hasher.busy_max <= module.CHECKS_MAX


async def test_who_floods_the_log_in_with_other_names_unlocks_nobody(autojump_clock, hasher, monkeypatch):
    monkeypatch.setattr(locks, "LOCKS_MAX", 5)
    async with accounts() as rig:
        for number in range(5):
            await rig.fail(1, f"old{number}")
        await rig.fail(FAILURES_FREE)
        for number in range(20):
            await rig.fail(1, f"new{number}")
        assert await rig.refused() == "locked"
        assert len(rig.actor._locks) <= 5


async def test_log_ins_do_not_pile_up(autojump_clock, hasher, monkeypatch):
    monkeypatch.setattr(module, "LOGINS_MAX", 6)
    async with accounts() as rig:
        hasher.slow_s = 1.0
        codes = []

        async def attempt(number: int) -> None:
            codes.append(await rig.refused(f"user{number}", "x"))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(attempt, number)
        assert codes.count("busy") == 14 and codes.count("bad_login") == 6


# --- sessions ---------------------------------------------------------------------------------------------------


async def test_a_session_is_resumed_with_its_token_until_the_shift_is_over(autojump_clock, hasher):
    async with accounts() as rig:
        session = await rig.login()
        for _ in range(int(SESSION_S / IDLE_S) * 2):
            await trio.sleep(IDLE_S / 2 - 1)
            assert await rig.me.ask(CheckSession(token=session.token, idle_s=1.0), 1.0) == session
        assert await rig.me.ask(Resume(token=session.token), 1.0) == session
        await trio.sleep(int(SESSION_S / IDLE_S) * 2 + 1)
        with pytest.raises(LoginRefused) as refused:
            await rig.me.ask(Resume(token=session.token), 1.0)
        assert refused.value.code == "session_over"


@pytest.mark.parametrize("token", ["", "x", "密码", "\0"])
async def test_a_token_that_nobody_gave_out_resumes_nothing(autojump_clock, hasher, token):
    async with accounts() as rig:
        await rig.login()
        with pytest.raises(LoginRefused) as refused:
            await rig.me.ask(Resume(token=token), 1.0)
        assert refused.value.code == "session_over"


@pytest.mark.parametrize("change", ["removed", "another role"])
async def test_a_user_who_was_changed_logs_in_again(autojump_clock, hasher, change):
    async with accounts() as rig:
        session = await rig.login()
        if change == "removed":
            del rig.users["ann"]
        else:
            rig.users["ann"] = User(name="ann", role="cashier", password_hash=HASH)
        with pytest.raises(LoginRefused):
            await rig.me.ask(Resume(token=session.token), 1.0)
        rig.users["ann"] = User(name="ann", role="duty_manager", password_hash=HASH)
        with pytest.raises(LoginRefused):
            await rig.me.ask(Resume(token=session.token), 1.0)


async def test_sessions_are_bounded_the_oldest_goes_first(autojump_clock, hasher, monkeypatch):
    monkeypatch.setattr(sessions_module, "SESSIONS_MAX", 3)
    async with accounts() as rig:
        sessions = [await rig.login() for _ in range(4)]
        with pytest.raises(LoginRefused):
            await rig.me.ask(Resume(token=sessions[0].token), 1.0)
        for session in sessions[1:]:
            assert await rig.me.ask(Resume(token=session.token), 1.0) == session


async def test_sessions_survive_the_death_of_the_actor(autojump_clock, hasher):
    async with accounts(crashes=1) as rig:
        session = await rig.login()
        rig.me.tell(Resume(token=None))
        await trio.sleep(0.1)
        assert await rig.me.ask(Resume(token=session.token), 1.0) == session


# --- the users file ---------------------------------------------------------------------------------------------


async def test_a_users_file_that_cannot_be_read_locks_nobody_out_who_was_known(autojump_clock, hasher):
    async with accounts() as rig:
        session = await rig.login()
        await heard(rig.hub)
        rig.unreadable = True
        assert (await rig.login()).user == "ann"
        assert await rig.me.ask(Resume(token=session.token), 1.0) == session
        lines = [line for line in only(await heard(rig.hub), FeedEvent) if line.code == "users_file"]
        assert len(lines) == 1 and "line 3" in lines[0].text_en and lines[0].severity == "alarm"
        rig.unreadable = False
        del rig.users["ann"]
        assert await rig.refused() == "bad_login"


async def test_a_users_file_that_was_never_readable_refuses_and_the_actor_lives(autojump_clock, hasher):
    async with accounts() as rig:
        rig.unreadable = True
        assert await rig.refused() == "bad_login"
        rig.unreadable = False
        assert (await rig.login()).user == "ann"


async def test_people_log_in_when_ledger_and_console_are_full(autojump_clock, hasher):
    async with accounts() as rig:
        for probe in (rig.hub, rig.ledger):
            while probe.statistics().depth < probe.capacity:
                probe.tell("something else")
        assert (await rig.login()).user == "ann"
        await rig.fail(FAILURES_FREE)


def test_no_password_token_or_hash_in_any_log():
    for secret in (
        Login(user="ann", password="SECRET"),
        Resume(token="SECRET"),
        User(name="ann", role="operator", password_hash="SECRET"),
    ):
        assert "SECRET" not in repr(secret)
