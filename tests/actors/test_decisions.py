"""The decision: read from `decisions.txt`, which needs no programmer, and as properties over any facts."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.admission import rules, uses
from actors.admission.explain import explain
from actors.admission.refusals import REFUSALS
from actors.admission.rules import decide
from protocols.clock import local_time
from protocols.messages import Direction
from protocols.rights import Reentry, Window
from storage.interfaces import Permit, PersonFacts, Refusal, RightFacts, ScanFacts, ZoneFacts
from storage.testing import right_facts

TABLE = Path(__file__).with_name("decisions.txt")
MIDNIGHT = 1_759_968_000.0  # Thursday 2025-10-09, 00:00 UTC, which is what the table's clock shows
DAY = date(2025, 10, 9)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

ALL_DAY = {"valid_from": MIDNIGHT, "valid_to": MIDNIGHT + 86_400}


class Case(msgspec.Struct):
    name: str
    rights: list[RightFacts]
    zone: ZoneFacts
    scan: ScanFacts
    verdict: str


def clock(text: str) -> float:
    hour, minute = text.split(":")
    return MIDNIGHT + int(hour) * 3600 + int(minute) * 60


RIGHT_WORDS = {
    r"sold (\d+)": lambda n: {"sold": int(n)},
    r"unlimited": lambda: {"sold": None},
    r"used (\d+)": lambda n: {"redeemed": int(n)},
    r"held (\d+)": lambda n: {"held": int(n)},
    r"refunded (\d+)": lambda n: {"refunded": int(n)},
    r"refund asked (\d+)": lambda n: {"reserved_refund": int(n)},
    r"(group|annual|staff|contractor|season|times|discount)": lambda word: {"product_class": word},
    r"product (\w+)": lambda word: {"product": word},
    r"pax (\d+)": lambda n: {"pax": int(n)},
    r"(\d+) a day": lambda n: {"uses_per_day": int(n)},
    r"used today (\d+)": lambda n: {"used_day": int(n)},
    r"on a list": lambda: {"person": PersonFacts()},
    r"person used (\d+)": lambda n: {"person": PersonFacts(redeemed=int(n))},
    r"person passing": lambda: {"person": PersonFacts(held=1)},
    r"kept for the list (\d+)": lambda n: {"promised": int(n)},
    r"open (\d\d:\d\d)-(\d\d:\d\d)": lambda opens, closes: {"window": {"opens": opens, "closes": closes}},
    r"only (Mon|Tue|Wed|Thu|Fri|Sat|Sun)": lambda day: {"window": {"weekdays": [DAYS.index(day) + 1]}},
    r"from day (\S+) to (\S+)": lambda first, last: {"window": {"first": first, "last": last}},
    r"(\d+) min from first use": lambda n: {"minutes_after_first_use": int(n)},
    r"(\d+) days from first use": lambda n: {"days_after_first_use": int(n)},
    r"first used (\d\d:\d\d)": lambda at: {"first_used_at": clock(at), "first_used_on": DAY},
    r"first used (\d+) days ago": lambda n: {
        "first_used_at": clock("10:00") - int(n) * 86_400, "first_used_on": DAY - timedelta(days=int(n)),
    },
    r"slot (\d\d:\d\d)-(\d\d:\d\d)": lambda a, b: {"slot_from": clock(a), "slot_to": clock(b)},
    r"early (\d+) min": lambda n: {"slot_early_minutes": int(n)},
    r"late (\d+) min": lambda n: {"slot_late_minutes": int(n)},
    r"class lane (\w+)": lambda name: {"lane_classes": [name]},
    r"needs (\w+)": lambda name: {"requires": [name]},
    r"today also (\w+)": lambda name: {"used_today": [name]},
    r"bound to a face": lambda: {"binds": "face"},
    r"bound to an ID": lambda: {"binds": "id"},
    r"ID of (\w+)": lambda name: {"holder_hash": name.encode()},
    r"face of the first use": lambda: {"face_bound": True},
    r"may come back": lambda: {"reentry": {}},
    r"may come back (\d+) a day": lambda n: {"reentry": {"per_day": int(n)}},
    r"within (\d+) min": lambda n: {"reentry": {"within_minutes": int(n)}},
    r"only after an exit": lambda: {"reentry": {"after_exit": True}},
    r"not sooner than (\d+) min": lambda n: {"reentry": {"min_gap_s": int(n) * 60.0}},
    r"came back (\d+)": lambda n: {"reentries_day": int(n)},
    r"coming back now (\d+)": lambda n: {"reentries_held": int(n)},
    r"out (\d+)": lambda n: {"out_day": int(n)},
    r"left (\d\d:\d\d)": lambda at: {"last_exit_at": clock(at)},
    r"an exit ends the gap": lambda: {"exit_ends_gap": True},
    r"shared (\w+) and (\w+)": lambda one, two: {"zones": [one, two], "shared": True},
    r"ticket (\w+)": lambda state: {"ticket_state": state},
    r"card (\w+)": lambda state: {"credential_state": state},
    r"for (\w+)": lambda zone: {"zone": zone},
    r"from (\d\d:\d\d)": lambda at: {"valid_from": clock(at)},
    r"until (\d+:\d\d)": lambda at: {"valid_to": clock(at)},
    r"face needed": lambda: {"needs_face": True},
    r"gap (\d+) min": lambda n: {"min_gap_s": int(n) * 60.0},
    r"last used (\d\d:\d\d) at (\w+)": lambda at, lane: {"last_used_at": clock(at), "last_used_lane": lane},
}
ZONE_WORDS = {
    r"limit (\d+)": lambda n: {"limit": int(n)},
    r"inside (-?\d+)": lambda n: {"inside": int(n)},
    r"held (\d+)": lambda n: {"held": int(n)},
    r"staff (\d+)": lambda n: {"staff": int(n)},
    r"stopped": lambda: {"stopped": True},
    r"nobody back": lambda: {"reentry_when_stopped": False},
    r"(-?\d+) more today": lambda n: {"left_today": int(n)},
}
SCAN_WORDS = {
    r"at (\d\d:\d\d)": lambda at: {"now": clock(at)},
    r"asks (\d+)": lambda n: {"pax": int(n)},
    r"lane takes (\d+)": lambda n: {"max_pax": int(n)},
    r"face matched": lambda: {"face_ok": True},
    r"into (\w+)": lambda zone: {"to_zone": zone},
    r"out of (\w+)": lambda zone: {"from_zone": zone, "to_zone": "outside", "direction": Direction.EXIT},
    r"class (\w+)": lambda name: {"lane_class": name},
    r"photo taken": lambda: {"face_taken": True},
    r"ID of (\w+)": lambda name: {"holder_hash": name.encode()},
    r"staff vouch": lambda: {"stamp": True},
    r"staff chose (\w+)": lambda name: {"product": name},
}


def read_words(text: str, table: dict) -> dict:
    """Every comma separated phrase must be one of the table's; a typing error is no silent case."""
    facts: dict = {}
    for phrase in filter(None, map(str.strip, text.split(","))):
        for pattern, meaning in table.items():
            if found := re.fullmatch(pattern, phrase):
                meant = meaning(*found.groups())
                for part in ("window", "reentry"):  # several phrases make one of them
                    if part in meant:
                        meant[part] = facts.get(part, {}) | meant[part]
                facts |= meant
                break
        else:
            raise ValueError(f"{phrase!r} is not a phrase of this table")
    return facts


