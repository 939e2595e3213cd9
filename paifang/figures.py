"""The figures of `paifang demo`, computed from what the devices saw and what the database holds. Pure.

Nothing here asks the server.  `Rows` are the tables as they are, `sim.truth` the devices' file; each figure is one
function of them, so that each has a test which breaks it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from sim import truth
from sim.truth import TruthEvent

ENTRY, EXIT = "entry", "exit"
GRANTED_KINDS = frozenset({"granted", "late"})
OUTSIDE = "outside"
FACE_REFUSED = "factor_mismatch"


# --- the tables, as far as figures need them ----------------------------------------------------------------------


class ZoneRow(msgspec.Struct, frozen=True, kw_only=True):
    zone: str
    inside: int
    limit: int | None


class TicketRow(msgspec.Struct, frozen=True, kw_only=True):
    ticket: int
    order: int
    pax: int
    product: str


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    order: int
    key: str


class EntitlementRow(msgspec.Struct, frozen=True, kw_only=True):
    """`sold` None is unlimited."""

    entitlement: int
    ticket: int
    zone: str
    sold: int | None


class GrantRow(msgspec.Struct, frozen=True, kw_only=True):
    grant: int
    seq: int
    lane: str
    device: str
    nonce: str
    ticket: int
    entitlement: int
    to_zone: str
    pax: int
    limit: int | None  # of the zone, when this was granted


class EndRow(msgspec.Struct, frozen=True, kw_only=True):
    grant: int
    seq: int
    passed: int


class PassageRow(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    boot: str
    direction: str
    number: int  # the `seq` of the device's own statement
    seq: int
    lane: str
    kind: str
    grant: int | None
    from_zone: str
    to_zone: str


class CalibrationRow(msgspec.Struct, frozen=True, kw_only=True):
    zone: str
    delta: int
    seq: int


class ScanRow(msgspec.Struct, frozen=True, kw_only=True):
    lane: str
    nonce: str
    code: str


class NoteRow(msgspec.Struct, frozen=True, kw_only=True):
    """A line of an evacuation's record. `at` is seconds since the epoch."""

    incident: int
    at: float
    kind: str
    lane: str


class PrintJobRow(msgspec.Struct, frozen=True, kw_only=True):
    job: int
    ticket: int
    state: str


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """One site's tables."""

    zones: Sequence[ZoneRow] = ()
    orders: Sequence[OrderRow] = ()
    tickets: Sequence[TicketRow] = ()
    entitlements: Sequence[EntitlementRow] = ()
    grants: Sequence[GrantRow] = ()
    ends: Sequence[EndRow] = ()
    passages: Sequence[PassageRow] = ()
    calibrations: Sequence[CalibrationRow] = ()
    scans: Sequence[ScanRow] = ()
    notes: Sequence[NoteRow] = ()
    print_jobs: Sequence[PrintJobRow] = ()


