"""JSON-RPC 2.0 for the console channel, as JSON text or as MessagePack binary: one model, two forms.

The form is chosen by the WebSocket's subprotocol (`Wire`).  In JSON, binary fields are base64; a `Frame` is what the
WebSocket carries: str for JSON, bytes for MessagePack.  Parameters and results stay in their wire form until somebody
who knows their type decodes them (`decode_value`), so a message is parsed once, and into types.

Batches are refused: the channel is ordered and cheap, and one message that means a thousand calls is not.
Source: the JSON-RPC 2.0 specification; the codes are those of its section 5.1.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from protocols.errors import RpcError

T = TypeVar("T")

RequestId = int | str | None
Frame = str | bytes

MAX_REQUEST_BYTES = 1024 * 1024  # a sale may carry a holder's photograph, in base64
MAX_RESPONSE_BYTES = 16 * 1024 * 1024  # a snapshot of a large site
MAX_METHOD_LENGTH = 64
MAX_ID_LENGTH = 64
MAX_ID = (1 << 53) - 1  # beyond, JavaScript would answer to another number

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
REFUSED = -32000  # of the range that the specification leaves to servers: understood, and refused; `data` says why


class Wire(StrEnum):
    """A WebSocket subprotocol of the channel, and with it the form of every message."""

    JSON = "paifang.json"
    MSGPACK = "paifang.msgpack"


class Request(msgspec.Struct, frozen=True):
    """What a client sends. Without an id (`id` is UNSET) it is a notification, which is never answered."""

    method: str
    jsonrpc: str = ""
    params: msgspec.Raw = msgspec.Raw(b"")
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def is_notification(self) -> bool:
        return self.id is msgspec.UNSET

    def __repr__(self) -> str:  # parameters may be a password
        return f"Request({self.method!r}, id={self.id!r})"


class ErrorObject(msgspec.Struct, frozen=True):
    """Why a call failed: a code of the specification, and `data` with our own stable words."""

    code: int
    message: str
    data: dict[str, Any] = {}


class Response(msgspec.Struct, frozen=True):
    """What a server sends: a result or an error (with the call's `id`), or a notification (with a `method`)."""

    jsonrpc: str = ""
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: ErrorObject | None = None
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"")

    def __repr__(self) -> str:
        return f"Response(id={self.id!r}, method={self.method!r}, error={self.error!r})"


# --- the server's side --------------------------------------------------------------------------------------------


def decode_request(wire: Wire, frame: Frame) -> Request:
    """One call or notification.

    Raises RpcError: PARSE_ERROR for what is not in the wire's form or too large, INVALID_REQUEST for a batch, another
    version, or a method or an id out of bounds.  The answer to either has a null id.
    """
    request = _decode(wire, _bytes(wire, frame, MAX_REQUEST_BYTES), Request, INVALID_REQUEST)
    if request.jsonrpc != "2.0":
        raise RpcError(INVALID_REQUEST, "only JSON-RPC 2.0 is spoken here")
    if not 0 < len(request.method) <= MAX_METHOD_LENGTH:
        raise RpcError(INVALID_REQUEST, f"a method's name has 1 to {MAX_METHOD_LENGTH} characters")
    if isinstance(request.id, str) and len(request.id) > MAX_ID_LENGTH:
        raise RpcError(INVALID_REQUEST, f"an id has at most {MAX_ID_LENGTH} characters")
    if isinstance(request.id, int) and abs(request.id) > MAX_ID:
        raise RpcError(INVALID_REQUEST, "an id has at most 53 bits")
    return request


def encode_result(wire: Wire, request_id: RequestId, result: object) -> Frame:
    """The answer to a call that was carried out."""
    return _encode(wire, {"jsonrpc": "2.0", "id": request_id, "result": result})


def encode_error(
    wire: Wire, request_id: RequestId, code: int, message: str, data: dict[str, Any] | None = None
) -> Frame:
    """The answer to a call that was not; `request_id` is None when the request's own id could not be read."""
    error = {"code": code, "message": message, "data": data or {}}
    return _encode(wire, {"jsonrpc": "2.0", "id": request_id, "error": error})


def encode_notification(wire: Wire, method: str, params: object) -> Frame:
    """Something that nobody answers. Encode a broadcast once for each wire and send the same frame to every peer."""
    return _encode(wire, {"jsonrpc": "2.0", "method": method, "params": params})


# --- the client's side --------------------------------------------------------------------------------------------


def encode_request(wire: Wire, request_id: int | str, method: str, params: object) -> Frame:
    """A call that wants an answer."""
    return _encode(wire, {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def decode_response(wire: Wire, frame: Frame) -> Response:
    """One answer or notification.

    Raises RpcError: PARSE_ERROR for what is not in the wire's form or too large, INVALID_REQUEST for what is neither
    exactly a result, nor an error, nor a notification of version 2.0.
    """
    response = _decode(wire, _bytes(wire, frame, MAX_RESPONSE_BYTES), Response, INVALID_REQUEST)
    if response.jsonrpc != "2.0":
        raise RpcError(INVALID_REQUEST, "only JSON-RPC 2.0 is spoken here")
    if (bool(response.method), response.error is not None, bool(bytes(response.result))).count(True) != 1:
        raise RpcError(INVALID_REQUEST, "neither a result, nor an error, nor a notification")
    return response


# --- both sides ---------------------------------------------------------------------------------------------------


def decode_value(wire: Wire, raw: msgspec.Raw, kind: type[T]) -> T:
    """Parameters or a result as a value of `kind`; what is absent is an empty object.

    Raises RpcError with INVALID_PARAMS, whose message names the place and what was expected there.
    """
    return _decode(wire, bytes(raw) or (b"{}" if wire is Wire.JSON else b"\x80"), kind, INVALID_PARAMS)


def _bytes(wire: Wire, frame: Frame, limit_bytes: int) -> bytes:
    if isinstance(frame, str) is not (wire is Wire.JSON):
        raise RpcError(PARSE_ERROR, f"{wire} has {'text' if wire is Wire.JSON else 'binary'} messages")
    if len(frame) > limit_bytes:
        raise RpcError(PARSE_ERROR, f"more than {limit_bytes} bytes")
    if isinstance(frame, bytes):
        return frame
    try:
        data = frame.encode()
    except UnicodeEncodeError as exc:
        raise RpcError(PARSE_ERROR, "not Unicode text") from exc
    if len(data) > limit_bytes:
        raise RpcError(PARSE_ERROR, f"more than {limit_bytes} bytes")
    return data


def _decode(wire: Wire, data: bytes, kind: type[T], wrong_shape: int) -> T:
    decode = msgspec.json.decode if wire is Wire.JSON else msgspec.msgpack.decode
    try:
        return decode(data, type=kind)
    except msgspec.ValidationError as exc:
        if wrong_shape == INVALID_REQUEST and _is_batch(wire, data):
            raise RpcError(INVALID_REQUEST, "batches are not supported") from exc
        raise RpcError(wrong_shape, str(exc)) from exc
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise RpcError(PARSE_ERROR, "damaged, or not in the channel's form") from exc


def _is_batch(wire: Wire, data: bytes) -> bool:
    if wire is Wire.JSON:
        return data.lstrip()[:1] == b"["
    return data[:1] in (b"\xdc", b"\xdd") or data[0] & 0xF0 == 0x90


def _encode(wire: Wire, value: object) -> Frame:
    return msgspec.json.encode(value).decode() if wire is Wire.JSON else msgspec.msgpack.encode(value)
