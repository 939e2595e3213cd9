"""What moves the zones' counts beside passages: corrections, stops, and the close of the business day.

Every correction is a pair, the zone against `outside`, so that people are conserved (domain model, section 11).
"""

from __future__ import annotations

from storage._books import CLOCK, OUTSIDE, Books
from storage.interfaces import Calibrate, LedgerRefused, StopZone, ZoneCount

NIGHT_CLOSE = "night_close"


def calibrate(books: Books, op: Calibrate) -> ZoneCount:
    """Correct a zone's count. Raises LedgerRefused."""
    zone = books.zone(op.zone)
    if op.zone == OUTSIDE:
        raise LedgerRefused("outside is the other half of every calibration, it has none of its own")
    if not op.reason or not op.user:
        raise LedgerRefused("a calibration needs a reason and a user")
    if not (op.key and op.key in books.calibrated):
        books.correct(op.zone, op.delta, op.staff, op.reason, op.user, op.key or None)
    return zone.count()


def stop(books: Books, op: StopZone) -> ZoneCount:
    """People's order, which ends by itself at `until`. Raises LedgerRefused."""
    zone = books.zone(op.zone)
    if op.zone == OUTSIDE:
        raise LedgerRefused("outside cannot be stopped")
    if not op.reason or not op.user:
        raise LedgerRefused("a stop needs a reason and a user")
    zone.order(op.what, op.until)
    zone.settle(books.now)
    books.rows.add("insert_zone_stops", books.new_id(), op.zone, op.what, op.until, op.user, op.reason, books.now)
    return zone.count()


def close_day(books: Books, day: str) -> None:
    """Write off who is inside on paper when `day` is over; it is written down, never forgotten."""
    residual = 0
    for name, zone in sorted(books.zones.items()):
        if name != OUTSIDE:
            residual += zone.inside
            books.correct(name, -zone.inside, -zone.staff, NIGHT_CLOSE, CLOCK, f"{NIGHT_CLOSE}:{day}:{name}")
    books.rows.add("insert_day_closes", day, residual, books.now)