class LaneZones(msgspec.Struct, frozen=True, kw_only=True):
    """Where a lane leads, and how it is wired, from the site file."""

    from_zone: str
    to_zone: str
    serial: bool


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that figures are computed from."""

    events: Sequence[TruthEvent]
    rows: Rows
    lanes: Mapping[str, LaneZones]

    def of(self, kind: type[Any]) -> Iterable[Any]:
        return (event for event in self.events if isinstance(event, kind))


# --- figures ------------------------------------------------------------------------------------------------------


def sold(inputs: Inputs) -> int:
    """Tickets in the database."""
    return len(inputs.rows.tickets)


def admitted(inputs: Inputs) -> int:
    """People who came in on a grant, as booked."""
    return sum(row.direction == ENTRY and row.kind in GRANTED_KINDS for row in inputs.rows.passages)


def refused(inputs: Inputs) -> dict[str, int]:
    """Refusals by code: at smart gates as the devices were told, at serial lanes as the scans table says."""
    linked = Counter(answer.code for answer in inputs.of(truth.Answer) if answer.result == "deny")
    serial = Counter(
        row.code
        for row in inputs.rows.scans
        if row.code != "ok" and row.lane in inputs.lanes and inputs.lanes[row.lane].serial
    )
    return dict(sorted((linked + serial).items()))


def same_code(inputs: Inputs) -> dict[str, int]:
    """One code at many lanes: scans sent, lanes they were sent at, and barriers that opened to them.

    The simulation keeps everybody else away from these lanes until `same_code_done`, so that every opening for entry
    there is one of this code.
    """
    scans = [scan for scan in inputs.of(truth.Scan) if scan.cause == "same_code"]
    lanes = {scan.lane for scan in scans}
    begin = min((scan.t for scan in scans), default=0.0)
    end = max((phase.t for phase in inputs.of(truth.Phase) if phase.name == "same_code_done"), default=float("inf"))
    opened = sum(
        move.state == "opening" and move.direction == ENTRY and move.lane in lanes and begin <= move.t <= end
        for move in inputs.of(truth.Barrier)
    )
    return {"scans": len(scans), "lanes": len(lanes), "opened": opened if scans else 0}


def double_passages(inputs: Inputs) -> int:
    """People more than a right was sold for: by the books, or by what the sensors saw, whichever is worse."""
    of_grant = {row.grant: row.entitlement for row in inputs.rows.grants}
    booked = Counter(
        of_grant[row.grant] for row in inputs.rows.passages if row.grant in of_grant and row.kind in GRANTED_KINDS
    )
    by_books = sum(
        max(booked[right.entitlement] - right.sold, 0) for right in inputs.rows.entitlements if right.sold is not None
    )
    limits = {(right.ticket, right.zone): right.sold for right in inputs.rows.entitlements if right.sold is not None}
    seen = Counter(
        (event.ticket, inputs.lanes[event.lane].to_zone)
        for event in inputs.of(truth.Sensor)
        if event.direction == ENTRY
        and event.kind == "granted"
        and event.ticket is not None
        and event.lane in inputs.lanes
    )
    by_sensors = sum(max(count - limits[key], 0) for key, count in seen.items() if key in limits)
    return max(by_books, by_sensors)


def limit_exceeded(inputs: Inputs) -> int:
    """Grants committed while occupancy + open holds + pax > limit, playing the books again in their order."""
    limits = {row.zone: row.limit for row in inputs.rows.zones}
    inside: Counter[str] = Counter()
    holds: dict[int, int] = {}
    zone_of = {row.grant: row.to_zone for row in inputs.rows.grants}
    books: list[GrantRow | EndRow | PassageRow | CalibrationRow] = [
        *inputs.rows.grants,
        *inputs.rows.ends,
        *inputs.rows.passages,
        *inputs.rows.calibrations,
    ]
    exceeded = 0
    for row in sorted(books, key=lambda row: row.seq):
        if isinstance(row, GrantRow):
            limit = row.limit if row.limit is not None else limits.get(row.to_zone)
            held = sum(pax for grant, pax in holds.items() if zone_of[grant] == row.to_zone)
            exceeded += limit is not None and inside[row.to_zone] + held + row.pax > limit
            holds[row.grant] = row.pax
        elif isinstance(row, EndRow):
            holds.pop(row.grant, None)
        elif isinstance(row, CalibrationRow):
            inside[row.zone] += row.delta
        else:
            inside[row.from_zone] -= 1
            inside[row.to_zone] += 1
            if row.grant in holds and row.kind == "granted":
                holds[row.grant] -= 1
    return exceeded


def occupancy_error(inputs: Inputs) -> int:
    """People by whom the zones' counts differ from what the sensors saw, summed over all zones but outside."""
    inside: Counter[str] = Counter()
    for event in inputs.of(truth.Sensor):
        lane = inputs.lanes.get(event.lane)
        if lane is None:
            continue
        inward = 1 if event.direction == ENTRY else -1
        inside[lane.to_zone] += inward
        inside[lane.from_zone] -= inward
    for row in inputs.rows.calibrations:
        inside[row.zone] += row.delta
    return sum(abs(row.inside - inside[row.zone]) for row in inputs.rows.zones if row.zone != OUTSIDE)


