"""Each figure from a small hand-written truth and a few rows; and each broken by what it is there to find."""

from __future__ import annotations

from typing import Any

import pytest

from paifang import figures
from paifang.figures import (
    CalibrationRow,
    EndRow,
    EntitlementRow,
    GrantRow,
    Inputs,
    LaneZones,
    NoteRow,
    OrderRow,
    PassageRow,
    Rows,
    ScanRow,
    TicketRow,
    ZoneRow,
)
from sim import truth

LANES = {
    "n1": LaneZones(from_zone="outside", to_zone="park", serial=True),
    "g1": LaneZones(from_zone="outside", to_zone="park", serial=False),
    "m1": LaneZones(from_zone="park", to_zone="museum", serial=False),
}


def inputs(*events: truth.TruthEvent, **tables: Any) -> Inputs:
    return Inputs(events=events, rows=Rows(**tables), lanes=LANES)


def scan(t: float, lane: str, nonce: str, cause: str = "normal", ticket: int | None = 1) -> truth.Scan:
    return truth.Scan(t=t, wall=t, lane=lane, device=f"{lane}-d", nonce=nonce, cause=cause, ticket=ticket)


def answer(t: float, lane: str, nonce: str, result: str, **more: Any) -> truth.Answer:
    return truth.Answer(t=t, wall=t, lane=lane, device=f"{lane}-d", nonce=nonce, result=result, **more)


def move(t: float, lane: str, state: str, direction: str = "entry") -> truth.Barrier:
    return truth.Barrier(t=t, wall=t, lane=lane, device=f"{lane}-d", state=state, direction=direction)


def sensor(t: float, lane: str, direction: str = "entry", kind: str = "granted", **more: Any) -> truth.Sensor:
    return truth.Sensor(t=t, wall=t, lane=lane, device=f"{lane}-d", direction=direction, kind=kind, **more)


def phase(t: float, name: str) -> truth.Phase:
    return truth.Phase(t=t, wall=t + 1000, name=name)


def grant(number: int, seq: int, zone: str = "park", pax: int = 1, **more: Any) -> GrantRow:
    values = {
        "lane": "g1",
        "device": "g1-d",
        "nonce": f"n{number}",
        "ticket": 1,
        "entitlement": 1,
        "limit": None,
        **more,
    }
    return GrantRow(grant=number, seq=seq, to_zone=zone, pax=pax, **values)


def passage(number: int, seq: int, lane: str = "g1", direction: str = "entry", **more: Any) -> PassageRow:
    inward = direction == "entry"
    ends = (LANES[lane].from_zone, LANES[lane].to_zone)
    values = {"device": f"{lane}-d", "boot": "b", "kind": "granted", "grant": None, **more}
    return PassageRow(
        direction=direction,
        number=number,
        seq=seq,
        lane=lane,
        from_zone=ends[not inward],
        to_zone=ends[inward],
        **values,
    )


# --- counting -----------------------------------------------------------------------------------------------------


def test_sold_counts_tickets_in_the_database() -> None:
    rows = [TicketRow(ticket=number, order=1, pax=1, product="adult") for number in range(3)]
    assert figures.sold(inputs(tickets=rows)) == 3


def test_admitted_counts_people_who_came_in_on_a_grant() -> None:
    rows = [
        passage(1, 1, grant=5),
        passage(2, 2, grant=5, kind="late"),
        passage(3, 3, kind="tailgate"),
        passage(4, 4, direction="exit", kind="exit"),
    ]
    assert figures.admitted(inputs(passages=rows)) == 2


def test_refused_takes_gates_from_the_truth_and_serial_lanes_from_the_table() -> None:
    given = inputs(
        answer(1, "g1", "a", "deny", code="already_used"),
        answer(2, "g1", "b", "grant", grant=1),
        scans=[
            ScanRow(lane="n1", nonce="c", code="bad_signature"),
            ScanRow(lane="n1", nonce="d", code="ok"),
            ScanRow(lane="g1", nonce="a", code="already_used"),
        ],
    )
    assert figures.refused(given) == {"already_used": 1, "bad_signature": 1}


def test_printed_counts_each_code_once() -> None:
    jobs = [truth.Print(t=n, wall=n, job=str(n), codes=codes) for n, codes in enumerate((["A"], ["B"], ["B"], []))]
    assert figures.printed(inputs(*jobs)) == 2


