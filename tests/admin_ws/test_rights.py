"""Who may what: every method with every role, from the table that defines it, against the channel itself."""

from __future__ import annotations

import collections
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from actors.accounts import User
from actors.errors import CommandRefused
from admin_ws.client import ConsoleClient, ConsoleRefused
from admin_ws.hub import HUB_MAILBOX_CAPACITY, Hub
from admin_ws.server import Console
from core import Address, Child, Stop, Supervisor
from core.testing import patient_time, running
from paifang._wire_methods import BY_CHANNEL, routes
from protocols import console as c
from protocols.console_accounts import CheckSession
from protocols.console_methods import METHODS
from protocols.console_rights import (
    CODES_EXPORT,
    EVACUATE,
    LANE_MODE,
    MUST_CHANGE,
    OWN,
    PAYMENTS,
    REFUND,
    RESTORE,
    ROLE_TABLE,
    ROLES,
    SELL,
    USERS,
    VIEW,
    ZONE_STOP,
    allows,
)
from protocols.jsonrpc import Wire

patient = pytest.fixture(autouse=True)(patient_time)

BAD_PARAMS = -32602


class Everybody(dict[str, Address]):
    """One address for whoever a method belongs to."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = address

    def __contains__(self, _name: object) -> bool:
        return True

    def __getitem__(self, _name: str) -> Address:
        return self._address


@asynccontextmanager
async def site():
    """The real channel and the real routes; behind them one actor that notes what reaches it."""
    reached: collections.Counter[str] = collections.Counter()
    names = ("hub", "accounts", "do", "web")
    hub, accounts, doer, web = (Address(name, capacity=HUB_MAILBOX_CAPACITY) for name in names)

    async def log_in(me: Address) -> None:
        while not isinstance((envelope := await me.receive()).msg, Stop):
            message = envelope.msg
            user = message.user if isinstance(message, c.Login) else message.token
            permissions = MUST_CHANGE if user == "must_change" else ROLES.get(user)
            if permissions is None or isinstance(message, CheckSession):
                envelope.fail(CommandRefused("session_over", "Log in again"))
                continue
            envelope.reply(c.Session(token=user, user=user, role=user, permissions=sorted(permissions), session=user))

    async def do(me: Address) -> None:
        while not isinstance((envelope := await me.receive()).msg, Stop):
            reached[type(envelope.msg).__name__] += 1
            envelope.fail(CommandRefused("reached", "It came through"))

    actor = Hub(site="s", site_name="s")
    console = Console(
        host="127.0.0.1", port=0, hub=hub, accounts=accounts, routes=routes(Everybody(doer)), site_id="s",
        site_name="s", view_permission=VIEW,
    )  # fmt: skip
    children = [Child(hub, actor.run), Child(accounts, log_in), Child(doer, do), Child(web, console.run)]
    async with running(Supervisor("site", children)):
        with trio.fail_after(10):
            while not console.port:
                await trio.sleep(0.01)
        yield console, reached


def sample(kind: type[msgspec.Struct] | None) -> dict[str, object]:
    """Params of the right shape for any method."""
    if kind is None:
        return {}
    values: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT:
            values[field.encode_name] = _value(msgspec.inspect.type_info(field.type))
    return values


def _value(kind: msgspec.inspect.Type) -> object:
    if isinstance(kind, msgspec.inspect.UnionType):
        return None if kind.includes_none else _value(kind.types[0])
    if isinstance(kind, msgspec.inspect.ListType):
        return [_value(kind.item_type)] * (kind.min_length or 0)
    if isinstance(kind, msgspec.inspect.StructType):
        return sample(kind.cls)
    if isinstance(kind, msgspec.inspect.BoolType):
        return False
    if isinstance(kind, msgspec.inspect.LiteralType):
        return kind.values[0]
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        return 1
    return "a" * (getattr(kind, "min_length", None) or 1)


async def outcome(client: ConsoleClient, method: str) -> str:
    """The code that a call is refused with; "" for an answer."""
    try:
        await client.call(method, sample(METHODS[method].params), msgspec.Raw, 10.0)
    except ConsoleRefused as refused:
        assert refused.rpc_code != BAD_PARAMS, f"{method}: the sample has the wrong shape: {refused}"
        return refused.code
    return ""


@pytest.mark.parametrize("role", [*ROLE_TABLE, "must_change"])
async def test_every_method_with_this_role_does_what_the_table_says(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from admin_ws import _peer

    monkeypatch.setattr(_peer, "REQUEST_BURST", 10_000)
    monkeypatch.setattr(_peer, "STRIKES", 10_000)
    held = MUST_CHANGE if role == "must_change" else ROLES[role]
    async with site() as (console, reached):
        url = f"ws://127.0.0.1:{console.port}/channel"
        async with ConsoleClient.connect(url, wire=Wire.JSON) as client:
            session = await client.login(role, "x")
            expected = {m.name for m in METHODS.values() if m.name not in ("session.login", "session.resume")
                        and (m.permission == OWN or m.permission in held)}  # fmt: skip
            assert set(session.methods) == expected
            for method in METHODS.values():
                if method.name in ("session.login", "session.resume"):
                    continue
                before = reached.total()
                code = await outcome(client, method.name)
                if method.name not in expected:
                    assert code == "forbidden" and reached.total() == before, method.name
                elif method.name in BY_CHANNEL:
                    assert code == "", method.name
                else:
                    assert code == ("" if method.system else "reached"), method.name
                    with trio.fail_after(10):
                        while reached.total() == before:
                            await trio.sleep(0.005)


async def test_without_a_log_in_no_method_does_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    from admin_ws import _peer

    monkeypatch.setattr(_peer, "REQUEST_BURST", 10_000)
    monkeypatch.setattr(_peer, "STRIKES", 10_000)
    async with site() as (console, reached):
        async with ConsoleClient.connect(f"ws://127.0.0.1:{console.port}/channel", wire=Wire.JSON) as client:
            for name in METHODS:
                if name not in ("session.login", "session.resume"):
                    assert await outcome(client, name) == "not_logged_in", name
            for token in ("stolen", "", "x" * 512):
                with pytest.raises(ConsoleRefused) as refused:
                    await client.resume(token)
                assert refused.value.code == "session_over"
        assert reached.total() == 0


def test_every_method_has_a_route_and_every_route_a_row() -> None:
    named = {route.method for route in routes(Everybody(Address("x")))}
    assert named | set(BY_CHANNEL) == set(METHODS)


def test_what_a_method_takes_is_stamped_where_it_changes_something() -> None:
    """Whoever changes something is named by the session, or the audit log could not say who it was."""
    for method in METHODS.values():
        if method.audit == "actor" and method.name != "session.login":
            assert method.params is not None and "by" in method.params.__struct_fields__, method.name


def test_the_rules_of_the_roles() -> None:
    def who(permission: str) -> set[str]:
        return {role for role in ROLE_TABLE if allows(role, permission)}

    assert who(EVACUATE) == set(ROLE_TABLE), "anybody on duty"
    assert who(RESTORE) == {"security", "duty_manager"}
    assert who(USERS) == {"system_manager"}
    money = {SELL, REFUND, PAYMENTS, CODES_EXPORT}
    assert not money & ROLES["system_manager"] and not money & ROLES["supervisor"]
    assert not {LANE_MODE, ZONE_STOP} & ROLES["finance"]
    assert SELL not in ROLES["gate_staff"]
    changing = {method.permission for method in METHODS.values() if method.audit} - {OWN, EVACUATE}
    assert not changing & ROLES["auditor"], "an auditor reads"
    assert not allows("wizard", VIEW) and allows("wizard", OWN)


def test_a_users_role_is_that_of_the_site() -> None:
    user = User(name="ann", role="operator", password_hash="", sites={"south": "cashier", "east": ""})
    assert [user.role_at(site) for site in ("north", "south", "east")] == ["operator", "cashier", ""]
