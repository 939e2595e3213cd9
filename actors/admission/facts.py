"""What each check of the decision looked at, in words: the facts of one right, in Chinese and English."""

from __future__ import annotations

from collections.abc import Callable

from actors.admission.refusals import Texts
from actors.admission.rules import clock_of
from actors.admission.uses import kind_of, places_left
from protocols.rights import UNLIMITED, Window
from storage.interfaces import RightFacts, ScanFacts

Moment = Callable[[float], str]
"""A moment on the site's clock."""

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
    "in_stock": "未售出",
    "lost": "挂失",
    "superseded": "已补卡",
}
WEEKDAYS_ZH = "一二三四五六日"
WEEKDAYS_EN = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def _credential(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    return _state(right.credential_state)


def _ticket(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    return _state(right.ticket_state)


def _state(state: str) -> Texts:
    return STATES_ZH.get(state, state), state


def _validity(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    begins, ends = moment(right.valid_from), moment(right.valid_to)
    zh, en = f"{begins} 至 {ends}", f"{begins} until {ends}"
    rule = right.right
    if rule.minutes_after_first_use:
        zh, en = (
            f"{zh}，首次使用后 {rule.minutes_after_first_use} 分钟",
            f"{en}, {rule.minutes_after_first_use} min from its first use",
        )
    if rule.days_after_first_use:
        zh, en = (
            f"{zh}，首次使用起 {rule.days_after_first_use} 天",
            f"{en}, {rule.days_after_first_use} days from its first use",
        )
    if right.first_used_at is not None and (rule.minutes_after_first_use or rule.days_after_first_use):
        first = moment(right.first_used_at)
        zh, en = f"{zh}（首次 {first}）", f"{en} (first {first})"
    return zh, en


def _zone(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    zones = right.zones
    return (
        f"权益 {'、'.join(zones)}，通道通往 {scan.to_zone}",
        f"for {', '.join(zones)}; the lane leads into {scan.to_zone}",
    )


def _lane_class(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    if not scan.lane_class:
        return "普通通道", "a lane for everybody"
    classes = right.rules.lane_classes
    return (
        f"通道类别 {scan.lane_class}，此票可走 {'、'.join(classes) or '普通通道'}",
        f"a lane of class {scan.lane_class}; the ticket is for {', '.join(classes) or 'plain lanes'}",
    )


def _slot(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    zh, en = [], []
    if right.slot_from is not None and right.slot_to is not None:
        begins, ends = moment(right.slot_from), moment(right.slot_to)
        early, late = right.rules.slot_early_minutes, right.rules.slot_late_minutes
        zh.append(f"预约 {begins} 至 {ends}（可早 {early}、晚 {late} 分钟）")
        en.append(f"booked {begins} until {ends} ({early} min early, {late} min late allowed)")
    for window in right.right.windows:
        zh.append(_window(window, "周", WEEKDAYS_ZH))
        en.append(_window(window, "", WEEKDAYS_EN))
    if not zh:
        return "全天", "all day"
    local = clock_of(scan)
    now = f"{local.minute // 60:02}:{local.minute % 60:02}"
    return f"{'；'.join(zh)}；现在 {now}", f"{'; '.join(en)}; now {now}"


def _window(window: Window, prefix: str, names: str | tuple[str, ...]) -> str:
    days = " ".join(filter(None, (window.first, window.last and f"– {window.last}")))
    weekdays = prefix + "".join(f"{names[day - 1]} " for day in window.weekdays).strip() if window.weekdays else ""
    return " ".join(filter(None, (days, weekdays, f"{window.opens}–{window.closes}")))


def _uses(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    if kind_of(right, scan) == "reentry":
        return (
            f"二次入园，今日已回园 {right.reentries_day} 次",
            f"comes back in; {right.reentries_day} times today so far",
        )
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
        (right.promised, "留给名单", "kept for people on the list"),
    ):
        if count:
            zh, en = f"{zh}，{count_zh} {count}", f"{en}, {count} {count_en}"
    per_day = right.right.uses_per_day
    if per_day != UNLIMITED:
        zh, en = (
            f"{zh}，今日 {right.used_day}/{per_day * right.pax}",
            f"{en}, {right.used_day} of {per_day * right.pax} today",
        )
    if right.last_used_at is not None and right.person is None:
        used = moment(right.last_used_at)
        zh, en = f"{zh}，上次 {used} {right.last_used_lane}", f"{en}, last {used} at {right.last_used_lane or '?'}"
    return zh, en


def _main(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    requires = right.rules.requires
    if not requires:
        return "不需要", "not needed"
    used = "、".join(right.used_today) or "无"
    return (
        f"需当天先用 {' 或 '.join(requires)}，今日已用 {used}",
        f"needs {' or '.join(requires)} used today; used: {', '.join(right.used_today) or 'none'}",
    )


def _factor(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    rules = right.rules
    if not rules.needs_face and rules.binds == "none":
        return "不需要", "not needed"
    if scan.stamp:
        return "需要，工作人员已确认", "needed, and staff have confirmed the holder"
    if rules.binds == "id":
        if right.holder_hash is None:
            return "首次使用时绑定证件", "the first use binds it to an ID"
        same = right.holder_hash == scan.holder_hash
        return ("已绑定证件，一致", "bound to an ID, the same") if same else ("已绑定证件", "bound to an ID")
    if scan.face_ok:
        return "需要，假定比对成功", "needed, and supposed to match"
    return "需要，未比对", "needed, not compared"


def _gap(right: RightFacts, scan: ScanFacts, moment: Moment) -> Texts:
    if right.right.min_gap_s <= 0:
        return "无间隔要求", "none required"
    seconds = f"{right.right.min_gap_s:g}"
    if right.last_used_at is None:
        return f"至少 {seconds} 秒，尚未使用", f"{seconds} s between uses; not used yet"
    used = moment(right.last_used_at)
    return f"至少 {seconds} 秒，上次 {used}", f"{seconds} s between uses; last {used}"


FACTS: dict[str, Callable[[RightFacts, ScanFacts, Moment], Texts]] = {
    "credential": _credential,
    "ticket": _ticket,
    "validity": _validity,
    "zone": _zone,
    "lane_class": _lane_class,
    "slot": _slot,
    "uses": _uses,
    "main": _main,
    "factor": _factor,
    "gap": _gap,
}
