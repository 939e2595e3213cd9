"""What a system manager does to users: create, disable, give roles, reset. Each is on disk before it is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import trio

from protocols import console as c

from . import users as rules
from .users import User, find, hash_password, one_time_password

Change = Callable[[Mapping[str, User]], Mapping[str, User]]


class Office(Protocol):
    """What of the accounts these commands need."""

    site: str

    async def write(self, change: Change) -> Mapping[str, User]:
        """Read, change and write the list, one change after the other. Raises CommandRefused."""
        ...

    def end_sessions(self, user: str) -> None:
        """End all sessions of a user, and close what uses them."""
        ...

    def forget_failures(self, user: str) -> None:
        """Unlock a user."""
        ...


async def create(accounts: Office, order: c.CreateUser) -> tuple[c.OneTimePassword, str]:
    password = one_time_password()
    hashed = await trio.to_thread.run_sync(hash_password, password)
    await accounts.write(lambda users: rules.added(users, order.user, order.role, hashed))
    return c.OneTimePassword(user=order.user, password=password), f"{order.user}: {order.role}"


async def reset_password(accounts: Office, order: c.ResetPassword) -> tuple[c.OneTimePassword, str]:
    password = one_time_password()
    hashed = await trio.to_thread.run_sync(hash_password, password)

    def change(users: Mapping[str, User]) -> Mapping[str, User]:
        known = find(users, order.user)
        return {**users, order.user: msgspec.structs.replace(known, password_hash=hashed, must_change=True)}

    await accounts.write(change)
    accounts.forget_failures(order.user)
    accounts.end_sessions(order.user)
    return c.OneTimePassword(user=order.user, password=password), order.user


async def reset_totp(accounts: Office, order: c.ResetTotp) -> tuple[c.Done, str]:
    await accounts.write(lambda users: no_factor(users, order.user))
    return c.Done(), order.user


async def set_role(accounts: Office, order: c.SetUserRole) -> tuple[c.Done, str]:
    await accounts.write(lambda users: rules.with_role(users, order.user, order.role, accounts.site))
    accounts.end_sessions(order.user)
    return c.Done(), f"{order.user}: {order.role}"


async def disable(accounts: Office, order: c.DisableUser) -> tuple[c.Done, str]:
    await accounts.write(lambda users: rules.switched(users, order.user, order.disabled, accounts.site))
    if order.disabled:
        accounts.end_sessions(order.user)
    return c.Done(), f"{order.user}: {'disabled' if order.disabled else 'enabled'}"


async def remove(accounts: Office, order: c.RemoveUser) -> tuple[c.Done, str]:
    await accounts.write(lambda users: rules.without(users, order.user, accounts.site))
    accounts.end_sessions(order.user)
    return c.Done(), order.user


def no_factor(users: Mapping[str, User], name: str) -> Mapping[str, User]:
    """The list with this user's second factor gone. Raises CommandRefused."""
    return {**users, name: msgspec.structs.replace(find(users, name), totp="", recovery=[])}


COMMANDS: dict[type, tuple[str, Callable[[Office, Any], Awaitable[tuple[Any, str]]]]] = {
    c.CreateUser: ("users.create", create),
    c.ResetPassword: ("users.reset_password", reset_password),
    c.ResetTotp: ("users.reset_totp", reset_totp),
    c.SetUserRole: ("users.set_role", set_role),
    c.DisableUser: ("users.disable", disable),
    c.RemoveUser: ("users.remove", remove),
}
"""What carries out each command: its method, and a function that answers with the result and the audit's subject."""