def read_case(line: str) -> Case:
    name, held, zone, scan, verdict = (column.strip() for column in line.split("|"))
    rights = []
    if held != "nothing":
        for number, words in enumerate(held.split("+"), 1):
            facts = {"entitlement": number, "ticket": number} | read_words(words, RIGHT_WORDS)
            if "window" in facts:
                facts["windows"] = [Window(**facts.pop("window"))]
            if "reentry" in facts:
                facts["reentry"] = Reentry(**facts.pop("reentry"))
            if facts.get("product_class") == "group":
                facts.setdefault("pax", facts["sold"])
            elif facts.get("sold"):
                facts["uses"] = facts["sold"]  # of one person each
            rights.append(right_facts(**ALL_DAY | facts))
    scanned = {"lane": "g1", "to_zone": "park", "now": clock("12:00"), "pax": None, "max_pax": 50, "face_ok": False}
    scanned |= read_words(scan, SCAN_WORDS)
    scanned["local"] = local_time(scanned["now"])
    counts = {"zone": scanned["to_zone"], "inside": 0, "held": 0, "limit": None} | read_words(zone, ZONE_WORDS)
    return Case(name, rights, ZoneFacts(**counts), ScanFacts(**scanned), verdict)


CASES = [read_case(line) for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]


def in_words(verdict: Permit | Refusal, several: bool) -> str:
    """A verdict the way the table writes it."""
    if isinstance(verdict, Permit):
        by = f", by ticket {verdict.ticket}" if several else ""
        how = {"entry": "pass", "reentry": "back", "exit": "out"}[verdict.kind]
        if verdict.kind == "exit":
            return f"out {verdict.pax}{by}"
        return f"{how} {verdict.pax}, {verdict.remaining} left{by}"
    told = [verdict.lane_of_use] if verdict.lane_of_use else []
    told += [of_day(verdict.used_at)] if verdict.used_at is not None else []
    told += [f"from {of_day(verdict.valid_from)}"] if verdict.valid_from is not None else []
    told += [f"from {of_day(verdict.passes_at)}"] if verdict.passes_at is not None else []
    told += [f"from {verdict.opens}"] if verdict.opens else []
    told += [f"try {' '.join(verdict.zones)}"] if verdict.zones else []
    told += [f"{verdict.tomorrow} tomorrow"] if verdict.tomorrow else []
    return f"{verdict.code} ({', '.join(told)})" if told else verdict.code


