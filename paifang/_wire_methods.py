"""Which actor answers which method of the console channel, and how long a page waits for it.

What a method takes and who may call it stands in `protocols.console_methods`; a method that is not there has no route.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from admin_ws.channel import Route
from core import Address, MailboxFull
from protocols.console_methods import METHODS
from storage.interfaces import AuditEntry

LOOK_S, COMMAND_S, LEDGER_S, LONG_S, EXPORT_S = 3.0, 5.0, 6.0, 20.0, 40.0

# method -> (the actor's name in `Answerers`, how long a page waits for the answer, s)
_TABLE: dict[str, tuple[str, float]] = {
    "session.logout": ("accounts", COMMAND_S),
    "session.set_password": ("accounts", LEDGER_S),
    "session.totp_begin": ("accounts", LEDGER_S),
    "session.totp_confirm": ("accounts", LEDGER_S),
    "session.totp_remove": ("accounts", LEDGER_S),
    "users.list": ("accounts", LOOK_S),
    "users.roles": ("accounts", LOOK_S),
    "users.sessions": ("accounts", LOOK_S),
    "users.create": ("accounts", LEDGER_S),
    "users.reset_password": ("accounts", LEDGER_S),
    "users.reset_totp": ("accounts", LEDGER_S),
    "users.set_role": ("accounts", LEDGER_S),
    "users.disable": ("accounts", LEDGER_S),
    "users.remove": ("accounts", LEDGER_S),
    "users.revoke": ("accounts", LEDGER_S),
    "cases.list": ("cases", LEDGER_S),
    "cases.acknowledge": ("cases", 12.0),
    "cases.assign": ("cases", 12.0),
    "cases.note": ("cases", 12.0),
    "cases.close": ("cases", 12.0),
    "find.history": ("cases", 12.0),
    "evacuation.trigger": ("evacuation", 2.0),
    "evacuation.restore": ("evacuation", LOOK_S),
    "lane.rearm": ("evacuation", LOOK_S),
    "evacuation.count": ("evacuation", LOOK_S),
    "lane.set_mode": ("modes", LOOK_S),
    "lane.open": ("desk", LOOK_S),
    "lane.pause": ("desk", LOOK_S),
    "site.inspect": ("desk", LOOK_S),
    "zone.stop": ("modes", COMMAND_S),
    "mode.list": ("modes", LOOK_S),
    "mode.start": ("modes", COMMAND_S),
    "mode.end": ("modes", COMMAND_S),
    "zone.calibrate": ("zones", COMMAND_S),
    "site.explain": ("explainer", COMMAND_S),
    "phone.scan": ("phones", 9.0),
    "phone.upload": ("phones", 10.0),
    "phone.count": ("phones", 9.0),
    "phone.stubs": ("phones", LEDGER_S),
    "phone.list": ("phones", LEDGER_S),
    "site.figures": ("phones", LEDGER_S),
    "site.reload": ("reloader", 30.0),
    "trace.path": ("reports", LOOK_S),
    "flow.report": ("reports", 12.0),
    "sales.products": ("sales", LOOK_S),
    "sales.sell": ("sales", LONG_S),
    "sales.print_jobs": ("sales", LEDGER_S),
    "sales.paid": ("office", LEDGER_S),
    "sales.cancel": ("office", LEDGER_S),
    "ticket.wallet": ("wallets", 12.0),
    "office.find": ("office", LEDGER_S),
    "office.hold": ("office", LEDGER_S),
    "office.refund": ("office", LEDGER_S),
    "office.decide_refund": ("office", LEDGER_S),
    "office.pay_refund": ("office", LEDGER_S),
    "office.collect": ("office", 12.0),
    "office.name_people": ("office", 12.0),
    "office.transfer": ("office", LEDGER_S),
    "office.replace_card": ("office", LEDGER_S),
    "office.mark_card": ("office", LEDGER_S),
    "office.reverse": ("office", LEDGER_S),
    "codes.create": ("office", LONG_S),
    "codes.status": ("office", LEDGER_S),
    "codes.move": ("office", LONG_S),
    "codes.export": ("office", EXPORT_S),
    "codes.page": ("office", LEDGER_S),
}

BY_CHANNEL = ("session.login", "session.resume", "site.subscribe")  # answered by the channel itself


def routes(answerers: Mapping[str, Address]) -> list[Route]:
    """A route for each method whose actor is there. Raises KeyError for a method that the table of methods lacks."""
    found = []
    for name, (who, timeout_s) in _TABLE.items():
        method = METHODS[name]
        if who not in answerers:
            continue
        found.append(
            Route(
                method=name,
                params=method.params or msgspec.Struct,
                address=answerers[who],
                permission=method.permission,
                timeout_s=timeout_s,
                system=method.system,
                audit=method.audit == "channel",
            )
        )
    return found


# What of a command's params the audit log names. Nothing that opens a gate, and nothing that a person is known by.
SUBJECT_FIELDS = ("lane", "zone", "scope", "drill", "mode", "case", "order", "key", "channel", "batch", "first",
                  "place", "people", "to")  # fmt: skip
SUBJECT_CHARACTERS_MAX = 200


def recorder(ledger: Address) -> Callable[[str, str, str, Any, str], None]:
    """What the channel calls for each command that it writes down itself; see `admin_ws.channel.Record`."""

    def record(user: str, role: str, method: str, params: Any, refused: str) -> None:
        given = ((name, getattr(params, name, "")) for name in SUBJECT_FIELDS)
        words = [f"{name}={value}" for name, value in given if value not in ("", None)]
        if refused:
            words.append(f"refused: {refused}")
        entry = AuditEntry(
            user=user,
            role=role,
            action=method,
            subject=_plain(" ".join(words)),
            reason=_plain(str(getattr(params, "reason", ""))),
            at=time.time(),
        )
        try:
            ledger.tell(entry)
        except MailboxFull:  # counted by the mailbox; a ledger that is behind must not stop a command
            return

    return record


def _plain(text: str) -> str:
    """Short, and without signs that no table holds: an evacuation's reason has no bounds of its own."""
    return "".join(letter for letter in text[:SUBJECT_CHARACTERS_MAX] if letter.isprintable())
