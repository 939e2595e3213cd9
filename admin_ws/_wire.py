"""The two forms of the console channel: JSON text and MessagePack binary, chosen by the WebSocket's subprotocol."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from protocols.errors import RpcError

T = TypeVar("T")

RequestId = int | str | None
Frame = str | bytes  # a WebSocket message: text in JSON, binary in MessagePack

MAX_METHOD_LENGTH = 64
MAX_ID_LENGTH = 64

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603


class Wire(StrEnum):
    """A WebSocket subprotocol of the channel."""

    JSON = "paifang.json"
    MSGPACK = "paifang.msgpack"


class Request(msgspec.Struct, frozen=True):
    """A call (with an id) or a notification (`id` UNSET); `params` are still in the wire's form."""

    method: str
    jsonrpc: str = ""
    params: msgspec.Raw = msgspec.Raw(b"")
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET


class Response(msgspec.Struct, frozen=True):
    """What a client receives: an answer (`result` or `error`, with `id`) or a notification (`method`)."""

    jsonrpc: str = ""
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: ErrorObject | None = None
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"")


class ErrorObject(msgspec.Struct, frozen=True):
    """JSON-RPC 2.0 section 5.1; `data` holds our stable code and what helps people."""

    code: int
    message: str
    data: dict[str, Any] = {}


def decode_request(wire: Wire, frame: Frame) -> Request:
    """One request.

    Raises:
        RpcError: not in the wire's form, a batch, not version 2.0, or an oversized method or id.
    """
    request = _decode(wire, frame, Request, INVALID_REQUEST)
    if request.jsonrpc != "2.0" or not 0 < len(request.method) <= MAX_METHOD_LENGTH:
        raise RpcError(INVALID_REQUEST, "not a JSON-RPC 2.0 request")
    if isinstance(request.id, str) and len(request.id) > MAX_ID_LENGTH:
        raise RpcError(INVALID_REQUEST, "id too long")
    return request


def decode_response(wire: Wire, frame: Frame) -> Response:
    """One answer or notification, on the client's side. Raises RpcError."""
    return _decode(wire, frame, Response, INVALID_REQUEST)


def decode_value(wire: Wire, raw: msgspec.Raw, kind: type[T]) -> T:
    """Params or a result as a typed value; absent params are an empty object.

    Raises:
        RpcError: the shape is wrong (INVALID_PARAMS), and says where.
    """
    data = bytes(raw) or (b"{}" if wire is Wire.JSON else b"\x80")
    return _decode(wire, data, kind, INVALID_PARAMS)


def encode_request(wire: Wire, request_id: int, method: str, params: object) -> Frame:
    """A call."""
    return _encode(wire, {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def encode_result(wire: Wire, request_id: RequestId, result: object) -> Frame:
    """The answer to a call."""
    return _encode(wire, {"jsonrpc": "2.0", "id": request_id, "result": result})


def encode_error(wire: Wire, request_id: RequestId, code: int, message: str, data: dict[str, Any]) -> Frame:
    """The answer to a call that was refused or failed."""
    return _encode(
        wire, {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message, "data": data}}
    )


def encode_notification(wire: Wire, method: str, params: object) -> Frame:
    """Something that needs no answer."""
    return _encode(wire, {"jsonrpc": "2.0", "method": method, "params": params})


def _encode(wire: Wire, value: object) -> Frame:
    return msgspec.json.encode(value).decode() if wire is Wire.JSON else msgspec.msgpack.encode(value)


def _decode(wire: Wire, frame: Frame | bytes, kind: type[T], wrong_shape: int) -> T:
    try:
        if wire is Wire.JSON:
            return msgspec.json.decode(frame, type=kind)
        if isinstance(frame, str):
            raise RpcError(PARSE_ERROR, "a text message on a binary channel")
        return msgspec.msgpack.decode(frame, type=kind)
    except msgspec.ValidationError as error:
        raise RpcError(wrong_shape, str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise RpcError(PARSE_ERROR, "damaged message") from error
