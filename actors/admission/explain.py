"""Why a scan would be admitted or refused: the decision's own checks (`rules`), one by one and in words.

Pure, and without any effect.  The verdict is that of `rules.decide`; the steps come from the same checks, walked to
their end, so that staff see at once if a second thing is wrong, too.  Each refusal says what would make it pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo

import msgspec

from actors.admission.facts import FACTS
from actors.admission.refusals import CURES, NEW_TICKET, OK, Texts, words
from actors.admission.rules import CHECKS, choose, decide, room_for, room_in, zones_that_pass
from actors.admission.uses import kind_of
from protocols.console import ExplainStep, Explanation
from protocols.messages import Direction
from storage.interfaces import Permit, Refusal, RightFacts, ScanFacts, ZoneFacts

REFUSED, ALSO_REFUSED = "refused", "also_refused"
NAMES: dict[str, Texts] = {
    "lane": ("通道", "lane"),
    "signature": ("签名", "signature"),
    "known": ("票", "ticket known"),
    "way_out": ("出园", "way out"),
    "credential": ("凭证", "credential"),
    "ticket": ("票状态", "ticket's state"),
    "validity": ("有效期", "validity"),
    "zone": ("区域", "zone"),
    "lane_class": ("通道类别", "class of lane"),
    "slot": ("时段", "slot and hours"),
    "uses": ("次数", "uses"),
    "main": ("大票", "main ticket"),
    "factor": ("本人", "holder"),
    "gap": ("间隔", "gap"),
    "choice": ("选票", "which ticket"),
    "capacity": ("限流", "capacity"),
}

def explain(
    rights: list[RightFacts],
    zone: ZoneFacts,
    scan: ScanFacts,
    *,
    before: Sequence[ExplainStep] = (),
    timezone: tzinfo = UTC,
) -> Explanation:
    """Every step of the decision on this scan. Without steps `before` it, the verdict is `decide`'s.

    Args:
        rights, zone, scan: as for `decide`.
        before: what was checked earlier (`plain_step`: lane, signature); a refusal among it is the one that counts.
        timezone: of the times in words.
    """
    moment = _clock(timezone)
    steps = list(before)
    if scan.direction is Direction.EXIT:
        return _way_out(steps, rights, zone, scan)
    if not rights:
        steps.append(plain_step("known", ("查无此票", "no ticket has this code"), "unknown_code"))
        return _concluded(steps, scan, decide(rights, zone, scan), None)
    right, stopped = choose(rights, scan)
    zones = sorted({zone for each in rights for zone in each.zones})
    told = f"{right.ticket}, {right.product}"
    steps.append(plain_step("known", (f"{told}；区域 {'、'.join(zones)}", f"{told}; for {', '.join(zones)}")))
    for name, check in CHECKS:
        facts = FACTS[name](right, scan, moment)
        refusal = check(right, scan)
        if refusal is None:
            steps.append(plain_step(name, facts))
        else:
            steps.append(_refused(name, facts, refusal, right, rights, scan, moment))
    if stopped is not None and stopped.code == "ambiguous":
        classes = " / ".join(sorted({each.product for each in rights}))
        steps.append(plain_step("choice", (classes, classes), "ambiguous"))
    steps.append(_capacity(right, zone, scan))
    return _concluded(steps, scan, decide(rights, zone, scan), right)


def _way_out(
    steps: list[ExplainStep], rights: list[RightFacts], zone: ZoneFacts, scan: ScanFacts
) -> Explanation:
    """Nothing of a ticket is asked of somebody who wants out; what it is only says how it is counted."""
    permit = decide(rights, zone, scan)
    assert isinstance(permit, Permit)
    right = next((each for each in rights if each.entitlement == permit.entitlement), None)
    if right is None:
        steps.append(plain_step("known", ("没有对应的票", "on no ticket")))
    else:
        told = f"{right.ticket}, {right.product}"
        steps.append(plain_step("known", (told, told)))
    steps.append(plain_step("way_out", ("出园不查票", "whoever wants out is let out")))
    return _concluded(steps, scan, permit, right)


def unreadable(steps: Sequence[ExplainStep], scan: ScanFacts) -> Explanation:
    """The explanation when no look-up is made: one of the steps, lane or signature, refuses."""
    return _concluded(steps, scan, None, None)


def plain_step(check: str, facts: Texts, code: str = "") -> ExplainStep:
    """A step with what was looked at and, with a refusal's code, that code's words and its usual cure."""
    name, cure = NAMES[check], CURES.get(code, ("", ""))
    if code:
        refused = words(code)
        facts = (f"{refused.staff_zh}（{facts[0]}）", f"{refused.staff_en} ({facts[1]})")
    return ExplainStep(
        check=check,
        name_zh=name[0],
        name_en=name[1],
        verdict=REFUSED if code else OK,
        text_zh=facts[0],
        text_en=facts[1],
        code=code,
        cure_zh=cure[0],
        cure_en=cure[1],
    )


def _concluded(
    steps: Sequence[ExplainStep], scan: ScanFacts, verdict: Permit | Refusal | None, right: RightFacts | None
) -> Explanation:
    """Only the first refusal decides; the others are marked as what they are."""
    code, marked = OK, []
    for step in steps:
        if step.code and code != OK:
            step = msgspec.structs.replace(step, verdict=ALSO_REFUSED)
        elif step.code:
            code = step.code
        marked.append(step)
    permit = verdict if code == OK else None
    assert code != OK or isinstance(permit, Permit), "no step refuses, and nothing permits"
    visitor = words(code)
    return Explanation(
        lane=scan.lane,
        zone=scan.to_zone,
        at=scan.now,
        admitted=code == OK,
        code=code,
        text_zh=visitor.visitor_zh,
        text_en=visitor.visitor_en,
        pax=permit.pax if isinstance(permit, Permit) else 0,
        ticket=None if right is None else right.ticket,
        product="" if right is None else right.product,
        steps=marked,
    )


# --- cures that depend on the facts -------------------------------------------------------------------------------


def _refused(
    name: str,
    facts: Texts,
    refusal: Refusal,
    right: RightFacts,
    rights: list[RightFacts],
    scan: ScanFacts,
    moment: Callable[[float], str],
) -> ExplainStep:
    step = plain_step(name, facts, refusal.code)
    if refusal.code == "wrong_zone":
        zones = zones_that_pass(rights, scan)
        into = zones or right.zones
        zh, en = f"走通往 {'、'.join(into)} 的通道", f"at a lane into {' or '.join(into)}"
        if not zones:
            zh, en = f"需 {scan.to_zone} 的票", f"a ticket for {scan.to_zone}"
        return msgspec.structs.replace(step, cure_zh=zh, cure_en=en, passes_zones=zones)
    if refusal.opens:
        return msgspec.structs.replace(step, cure_zh=f"{refusal.opens} 起", cure_en=f"from {refusal.opens}")
    if refusal.tomorrow:
        zh, en = f"明日可用 {refusal.tomorrow} 次", f"{refusal.tomorrow} more on the next business day"
        return msgspec.structs.replace(step, cure_zh=zh, cure_en=en)
    if refusal.code not in ("not_yet_valid", "too_soon") and refusal.passes_at is None:
        return step
    passes_at = _passes_at(name, refusal, right, scan)
    if passes_at is None:
        return msgspec.structs.replace(step, cure_zh=NEW_TICKET[0], cure_en=NEW_TICKET[1])
    when = moment(passes_at)
    return msgspec.structs.replace(step, cure_zh=f"{when} 起", cure_en=f"from {when}", passes_at=passes_at)


def _passes_at(name: str, refusal: Refusal, right: RightFacts, scan: ScanFacts) -> float | None:
    """The first whole second at which this check lets it pass; None if the validity is over by then."""
    begins = right.valid_from if refusal.passes_at is None else refusal.passes_at
    at = float(math.ceil(begins))
    if dict(CHECKS)[name](right, msgspec.structs.replace(scan, now=at)) is not None:
        at += 1.0  # the sum was rounded down to a whole second
    return at if at < right.valid_to else None


def _capacity(right: RightFacts, zone: ZoneFacts, scan: ScanFacts) -> ExplainStep:
    kind = kind_of(right, scan)
    room = room_for(right, kind, zone)
    if zone.limit is None and zone.left_today is None and not zone.stopped:
        return plain_step("capacity", (f"{zone.zone} 不限流", f"{zone.zone} has no limit"))
    inside, limit = max(0, zone.inside), "-" if zone.limit is None else zone.limit
    facts = (
        f"{zone.zone} 内 {inside} 人，已放行在途 {zone.held} 人，上限 {limit} 人",
        f"{zone.zone}: {inside} inside, {zone.held} on their way in, limit {limit}",
    )
    if zone.staff:
        facts = f"{facts[0]}，其中员工 {zone.staff} 人", f"{facts[1]}, {zone.staff} of them staff"
    if zone.stopped:
        facts = f"{facts[0]}，已停止入园", f"{facts[1]}, entry is stopped"
    if zone.left_today is not None:
        facts = f"{facts[0]}，今日余 {zone.left_today} 人", f"{facts[1]}, {zone.left_today} more today"
    if room > 0:
        return plain_step("capacity", facts)
    step = plain_step("capacity", facts, "capacity_hold")
    if zone.stopped:
        return msgspec.structs.replace(step, cure_zh="恢复入园后", cure_en="when entry goes on")
    if zone.limit is None or zone.limit < 1:
        return msgspec.structs.replace(step, cure_zh="提高上限后", cure_en="when the limit is raised")
    leave = 1 - room_in(zone, first_entry=False)
    if leave < 1:
        return msgspec.structs.replace(step, cure_zh="下一营业日", cure_en="on the next business day")
    people = "1 person has" if leave == 1 else f"{leave} people have"
    return msgspec.structs.replace(
        step, cure_zh=f"{leave} 人离开后", cure_en=f"when {people} left or given up entering", leave=leave
    )


def _clock(timezone: tzinfo) -> Callable[[float], str]:
    def moment(at: float) -> str:
        local = datetime.fromtimestamp(at, timezone)
        return local.strftime("%Y-%m-%d %H:%M:%S" if local.second else "%Y-%m-%d %H:%M")

    return moment
