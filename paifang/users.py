"""The users file: names, roles and Argon2id hashes in `users.toml`, readable by the server's account alone.

It stands beside the database, not in it, so that people can log in and trigger an evacuation when the database is
away.  Written whole and renamed into place.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from actors.accounts import ROLES, User, UsersUnreadable, hash_password

NAME_PATTERN = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,39}\Z")
PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 256


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
        users[name] = User(name=name, role=role, password_hash=entry["password_hash"])
    return users


def add_user(data: Path, name: str, role: str, password: str) -> None:
    """Add a user, or give an existing one a new role and password. Raises UsersError."""
    if not NAME_PATTERN.match(name):
        raise UsersError(f"user name {name!r}: 1 to 40 of a-z, 0-9, dot, dash, underscore")
    if role not in ROLES:
        raise UsersError(f"role {role!r} is not one of {', '.join(sorted(ROLES))}")
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise UsersError(f"a password has {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters")
    users = dict(load_users(data))
    users[name] = User(name=name, role=role, password_hash=hash_password(password))
    write_users(data, users)


def remove_user(data: Path, name: str) -> None:
    """Raises UsersError when there is no such user."""
    users = dict(load_users(data))
    if users.pop(name, None) is None:
        raise UsersError(f"{users_path(data)}: there is no user {name!r}")
    write_users(data, users)


def write_users(data: Path, users: Mapping[str, User]) -> None:
    """Replace the whole file. Raises UsersError."""
    path = users_path(data)
    lines = ["# Users of the console; written by `paifang users`. Hashes are Argon2id.\n"]
    lines += [
        f'\n["{user.name}"]\nrole = "{user.role}"\npassword_hash = "{user.password_hash}"\n' for user in users.values()
    ]
    try:
        data.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=data, prefix=".users-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(data, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as exc:
        raise UsersError(f"{path}: cannot be written ({exc.strerror})") from exc