def test_faces_counts_what_came_of_a_comparison() -> None:
    given = inputs(
        scan(1, "g1", "a", "face_own"), answer(2, "g1", "a", "grant", grant=1),
        scan(3, "g1", "b", "face_other"), answer(4, "g1", "b", "deny", code="factor_mismatch"),
        scan(5, "g1", "c"), answer(6, "g1", "c", "deny", code="already_used"),
        scan(7, "g1", "d", "face_other"), answer(8, "g1", "d", "deny", code="unavailable"),
    )  # fmt: skip
    assert figures.faces(given) == {"accepted": 1, "refused": 1}
    assert figures.wrong_faces(given) == []


def test_a_card_that_opens_for_another_face_or_not_for_its_holder_is_found() -> None:
    given = inputs(
        scan(1, "g1", "a", "face_other"), answer(2, "g1", "a", "grant", grant=1),
        scan(3, "g1", "b", "face_own"), answer(4, "g1", "b", "deny", code="factor_mismatch"),
    )  # fmt: skip
    assert figures.wrong_faces(given) == [
        "face_other at g1 was answered grant",
        "face_own at g1 was answered deny factor_mismatch",
    ]


# --- one code at many lanes ---------------------------------------------------------------------------------------


SAME = (
    scan(1.0, "n1", "a", "same_code"),
    scan(1.0, "g1", "b", "same_code"),
    move(1.1, "g1", "opening"),
    scan(1.2, "n1", "c", "same_code"),
    move(1.3, "m1", "opening"),
    move(1.4, "n1", "opening", "exit"),
    phase(2.0, "same_code_done"),
    move(3.0, "n1", "opening"),
)


def test_same_code_counts_scans_lanes_and_openings_while_nobody_else_was_there() -> None:
    assert figures.same_code(inputs(*SAME)) == {"scans": 3, "lanes": 2, "opened": 1}


def test_a_second_opening_to_the_same_code_is_found() -> None:
    assert figures.same_code(inputs(*SAME, move(1.5, "n1", "opening")))["opened"] == 2


def test_without_scans_nothing_opened() -> None:
    assert figures.same_code(inputs(move(1.0, "n1", "opening"))) == {"scans": 0, "lanes": 0, "opened": 0}


# --- double passages ----------------------------------------------------------------------------------------------


RIGHT = [EntitlementRow(entitlement=1, ticket=1, zone="park", sold=1)]


def test_one_person_on_one_right_is_no_double_passage() -> None:
    given = inputs(
        sensor(1, "g1", ticket=1),
        sensor(2, "m1", ticket=1),  # another zone, another right
        entitlements=[*RIGHT, EntitlementRow(entitlement=2, ticket=1, zone="museum", sold=1)],
        grants=[grant(5, 1)],
        passages=[passage(1, 2, grant=5)],
    )
    assert figures.double_passages(given) == 0


def test_a_double_passage_is_found_in_the_books() -> None:
    given = inputs(
        entitlements=RIGHT, grants=[grant(5, 1), grant(6, 2)], passages=[passage(1, 3, grant=5), passage(2, 4, grant=6)]
    )
    assert figures.double_passages(given) == 1


def test_a_double_passage_is_found_in_the_truth_although_the_books_know_one() -> None:
    given = inputs(
        sensor(1, "g1", ticket=1),
        sensor(2, "n1", ticket=1),
        entitlements=RIGHT,
        grants=[grant(5, 1)],
        passages=[passage(1, 2, grant=5)],
    )
    assert figures.double_passages(given) == 1


def test_an_annual_card_passes_as_often_as_it_likes() -> None:
    unlimited = [EntitlementRow(entitlement=1, ticket=1, zone="park", sold=None)]
    assert (
        figures.double_passages(inputs(sensor(1, "g1", ticket=1), sensor(2, "g1", ticket=1), entitlements=unlimited))
        == 0
    )


# --- the limit ----------------------------------------------------------------------------------------------------


MUSEUM = [ZoneRow(zone="museum", inside=2, limit=2)]


def test_filled_to_the_limit_exactly_exceeds_nothing() -> None:
    given = inputs(
        zones=MUSEUM,
        grants=[grant(5, 1, "museum"), grant(6, 2, "museum")],
        passages=[passage(1, 3, "m1", grant=5), passage(2, 4, "m1", grant=6)],
        ends=[EndRow(grant=5, seq=5, passed=1), EndRow(grant=6, seq=6, passed=1)],
    )
    assert figures.limit_exceeded(given) == 0


def test_a_grant_that_counts_on_a_place_held_by_another_is_found() -> None:
    grants = [grant(5, 1, "museum"), grant(6, 2, "museum"), grant(7, 3, "museum")]
    assert figures.limit_exceeded(inputs(zones=MUSEUM, grants=grants)) == 1


