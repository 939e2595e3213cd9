"""What must hold within a product of the site file, and between products, zones and lanes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from paifang._site_shape import Problem, nearest, quoted, shown
from paifang.site import Product
from protocols.rights import SlotTimes, Window, ZoneRight

PRICE_MAX_CENTS = 100_000_000
GROUP_MAX = 500  # people on one ticket
DAYS_MAX = 3_660
RIGHTS_MAX = 16  # of one product
WINDOWS_MAX = 32  # of one right
SLOTS_MAX = 96  # of one product
USES_MAX = 100_000
MINUTES_MAX = 1_440
GRANT_TTL_MAX_S = 60.0
GAP_MAX_S = 366 * 86_400.0

_TIME = re.compile(r"(?:(?:[01]\d|2[0-3]):[0-5]\d|24:00)\Z")


def product_problems(
    key: str, product: Product, zone_ids: Sequence[str], products: Iterable[str], lane_classes: Iterable[str]
) -> Iterator[Problem]:
    """Everything that makes the product impossible to sell or to use."""
    if product.rights:
        if product.zones or product.uses != 1 or product.min_gap_s:
            yield Problem(
                f"{key}.rights", "beside zones, uses or min_gap_s, which say one right in short", "one of both"
            )
        if len(product.rights) > RIGHTS_MAX:
            yield Problem(f"{key}.rights", f"{len(product.rights)} rights", f"at most {RIGHTS_MAX}")
        for place, right in enumerate(product.rights):
            yield from _right(f"{key}.rights[{place}]", right, zone_ids)
    else:
        yield from _zones(f"{key}.zones", product.zones, zone_ids)
    if product.class_ == "free" and product.price_cents:
        yield Problem(f"{key}.price_cents", f"{product.price_cents} for a free ticket", "0, or another class")
    for name, value, most in (
        ("price_cents", product.price_cents, PRICE_MAX_CENTS),
        ("pax", product.pax, GROUP_MAX),
        ("days", product.days, DAYS_MAX),
        ("uses", product.uses, USES_MAX),
        ("min_gap_s", product.min_gap_s, GAP_MAX_S),
        ("grant_ttl_s", product.grant_ttl_s, GRANT_TTL_MAX_S),
        ("slot_early_minutes", product.slot_early_minutes, MINUTES_MAX),
        ("slot_late_minutes", product.slot_late_minutes, MINUTES_MAX),
        ("group_min", product.group_min, product.pax),
    ):
        if value > most:
            yield Problem(f"{key}.{name}", f"{value} is too many", f"at most {most}")
    if product.needs_face and product.pax > 1:
        yield Problem(f"{key}.pax", f"{product.pax} people on a ticket that is checked by one face", "1")
    if product.binds != "none" and product.pax > 1:
        yield Problem(f"{key}.pax", f"{product.pax} people on a ticket that is bound to one person", "1")
    known = list(dict.fromkeys(products))
    for place, name in enumerate(product.requires):
        if name == product.id or name not in known:
            others = [other for other in known if other != product.id]
            yield Problem(
                f"{key}.requires[{place}]",
                f'"{name}" is not another product',
                quoted(others),
                suggestion=nearest(name, others),
            )
    classes = list(lane_classes)
    for place, name in enumerate(product.lane_classes):
        if name not in classes:
            yield Problem(
                f"{key}.lane_classes[{place}]",
                f'no lane has the class "{name}"',
                quoted(classes),
                suggestion=nearest(name, classes),
            )
    yield from _slots(key, product.slots)
    for name in ("effective_from", "sale_first", "sale_last"):
        yield from _date(f"{key}.{name}", getattr(product, name))
    if product.sale_first and product.sale_last and product.sale_last < product.sale_first:
        yield Problem(f"{key}.sale_last", "the sale ends before it begins", f"{product.sale_first} or later")


def _zones(key: str, zones: Sequence[str], zone_ids: Sequence[str]) -> Iterator[Problem]:
    if not zones:
        yield Problem(key, "opens no zone", quoted(zone_ids))
    for place, zone in enumerate(zones):
        if zone not in zone_ids:
            yield Problem(
                f"{key}[{place}]", f'unknown zone "{zone}"', quoted(zone_ids), suggestion=nearest(zone, zone_ids)
            )
        elif zone in zones[:place]:
            yield Problem(f"{key}[{place}]", f'"{zone}" is named twice', "each zone once")


def _right(key: str, right: ZoneRight, zone_ids: Sequence[str]) -> Iterator[Problem]:
    yield from _zones(f"{key}.zones", right.zones, zone_ids)
    reentry = right.reentry
    numbers: list[tuple[str, float, float]] = [
        ("uses", right.uses, USES_MAX),
        ("uses_per_day", right.uses_per_day, USES_MAX),
        ("minutes_after_first_use", right.minutes_after_first_use, DAYS_MAX * MINUTES_MAX),
        ("days_after_first_use", right.days_after_first_use, DAYS_MAX),
        ("min_gap_s", right.min_gap_s, GAP_MAX_S),
    ]
    if reentry is not None:
        numbers += [
            ("reentry.per_day", reentry.per_day, USES_MAX),
            ("reentry.within_minutes", reentry.within_minutes, MINUTES_MAX),
            ("reentry.min_gap_s", reentry.min_gap_s, GAP_MAX_S),
        ]
    for name, value, most in numbers:
        if not 0 <= value <= most:
            yield Problem(f"{key}.{name}", f"{value:g} is out of range", f"0 to {most:g}")
    if len(right.windows) > WINDOWS_MAX:
        yield Problem(f"{key}.windows", f"{len(right.windows)} windows", f"at most {WINDOWS_MAX}")
    for place, window in enumerate(right.windows):
        yield from _window(f"{key}.windows[{place}]", window)


def _window(key: str, window: Window) -> Iterator[Problem]:
    yield from _date(f"{key}.first", window.first)
    yield from _date(f"{key}.last", window.last)
    if window.first and window.last and window.last < window.first:
        yield Problem(f"{key}.last", "ends before it begins", f"{window.first} or later")
    for place, weekday in enumerate(window.weekdays):
        if not 1 <= weekday <= 7:
            yield Problem(f"{key}.weekdays[{place}]", f"{weekday} is not a day of the week", "1 (Monday) to 7 (Sunday)")
    yield from _hours(key, window.opens, window.closes)


def _slots(key: str, slots: Sequence[SlotTimes]) -> Iterator[Problem]:
    if len(slots) > SLOTS_MAX:
        yield Problem(f"{key}.slots", f"{len(slots)} slots", f"at most {SLOTS_MAX}")
    seen: set[str] = set()
    for place, slot in enumerate(slots):
        yield from _hours(f"{key}.slots[{place}]", slot.opens, slot.closes)
        if slot.places < 1:
            yield Problem(f"{key}.slots[{place}].places", f"{slot.places} places", "1 or more")
        if slot.opens in seen:
            yield Problem(f"{key}.slots[{place}].opens", f"a slot begins at {slot.opens} already", "a time of its own")
        seen.add(slot.opens)


def _hours(key: str, opens: str, closes: str) -> Iterator[Problem]:
    for name, value in (("opens", opens), ("closes", closes)):
        if not _TIME.match(value):
            yield Problem(f"{key}.{name}", f"{shown(value)} is not a time of day", '"HH:MM", up to "24:00"')
    if opens == closes or opens == "24:00":
        yield Problem(f"{key}.opens", f"{opens} to {closes} is no time at all", "another time")


def _date(key: str, value: str) -> Iterator[Problem]:
    if not value:
        return
    try:
        sound = date.fromisoformat(value).isoformat() == value
    except ValueError:
        sound = False
    if not sound:
        yield Problem(key, f"{shown(value)} is not a date", '"YYYY-MM-DD"')
