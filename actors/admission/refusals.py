"""Every refusal code, with a sentence for the visitor and a hint for staff, in Chinese and English.

The one place that defines them: lanes, console and documents take their words from here, and so they do for what would
make a ticket pass (`cure`, `say`).  A code never changes its meaning; what it says to a visitor never tells anything
about another holder.  Source of the list: pretix's check-in
answers, the Ctrip consume API and the gate catalogues named in the domain model, united.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from protocols.messages import Denied

GATES_TOLD_MAX = 3  # lanes that a visitor is sent to: more is no help

Texts = tuple[str, str]  # Chinese, English


class RefusalText(msgspec.Struct, frozen=True):
    """Words for one code: what the visitor reads, and what staff should do."""

    visitor_zh: str
    visitor_en: str
    staff_zh: str
    staff_en: str


OK = "ok"

REFUSALS: dict[str, RefusalText] = {
    "unknown_code": RefusalText(
        "无法识别此票",
        "This code is not a ticket",
        "非本景区票码，请查看来源",
        "Not one of our codes; ask where it is from",
    ),
    "bad_signature": RefusalText(
        "票码无效", "This ticket code is not valid", "签名错误：伪造或损坏", "Signature is wrong: forged or damaged"
    ),
    "not_yet_active": RefusalText(
        "此票尚未启用", "This ticket is not active yet", "未售出或未激活", "Not sold or not activated"
    ),
    "unpaid": RefusalText("订单未支付", "This order is not paid", "请到窗口付款", "Send to a window to pay"),
    "refunded": RefusalText("此票已退", "This ticket was refunded", "已退款", "Refunded"),
    "void": RefusalText("此票已作废", "This ticket is void", "已作废", "Void"),
    "blocked": RefusalText(
        "此票已冻结，请咨询工作人员", "This ticket is blocked; please ask staff", "已冻结", "Blocked by the office"
    ),
    "held": RefusalText(
        "此票暂停使用，请咨询工作人员",
        "This ticket is on hold; please ask staff",
        "办公室暂停",
        "On hold by the office",
    ),
    "expired": RefusalText("此票已过期", "This ticket has expired", "超过有效期", "Past its validity"),
    "not_yet_valid": RefusalText(
        "未到使用日期", "This ticket is not valid yet", "有效期未开始", "Validity has not begun"
    ),
    "wrong_slot": RefusalText(
        "现在不是可用时段",
        "Not valid at this time",
        "不在预约时段或开放时间",
        "Outside the booked slot or the hours of the ticket",
    ),
    "wrong_zone": RefusalText(
        "此票不能进入本区域", "This ticket is not for this area", "区域不符", "Not sold for this zone"
    ),
    "wrong_lane_class": RefusalText(
        "请走其他通道", "Please use another lane", "通道类型不符", "Not for this class of lane"
    ),
    "already_used": RefusalText(
        "此票已使用", "This ticket was used already", "查看上次使用的通道和时间", "See lane and time of the last use"
    ),
    "no_uses_left": RefusalText("次数已用完", "No uses left", "次卡次数用完", "The card's uses are used up"),
    "pax_exhausted": RefusalText(
        "团队人数已满", "Everyone of this group has passed", "人数已用完，可补票", "All places used; sell a supplement"
    ),
    "needs_factor": RefusalText(
        "请看摄像头",
        "Please look at the camera",
        "需要人脸核验，拍不到时人工核对",
        "Needs the holder's face; if it cannot be taken, look yourself and confirm",
    ),
    "factor_mismatch": RefusalText(
        "人证不符，请咨询工作人员",
        "Face does not match; please ask staff",
        "人脸与年卡不符，请人工比对",
        "Face and card differ; compare the photos",
    ),
    "liveness_failed": RefusalText(
        "请本人面对摄像头", "Please face the camera yourself", "活体检测未通过", "Liveness check failed"
    ),
    "holder_mismatch": RefusalText(
        "非本人使用", "Not the holder of this ticket", "持票人不符", "Another person's ticket"
    ),
    "too_soon": RefusalText(
        "请稍后再刷",
        "Please wait before using this again",
        "间隔太短（防回传）",
        "Minimum gap not over (anti-passback)",
    ),
    "needs_main_ticket": RefusalText(
        "请先使用大门票", "Please use your main ticket first", "需要大票", "Needs the main ticket"
    ),
    "id_required": RefusalText(
        "请出示身份证",
        "Please show your ID card",
        "需要证件，无法读取时人工核对",
        "Needs an ID; if it cannot be read, look yourself and confirm",
    ),
    "ambiguous": RefusalText(
        "请咨询工作人员", "Please ask staff", "多张票可用，请选择", "Several tickets fit; choose one"
    ),
    "superseded_card": RefusalText("此卡已被补卡替换", "This card was replaced", "旧卡", "An older issue of the card"),
    "low_balance": RefusalText("余额不足", "Balance too low", "请充值", "Top up"),
    "capacity_hold": RefusalText(
        "园区人数已满，请稍候", "The area is full; please wait", "达到限流人数", "The zone is at its limit"
    ),
    "lane_closed": RefusalText("本通道已关闭", "This lane is closed", "通道未开放", "The lane is not in an entry mode"),
    "unavailable": RefusalText(
        "系统繁忙，请稍候或咨询工作人员",
        "Temporarily unavailable; please wait or ask staff",
        "系统不可用",
        "Ledger or lane unavailable",
    ),
    "emergency_go": RefusalText(
        "请从此离开", "Please leave this way", "紧急疏散中，票不消耗", "Evacuation: nothing is used up"
    ),
    "in_progress": RefusalText(
        "正在核验，请勿重刷",
        "In progress; please do not scan again",
        "此票有未结的放行",
        "A grant of this ticket is open",
    ),
    "offline_refused": RefusalText(
        "离线时不可用", "Not accepted while offline", "离线策略拒绝", "Refused by the offline policy"
    ),
    "device_not_authorised": RefusalText("设备未授权", "Device not authorised", "未登记的设备", "Unknown device"),
}

NEW_TICKET: Texts = ("此票不能再用，需购新票", "never again: a new ticket")
CURES: dict[str, Texts] = {
    "unknown_code": ("本景区售出的票", "a ticket that this site sold"),
    "bad_signature": ("未损坏的原票；仍不行则补票", "the undamaged original, or a replacement from a window"),
    "not_yet_active": ("售出并启用后", "when it is sold and activated"),
    "unpaid": ("付款后", "when the order is paid"),
    "refunded": NEW_TICKET,
    "void": NEW_TICKET,
    "blocked": ("办公室解冻后", "when the office has unblocked it"),
    "held": ("办公室解除暂停后", "when the office has ended the hold"),
    "expired": NEW_TICKET,
    "not_yet_valid": ("有效期开始后", "when its validity has begun"),
    "wrong_slot": ("所订时段或开放时间内", "within the booked slot or the hours of the ticket"),
    "wrong_zone": ("走通往所购区域的通道", "at a lane into an area that it was sold for"),
    "wrong_lane_class": ("走普通通道", "at a lane that is open to everybody"),
    "already_used": NEW_TICKET,
    "no_uses_left": ("次数恢复后或购新票", "when there are uses again, or a new ticket"),
    "pax_exhausted": ("补票", "a supplement for further people"),
    "needs_factor": (
        "本人在通道摄像头前比对成功，或工作人员人工确认",
        "with the holder's face before the lane's camera, or staff's word",
    ),
    "factor_mismatch": ("本人再次比对，或工作人员人工确认", "with the holder's own face, or staff's word"),
    "liveness_failed": ("本人面对摄像头重试", "with the holder before the camera"),
    "holder_mismatch": ("由首次使用的本人使用", "with the person who used it first"),
    "too_soon": ("间隔结束后", "when the gap is over"),
    "needs_main_ticket": ("当天使用大门票之后", "when the main ticket has been used today"),
    "id_required": ("同时出示身份证，或工作人员人工确认", "with the ID beside it, or staff's word"),
    "ambiguous": ("工作人员选定其中一张后", "when staff have chosen one of the tickets"),
    "superseded_card": ("使用补发的新卡", "with the newer card"),
    "low_balance": ("充值后", "when it is topped up"),
    "capacity_hold": ("有人离开后", "when people have left"),
    "lane_closed": ("通道设为入口模式后，或走其他通道", "when the lane is set to an entry mode, or at another lane"),
    "unavailable": ("通道设备恢复后，或走其他通道", "when the lane's device is back, or at another lane"),
    "emergency_go": ("疏散解除并重新启用后", "when the evacuation is over and the lane is re-armed"),
    "in_progress": ("未结的放行结束后", "when the open grant has ended without all its passages"),
    "offline_refused": ("网络恢复后", "when the lane is connected again"),
    "device_not_authorised": ("设备登记后", "when the device is registered"),
}
"""What would make it pass, where nothing more exact is known of the case."""

OK_WORDS = RefusalText("请通行", "Please pass", "", "")


def words(code: str) -> RefusalText:
    """The words of a code; an unknown one (a newer peer's) gets those of `unavailable`."""
    return OK_WORDS if code == OK else REFUSALS.get(code, REFUSALS["unavailable"])


def cure(denied: Denied, gates: Mapping[str, Sequence[str]] | None = None) -> Texts:
    """What would make it pass, as exactly as this case is known: from when, at which gate, how often tomorrow.

    `gates` names the lanes that lead into each zone.  Empty where nothing more than the code is known.
    """
    if denied.opens:
        return _from(denied)
    names = list(dict.fromkeys(name for zone in denied.zones for name in (gates or {}).get(zone, ())))
    if names:
        names = names[:GATES_TOLD_MAX]
        return f"请走 {'、'.join(names)}", f"at {' or '.join(names)}"
    if denied.zones and denied.code == "wrong_zone":
        return f"走通往 {'、'.join(denied.zones)} 的通道", f"at a lane into {' or '.join(denied.zones)}"
    if denied.tomorrow:
        times = "once" if denied.tomorrow == 1 else f"{denied.tomorrow} times"
        return f"明日可用 {denied.tomorrow} 次", f"{times} tomorrow"
    return "", ""


def say(denied: Denied, gates: Mapping[str, Sequence[str]] | None = None) -> RefusalText:
    """A refusal in words: for the visitor with what would help, for staff with the last use as well."""
    text, help_ = words(denied.code), cure(denied, gates)
    last = " ".join(filter(None, (denied.lane_of_use, _short(denied.used_on_clock, denied.today))))
    staff = CURES.get(denied.code, ("", "")) if not any(help_) else help_
    return RefusalText(
        _joined("，", text.visitor_zh, help_[0]),
        _joined("; ", text.visitor_en, help_[1]),
        _joined("；", text.staff_zh, denied.hint, f"上次 {last}" if last else "", staff[0]),
        _joined("; ", text.staff_en, denied.hint, f"last {last}" if last else "", staff[1]),
    )


def _from(denied: Denied) -> Texts:
    when = _short(denied.opens, denied.today)
    return f"{when} 起可用", f"from {when}"


def _short(moment: str, today: str) -> str:
    """Without the date where it is today's."""
    day, _, clock = moment.partition(" ")
    return clock if clock and day == today else moment


def _joined(between: str, *parts: str) -> str:
    return between.join(filter(None, parts))