def scan_to_open_ms(inputs: Inputs) -> dict[str, float | None]:
    """From a credential's presentation to the moment the barrier begins to move, for scans that opened one.

    The simulated barrier then needs 300 ms to stand open.  Faces and the hammering of one code are left out: the first
    take a comparison, the second measure something else.
    """
    causes = {scan.nonce: scan for scan in inputs.of(truth.Scan)}
    waiting: dict[str, truth.Scan] = {}
    delays = []
    granted = {answer.nonce for answer in inputs.of(truth.Answer) if answer.result == "grant"}
    for event in inputs.events:
        if isinstance(event, truth.Scan) and event.nonce in granted and _measured(causes[event.nonce]):
            waiting[event.lane] = event
        elif isinstance(event, truth.Barrier) and event.state == "opening" and event.direction == ENTRY:
            scan = waiting.pop(event.lane, None)
            if scan is not None:
                delays.append((event.t - scan.t) * 1000)
    return {"p50": percentile(delays, 0.50), "p99": percentile(delays, 0.99)}


def _measured(scan: truth.Scan) -> bool:
    return not scan.cause.startswith("face") and scan.cause != "same_code"


def printed(inputs: Inputs) -> int:
    """Tickets that came out of the printer with a code, each code once."""
    return len({code for event in inputs.of(truth.Print) for code in event.codes})


def faces(inputs: Inputs) -> dict[str, int]:
    """Scans of a card with a photograph: opened, and refused because the face is another one.

    A gate that was told `unavailable` (the comparison took too long) has compared nothing, and counts as neither.
    """
    nonces = {scan.nonce for scan in inputs.of(truth.Scan) if scan.cause in ("face_own", "face_other")}
    answers = [answer for answer in inputs.of(truth.Answer) if answer.nonce in nonces]
    return {
        "accepted": sum(answer.result == "grant" for answer in answers),
        "refused": sum(answer.code == FACE_REFUSED for answer in answers),
    }


def wrong_faces(inputs: Inputs) -> list[str]:
    """Cards that were answered wrongly: opened for another face, or refused to their holder."""
    causes = {scan.nonce: scan.cause for scan in inputs.of(truth.Scan)}
    return [
        f"{causes[answer.nonce]} at {answer.lane} was answered {answer.result} {answer.code}".rstrip()
        for answer in inputs.of(truth.Answer)
        if (causes.get(answer.nonce), answer.result) == ("face_other", "grant")
        or (causes.get(answer.nonce), answer.code) == ("face_own", FACE_REFUSED)
    ]


def evacuation(inputs: Inputs) -> dict[str, int | float | None]:
    """Lanes of the site; lanes whose acknowledgement is on record; lanes that their own sensors saw open; and how
    long after the button the last acknowledgement came."""
    begin = next((phase for phase in inputs.of(truth.Phase) if phase.name == "evacuation"), None)
    lanes = len(inputs.lanes)
    if begin is None:
        return {"lanes": lanes, "acknowledged": 0, "sensed_open": 0, "last_ack_ms": None}
    end = min((phase.t for phase in inputs.of(truth.Phase) if phase.name == "restore"), default=float("inf"))
    first: dict[str, float] = {}
    for row in sorted(inputs.rows.notes, key=lambda row: row.at):
        if row.kind == "acknowledged" and row.lane in inputs.lanes and row.at >= begin.wall:
            first.setdefault(row.lane, row.at)
    opened = {move.lane for move in inputs.of(truth.Barrier) if move.state == "released" and begin.t <= move.t <= end}
    last = max(first.values(), default=None) if len(first) == lanes else None
    return {
        "lanes": lanes,
        "acknowledged": len(first),
        "sensed_open": len(opened & set(inputs.lanes)),
        "last_ack_ms": None if last is None else round((last - begin.wall) * 1000, 1),
    }


def kills(inputs: Inputs) -> int:
    return sum(phase.name == "kill" for phase in inputs.of(truth.Phase))


