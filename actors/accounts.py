"""Who may command: users, passwords, sessions, permissions.

Users stand in a file beside the database (names, roles, Argon2id hashes), so that people can log in and trigger an
evacuation when the database is away.  A check takes the same time whether the user exists or not, and runs in a
thread, because hashing a password is slow on purpose.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping

import msgspec
import trio
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from actors._common import offer
from actors.errors import CommandRefused
from core import Address, Envelope, Stop
from protocols.console import FeedEvent, Login, Resume, Session
from protocols.console_rights import EVACUATE, LANE_OPEN, OFFICE, RESTORE, ROLES
from storage.interfaces import AuditEntry

__all__ = ["EVACUATE", "LANE_OPEN", "OFFICE", "RESTORE", "ROLES", "Accounts", "LoginRefused", "User", "UsersUnreadable"]

SESSION_S = 12 * 3600.0  # a shift and a little
SESSIONS_MAX = 1000
CHECKS_MAX = 4  # password hashes computed at once: each takes 64 MB and a core
LOGINS_MAX = 64  # log-ins under way, most of them waiting; more are refused as busy
FAILURES_FREE = 3  # wrong passwords before a user is locked
LOCK_MIN_S, LOCK_MAX_S = 5.0, 300.0  # doubles with each further failure
LOCKS_MAX = 1000

class User(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    role: str
    password_hash: str

    def __repr__(self) -> str:
        return f"User(name={self.name!r}, role={self.role!r})"


class UsersUnreadable(Exception):
    """The users file cannot be used; the text names the file and the cure. Raised by whoever loads it."""


class LoginRefused(CommandRefused):
    """Not who they say they are, locked out, or the session is over."""


_HASHER = PasswordHasher()  # Argon2id with the library's defaults (RFC 9106, low-memory profile)
_NOBODY = _HASHER.hash(secrets.token_hex(16))  # checked for unknown users, so that they take as long as known ones


def hash_password(password: str) -> str:
    """The Argon2id hash that the users file keeps. Takes some tens of milliseconds."""
    return _HASHER.hash(password)


class _Held(msgspec.Struct):
    session: Session
    until: float  # Trio's clock


class Accounts:
    """The actor. `load_users` reads the file anew at each log-in, so that a change needs no restart.

    When it raises UsersUnreadable, whoever was known before still is: a slip in the file must not lock out the people
    on duty.
    """

    def __init__(self, *, load_users: Callable[[], Mapping[str, User]], hub: Address, ledger: Address) -> None:
        self._load_users = load_users
        self._hub = hub
        self._ledger = ledger
        self._sessions: dict[str, _Held] = {}
        self._failures: dict[str, tuple[int, float]] = {}  # user -> (wrong passwords in a row, locked until)
        self._known: Mapping[str, User] = {}
        self._readable = True

    async def run(self, me: Address) -> None:
        self._checks, self._logins = trio.Semaphore(CHECKS_MAX), 0
        async with trio.open_nursery() as nursery:
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case Login():
                        if self._logins >= LOGINS_MAX:
                            envelope.fail(LoginRefused("busy", "Too many log-ins at once; try again", "请稍后重试"))
                            continue
                        self._logins += 1
                        nursery.start_soon(self._log_in, envelope)
                    case Resume(token=token):
                        self._resume(token, envelope)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _log_in(self, envelope: Envelope) -> None:
        request: Login = envelope.msg
        try:
            async with self._checks:  # the lock is looked at after waiting: guesses sent together are guesses in a row
                await self._check(request, envelope)
        finally:
            self._logins -= 1

    async def _check(self, request: Login, envelope: Envelope) -> None:
        now = trio.current_time()
        _, locked_until = self._failures.get(request.user, (0, 0.0))
        if now < locked_until:
            wait_s = round(locked_until - now)
            envelope.fail(
                LoginRefused(
                    "locked", f"Too many wrong passwords; wait {wait_s} s", f"密码错误过多，请等待 {wait_s} 秒"
                )
            )
            return
        user = self._users().get(request.user)
        known = user.password_hash if user is not None else _NOBODY
        right = await trio.to_thread.run_sync(_matches, known, request.password)
        if user is None or not right:
            self._failed(request.user)
            envelope.fail(LoginRefused("bad_login", "Wrong user or password", "用户名或密码错误"))
            return
        self._failures.pop(request.user, None)
        envelope.reply(self._open(user))
        self._record(user, "login")

    def _users(self) -> Mapping[str, User]:
        try:
            self._known, self._readable = self._load_users(), True
        except UsersUnreadable as exc:
            if self._readable:
                self._readable = False
                self._say("alarm", "users_file", f"用户文件不可读：{exc}", f"The users file cannot be read: {exc}")
        return self._known

    def _failed(self, name: str) -> None:
        failures = self._failures.get(name, (0, 0.0))[0] + 1
        lock_s = (
            0.0 if failures < FAILURES_FREE else min(LOCK_MAX_S, LOCK_MIN_S * 2.0 ** min(failures - FAILURES_FREE, 16))
        )
        if name not in self._failures and len(self._failures) >= LOCKS_MAX:  # whose lock ends first, if it has any
            del self._failures[min(self._failures, key=lambda other: self._failures[other][1])]
        self._failures[name] = (failures, trio.current_time() + lock_s)
        if lock_s:
            self._say(
                "warning",
                "locked",
                f"用户 {name[:40]} 连续 {failures} 次密码错误",
                f"User {name[:40]}: {failures} wrong passwords in a row",
            )

    def _say(self, severity: str, code: str, text_zh: str, text_en: str) -> None:
        event = FeedEvent(at=time.time(), kind="login", severity=severity, code=code, text_zh=text_zh, text_en=text_en)
        offer(self._hub, event)

    def _open(self, user: User) -> Session:
        session = Session(
            token=secrets.token_urlsafe(32),
            user=user.name,
            role=user.role,
            permissions=sorted(ROLES.get(user.role, frozenset())),
        )
        if len(self._sessions) >= SESSIONS_MAX:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[session.token] = _Held(session, trio.current_time() + SESSION_S)
        return session

    def _resume(self, token: str, envelope: Envelope) -> None:
        held = next((h for t, h in self._sessions.items() if hmac.compare_digest(t.encode(), token.encode())), None)
        if held is None or trio.current_time() >= held.until:
            envelope.fail(LoginRefused("session_over", "Log in again", "请重新登录"))
            return
        user = self._users().get(held.session.user)
        if user is None or user.role != held.session.role:  # removed, or given another role meanwhile
            self._sessions.pop(held.session.token, None)
            envelope.fail(LoginRefused("session_over", "Log in again", "请重新登录"))
            return
        envelope.reply(held.session)

    def _record(self, user: User, action: str) -> None:
        entry = AuditEntry(user=user.name, role=user.role, action=action, subject=user.name, reason="", at=time.time())
        offer(self._ledger, entry)


def _matches(known: str, password: str) -> bool:
    try:
        return _HASHER.verify(known, password)
    except (VerifyMismatchError, VerificationError, InvalidHashError):
        return False
