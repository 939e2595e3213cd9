"""Log-in, sessions, second factors and the management of users over the console channel.

`by`, `by_role` and `by_session` are filled in by the channel from the session, whatever a page writes there.
"""

from __future__ import annotations

import msgspec

from protocols._bounds import Detail, Secret, Word
from protocols.messages import Base

# --- one's own session --------------------------------------------------------------------------------------------


class Login(Base, frozen=True, kw_only=True):
    """session.login. Refused with `bad_login` after a constant-time check; three failures lock for a while.

    With a second factor: `otp_needed` when `totp` is empty, then the six digits or a recovery code.
    """

    user: Word
    password: Secret
    totp: Secret = ""

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


class Session(Base, frozen=True, kw_only=True):
    """Who is logged in, and what they may. `session` names it to people; only `token` resumes it."""

    token: str
    user: str
    role: str
    permissions: list[str]
    methods: list[str] = msgspec.field(default_factory=list)  # what this session may call; filled in by the channel
    session: str = ""
    must_change: bool = False  # only session.set_password and the evacuation until the one-time password is replaced
    totp: bool = False  # a second factor is set up
    ends_at: float | None = None  # at the latest, seconds since the epoch
    idle_s: float | None = None  # it ends after so long without a command

    def __repr__(self) -> str:
        return f"Session(user={self.user!r}, role={self.role!r})"


class Resume(Base, frozen=True, kw_only=True):
    """session.resume: the token of an earlier log-in."""

    token: Secret

    def __repr__(self) -> str:
        return "Resume(…)"


class Logout(Base, frozen=True, kw_only=True):
    """session.logout: the token is good no longer, on every connection that used it."""

    by: Word = ""
    by_session: Word = ""


class SetPassword(Base, frozen=True, kw_only=True):
    """session.set_password. Answered with a new `Session`; all others of this user end."""

    old: Secret
    new: Secret
    by: Word = ""
    by_session: Word = ""

    def __repr__(self) -> str:
        return f"SetPassword(by={self.by!r})"


class BeginTotp(Base, frozen=True, kw_only=True):
    """session.totp_begin: draw a secret for an authenticator. It counts once `session.totp_confirm` proved it."""

    password: Secret
    by: Word = ""
    by_session: Word = ""

    def __repr__(self) -> str:
        return f"BeginTotp(by={self.by!r})"


class TotpSecret(Base, frozen=True, kw_only=True):
    """For an authenticator: the secret in base32, the same as an otpauth: address, and that as a picture (SVG)."""

    secret: str
    uri: str
    qr_svg: str

    def __repr__(self) -> str:
        return "TotpSecret(…)"


class ConfirmTotp(Base, frozen=True, kw_only=True):
    """session.totp_confirm: the six digits that the authenticator shows now."""

    code: Secret
    by: Word = ""
    by_session: Word = ""

    def __repr__(self) -> str:
        return f"ConfirmTotp(by={self.by!r})"


class RecoveryCodes(Base, frozen=True, kw_only=True):
    """Each opens once instead of the six digits. Shown once; only hashes are kept."""

    codes: list[str]

    def __repr__(self) -> str:
        return f"RecoveryCodes({len(self.codes)})"


class RemoveTotp(Base, frozen=True, kw_only=True):
    """session.totp_remove: no second factor any more. Needs the password and the six digits or a recovery code."""

    password: Secret
    code: Secret
    by: Word = ""
    by_session: Word = ""

    def __repr__(self) -> str:
        return f"RemoveTotp(by={self.by!r})"


# --- users, by a system manager -----------------------------------------------------------------------------------


class ListUsers(Base, frozen=True, kw_only=True):
    """users.list."""


class UserRow(Base, frozen=True, kw_only=True):
    """A user as others see them; `locked_until` and `last_login_at` are seconds since the epoch."""

    name: str
    role: str  # at this site; "" has no access here
    disabled: bool
    totp: bool
    must_change: bool
    sessions: int
    locked_until: float | None = None
    last_login_at: float | None = None  # since the server started


class UserList(Base, frozen=True, kw_only=True):
    users: list[UserRow]


class ListRoles(Base, frozen=True, kw_only=True):
    """users.roles: the roles there are, and what each may call."""


class RoleRow(Base, frozen=True, kw_only=True):
    role: str
    name_zh: str
    name_en: str
    permissions: list[str]


class RoleList(Base, frozen=True, kw_only=True):
    roles: list[RoleRow]


class CreateUser(Base, frozen=True, kw_only=True):
    """users.create. Answered with a password that is good for one log-in."""

    user: Word
    role: Word
    reason: Detail = ""
    by: Word = ""


class OneTimePassword(Base, frozen=True, kw_only=True):
    """Shown once; must be replaced at the first log-in."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"OneTimePassword(user={self.user!r})"


class ResetPassword(Base, frozen=True, kw_only=True):
    """users.reset_password: a new one-time password; all sessions of the user end, and a lock does, too."""

    user: Word
    reason: Detail = ""
    by: Word = ""


class SetUserRole(Base, frozen=True, kw_only=True):
    """users.set_role: at this site. Sessions of the user end."""

    user: Word
    role: Word
    reason: Detail = ""
    by: Word = ""


class DisableUser(Base, frozen=True, kw_only=True):
    """users.disable: nobody logs in as this user until it is enabled again; sessions end at once."""

    user: Word
    disabled: bool
    reason: Detail = ""
    by: Word = ""


class RemoveUser(Base, frozen=True, kw_only=True):
    """users.remove."""

    user: Word
    reason: Detail = ""
    by: Word = ""


class ResetTotp(Base, frozen=True, kw_only=True):
    """users.reset_totp: for somebody who lost the authenticator and the recovery codes."""

    user: Word
    reason: Detail = ""
    by: Word = ""


class ListSessions(Base, frozen=True, kw_only=True):
    """users.sessions: of one user, or with an empty name of all."""

    user: Word = ""


class SessionRow(Base, frozen=True, kw_only=True):
    """An open session; times are seconds since the epoch."""

    session: str
    user: str
    role: str
    since: float
    last_seen: float
    ends_at: float


class SessionList(Base, frozen=True, kw_only=True):
    sessions: list[SessionRow]


class RevokeSessions(Base, frozen=True, kw_only=True):
    """users.revoke: one session by its name, or all of a user; their open channels are closed at once."""

    session: Word = ""
    user: Word = ""
    reason: Detail = ""
    by: Word = ""


# --- between the channel and the accounts actor; never on the wire ------------------------------------------------


class CheckSession(Base, frozen=True, kw_only=True):
    """channel -> accounts: is it still good? `idle_s`: nothing was commanded over this connection for so long."""

    token: str
    idle_s: float

    def __repr__(self) -> str:
        return "CheckSession(…)"


class EndSessions(Base, frozen=True, kw_only=True):
    """accounts -> channel: these sessions were revoked; close what uses them."""

    sessions: list[str]
