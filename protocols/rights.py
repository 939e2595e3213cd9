"""What a product grants, as data: zones, uses, times, re-entry, who may hold it, and what the gate must check.

The operator writes these in the site file; a sold ticket keeps the version that it was sold under (domain model,
section 2, Product and Entitlement).  The same values decide on the server and in a lane controller.  Times of day are
`HH:MM` on the site's clock, `24:00` is the end of the day; dates are `YYYY-MM-DD` of the business day.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from protocols.errors import WireError

STAFF_CLASSES = frozenset({"staff", "contractor"})
"""Product classes whose holders are staff: counted apart, and let in when visitors are not."""
UNLIMITED = 0  # of uses, days, re-entries
STAFF_CLASSES = frozenset({"staff", "contractor"})
"""Product classes whose holders are staff: counted apart, and let in when visitors are not."""


class RulesError(WireError):
    """Stored rules cannot be read."""


class _Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One table of a product. An unknown key is an error, because it is usually a misspelt one."""


class Window(_Rule, frozen=True, kw_only=True):
    """When a right may be used: dates and weekdays (1 is Monday; none named: every day) and hours of the day.

    `closes` before `opens` runs over midnight.
    """

    first: str = ""
    last: str = ""  # inclusive
    weekdays: list[int] = []
    opens: str = "00:00"
    closes: str = "24:00"


class Reentry(_Rule, frozen=True, kw_only=True):
    """Coming back in after the first entry without using anything up; counted apart from first entries."""

    per_day: int = UNLIMITED
    within_minutes: int = 0  # of the last exit that was seen, or of the first entry when none was; 0: all day
    after_exit: bool = False  # only for somebody who was seen to leave (anti-passback)
    min_gap_s: float = 0.0


class ZoneRight(_Rule, frozen=True, kw_only=True):
    """The right to enter some zones. `uses` counts in each zone by itself, or over all of them when `shared`.

    `minutes_after_first_use` and `days_after_first_use` end the right early, counted from its first use (`days`: at
    the end of that many business days).
    """

    zones: list[str]
    uses: int = 1
    uses_per_day: int = UNLIMITED
    shared: bool = False
    windows: list[Window] = []
    minutes_after_first_use: int = 0
    days_after_first_use: int = 0
    reentry: Reentry | None = None
    min_gap_s: float = 0.0
    exit_ends_gap: bool = False  # a seen exit lets the next person use the card at once


class SlotTimes(_Rule, frozen=True, kw_only=True):
    """A time slot that is sold, and how many places a day it has."""

    opens: str
    closes: str
    places: int


class ProductRules(_Rule, frozen=True, kw_only=True):
    """Everything that a gate or a window must know of a product beyond its name, class, price and number of people.

    `binds`: the first use binds the ticket to a person by this factor, later ones compare (capture first, compare
    later).  `needs_face`: the template is taken at the sale.  `requires`: one of these products must have been used
    today by the same order or holder ("small ticket needs main ticket").  `lane_classes`: the classes of lanes that
    this product may use besides plain ones.  `below_group_min`: what a refund does that leaves fewer than `group_min`
    people.  `code_and_paper`: the group's code still works beside paper tickets that were handed out.
    """

    rights: list[ZoneRight]
    days: int = 1
    needs_face: bool = False
    binds: Literal["none", "face", "id"] = "none"
    id_policy: Literal["none", "one_per_order", "one_per_person"] = "none"
    requires: list[str] = []
    lane_classes: list[str] = []
    slots: list[SlotTimes] = []
    slot_early_minutes: int = 0
    slot_late_minutes: int = 0
    grant_ttl_s: float = 0.0  # 0: the lane's own
    refund: Literal["open", "until_first_use", "none"] = "open"
    group_min: int = 0
    below_group_min: Literal["keep", "deny"] = "keep"
    code_and_paper: bool = True
    offline: Literal["accept", "accept_limited", "refuse"] = "accept"
    sale_first: str = ""
    sale_last: str = ""


def encode(rules: ProductRules) -> str:
    """The rules as JSON, the form in which they are stored."""
    return msgspec.json.encode(rules).decode()


def decode(text: str | bytes) -> ProductRules:
    """Rules from JSON. Raises RulesError."""
    try:
        return msgspec.json.decode(text, type=ProductRules)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise RulesError(f"these are no rules of a product: {exc}") from exc


def zones_of(rules: ProductRules) -> list[str]:
    """Every zone that the product opens, in the order of its rights, each once."""
    return list(dict.fromkeys(zone for right in rules.rights for zone in right.zones))
