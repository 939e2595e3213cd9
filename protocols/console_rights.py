"""Who may what: permissions and the roles that hold them (`docs/console-api.md` shows the matrix that this makes).

Anybody on duty may trigger an evacuation; only some may end one.  A system manager touches no money documents, nobody
who touches money commands a gate except the duty manager, an auditor reads and changes nothing.  Devices are no users:
they speak the device link, each for its own lane.
"""

from __future__ import annotations

import msgspec

VIEW = "view"
EVACUATE = "evacuate"
RESTORE = "restore"
LANE_MODE = "lane_mode"
LANE_OPEN = "lane_open"
ZONE_STOP = "zone_stop"
CALIBRATE = "calibrate"
SELL = "sell"
INSPECT = "inspect"
CONFIGURE = "configure"  # devices and the site file
USERS = "users"  # create, disable, give roles
CASES = "cases"  # acknowledge, assign, note, close
FIND = "find"  # the history of a ticket, an order, a card
OFFICE = "office"  # look at orders and tickets
GROUPS = "groups"  # collect, name, move places
HOLD = "hold"  # hold and resume a ticket
REFUND = "refund"  # ask for a refund, pay it out
REFUND_APPROVE = "refund_approve"
CARDS = "cards"  # replace, lose, find
REVERSE = "reverse"  # undo an admission
CODES = "codes"  # draw, receive, void pre-printed codes
CODES_EXPORT = "codes_export"  # take them out; never whoever drew them
PAYMENTS = "payments"  # a payment provider's word
OWN = ""  # one's own session: being logged in is enough


class Role(msgspec.Struct, frozen=True):
    """A role's names, and what it may."""

    name_zh: str
    name_en: str
    permissions: frozenset[str]


_ON_DUTY = frozenset({VIEW, EVACUATE})

ROLE_TABLE: dict[str, Role] = {
    "system_manager": Role("系统管理员", "System manager", _ON_DUTY | {INSPECT, CONFIGURE, USERS}),
    "finance": Role("财务", "Finance", _ON_DUTY | {OFFICE, FIND, REFUND_APPROVE, CODES_EXPORT, PAYMENTS}),
    "marketing": Role("市场部", "Marketing", _ON_DUTY | {OFFICE, GROUPS, CODES}),
    "cashier": Role("售票员", "Cashier", _ON_DUTY | {SELL, OFFICE, GROUPS, REFUND, CARDS}),
    "gate_staff": Role("检票员", "Gate staff", _ON_DUTY | {LANE_OPEN, CASES}),
    "supervisor": Role(
        "入口主管", "Entrance supervisor", _ON_DUTY | {LANE_MODE, LANE_OPEN, OFFICE, HOLD, REVERSE, CASES, FIND}
    ),
    "operator": Role(
        "监控员", "Control-room operator",
        _ON_DUTY | {LANE_MODE, LANE_OPEN, ZONE_STOP, CALIBRATE, INSPECT, CASES, FIND},
    ),
    "security": Role("安保", "Security", _ON_DUTY | {RESTORE, LANE_OPEN, CASES}),
    "duty_manager": Role(
        "值班经理", "Duty manager",
        _ON_DUTY | {RESTORE, LANE_MODE, LANE_OPEN, ZONE_STOP, CALIBRATE, SELL, INSPECT, OFFICE, GROUPS, HOLD, REFUND,
                    REFUND_APPROVE, CARDS, REVERSE, CODES, CODES_EXPORT, PAYMENTS, CASES, FIND},
    ),
    "auditor": Role("审计员", "Auditor", _ON_DUTY | {INSPECT, OFFICE, FIND}),
}  # fmt: skip

ROLES: dict[str, frozenset[str]] = {name: role.permissions for name, role in ROLE_TABLE.items()}
"""Role -> permissions."""

MUST_CHANGE = frozenset({EVACUATE})
"""What a session holds until a one-time password is replaced."""


def allows(role: str, permission: str) -> bool:
    """May this role do what needs this permission? A role that nobody knows may nothing but see to its own session."""
    return permission == OWN or permission in ROLES.get(role, frozenset())