def of_day(at: float) -> str:
    seconds = at - MIDNIGHT
    return f"{int(seconds // 3600):02}:{int(seconds % 3600 // 60):02}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_decides_as_the_table_says(case: Case) -> None:
    assert in_words(decide(case.rights, case.zone, case.scan), len(case.rights) > 1) == case.verdict


def test_the_table_shows_every_refusal_that_the_decision_can_give() -> None:
    source = Path(rules.__file__).read_text() + Path(uses.__file__).read_text()
    possible = set(re.findall(r'code="(\w+)"', source)) | set(re.findall(r'_of_use\(right, "(\w+)"', source))
    pairs = re.findall(r'"(\w+)" if .* else "(\w+)"', source)
    possible |= {code for pair in pairs for code in pair} & REFUSALS.keys()
    possible |= set(rules.TICKET_STATES.values()) | set(rules.CREDENTIAL_STATES.values())
    shown = {case.verdict.split(" ")[0] for case in CASES} - {"pass", "back", "out"}
    assert shown == possible
    assert possible <= REFUSALS.keys()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_explains_as_the_table_says(case: Case) -> None:
    if case.scan.direction is Direction.EXIT:
        return  # nobody asks why they may leave
    explained = explain(case.rights, case.zone, case.scan)
    assert explained.code == ("ok" if case.verdict.startswith(("pass", "back")) else case.verdict.split(" ")[0])
    for step in explained.steps:
        assert step.text_zh and step.text_en
        assert (step.verdict == "ok") == (step.code == "") == (step.cure_en == "") == (step.cure_zh == "")


def test_a_typing_error_in_the_table_is_no_silent_case() -> None:
    with pytest.raises(ValueError, match="soled 1"):
        read_case("x | soled 1 | | | pass 1, 0 left")


# --- properties ---------------------------------------------------------------------------------------------------

people = st.integers(0, 30)
moments = st.integers(-2, 26).map(lambda hour: MIDNIGHT + hour * 3600.0)


@st.composite
def any_rights(draw: st.DrawFn) -> list[RightFacts]:
    rights = []
    for number in range(1, draw(st.integers(0, 3)) + 1):
        facts = {
            "entitlement": number,
            "ticket": number,
            "sold": draw(st.none() | people),
            "redeemed": draw(people),
            "held": draw(people),
            "refunded": draw(people),
            "reserved_refund": draw(people),
            "product_class": draw(st.sampled_from(["full", "group", "annual"])),
            "ticket_state": draw(st.sampled_from(["active", "active", "active", "void", "on_hold", "?"])),
            "credential_state": draw(st.sampled_from(["active", "active", "active", "lost", "?"])),
            "zone": draw(st.sampled_from(["park", "park", "museum"])),
            "valid_from": draw(moments),
            "valid_to": draw(moments),
            "needs_face": draw(st.booleans()),
            "min_gap_s": draw(st.sampled_from([0.0, 600.0])),
            "last_used_at": draw(st.none() | moments),
        }
        rights.append(right_facts(**facts))
    return rights


zones = st.builds(ZoneFacts, zone=st.just("park"), inside=st.integers(-5, 40), held=people, limit=st.none() | people)
scans = st.builds(
    ScanFacts,
    lane=st.just("g1"),
    to_zone=st.just("park"),
    now=moments,
    pax=st.none() | st.integers(1, 40),
    max_pax=st.integers(1, 40),
    face_ok=st.booleans(),
)