def in_flight_at_kill(inputs: Inputs) -> int:
    """What was under way when the server was killed: scans without an answer, visitors let in and not yet through,
    statements of gates without an acknowledgement, sales without an answer."""
    killed = [phase.t for phase in inputs.of(truth.Phase) if phase.name == "kill"]
    if not killed:
        return 0
    begun: dict[str, int] = {}
    total = 0
    for event in sorted(inputs.events, key=lambda event: event.t):
        if isinstance(event, truth.Phase) and event.name == "kill":
            total += sum(count > 0 for count in begun.values())
            continue
        begun |= dict(_flight(event, inputs.lanes))
    return total


def _flight(event: TruthEvent, lanes: Mapping[str, LaneZones]) -> list[tuple[str, int]]:
    """What an event begins (1) or ends (0)."""
    match event:
        case truth.Scan():
            return [(f"scan {event.nonce}", 1)]
        case truth.Answer() if event.result != "grant":
            return [(f"scan {event.nonce}", 0)]
        case truth.End():
            return [(f"scan {event.nonce}", 0)]
        case truth.Sensor() if event.lane in lanes and not lanes[event.lane].serial:
            return [(f"pass {event.device} {event.boot} {event.seq}", 1)]
        case truth.Acked(of="pass"):
            return [(f"pass {event.device} {event.boot} {event.seq}", 0)]
        case truth.Sell():
            return [(f"sale {event.key}", 1)]
        case truth.Sold():
            return [(f"sale {event.key}", 0)]
        case _:
            return []


def acknowledged_lost(inputs: Inputs) -> list[str]:
    """What somebody outside was told is done, or a board has counted, and the database does not hold."""
    rows = inputs.rows
    tickets = {row.ticket for row in rows.tickets}
    grants = {row.grant for row in rows.grants}
    ended = {row.grant for row in rows.ends}
    passages = {(row.device, row.boot, row.direction, row.number) for row in rows.passages}
    statements = {(device, boot, number) for device, boot, _, number in passages}
    lost = [
        f"ticket {ticket} of order {event.order}"
        for event in inputs.of(truth.Sold)
        for ticket in event.tickets
        if ticket not in tickets
    ]
    lost += [
        f"grant {event.grant} at {event.lane}"
        for event in inputs.of(truth.Answer)
        if event.grant is not None and event.grant not in grants
    ]
    for event in inputs.of(truth.Acked):
        if event.of == "pass" and (event.device, event.boot, event.seq) not in statements:
            lost.append(f"passage {event.device} {event.boot} {event.seq}")
        elif event.of == "passend" and event.grant is not None and event.grant not in ended:
            lost.append(f"end of grant {event.grant} at {event.lane}")
    counted = {(row.lane, row.direction, row.number) for row in rows.passages}
    lost += [
        f"person {event.direction} {event.seq} counted by the board of {event.lane}"
        for event in inputs.of(truth.Sensor)
        if event.lane in inputs.lanes and inputs.lanes[event.lane].serial
        if (event.lane, event.direction, event.seq) not in counted
    ]
    return lost


def acknowledged_doubled(inputs: Inputs) -> list[str]:
    """What happened once and stands in the database twice, or never happened and stands there."""
    rows = inputs.rows
    doubled = [f"order {key}" for key, count in Counter(row.key for row in rows.orders).items() if count > 1]
    issued = Counter(row.order for row in rows.tickets)
    doubled += [
        f"order {event.order} holds {issued[event.order]} tickets, {len(event.tickets)} were sold"
        for event in inputs.of(truth.Sold)
        if issued[event.order] > len(event.tickets)
    ]
    doubled += [
        f"scan {nonce} at {device}"
        for (device, nonce), count in Counter((row.device, row.nonce) for row in rows.grants).items()
        if count > 1
    ]
    seen = Counter((event.lane, event.direction) for event in inputs.of(truth.Sensor))
    booked = Counter((row.lane, row.direction) for row in rows.passages)
    doubled += [
        f"{booked[place] - seen[place]} people {place[1]} at {place[0]} more than the sensors saw"
        for place in sorted(booked)
        if booked[place] > seen[place]
    ]
    return doubled


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile, rounded to a tenth; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    rank = max(-(-len(ordered) * int(share * 100) // 100), 1)
    return round(ordered[rank - 1], 1)
