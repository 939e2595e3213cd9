"""What a user is, and the rules by which the list of users changes. Pure but for drawing passwords."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from actors.errors import CommandRefused
from protocols.console_rights import ROLES, USERS

NAME_PATTERN = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,39}\Z")
PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 256
USERS_MAX = 2000  # in the file; more are another system's business
ONE_TIME_WORDS, ONE_TIME_LETTERS = 4, 4  # of a one-time password: 16 letters of 31, 79 bits
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is mistaken for another one when read aloud or copied


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user as the file keeps it.

    `role` holds at every site that `sites` does not name; there "" means no access.  `totp` is the sealed secret of the
    authenticator in base64, `recovery` the SHA-256 of each recovery code that is left, both empty without one.
    """

    name: str
    role: str
    password_hash: str
    sites: dict[str, str] = {}
    disabled: bool = False
    must_change: bool = False
    totp: str = ""
    recovery: list[str] = []

    def __repr__(self) -> str:
        return f"User(name={self.name!r}, role={self.role!r})"

    def role_at(self, site: str) -> str:
        """The role at this site; "" is no access."""
        return self.sites.get(site, self.role)


class UsersUnreadable(Exception):
    """The users file cannot be used; the text names the file and the cure. Raised by whoever loads or writes it."""


_HASHER = PasswordHasher()  # Argon2id with the library's defaults (RFC 9106, low-memory profile)
NOBODY = _HASHER.hash(secrets.token_hex(16))  # checked for unknown users, so that they take as long as known ones


def hash_password(password: str) -> str:
    """The Argon2id hash that the users file keeps. Takes some tens of milliseconds."""
    return _HASHER.hash(password)


def matches(known: str, password: str) -> bool:
    """Is this the password? False for a damaged hash, too. Takes some tens of milliseconds."""
    try:
        return _HASHER.verify(known, password)
    except (VerifyMismatchError, VerificationError, InvalidHashError):
        return False


def one_time_password() -> str:
    """A password for one log-in, such as `k7pm-x2wd-…`: easy to read out, 79 bits."""
    words = ("".join(secrets.choice(LETTERS) for _ in range(ONE_TIME_LETTERS)) for _ in range(ONE_TIME_WORDS))
    return "-".join(words)


def check_password(user: str, password: str) -> None:
    """Raises CommandRefused for a password that is too short, too long or the user's own name."""
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise CommandRefused(
            "weak_password",
            f"A password has {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters",
            f"密码须为 {PASSWORD_CHARACTERS_MIN} 至 {PASSWORD_CHARACTERS_MAX} 个字符",
        )
    if user.lower() in password.lower() and len(password) < 2 * PASSWORD_CHARACTERS_MIN:
        raise CommandRefused("weak_password", "A password does not contain the user's name", "密码不能包含用户名")


def find(users: Mapping[str, User], name: str) -> User:
    """Raises CommandRefused for a name that is not there."""
    user = users.get(name)
    if user is None:
        raise CommandRefused("unknown_user", f"There is no user {name}", "没有此用户")
    return user


def added(users: Mapping[str, User], name: str, role: str, password_hash: str) -> dict[str, User]:
    """With a new user, who must change the password. Raises CommandRefused."""
    if not NAME_PATTERN.match(name):
        raise CommandRefused(
            "bad_name",
            "A user name is 1 to 40 of a-z, 0-9, dot, dash, underscore",
            "用户名须为 1 至 40 个小写字母、数字、点、横线或下划线",
        )
    if name in users:
        raise CommandRefused("user_exists", f"There is a user {name} already", "用户已存在")
    if len(users) >= USERS_MAX:
        raise CommandRefused("too_many", f"More than {USERS_MAX} users", "用户数量已达上限")
    _check_role(role)
    return {**users, name: User(name=name, role=role, password_hash=password_hash, must_change=True)}


def with_role(users: Mapping[str, User], name: str, role: str, site: str) -> dict[str, User]:
    """With another role at this site. Raises CommandRefused, also when nobody would be left who manages users."""
    user = find(users, name)
    _check_role(role)
    changed = (
        msgspec.structs.replace(user, sites={**user.sites, site: role})
        if site in user.sites
        else msgspec.structs.replace(user, role=role)
    )
    return _kept({**users, name: changed}, site)


def switched(users: Mapping[str, User], name: str, disabled: bool, site: str) -> dict[str, User]:
    """Disabled or enabled. Raises CommandRefused, also when nobody would be left who manages users."""
    return _kept({**users, name: msgspec.structs.replace(find(users, name), disabled=disabled)}, site)


def without(users: Mapping[str, User], name: str, site: str) -> dict[str, User]:
    """Without this user. Raises CommandRefused, also when nobody would be left who manages users."""
    find(users, name)
    return _kept({other: user for other, user in users.items() if other != name}, site)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise CommandRefused("bad_role", f"The roles are {', '.join(sorted(ROLES))}", "没有此角色")


def _kept(users: dict[str, User], site: str) -> dict[str, User]:
    """The list, if somebody in it can still manage users."""
    if not any(USERS in ROLES.get(user.role_at(site), ()) and not user.disabled for user in users.values()):
        raise CommandRefused(
            "last_manager", "Nobody would be left who may manage users", "至少须保留一名可用的系统管理员"
        )
    return users