def test_a_place_is_free_again_after_an_end_and_after_an_exit() -> None:
    given = inputs(
        zones=MUSEUM,
        grants=[
            grant(5, 1, "museum", 2), grant(6, 4, "museum"), grant(7, 8, "museum", 2),
        ],
        passages=[
            passage(1, 2, "m1", grant=5),
            passage(1, 5, "m1", "exit", kind="exit"),
            passage(2, 6, "m1", "exit", kind="exit"),
        ],
        ends=[EndRow(grant=5, seq=3, passed=1), EndRow(grant=6, seq=7, passed=0)],
    )  # fmt: skip
    assert figures.limit_exceeded(given) == 0


def test_people_inside_count_against_the_limit_whatever_brought_them_in() -> None:
    given = inputs(
        zones=MUSEUM,
        passages=[passage(1, 1, "m1", kind="tailgate"), passage(2, 2, "m1", kind="free")],
        grants=[grant(5, 3, "museum")],
    )
    assert figures.limit_exceeded(given) == 1
    corrected = inputs(
        zones=MUSEUM,
        passages=given.rows.passages,
        grants=given.rows.grants,
        calibrations=[CalibrationRow(zone="museum", delta=-1, seq=2)],
    )
    assert figures.limit_exceeded(corrected) == 0


# --- occupancy ----------------------------------------------------------------------------------------------------


PEOPLE = (
    sensor(1, "g1"),
    sensor(2, "n1"),
    sensor(3, "n1", "entry", "tailgate"),
    sensor(4, "m1"),
    sensor(5, "g1", "exit"),
)


def zones(park: int, museum: int) -> list[ZoneRow]:
    return [
        ZoneRow(zone="outside", inside=-park - museum, limit=None),
        ZoneRow(zone="park", inside=park, limit=None),
        ZoneRow(zone="museum", inside=museum, limit=2),
    ]


def test_zones_that_hold_whom_the_sensors_saw_are_right() -> None:
    assert figures.occupancy_error(inputs(*PEOPLE, zones=zones(1, 1))) == 0


@pytest.mark.parametrize(("park", "museum", "error"), [(2, 1, 1), (1, 0, 1), (0, 2, 2), (4, 1, 3)])
def test_a_zone_that_holds_others_is_found(park: int, museum: int, error: int) -> None:
    assert figures.occupancy_error(inputs(*PEOPLE, zones=zones(park, museum))) == error


# --- times --------------------------------------------------------------------------------------------------------


def test_scan_to_open_is_measured_from_the_scan_that_was_granted() -> None:
    given = inputs(
        scan(1.0, "g1", "a"), answer(1.05, "g1", "a", "deny", code="x"),
        scan(2.0, "g1", "b"), answer(2.015, "g1", "b", "grant", grant=1), move(2.020, "g1", "opening"),
        scan(3.0, "n1", "c"), move(3.040, "n1", "opening"), answer(3.3, "n1", "c", "grant"),
        move(4.0, "g1", "opening", "exit"),
        scan(5.0, "g1", "d", "face_own"), answer(5.5, "g1", "d", "grant", grant=2), move(5.5, "g1", "opening"),
    )  # fmt: skip
    assert figures.scan_to_open_ms(given) == {"p50": 20.0, "p99": 40.0}


def test_percentiles_are_by_nearest_rank() -> None:
    assert figures.percentile([], 0.5) is None
    assert figures.percentile([3.0], 0.99) == 3.0
    assert figures.percentile([float(number) for number in range(1, 101)], 0.99) == 99.0
    assert figures.percentile([float(number) for number in range(1, 101)], 0.50) == 50.0


# --- evacuation ---------------------------------------------------------------------------------------------------


def notes(*lanes: str) -> list[NoteRow]:
    return [
        NoteRow(incident=1, at=1010.4 + index / 10, kind="acknowledged", lane=lane) for index, lane in enumerate(lanes)
    ]


RELEASED = (phase(10, "evacuation"), *(move(10.3, lane, "released", "") for lane in LANES), phase(12, "restore"))


def test_an_evacuation_that_every_lane_acknowledged() -> None:
    assert figures.evacuation(inputs(*RELEASED, notes=notes("n1", "g1", "m1"))) == {
        "lanes": 3, "acknowledged": 3, "sensed_open": 3, "last_ack_ms": 600.0,
    }  # fmt: skip


def test_a_lane_that_did_not_acknowledge_is_missing() -> None:
    found = figures.evacuation(inputs(*RELEASED, notes=notes("n1", "g1")))
    assert (found["acknowledged"], found["last_ack_ms"]) == (2, None)


def test_a_lane_that_its_own_sensor_did_not_see_open_is_missing() -> None:
    events = [event for event in RELEASED if getattr(event, "lane", "") != "m1"]
    late = move(12.5, "m1", "released", "")
    assert figures.evacuation(inputs(*events, late, notes=notes("n1", "g1", "m1")))["sensed_open"] == 2


