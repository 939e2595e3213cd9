"""Values as PostgreSQL has them on the wire in binary, by the type's number: what the ledger's statements use.

Columns of a batch are arrays, and most of a batch's bytes are in them: a fixed-width array is packed in one call, and
short texts (lanes, zones, kinds) are encoded once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache, partial
from typing import Any

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes], Any]

BOOL, BYTEA, NAME, INT8, INT2, INT4, TEXT, OID = 16, 17, 19, 20, 21, 23, 25, 26
JSON, FLOAT8, VARCHAR, DATE, TIME, TIMESTAMPTZ, VOID, RECORD, JSONB = 114, 701, 1043, 1082, 1083, 1184, 2278, 2249, 3802
RECORDS = 2287  # an array of records
UNKNOWN = 705  # a literal that nothing has given a type
ARRAYS = {
    1000: BOOL, 1001: BYTEA, 1003: NAME, 1005: INT2, 1007: INT4, 1009: TEXT, 1015: VARCHAR, 1016: INT8, 1022: FLOAT8,
    1028: OID, 1182: DATE, 1185: TIMESTAMPTZ, 3807: JSONB, RECORDS: RECORD,
}  # fmt: skip
TEXTS_KEPT = 4096  # encoded texts
SHAPES_KEPT = 1024  # lengths of arrays that have a packer of their own
EPOCH_DAY = date(2000, 1, 1).toordinal()
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
NULL = struct.pack("!i", -1)
_LENGTH = struct.Struct("!i")
_HEAD = struct.Struct("!iiIii")  # dimensions, has nulls, type of the elements, length, first index
_EMPTY = struct.Struct("!iiI")
FIXED = {BOOL: ("?", 1), INT2: ("h", 2), INT4: ("i", 4), OID: ("I", 4), INT8: ("q", 8), FLOAT8: ("d", 8)}


class UnknownType(Exception):
    """A statement takes or gives a type that this module does not know."""


def encoder(oid: int) -> Encoder:
    """Encodes a parameter of the type. Raises UnknownType; the encoder raises what `struct` and `str` raise."""
    if oid in ARRAYS:
        element = ARRAYS[oid]
        if element in FIXED:
            return partial(_fixed_array, element, *FIXED[element])
        return partial(_array, element, _element_encoder(element))
    return _scalar_encoder(oid)


def decoder(oid: int) -> Decoder:
    """Decodes a column of the type. Raises UnknownType."""
    if oid in ARRAYS:
        element = ARRAYS[oid]
        if element in FIXED:
            return partial(_decode_fixed_array, decoder(element), *FIXED[element])
        return partial(_decode_array, decoder(element))
    try:
        return _DECODERS[oid]
    except KeyError:
        raise UnknownType(f"a column of type {oid}") from None


# -- out --------------------------------------------------------------------------------------------------------------


def _scalar_encoder(oid: int) -> Encoder:
    if oid in FIXED:
        return struct.Struct("!" + FIXED[oid][0]).pack
    try:
        return _ENCODERS[oid]
    except KeyError:
        raise UnknownType(f"a parameter of type {oid}") from None


def _date(value: date) -> bytes:
    return _LENGTH.pack(value.toordinal() - EPOCH_DAY)


def _time(value: time) -> bytes:
    return struct.pack("!q", ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond)


def _timestamptz(value: datetime) -> bytes:
    return struct.pack("!q", (value - EPOCH) // MICROSECOND)


def _text(value: str) -> bytes:
    return value.encode()


def _jsonb(value: str) -> bytes:
    return b"\x01" + value.encode()


_ENCODERS: dict[int, Encoder] = {
    TEXT: _text, VARCHAR: _text, NAME: _text, JSON: _text, JSONB: _jsonb, BYTEA: bytes, DATE: _date, TIME: _time,
    TIMESTAMPTZ: _timestamptz,
}  # fmt: skip


@lru_cache(TEXTS_KEPT)
def _text_element(value: str | None) -> bytes:
    if value is None:
        return NULL
    data = value.encode()
    return _LENGTH.pack(len(data)) + data


def _element_encoder(oid: int) -> Encoder:
    if oid in (TEXT, VARCHAR, NAME):
        return _text_element
    encode = _scalar_encoder(oid)

    def element(value: Any) -> bytes:
        if value is None:
            return NULL
        data = encode(value)
        return _LENGTH.pack(len(data)) + data

    return element


def _array(oid: int, element: Encoder, values: Sequence[Any]) -> bytes:
    if not values:
        return _EMPTY.pack(0, 0, oid)
    return _HEAD.pack(1, 1, oid, len(values), 1) + b"".join(map(element, values))


@lru_cache(SHAPES_KEPT)
def _packer(code: str, length: int) -> struct.Struct:
    return struct.Struct("!iiIii" + ("i" + code) * length)


def _fixed_array(oid: int, code: str, width: int, values: Sequence[Any]) -> bytes:
    length = len(values)
    if not length:
        return _EMPTY.pack(0, 0, oid)
    if None in values:
        pack = struct.Struct("!i" + code).pack
        rows = [NULL if value is None else pack(width, value) for value in values]
        return _HEAD.pack(1, 1, oid, length, 1) + b"".join(rows)
    flat = [width] * (2 * length)
    flat[1::2] = values
    return _packer(code, length).pack(1, 0, oid, length, 1, *flat)


# -- in ---------------------------------------------------------------------------------------------------------------


def _decode_fixed(code: str) -> Decoder:
    unpack = struct.Struct("!" + code).unpack

    def decode(data: bytes) -> Any:
        return unpack(data)[0]

    return decode


def _decode_array(decode: Decoder, data: bytes) -> list[Any]:
    (dimensions,) = _LENGTH.unpack_from(data)
    if not dimensions:
        return []
    (length,) = _LENGTH.unpack_from(data, 12)
    values: list[Any] = []
    place = 20
    for _ in range(length):
        (size,) = _LENGTH.unpack_from(data, place)
        place += 4
        if size < 0:
            values.append(None)
        else:
            values.append(decode(data[place : place + size]))
            place += size
    return values


@lru_cache(SHAPES_KEPT)
def _unpacker(code: str, length: int) -> struct.Struct:
    return struct.Struct("!20x" + ("4x" + code) * length)


def _decode_fixed_array(decode: Decoder, code: str, width: int, data: bytes) -> list[Any]:
    (dimensions,) = _LENGTH.unpack_from(data)
    if not dimensions:
        return []
    (length,) = _LENGTH.unpack_from(data, 12)
    if len(data) == 20 + length * (4 + width):  # without nulls
        return list(_unpacker(code, length).unpack(data))
    return _decode_array(decode, data)


def _decode_record(data: bytes) -> tuple[Any, ...]:
    (count,) = _LENGTH.unpack_from(data)
    values: list[Any] = []
    place = 4
    for _ in range(count):
        oid, size = _OID_LENGTH.unpack_from(data, place)
        place += 8
        if size < 0:
            values.append(None)
        else:
            values.append((_DECODERS.get(oid) or decoder(oid))(data[place : place + size]))
            place += size
    return tuple(values)


_OID_LENGTH = struct.Struct("!Ii")


def _decode_date(data: bytes) -> date:
    return date.fromordinal(int(_LENGTH.unpack(data)[0]) + EPOCH_DAY)


def _decode_time(data: bytes) -> time:
    microseconds = int(struct.unpack("!q", data)[0])
    return (datetime.min + microseconds * MICROSECOND).time()


def _decode_timestamptz(data: bytes) -> datetime:
    return EPOCH + int(struct.unpack("!q", data)[0]) * MICROSECOND


def _decode_jsonb(data: bytes) -> str:
    return data[1:].decode()


_DECODERS: dict[int, Decoder] = {
    **{oid: _decode_fixed(code) for oid, (code, _) in FIXED.items()},
    TEXT: bytes.decode, VARCHAR: bytes.decode, NAME: bytes.decode, JSON: bytes.decode, JSONB: _decode_jsonb,
    BYTEA: bytes, DATE: _decode_date, TIME: _decode_time, TIMESTAMPTZ: _decode_timestamptz, RECORD: _decode_record,
    VOID: lambda data: None, UNKNOWN: bytes.decode,
}  # fmt: skip
