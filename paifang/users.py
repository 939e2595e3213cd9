"""The users file: names, roles and Argon2id hashes in `users.toml`, readable by the server's account alone.

It stands beside the database, not in it, so that people can log in and trigger an evacuation when the database is
away.  Written whole and renamed into place.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from actors.accounts import ROLES, User, UsersUnreadable, hash_password
from actors.accounts.sessions import Kept
from actors.accounts.users import (
    NAME_PATTERN,
    PASSWORD_CHARACTERS_MAX,
    PASSWORD_CHARACTERS_MIN,
    one_time_password,
)

FIRST_USER, FIRST_ROLE = "admin", "system_manager"
SESSIONS_FILE = "sessions.json"
SESSIONS_BYTES_MAX = 4 * 1024 * 1024


class UsersError(UsersUnreadable):
    """The users file, or what was asked of it, is wrong; the text names the file and the cure."""


def users_path(data: Path) -> Path:
    return data / "users.toml"


def load_users(data: Path) -> Mapping[str, User]:
    """All users by name; a missing file has none. Raises UsersError."""
    path = users_path(data)
    try:
        status = path.stat()
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise UsersError(f"{path}: {exc}") from exc
    if status.st_mode & 0o077:
        raise UsersError(f"{path}: others may read it; run `chmod 600 {path}`")
    users: dict[str, User] = {}
    for name, entry in table.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("password_hash"), str):
            raise UsersError(f"{path}: [{name}] needs role and password_hash; use `paifang users add {name}`")
        role = entry.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise UsersError(f"{path}: [{name}] role {role!r} is not one of {', '.join(sorted(ROLES))}")
        users[name] = _user(path, name, role, entry)
    return users


def _user(path: Path, name: str, role: str, entry: Mapping[str, Any]) -> User:
    """An entry with what may be left out. Raises UsersError."""
    sites = entry.get("sites", {})
    if not isinstance(sites, dict) or any(each != "" and each not in ROLES for each in sites.values()):
        raise UsersError(f"{path}: [{name}] sites gives each site a role, or an empty text for no access")
    try:
        return msgspec.convert({**entry, "name": name, "role": role}, User)
    except msgspec.ValidationError as exc:
        raise UsersError(f"{path}: [{name}] {exc}") from exc


def add_user(data: Path, name: str, role: str, password: str) -> None:
    """Add a user, or give an existing one a new role and password. Raises UsersError."""
    if not NAME_PATTERN.match(name):
        raise UsersError(f"user name {name!r}: 1 to 40 of a-z, 0-9, dot, dash, underscore")
    if role not in ROLES:
        raise UsersError(f"role {role!r} is not one of {', '.join(sorted(ROLES))}")
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise UsersError(f"a password has {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters")
    users = dict(load_users(data))
    known = users.get(name) or User(name=name, role=role, password_hash="")
    changed = {"role": role, "password_hash": hash_password(password), "must_change": False, "disabled": False}
    users[name] = msgspec.structs.replace(known, **changed)
    write_users(data, users)


def add_first_user(data: Path) -> str:
    """If there is nobody yet, add the first system manager; returns the one-time password, or "". Raises UsersError."""
    if users_path(data).exists():
        return ""
    password = one_time_password()
    user = User(name=FIRST_USER, role=FIRST_ROLE, password_hash=hash_password(password), must_change=True)
    write_users(data, {FIRST_USER: user})
    return password


def remove_user(data: Path, name: str) -> None:
    """Raises UsersError when there is no such user."""
    users = dict(load_users(data))
    if users.pop(name, None) is None:
        raise UsersError(f"{users_path(data)}: there is no user {name!r}")
    write_users(data, users)


def write_users(data: Path, users: Mapping[str, User]) -> None:
    """Replace the whole file. Raises UsersError."""
    text = "# Users of the console; written by `paifang users` and the console. Hashes are Argon2id.\n"
    try:
        _replace(users_path(data), text + "".join(_entry(user) for user in users.values()))
    except OSError as exc:
        raise UsersError(f"{users_path(data)}: cannot be written ({exc.strerror})") from exc


def _entry(user: User) -> str:
    """A user as TOML. Texts are written as JSON strings, which TOML reads alike."""

    def text(value: str) -> str:
        return msgspec.json.encode(value).decode()

    lines = [f"\n[{text(user.name)}]", f"role = {text(user.role)}", f"password_hash = {text(user.password_hash)}"]
    lines += [f"{flag} = true" for flag in ("disabled", "must_change") if getattr(user, flag)]
    if user.totp:
        lines.append(f"totp = {text(user.totp)}")
        lines.append(f"recovery = [{', '.join(text(each) for each in user.recovery)}]")
    if user.sites:
        lines.append("sites = { " + ", ".join(f"{text(k)} = {text(v)}" for k, v in user.sites.items()) + " }")
    return "\n".join(lines) + "\n"


def load_sessions(data: Path) -> list[Kept]:
    """Sessions from before the server's restart. A file that is damaged or not private has none."""
    path = data / SESSIONS_FILE
    try:
        if path.stat().st_mode & 0o077 or path.stat().st_size > SESSIONS_BYTES_MAX:
            return []
        return msgspec.json.decode(path.read_bytes(), type=list[Kept])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []


def store_sessions(data: Path, sessions: Iterable[Kept]) -> None:
    """Keep hashes of tokens, so that a restart logs nobody out. A full disk is no reason to end a session."""
    try:
        _replace(data / SESSIONS_FILE, msgspec.json.encode(list(sessions)).decode())
    except OSError:
        return


def _replace(path: Path, text: str) -> None:
    """Write a private file whole and rename it into place. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
