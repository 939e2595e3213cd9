"""Why a scan would be admitted or refused: the decision's own checks (`rules`), one by one and in words.

Pure, and without any effect.  The verdict is that of `rules.decide`; the steps come from the same checks, walked to
their end, so that staff see at once if a second thing is wrong, too.  Each refusal says what would make it pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo

import msgspec

from actors.admission.refusals import OK, words
from actors.admission.rules import CHECKS, choose, decide, first_refusal, places_left, room_in
from protocols.console import ExplainStep, Explanation
from storage.interfaces import Permit, Refusal, RightFacts, ScanFacts, ZoneFacts

Texts = tuple[str, str]  # Chinese, English

REFUSED, ALSO_REFUSED = "refused", "also_refused"
NAMES: dict[str, Texts] = {
    "lane": ("通道", "lane"),
    "signature": ("签名", "signature"),
    "known": ("票", "ticket known"),
    "credential": ("凭证", "credential"),
    "ticket": ("票状态", "ticket's state"),
    "validity": ("有效期", "validity"),
    "zone": ("区域", "zone"),
    "uses": ("次数", "uses"),
    "factor": ("人脸", "holder's face"),
    "gap": ("间隔", "gap"),
    "capacity": ("限流", "capacity"),
}
STATES_ZH = {
    "active": "正常",
    "on_hold": "暂停",
    "blocked": "冻结",
    "frozen": "冻结",
    "void": "作废",
    "refunded": "已退",
    "unpaid": "未支付",
    "expired": "已过期",
    "reserved": "预留",
    "blank": "未启用",
    "lost": "挂失",
    "superseded": "已补卡",
}
NEW_TICKET: Texts = ("此票不能再用，需购新票", "never again: a new ticket")
CURES: dict[str, Texts] = {
    "unknown_code": ("本景区售出的票", "a ticket that this site sold"),
    "bad_signature": ("未损坏的原票；仍不行则补票", "the undamaged original, or a replacement from a window"),
    "blocked": ("办公室解冻后", "when the office has unblocked it"),
    "held": ("办公室解除暂停后", "when the office has ended the hold"),
    "superseded_card": ("使用补发的新卡", "with the newer card"),
    "not_yet_active": ("售出并启用后", "when it is sold and activated"),
    "unpaid": ("付款后", "when the order is paid"),
    "void": NEW_TICKET,
    "refunded": NEW_TICKET,
    "expired": NEW_TICKET,
    "already_used": NEW_TICKET,
    "pax_exhausted": ("补票", "a supplement for further people"),
    "in_progress": ("未结的放行结束后", "when the open grant has ended without all its passages"),
    "needs_factor": ("本人在通道摄像头前比对成功", "with the holder's face before the lane's camera"),
    "lane_closed": ("通道设为入口模式后，或走其他通道", "when the lane is set to an entry mode, or at another lane"),
    "emergency_go": ("疏散解除并重新启用后", "when the evacuation is over and the lane is re-armed"),
    "unavailable": ("通道设备恢复后，或走其他通道", "when the lane's device is back, or at another lane"),
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
    if not rights:
        steps.append(plain_step("known", ("查无此票", "no ticket has this code"), "unknown_code"))
        return _concluded(steps, scan, decide(rights, zone, scan), None)
    right, _ = choose(rights, scan)
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
    steps.append(_capacity(zone))
    return _concluded(steps, scan, decide(rights, zone, scan), right)


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
        zones = _zones_that_pass(rights, scan)
        into = zones or right.zones
        zh, en = f"走通往 {'、'.join(into)} 的通道", f"at a lane into {' or '.join(into)}"
        if not zones:
            zh, en = f"需 {scan.to_zone} 的票", f"a ticket for {scan.to_zone}"
        return msgspec.structs.replace(step, cure_zh=zh, cure_en=en, passes_zones=zones)
    passes_at = None
    if refusal.code == "not_yet_valid":
        passes_at = _from_validity(right)
    elif refusal.code == "too_soon":
        passes_at = _from_gap(right)
    else:
        return step
    if passes_at is None:
        return msgspec.structs.replace(step, cure_zh=NEW_TICKET[0], cure_en=NEW_TICKET[1])
    when = moment(passes_at)
    return msgspec.structs.replace(step, cure_zh=f"{when} 起", cure_en=f"from {when}", passes_at=passes_at)


def _zones_that_pass(rights: list[RightFacts], scan: ScanFacts) -> list[str]:
    """Where else one of the rights would pass all its checks."""
    passing = {
        zone
        for right in rights
        for zone in right.zones
        if zone != scan.to_zone and first_refusal(right, msgspec.structs.replace(scan, to_zone=zone)) is None
    }
    return sorted(passing)


def _from_validity(right: RightFacts) -> float | None:
    """The first whole second of the validity; None if there is none, because it ends before it begins."""
    begins = float(math.ceil(right.valid_from))
    return begins if begins < right.valid_to else None


def _from_gap(right: RightFacts) -> float | None:
    """The first whole second after the gap; None if the right has expired by then."""
    assert right.last_used_at is not None
    over = float(math.ceil(right.last_used_at + right.right.min_gap_s))
    if over - right.last_used_at < right.right.min_gap_s:  # the sum was rounded down to a whole second
        over += 1.0
    return over if over < right.valid_to else None


def _capacity(zone: ZoneFacts) -> ExplainStep:
    room = room_in(zone)
    inside = max(0, zone.inside)
    if zone.limit is None:
        return plain_step("capacity", (f"{zone.zone} 不限流", f"{zone.zone} has no limit"))
    facts = (
        f"{zone.zone} 内 {inside} 人，已放行在途 {zone.held} 人，上限 {zone.limit} 人",
        f"{zone.zone}: {inside} inside, {zone.held} on their way in, limit {zone.limit}",
    )
    if room > 0:
        return plain_step("capacity", facts)
    step = plain_step("capacity", facts, "capacity_hold")
    if zone.limit < 1:
        return msgspec.structs.replace(step, cure_zh="提高上限后", cure_en="when the limit is raised")
    leave = 1 - room
    people = "1 person has" if leave == 1 else f"{leave} people have"
    return msgspec.structs.replace(
        step, cure_zh=f"{leave} 人离开后", cure_en=f"when {people} left or given up entering", leave=leave
    )


# --- facts in words -----------------------------------------------------------------------------------------------


def _clock(timezone: tzinfo) -> Callable[[float], str]:
    def moment(at: float) -> str:
        local = datetime.fromtimestamp(at, timezone)
        return local.strftime("%Y-%m-%d %H:%M:%S" if local.second else "%Y-%m-%d %H:%M")

    return moment


def _credential(right: RightFacts, scan: ScanFacts, moment: Callable[[float], str]) -> Texts:
    return _state(right.credential_state)


def _ticket(right: RightFacts, scan: ScanFacts, moment: Callable[[float], str]) -> Texts:
    return _state(right.ticket_state)


def _state(state: str) -> Texts:
    return STATES_ZH.get(state, state), state


def _validity(right: RightFacts, scan: ScanFacts, moment: Callable[[float], str]) -> Texts:
    begins, ends = moment(right.valid_from), moment(right.valid_to)
    return f"{begins} 至 {ends}", f"{begins} until {ends}"


def _zone(right: RightFacts, scan: ScanFacts, moment: Callable[[float], str]) -> Texts:
    return f"权益 {'、'.join(right.zones)}，通道通往 {scan.to_zone}", (
        f"for {', '.join(right.zones)}; the lane leads into {scan.to_zone}"
    )


def _uses(right: RightFacts, scan: ScanFacts, moment: Callable[[float], str]) -> Texts:
    if right.sold is None:
        zh, en = "不限次数，每次一人", "unlimited, one person at a time"
    else:
        left = places_left(right)
        zh, en = f"余 {left}/{right.sold}", f"{left} of {right.sold} left"
    for count, count_zh, count_en in (
        (right.redeemed, "已用", "used"),
        (right.held, "在途", "on their way"),
        (right.refunded, "已退", "refunded"),
        (right.reserved_refund, "退款中", "in a refund"),
    ):
        if count:
            zh, en = f"{zh}，{count_zh} {count}", f"{en}, {count} {count_en}"
    if right.last_used_at is not None:
        used = moment(right.last_used_at)
        zh, en = f"{zh}，上次 {used} {right.last_used_lane}", f"{en}, last {used} at {right.last_used_lane or '?'}"
    return zh, en


def _factor(right: RightFacts, scan: ScanFacts, moment: Callable[[float], str]) -> Texts:
    if not right.rules.needs_face:
        return "不需要", "not needed"
    if scan.face_ok:
        return "需要，假定比对成功", "needed, and supposed to match"
    return "需要，未比对", "needed, not compared"


def _gap(right: RightFacts, scan: ScanFacts, moment: Callable[[float], str]) -> Texts:
    if right.right.min_gap_s <= 0:
        return "无间隔要求", "none required"
    seconds = f"{right.right.min_gap_s:g}"
    if right.last_used_at is None:
        return f"至少 {seconds} 秒，尚未使用", f"{seconds} s between uses; not used yet"
    used = moment(right.last_used_at)
    return f"至少 {seconds} 秒，上次 {used}", f"{seconds} s between uses; last {used}"


FACTS: dict[str, Callable[[RightFacts, ScanFacts, Callable[[float], str]], Texts]] = {
    "credential": _credential,
    "ticket": _ticket,
    "validity": _validity,
    "zone": _zone,
    "uses": _uses,
    "factor": _factor,
    "gap": _gap,
}