@given(any_rights(), zones, scans)
@example([right_facts(**ALL_DAY)], ZoneFacts(zone="park", inside=0, held=0, limit=None), ScanFacts(
    lane="g1", to_zone="park", now=MIDNIGHT, pax=None, max_pax=1, face_ok=False))  # fmt: skip
def test_never_permits_more_than_places_room_and_lane_allow(rights, zone, scan) -> None:
    verdict = decide(rights, zone, scan)
    if isinstance(verdict, Refusal):
        assert verdict.code in REFUSALS
        return
    (right,) = [right for right in rights if right.entitlement == verdict.entitlement]
    assert 1 <= verdict.pax <= scan.max_pax
    assert scan.pax is None or verdict.pax <= scan.pax
    if right.sold is None:
        assert verdict.pax == 1 and right.held == 0
    else:
        taken = right.redeemed + right.held + right.refunded + right.reserved_refund
        assert taken + verdict.pax + verdict.remaining == right.sold
        assert verdict.remaining >= 0
    if zone.limit is not None:
        assert max(zone.inside, 0) + zone.held + verdict.pax <= zone.limit
    assert (right.credential_state, right.ticket_state, right.zone) == ("active", "active", "park")
    assert right.valid_from <= scan.now < right.valid_to
    assert scan.face_ok or not right.rules.needs_face


@given(any_rights(), zones, scans)
def test_is_pure_and_the_order_of_the_rights_does_not_decide_whether_one_passes(rights, zone, scan) -> None:
    forward, backward = decide(rights, zone, scan), decide(rights[::-1], zone, scan)
    assert decide(rights, zone, scan) == forward
    assert type(forward) is type(backward)
    if isinstance(forward, Permit) and isinstance(backward, Permit):
        assert forward.pax == backward.pax


@given(any_rights(), zones, scans)
def test_a_further_ticket_never_takes_a_passage_away(rights, zone, scan) -> None:
    if rights and isinstance(decide(rights[:-1], zone, scan), Permit):
        assert isinstance(decide(rights, zone, scan), Permit)


# --- the explanation is the decision's ----------------------------------------------------------------------------


@given(any_rights(), zones, scans)
def test_the_explanation_ends_as_the_decision_does(rights, zone, scan) -> None:
    verdict, explained = decide(rights, zone, scan), explain(rights, zone, scan)
    refused = [step for step in explained.steps if step.verdict == "refused"]
    if isinstance(verdict, Permit):
        assert (explained.admitted, explained.code, explained.pax) == (True, "ok", verdict.pax)
        assert explained.ticket == verdict.ticket and all(step.verdict == "ok" for step in explained.steps)
        return
    assert (explained.admitted, explained.code, explained.pax) == (False, verdict.code, 0)
    assert [step.code for step in refused] == [verdict.code]
    before = explained.steps[: explained.steps.index(refused[0])]
    assert all(step.verdict == "ok" for step in before), "the first refusal is the one that decides"


@given(any_rights(), zones, scans)
def test_what_is_said_to_help_does_help(rights, zone, scan) -> None:
    """Each promise, checked by the decision itself."""
    for step in explain(rights, zone, scan).steps:
        if step.passes_at is not None:
            later = explain(rights, zone, msgspec.structs.replace(scan, now=step.passes_at))
            right = next(right for right in rights if right.ticket == explain(rights, zone, scan).ticket)
            check = dict(rules.CHECKS)[step.check]
            assert later.at > scan.now
            assert check(right, scan) is not None
            assert check(right, msgspec.structs.replace(scan, now=step.passes_at)) is None
        for there in step.passes_zones:
            elsewhere = msgspec.structs.replace(scan, to_zone=there)
            assert isinstance(decide(rights, ZoneFacts(zone=there, inside=0, held=0, limit=None), elsewhere), Permit)
        if step.leave:
            assert zone.limit is not None
            assert rules.room_in(zone) <= 0
            present = max(0, zone.inside) + zone.held
            after = present - step.leave
            assert after >= 0
            assert rules.room_in(ZoneFacts(zone="park", inside=after, held=0, limit=zone.limit)) == 1


