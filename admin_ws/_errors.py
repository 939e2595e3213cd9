"""From exceptions to JSON-RPC errors: a stable code, a sentence in two languages, and never a traceback.

    protocol faults    -32700 -32600 -32601 -32602   JSON-RPC 2.0 section 5.1
    REFUSED            -32000   an actor said no: `data.code` is its code
    NOT_ALLOWED        -32001   not logged in, session over, no permission
    BUSY               -32002   too many requests; nothing was done, try again later
    UNAVAILABLE        -32003   the actor is down or too slow; with `data.code` "timeout" the outcome is unknown
    INTERNAL_ERROR     -32603   our own fault; `data.trace` finds it in the log
"""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from core import ActorDown, ActorError, AskTimeout, Expired, MailboxFull
from protocols.errors import RpcError
from protocols.jsonrpc import INTERNAL_ERROR, METHOD_NOT_FOUND, REFUSED

NOT_ALLOWED = -32001
BUSY = -32002
UNAVAILABLE = -32003


_log = structlog.get_logger("admin_ws.channel")

# The channel's own refusals: code -> JSON-RPC code, Chinese, English.
REFUSALS: dict[str, tuple[int, str, str]] = {
    "not_logged_in": (NOT_ALLOWED, "请先登录", "Log in first"),
    "session_over": (NOT_ALLOWED, "登录已失效，请重新登录", "The session is over, log in again"),
    "forbidden": (NOT_ALLOWED, "没有此操作的权限", "You are not permitted to do this"),
    "rate_limited": (BUSY, "操作过于频繁，请稍候", "Too many requests, wait a moment"),
    "busy": (BUSY, "前面的操作尚未完成，请稍候", "Earlier requests are still running, wait a moment"),
    "overloaded": (BUSY, "系统繁忙，操作未执行", "The system is overloaded; nothing was done"),
    "unavailable": (UNAVAILABLE, "该功能暂时不可用", "This part of the system is not available now"),
    "expired": (UNAVAILABLE, "响应超时，操作未执行", "No answer in time; nothing was done"),
    "timeout": (UNAVAILABLE, "响应超时，结果未知", "No answer in time; the outcome is unknown"),
    "unknown_method": (METHOD_NOT_FOUND, "没有此操作", "There is no such method"),
    "internal": (INTERNAL_ERROR, "系统内部错误", "Internal error"),
}


class Failure(msgspec.Struct, frozen=True):
    """An error ready to be encoded: the JSON-RPC code, a message in English, and data with the stable code."""

    code: int
    message: str
    data: dict[str, Any]


def refusal(code: str, trace: str = "") -> Failure:
    """One of the channel's own refusals, by its key in `REFUSALS`."""
    rpc_code, text_zh, text_en = REFUSALS[code]
    return Failure(rpc_code, text_en, {"code": code, "text_zh": text_zh, "text_en": text_en, "trace": trace})


def failure_of(error: Exception, trace: str = "") -> Failure:
    """Any exception as a failure.

    An actor refuses by failing its envelope with an exception that has a string `code` (and, if it has them, `text_zh`,
    `text_en` and `hint`); anything else is our own fault and goes to the log, not to the client.
    """
    if isinstance(error, RpcError):
        return Failure(error.code, str(error), {"code": "bad_request", "trace": trace})
    if isinstance(error, ActorError):
        return refusal(_actor_code(error), trace)
    code = getattr(error, "code", None)
    if isinstance(code, str) and code:
        text_en = _text(error, "text_en") or code
        data = {"code": code, "text_zh": _text(error, "text_zh") or code, "text_en": text_en, "trace": trace}
        if hint := _text(error, "hint"):
            data["hint"] = hint
        return Failure(REFUSED, text_en, data)
    _log.error("request_failed", trace=trace, exc_info=error)
    return refusal("internal", trace)


def refused_by_actor(error: Exception) -> bool:
    """Did the actor decide against it (rather than being away or broken)?"""
    return isinstance(getattr(error, "code", None), str)


def _actor_code(error: ActorError) -> str:
    if isinstance(error, MailboxFull):
        return "overloaded"
    if isinstance(error, Expired):
        return "expired"
    if isinstance(error, AskTimeout):
        return "timeout"
    if isinstance(error, ActorDown):
        return "unavailable"
    return "internal"


def _text(error: Exception, name: str) -> str:
    value = getattr(error, name, "")
    return value if isinstance(value, str) else ""
