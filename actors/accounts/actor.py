"""The actor `accounts`: log-in, sessions, and the management of users.

A check of a password takes the same time whether the user exists or not, and runs in a thread, because hashing is slow
on purpose.  The users file is read anew at each log-in, so that a change needs no restart; whatever changes it here is
done one after the other, and is on disk before it is answered.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import trio

from actors._common import offer
from actors.errors import CommandRefused
from core import Address, Envelope, Stop
from protocols import console as c
from protocols.console_accounts import CheckSession, EndSessions
from protocols.console_rights import ROLE_TABLE
from storage.interfaces import AuditEntry

from . import managing
from .factors import Factors
from .locks import Locks
from .managing import Change
from .sessions import IDLE_S, SESSION_S, Kept, Sessions
from .users import NOBODY, User, UsersUnreadable, check_password, find, hash_password, matches

CHECKS_MAX = 4  # password hashes computed at once: each takes 64 MB and a core
LOGINS_MAX = 64  # log-ins and changes under way, most of them waiting; more are refused as busy
KEEP_EVERY_S = 1.0  # between two writes of the sessions' file


class LoginRefused(CommandRefused):
    """Not who they say they are, locked out, or the session is over."""


class Accounts:
    """The actor.

    When `load_users` raises UsersUnreadable, whoever was known before still is: a slip in the file must not lock out
    the people on duty.

    Args:
        load_users: reads the users file.
        store_users: writes it whole; runs in a thread. Raises UsersUnreadable.
        hub: is told of locks; `ledger`: keeps the audit log; `web`: is told which channels to close.
        site: its id, because a user may have another role at each site; `site_name` is what an authenticator shows.
        factors: seals secrets of authenticators and draws their QR.
        load_sessions, store_sessions: carry sessions over a restart; the second runs in a thread.
        clock: seconds since the epoch.
        longest_s, idle_s: how long sessions last from log-in, and without a command.
    """

    def __init__(
        self,
        *,
        load_users: Callable[[], Mapping[str, User]],
        hub: Address,
        ledger: Address,
        store_users: Callable[[Mapping[str, User]], None] | None = None,
        web: Address | None = None,
        site: str = "",
        site_name: str = "Paifang",
        factors: Factors | None = None,
        load_sessions: Callable[[], list[Kept]] | None = None,
        store_sessions: Callable[[list[Kept]], None] | None = None,
        clock: Callable[[], float] = time.time,
        longest_s: float = SESSION_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._load_users, self._store_users = load_users, store_users
        self._hub, self._ledger, self._web = hub, ledger, web
        self.site, self._clock = site, clock
        self._store_sessions = store_sessions
        self._locks = Locks()
        self._sessions = Sessions(clock=clock, site=site, longest_s=longest_s, idle_s=idle_s)
        self._factors = factors or Factors(issuer=site_name, clock=clock)
        self._load_sessions = load_sessions
        self._last_login: dict[str, float] = {}
        self._known: Mapping[str, User] = {}
        self._readable = True
        self._restored = False

    async def run(self, me: Address) -> None:
        self._checks, self._under_way = trio.Semaphore(CHECKS_MAX), 0
        self._writing = trio.Lock()
        self._dirty = trio.Event()
        if self._load_sessions is not None and not self._restored:
            self._sessions.restore(self._load_sessions())
        self._restored = True
        async with trio.open_nursery() as nursery:
            if self._store_sessions is not None:
                nursery.start_soon(self._keep_sessions, self._store_sessions)
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case c.Resume(token=token):
                        self._resume(token, envelope)
                    case CheckSession(token=token, idle_s=idle_s):
                        self._check_session(token, idle_s, envelope)
                    case c.Logout() as order:
                        self._log_out(order, envelope)
                    case c.ListUsers():
                        envelope.reply(self._list_users())
                    case c.ListRoles():
                        envelope.reply(_roles())
                    case c.ListSessions(user=user):
                        envelope.reply(c.SessionList(sessions=self._sessions.rows(user)))
                    case c.RevokeSessions() as order:
                        self._revoke(order, envelope)
                    case c.Login():
                        self._begin(nursery, self._log_in, envelope)
                    case message if type(message) in _CHANGES:
                        self._begin(nursery, self._change, envelope)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    def _begin(self, nursery: trio.Nursery, what: Callable[[Envelope], Awaitable[None]], envelope: Envelope) -> None:
        if self._under_way >= LOGINS_MAX:
            envelope.fail(LoginRefused("busy", "Too many log-ins at once; try again", "请稍后重试"))
            return
        self._under_way += 1
        nursery.start_soon(what, envelope)

    # -- log-in -------------------------------------------------------------------------------------------------

    async def _log_in(self, envelope: Envelope) -> None:
        request: c.Login = envelope.msg
        try:
            async with self._checks:  # the lock is looked at after waiting: guesses sent together are guesses in a row
                user = await self._check(request.user, request.password)
            user = await self._check_factor(user, request.totp)
            role = user.role_at(self.site)
            if not role:
                raise LoginRefused("no_access", "No access at this site", "无权访问本景区")
        except CommandRefused as refused:
            envelope.fail(refused)
            return
        finally:
            self._under_way -= 1
        self._locks.forget(user.name)
        self._last_login[user.name] = self._clock()
        envelope.reply(self._open(user))
        self._record(user.name, role, "login", user.name)

    async def _check(self, name: str, password: str) -> User:
        """Who that is. Raises LoginRefused; the second factor is looked at apart."""
        wait_s = round(self._locks.left_s(name))
        if self._locks.left_s(name) > 0:
            raise LoginRefused(
                "locked", f"Too many wrong passwords; wait {wait_s} s", f"密码错误过多，请等待 {wait_s} 秒"
            )
        user = self._users().get(name)
        known = user.password_hash if user is not None else NOBODY
        right = await trio.to_thread.run_sync(matches, known, password)
        if user is None or not right or user.disabled:
            self._failed(name)
            raise LoginRefused("bad_login", "Wrong user or password", "用户名或密码错误")
        return user

    async def _check_factor(self, user: User, code: str) -> User:
        """The second factor, if the user has one. A recovery code is used up on disk before it opens anything."""
        if not user.totp:
            return user
        if not code:
            raise LoginRefused("otp_needed", "Type the six digits of the authenticator", "请输入验证器上的六位数字")
        if self._factors.accept(user, code):
            return user
        left = self._factors.without_recovery(user, code)
        if left is None:
            self._failed(user.name)
            raise LoginRefused("bad_otp", "Wrong digits, or used already", "验证码错误或已使用")

        def use_up(users: Mapping[str, User]) -> Mapping[str, User]:
            again = self._factors.without_recovery(find(users, user.name), code)
            if again is None:
                raise LoginRefused("bad_otp", "Wrong digits, or used already", "验证码错误或已使用")
            return {**users, user.name: again}

        return find(await self.write(use_up), user.name)

    def _users(self) -> Mapping[str, User]:
        try:
            self._known, self._readable = self._load_users(), True
        except UsersUnreadable as exc:
            if self._readable:
                self._readable = False
                self._say("alarm", "users_file", f"用户文件不可读：{exc}", f"The users file cannot be read: {exc}")
        return self._known

    def _failed(self, name: str) -> None:
        failures, lock_s = self._locks.failed(name)
        if lock_s:
            self._say(
                "warning",
                "locked",
                f"用户 {name[:40]} 连续 {failures} 次密码错误",
                f"User {name[:40]}: {failures} wrong passwords in a row",
            )

    def _open(self, user: User) -> c.Session:
        session = self._sessions.open(user)
        self._dirty.set()
        return session

    # -- sessions -----------------------------------------------------------------------------------------------

    def _resume(self, token: str, envelope: Envelope) -> None:
        session = self._sessions.look(token, self._users().get)
        if session is None:
            envelope.fail(_over())
        else:
            envelope.reply(session)

    def _check_session(self, token: str, idle_s: float, envelope: Envelope) -> None:
        session = self._sessions.look(token, self._users().get, idle_s)
        self._dirty.set()
        if session is None:
            envelope.fail(_over())
        else:
            envelope.reply(session)

    def _log_out(self, order: c.Logout, envelope: Envelope) -> None:
        ended = self._sessions.end(session=order.by_session)
        envelope.reply(c.Done(detail="logged out"))
        self._close(ended)
        self._record(order.by, "", "logout", order.by)

    def _revoke(self, order: c.RevokeSessions, envelope: Envelope) -> None:
        if not order.session and not order.user:
            envelope.fail(CommandRefused("bad_request", "Name a session or a user", "请指定会话或用户"))
            return
        ended = self._sessions.end(session=order.session, user=order.user)
        self._close(ended)
        envelope.reply(c.Done(detail=f"{len(ended)} ended"))
        self._record(order.by, "", "users.revoke", order.user or order.session, order.reason)

    def _close(self, sessions: list[str]) -> None:
        """End what uses these sessions, at once."""
        self._dirty.set()
        if sessions and self._web is not None:
            offer(self._web, EndSessions(sessions=sessions), system=True)

    def end_sessions(self, user: str) -> None:
        """End all sessions of a user, and close what uses them."""
        self._close(self._sessions.end(user=user))

    def forget_failures(self, user: str) -> None:
        """Unlock a user."""
        self._locks.forget(user)

    async def _keep_sessions(self, store: Callable[[list[Kept]], None]) -> None:
        while True:
            await self._dirty.wait()
            self._dirty = trio.Event()
            await trio.to_thread.run_sync(store, self._sessions.keep())
            await trio.sleep(KEEP_EVERY_S)

    # -- changes of users ---------------------------------------------------------------------------------------

    async def _change(self, envelope: Envelope) -> None:
        order: Any = envelope.msg
        method, carry_out = _CHANGES[type(order)]
        try:
            answer, subject = await carry_out(self, order)
        except CommandRefused as refused:
            envelope.fail(refused)
            return
        finally:
            self._under_way -= 1
        envelope.reply(answer)
        self._record(order.by, "", method, subject, getattr(order, "reason", ""))

    async def write(self, change: Change) -> Mapping[str, User]:
        """Read, change and write the list, one change after the other. Raises CommandRefused."""
        if self._store_users is None:
            raise CommandRefused("read_only", "Users cannot be changed here", "此处不能更改用户")
        async with self._writing:
            try:
                users = change(self._load_users())
                await trio.to_thread.run_sync(self._store_users, users)
            except UsersUnreadable as exc:
                raise CommandRefused("users_file", str(exc), "用户文件不可用") from exc
            self._known = users
            return users

    async def _set_password(self, order: c.SetPassword) -> tuple[c.Session, str]:
        async with self._checks:
            user = await self._check(order.by, order.old)
            check_password(order.by, order.new)
            if order.new == order.old:
                raise CommandRefused("same_password", "The new password is the old one", "新密码不能与旧密码相同")
            hashed = await trio.to_thread.run_sync(hash_password, order.new)

        def change(users: Mapping[str, User]) -> Mapping[str, User]:
            known = find(users, user.name)
            return {**users, user.name: msgspec.structs.replace(known, password_hash=hashed, must_change=False)}

        users = await self.write(change)
        self._locks.forget(user.name)
        # this session's own channel is given the new one with the answer; every other of the user is closed
        self._sessions.end(session=order.by_session)
        self.end_sessions(user.name)
        return self._open(users[user.name]), user.name

    async def _begin_totp(self, order: c.BeginTotp) -> tuple[c.TotpSecret, str]:
        async with self._checks:
            user = await self._check(order.by, order.password)
        if user.totp:
            raise CommandRefused(
                "totp_exists", "There is an authenticator already; remove it first", "已启用验证器，请先移除"
            )
        return self._factors.begin(user.name), user.name

    async def _confirm_totp(self, order: c.ConfirmTotp) -> tuple[c.RecoveryCodes, str]:
        sealed, codes, hashes = self._factors.confirm(order.by, order.code)

        def change(users: Mapping[str, User]) -> Mapping[str, User]:
            return {**users, order.by: msgspec.structs.replace(find(users, order.by), totp=sealed, recovery=hashes)}

        await self.write(change)
        return c.RecoveryCodes(codes=codes), order.by

    async def _remove_totp(self, order: c.RemoveTotp) -> tuple[c.Done, str]:
        async with self._checks:
            user = await self._check(order.by, order.password)
        await self._check_factor(user, order.code)
        await self.write(lambda users: managing.no_factor(users, order.by))
        return c.Done(), order.by

    # -- what is shown and noted --------------------------------------------------------------------------------

    def _list_users(self) -> c.UserList:
        sessions = [row.user for row in self._sessions.rows()]
        now = self._clock()
        return c.UserList(
            users=[
                c.UserRow(
                    name=user.name,
                    role=user.role_at(self.site),
                    disabled=user.disabled,
                    totp=bool(user.totp),
                    must_change=user.must_change,
                    sessions=sessions.count(user.name),
                    locked_until=now + self._locks.left_s(user.name) if self._locks.left_s(user.name) else None,
                    last_login_at=self._last_login.get(user.name),
                )
                for user in sorted(self._users().values(), key=lambda each: each.name)
            ]
        )

    def _say(self, severity: str, code: str, text_zh: str, text_en: str) -> None:
        event = c.FeedEvent(
            at=self._clock(), kind="login", severity=severity, code=code, text_zh=text_zh, text_en=text_en
        )
        offer(self._hub, event)

    def _record(self, user: str, role: str, action: str, subject: str, reason: str = "") -> None:
        if not role:
            known = self._known.get(user)
            role = known.role_at(self.site) if known is not None else ""
        entry = AuditEntry(user=user, role=role, action=action, subject=subject, reason=reason, at=self._clock())
        offer(self._ledger, entry)


_CHANGES: dict[type, tuple[str, Callable[[Accounts, Any], Awaitable[tuple[Any, str]]]]] = {
    c.SetPassword: ("session.set_password", Accounts._set_password),
    c.BeginTotp: ("session.totp_begin", Accounts._begin_totp),
    c.ConfirmTotp: ("session.totp_confirm", Accounts._confirm_totp),
    c.RemoveTotp: ("session.totp_remove", Accounts._remove_totp),
    **managing.COMMANDS,
}


def _over() -> LoginRefused:
    return LoginRefused("session_over", "Log in again", "请重新登录")


def _roles() -> c.RoleList:
    return c.RoleList(
        roles=[
            c.RoleRow(role=name, name_zh=role.name_zh, name_en=role.name_en, permissions=sorted(role.permissions))
            for name, role in ROLE_TABLE.items()
        ]
    )