# --- kills --------------------------------------------------------------------------------------------------------


def acked(t: float, seq: int, of: str = "pass", number: int | None = None) -> truth.Acked:
    return truth.Acked(t=t, wall=t, lane="g1", device="g1-d", of=of, boot="b", seq=seq, grant=number)


def test_in_flight_counts_what_was_begun_and_not_finished_at_the_kill() -> None:
    given = inputs(
        scan(1.0, "g1", "done"), answer(1.1, "g1", "done", "deny", code="x"),
        scan(1.2, "g1", "unanswered"),
        scan(1.3, "n1", "inside"), answer(1.4, "n1", "inside", "grant"),
        scan(1.3, "n1", "through"), answer(1.4, "n1", "through", "grant"),
        truth.End(t=1.6, wall=1.6, lane="n1", device="n1-d", nonce="through", passed=1),
        sensor(1.5, "g1", boot="b", seq=3), acked(1.6, 3),
        sensor(1.7, "g1", boot="b", seq=4),
        truth.Sell(t=1.8, wall=1.8, key="k1"), truth.Sell(t=1.8, wall=1.8, key="k2"),
        truth.Sold(t=1.9, wall=1.9, key="k1", order=1, tickets=[1]),
        phase(2.0, "kill"),
        answer(2.5, "g1", "unanswered", "none"), acked(2.6, 4),
    )  # fmt: skip
    assert figures.kills(given) == 1
    assert figures.in_flight_at_kill(given) == 4


def test_without_a_kill_nothing_was_in_flight() -> None:
    given = inputs(scan(1.0, "g1", "a"))
    assert (figures.kills(given), figures.in_flight_at_kill(given)) == (0, 0)


# --- lost and doubled ---------------------------------------------------------------------------------------------


SOLD = truth.Sold(t=1, wall=1, key="k", order=9, tickets=[1, 2])
TICKETS = [TicketRow(ticket=number, order=9, pax=1, product="adult") for number in (1, 2)]
TOLD = (
    SOLD,
    answer(2, "g1", "n5", "grant", grant=5),
    sensor(3, "g1", boot="b", seq=3, grant=5),
    acked(4, 3),
    acked(4, 4, "passend", 5),
    sensor(5, "n1", seq=1),
)
BOOKED: dict[str, Any] = {
    "orders": [OrderRow(order=9, key="window/k")],
    "tickets": TICKETS,
    "grants": [grant(5, 1)],
    "passages": [passage(3, 2, grant=5), passage(1, 3, "n1", kind="unattended")],
    "ends": [EndRow(grant=5, seq=4, passed=1)],
}


def test_what_was_acknowledged_and_is_booked_once_is_neither_lost_nor_doubled() -> None:
    given = inputs(*TOLD, **BOOKED)
    assert figures.acknowledged_lost(given) == []
    assert figures.acknowledged_doubled(given) == []


@pytest.mark.parametrize(
    ("table", "rows", "lost"),
    [
        ("tickets", TICKETS[:1], "ticket 2 of order 9"),
        ("grants", [], "grant 5 at g1"),
        ("passages", [passage(1, 3, "n1", kind="unattended")], "passage g1-d b 3"),
        ("passages", [passage(3, 2, grant=5)], "person entry 1 counted by the board of n1"),
        ("ends", [], "end of grant 5 at g1"),
    ],
)
def test_what_was_acknowledged_and_is_missing_is_found(table: str, rows: list[Any], lost: str) -> None:
    assert figures.acknowledged_lost(inputs(*TOLD, **{**BOOKED, table: rows})) == [lost]


@pytest.mark.parametrize(
    ("table", "more", "doubled"),
    [
        ("orders", OrderRow(order=10, key="window/k"), "order window/k"),
        ("tickets", TicketRow(ticket=3, order=9, pax=1, product="adult"), "order 9 holds 3 tickets, 2 were sold"),
        ("grants", grant(6, 9, nonce="n5"), "scan n5 at g1-d"),
        ("passages", passage(1, 9, "n1", boot="c"), "1 people entry at n1 more than the sensors saw"),
        ("passages", passage(9, 9, "g1", "exit", kind="exit"), "1 people exit at g1 more than the sensors saw"),
    ],
)
def test_what_stands_twice_or_never_happened_is_found(table: str, more: Any, doubled: str) -> None:
    given = inputs(*TOLD, **{**BOOKED, table: [*BOOKED[table], more]})
    assert figures.acknowledged_doubled(given) == [doubled]