@given(any_rights(), zones, scans)
def test_one_thing_wrong_and_cured_admits(rights, zone, scan) -> None:
    """With a single refusal, curing it is enough: no hidden step is left."""
    wrong = [step for step in explain(rights, zone, scan).steps if step.code]
    if len(rights) == 1 and len(wrong) == 1 and wrong[0].passes_at is not None:
        assert explain(rights, zone, msgspec.structs.replace(scan, now=wrong[0].passes_at)).admitted
    if len(wrong) == 1 and wrong[0].leave:
        empty = msgspec.structs.replace(zone, inside=0, held=0)
        assert explain(rights, empty, scan).admitted


# --- every rule at once -------------------------------------------------------------------------------------------

small = st.integers(0, 3)
clocks = st.integers(0, 23).map(lambda hour: f"{hour:02}:00")
windows = st.builds(
    Window,
    opens=clocks,
    closes=st.integers(0, 23).map(lambda hour: f"{hour:02}:59"),
    weekdays=st.lists(st.integers(1, 7), max_size=3),
)
reentries = st.none() | st.builds(
    Reentry, per_day=small, within_minutes=st.sampled_from([0, 60]), after_exit=st.booleans(),
    min_gap_s=st.sampled_from([0.0, 600.0]),
)  # fmt: skip


@st.composite
def rich_right(draw: st.DrawFn, number: int = 1) -> RightFacts:
    """A right with any rules, its counters within what the ledger's constraints allow."""
    uses, pax = draw(small), draw(st.integers(1, 4))
    sold = uses * pax if uses else None
    redeemed = draw(st.integers(0, sold if sold is not None else 9))
    held = draw(st.integers(0, sold - redeemed if sold is not None else 1))
    used_day = draw(st.integers(0, redeemed))
    return right_facts(
        entitlement=number,
        ticket=number,
        product_class=draw(st.sampled_from(["full", "group", "staff", "times"])),
        pax=pax,
        uses=uses,
        sold=sold,
        redeemed=redeemed,
        held=held,
        promised=draw(small),
        person=draw(st.none() | st.builds(PersonFacts, held=st.integers(0, 1), redeemed=small)),
        uses_per_day=draw(small),
        used_day=used_day,
        reentry=draw(reentries),
        reentries_day=draw(small),
        reentries_held=draw(st.integers(0, 1)),
        out_day=draw(st.integers(0, used_day)),
        last_used_at=draw(moments) if redeemed else None,
        first_used_at=MIDNIGHT if redeemed else None,
        first_used_on=DAY if redeemed else None,
        last_exit_at=draw(st.none() | moments),
        windows=draw(st.lists(windows, max_size=2)),
        minutes_after_first_use=draw(st.sampled_from([0, 0, 600])),
        days_after_first_use=draw(st.sampled_from([0, 0, 1])),
        slot_from=(slot := draw(st.none() | moments)),
        slot_to=None if slot is None else slot + 3600.0,
        lane_classes=draw(st.sampled_from([[], ["fast"]])),
        requires=draw(st.sampled_from([[], [], ["main"]])),
        used_today=draw(st.sampled_from([[], ["main"]])),
        binds=draw(st.sampled_from(["none", "none", "id", "face"])),
        holder_hash=draw(st.none() | st.sampled_from([b"wang", b"li"])),
        face_bound=draw(st.booleans()),
        min_gap_s=draw(st.sampled_from([0.0, 0.0, 600.0])),
        exit_ends_gap=draw(st.booleans()),
        valid_from=MIDNIGHT,
        valid_to=MIDNIGHT + draw(st.sampled_from([43_200.0, 999_999.0])),
    )


rich_rights = st.integers(0, 2).flatmap(lambda count: st.tuples(*(rich_right(n + 1) for n in range(count))).map(list))
rich_zones = st.builds(
    ZoneFacts, zone=st.just("park"), inside=st.integers(-5, 40), held=people, limit=st.none() | people, staff=small,
    stopped=st.booleans(), reentry_when_stopped=st.booleans(), left_today=st.none() | st.integers(-2, 5),
)  # fmt: skip
rich_scans = st.builds(
    lambda now, **facts: ScanFacts(now=now, local=local_time(now), **facts),
    now=moments,
    lane=st.just("g1"),
    to_zone=st.just("park"),
    pax=st.none() | st.integers(1, 40),
    max_pax=st.integers(1, 40),
    face_ok=st.booleans(),
    face_taken=st.booleans(),
    holder_hash=st.none() | st.sampled_from([b"wang", b"li"]),
    stamp=st.booleans(),
    lane_class=st.sampled_from(["", "", "fast"]),
)


