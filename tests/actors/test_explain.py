"""Why a ticket is refused or admitted, in words: what was looked at, what would help, in two languages."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import msgspec
import pytest

from actors.admission.explain import CURES, NAMES, explain, plain_step, unreadable
from actors.admission.refusals import REFUSALS
from actors.admission.rules import CHECKS, CREDENTIAL_STATES, TICKET_STATES
from storage.interfaces import RightFacts, ScanFacts, ZoneFacts
from storage.testing import right_facts

SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY_S = 86_400.0
MIDNIGHT = 1_795_276_800.0  # 2026-11-22 00:00 in Shanghai
NOON = MIDNIGHT + DAY_S / 2

BASE = {"ticket": 4711, "product": "adult", "valid_from": MIDNIGHT, "valid_to": MIDNIGHT + DAY_S}
RIGHT = right_facts(**BASE)
PARK = ZoneFacts(zone="park", inside=97, held=2, limit=100)
SCAN = ScanFacts(lane="g1", to_zone="park", now=NOON, pax=None, max_pax=10, face_ok=False)


def right(**changes: object) -> RightFacts:
    return right_facts(**BASE | changes)


def told(*rights: RightFacts, zone: ZoneFacts = PARK, scan: ScanFacts = SCAN, before=()):
    return explain(list(rights), zone, scan, before=before, timezone=SHANGHAI)


def step_of(explained, check):
    (step,) = [step for step in explained.steps if step.check == check]
    return step


def test_an_admission_lists_every_step_in_the_order_of_the_decision() -> None:
    explained = told(RIGHT)
    assert (explained.admitted, explained.pax, explained.ticket, explained.product) == (True, 1, 4711, "adult")
    assert (explained.text_zh, explained.text_en) == ("请通行", "Please pass")
    assert [step.check for step in explained.steps] == ["known", *(name for name, _ in CHECKS), "capacity"]
    assert step_of(explained, "validity").text_en == "2026-11-22 00:00 until 2026-11-23 00:00"
    assert step_of(explained, "uses").text_en == "1 of 1 left"
    assert step_of(explained, "capacity").text_en == "park: 97 inside, 2 on their way in, limit 100"


@pytest.mark.parametrize(
    ("changes", "check", "code", "cure_zh", "cure_en"),
    [
        ({"valid_from": NOON + 7200}, "validity", "not_yet_valid", "2026-11-22 14:00 起", "from 2026-11-22 14:00"),
        (
            {"valid_from": NOON + 0.25},
            "validity",
            "not_yet_valid",
            "2026-11-22 12:00:01 起",
            "from 2026-11-22 12:00:01",
        ),
        ({"valid_from": NOON + 9, "valid_to": NOON + 9}, "validity", "not_yet_valid", *CURES["expired"]),
        ({"valid_to": NOON}, "validity", "expired", *CURES["expired"]),
        ({"zone": "museum"}, "zone", "wrong_zone", "走通往 museum 的通道", "at a lane into museum"),
        ({"redeemed": 1}, "uses", "already_used", *CURES["already_used"]),
        ({"held": 1}, "uses", "in_progress", *CURES["in_progress"]),
        ({"needs_face": True}, "factor", "needs_factor", *CURES["needs_factor"]),
        (
            {"sold": None, "min_gap_s": 600.0, "last_used_at": NOON - 60},
            "gap",
            "too_soon",
            "2026-11-22 12:09 起",
            "from 2026-11-22 12:09",
        ),
        ({"min_gap_s": DAY_S, "last_used_at": NOON - 60}, "gap", "too_soon", *CURES["expired"]),
        ({"credential_state": "superseded"}, "credential", "superseded_card", *CURES["superseded_card"]),
        ({"ticket_state": "unpaid"}, "ticket", "unpaid", *CURES["unpaid"]),
    ],
)
def test_a_refusal_says_what_would_help(changes, check, code, cure_zh, cure_en) -> None:
    explained = told(right(**changes))
    step = step_of(explained, check)
    assert (explained.admitted, explained.code, step.verdict, step.code) == (False, code, "refused", code)
    assert (step.cure_zh, step.cure_en) == (cure_zh, cure_en)
    assert explained.text_zh == REFUSALS[code].visitor_zh
    assert step.text_en.startswith(REFUSALS[code].staff_en)


def test_a_full_zone_says_how_many_must_leave() -> None:
    for inside, leave, cure in ((98, 1, "1 person has"), (100, 3, "3 people have")):
        step = step_of(told(RIGHT, zone=msgspec.structs.replace(PARK, inside=inside)), "capacity")
        assert (step.code, step.leave) == ("capacity_hold", leave)
        assert step.cure_en == f"when {cure} left or given up entering" and step.cure_zh == f"{leave} 人离开后"
    closed = step_of(told(RIGHT, zone=ZoneFacts(zone="park", inside=0, held=0, limit=0)), "capacity")
    assert (closed.leave, closed.cure_en) == (0, "when the limit is raised")


def test_a_miscount_below_zero_is_no_room_and_nobody_needs_to_leave_for_it() -> None:
    step = step_of(told(RIGHT, zone=ZoneFacts(zone="park", inside=-5, held=10, limit=10)), "capacity")
    assert (step.code, step.leave) == ("capacity_hold", 1)


def test_a_second_thing_that_is_wrong_is_shown_but_does_not_decide() -> None:
    explained = told(right(valid_from=NOON + 7200, redeemed=1), zone=msgspec.structs.replace(PARK, inside=100))
    verdicts = {step.check: step.verdict for step in explained.steps if step.code}
    assert verdicts == {"validity": "refused", "uses": "also_refused", "capacity": "also_refused"}
    assert explained.code == "not_yet_valid"


def test_a_zone_is_only_promised_if_the_ticket_passes_there() -> None:
    museum = right(entitlement=2, zone="museum", redeemed=1)
    step = step_of(told(museum), "zone")
    assert (step.passes_zones, step.cure_en) == ([], "a ticket for park")
    both = step_of(told(museum, right(entitlement=3, zone="tower")), "zone")
    assert (both.passes_zones, both.cure_en) == (["tower"], "at a lane into tower")


def test_the_right_that_is_shown_is_the_one_that_the_decision_is_about() -> None:
    used = right(ticket=1, redeemed=1, last_used_at=NOON - 60, last_used_lane="g7")
    explained = told(right(ticket=2, zone="museum"), used)
    assert (explained.ticket, explained.code) == (1, "already_used")
    assert "last 2026-11-22 11:59 at g7" in step_of(explained, "uses").text_en
    assert step_of(explained, "known").text_en == "1, adult; for museum, park"


def test_a_face_that_is_supposed_to_match_is_said_to_be_supposed() -> None:
    explained = told(right(needs_face=True), scan=msgspec.structs.replace(SCAN, face_ok=True))
    assert explained.admitted and step_of(explained, "factor").text_en == "needed, and supposed to match"


def test_what_nobody_sold_ends_there() -> None:
    explained = told()
    assert (explained.code, explained.ticket) == ("unknown_code", None)
    assert [step.check for step in explained.steps] == ["known"]


def test_a_lane_that_lets_nobody_in_decides_before_the_ticket_does() -> None:
    shut = plain_step("lane", ("现在", "now"), "lane_closed")
    fine = told(RIGHT, before=[shut])
    assert (fine.admitted, fine.code, fine.pax, fine.ticket) == (False, "lane_closed", 0, 4711)
    assert [step.verdict for step in fine.steps].count("refused") == 1
    used = told(right(redeemed=1), before=[shut])
    assert (used.code, step_of(used, "uses").verdict) == ("lane_closed", "also_refused")


def test_without_a_look_up_there_must_be_a_step_that_refuses() -> None:
    forged = unreadable([plain_step("signature", ("", "x"), "bad_signature")], SCAN)
    assert (forged.admitted, forged.code, forged.ticket, forged.zone) == (False, "bad_signature", None, "park")
    with pytest.raises(AssertionError):
        unreadable([plain_step("signature", ("好", "good"))], SCAN)


def test_every_refusal_with_a_fixed_cure_is_one_and_all_names_are_given() -> None:
    assert CURES.keys() == REFUSALS.keys()
    assert {*TICKET_STATES.values(), *CREDENTIAL_STATES.values()} <= CURES.keys()
    assert {name for name, _ in CHECKS} <= NAMES.keys()
