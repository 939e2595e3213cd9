"""Every refusal code, with a sentence for the visitor and a hint for staff, in Chinese and English.

The one place that defines them: lanes, console and documents take their words from here.  A code never changes its
meaning; what it says to a visitor never tells anything about another holder.  Source of the list: pretix's check-in
answers, the Ctrip consume API and the gate catalogues named in the domain model, united.
"""

from __future__ import annotations

import msgspec


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
    "wrong_slot": RefusalText("不在预约时段", "Not your time slot", "时段不符", "Outside the booked slot"),
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
    "needs_factor": RefusalText("请看摄像头", "Please look at the camera", "需要人脸核验", "Needs the holder's face"),
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
    "id_required": RefusalText("请出示身份证", "Please show your ID card", "需要证件", "Needs an ID"),
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

OK_WORDS = RefusalText("请通行", "Please pass", "", "")


def words(code: str) -> RefusalText:
    """The words of a code; an unknown one (a newer peer's) gets those of `unavailable`."""
    return OK_WORDS if code == OK else REFUSALS.get(code, REFUSALS["unavailable"])