@given(rich_rights, rich_zones, rich_scans)
def test_with_any_rules_nobody_gets_more_than_there_is(rights, zone, scan) -> None:
    verdict = decide(rights, zone, scan)
    assert decide(rights, zone, scan) == verdict, "pure"
    if isinstance(verdict, Refusal):
        assert verdict.code in REFUSALS
        return
    right = next(right for right in rights if right.entitlement == verdict.entitlement)
    assert 1 <= verdict.pax <= min(scan.max_pax, scan.pax or scan.max_pax)
    assert right.person is None or verdict.pax == 1
    if verdict.kind == "reentry":
        rule = right.right.reentry
        assert rule is not None and right.used_day > 0
        assert verdict.pax + right.reentries_held <= (right.out_day if rule.after_exit else right.used_day)
        assert rule.per_day == 0 or right.reentries_day + verdict.pax <= rule.per_day * right.used_day
    else:
        assert right.sold is None or right.redeemed + right.held + verdict.pax <= right.sold
        day = right.right.uses_per_day * right.pax
        assert not day or right.used_day + right.held + verdict.pax <= day
        free = zone.left_today is None or verdict.pax <= zone.left_today
        room = zone.limit is None or max(0, zone.inside - zone.staff) + zone.held + verdict.pax <= zone.limit
        assert right.product_class == "staff" or (free and room and not zone.stopped)
    assert right.valid_from <= scan.now < right.valid_to
    assert not scan.lane_class or scan.lane_class in right.rules.lane_classes
    assert right.rules.binds != "id" or scan.stamp or scan.holder_hash is not None


@given(rich_right(), rich_zones, rich_scans, st.integers(1, 5))
def test_monotone_who_has_used_more_is_never_let_in_for_more(right, zone, scan, more) -> None:
    """More redeemed, held or refunded, fewer places: an entry never becomes larger by it."""
    before = decide([right], zone, scan)
    if right.sold is None or not isinstance(before, Permit) or before.kind != "entry":
        return
    for counter in ("redeemed", "held", "refunded", "reserved_refund"):
        later = msgspec.structs.replace(right, **{counter: getattr(right, counter) + more})
        after = decide([later], zone, scan)
        assert not isinstance(after, Permit) or after.kind != "entry" or after.pax <= before.pax
    fuller = msgspec.structs.replace(zone, inside=max(0, zone.inside) + more)
    after = decide([right], fuller, scan)
    assert not isinstance(after, Permit) or after.pax <= before.pax


@given(rich_rights, rich_zones, rich_scans)
def test_whoever_wants_out_is_let_out_whatever_the_rules_say(rights, zone, scan) -> None:
    out = msgspec.structs.replace(scan, direction=Direction.EXIT, from_zone="park", to_zone="outside")
    verdict = decide(rights, zone, out)
    assert isinstance(verdict, Permit) and verdict.kind == "exit" and 1 <= verdict.pax <= scan.max_pax


@given(rich_rights, rich_zones, rich_scans)
def test_with_any_rules_the_explanation_ends_as_the_decision_does(rights, zone, scan) -> None:
    verdict, explained = decide(rights, zone, scan), explain(rights, zone, scan)
    assert explained.code == ("ok" if isinstance(verdict, Permit) else verdict.code)
    assert explained.pax == (verdict.pax if isinstance(verdict, Permit) else 0)


@given(rich_right(), rich_scans)
def test_what_is_promised_for_a_moment_holds_at_that_moment(right, scan) -> None:
    """A window that is said to open, a slot or a gap that is said to end: the check that refused passes then."""
    for name, check in rules.CHECKS:
        refusal = check(right, scan)
        if refusal is None or (refusal.passes_at is None and not refusal.opens):
            continue
        if refusal.opens:
            whole = refusal.opens if " " in refusal.opens else f"{refusal.opens} 00:00"
            at = datetime.strptime(whole, "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()
            assert at > scan.now
        else:
            at = refusal.passes_at + 1e-3
        again = check(right, msgspec.structs.replace(scan, now=at, local=local_time(at)))
        if name == "slot":  # a slot and the hours are one check: the other of the two may refuse then
            assert again is None or (again.opens, again.passes_at) != (refusal.opens, refusal.passes_at)
        elif name != "uses":
            assert again is None or again.passes_at != refusal.passes_at
