"""JSON-RPC 2.0 in both forms: the specification's own cases, bounds, and arbitrary bytes."""

import json

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import jsonrpc
from protocols.console import Login, Sell, SellLine, Tender, Trigger
from protocols.errors import RpcError
from protocols.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorObject,
    Wire,
    decode_request,
    decode_response,
    decode_value,
)

wires = pytest.mark.parametrize("wire", list(Wire))
ids = st.integers(-jsonrpc.MAX_ID, jsonrpc.MAX_ID) | st.text(st.characters(codec="utf-8"), max_size=64)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(st.characters(codec="utf-8"), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)
SALE = Sell(
    key="w1-1",
    lines=[SellLine(product="annual", quantity=1, photo=b"\xff\xd8\x00photo")],
    tenders=[Tender(tender="cash", amount_cents=8800)],
)


def frame(wire, value):
    return json.dumps(value) if wire is Wire.JSON else msgpack.packb(value)


def code_of(call, *arguments):
    with pytest.raises(RpcError) as caught:
        call(*arguments)
    return caught.value.code


@wires
def test_a_call_arrives_with_its_parameters(wire):
    request = decode_request(wire, jsonrpc.encode_request(wire, 17, "sales.sell", SALE))
    assert (request.id, request.method, request.is_notification) == (17, "sales.sell", False)
    assert decode_value(wire, request.params, Sell) == SALE


def test_binary_fields_are_base64_in_json_and_plain_in_messagepack():
    assert '"photo":"/9gAcGhvdG8="' in jsonrpc.encode_request(Wire.JSON, 1, "sales.sell", SALE)
    assert b"\xff\xd8\x00photo" in jsonrpc.encode_request(Wire.MSGPACK, 1, "sales.sell", SALE)


@wires
def test_a_foreign_client_needs_no_tag_and_may_send_more(wire):
    call = {"jsonrpc": "2.0", "id": "a", "method": "evacuation.trigger", "params": {"drill": True, "new": 1}, "x": 0}
    request = decode_request(wire, frame(wire, call))
    assert decode_value(wire, request.params, Trigger) == Trigger(drill=True)


@wires
def test_absent_parameters_are_an_empty_object(wire):
    request = decode_request(wire, frame(wire, {"jsonrpc": "2.0", "id": 1, "method": "evacuation.trigger"}))
    assert decode_value(wire, request.params, Trigger) == Trigger()


@wires
def test_a_request_without_id_is_a_notification_and_null_is_an_id(wire):
    assert decode_request(wire, frame(wire, {"jsonrpc": "2.0", "method": "m"})).is_notification
    assert decode_request(wire, jsonrpc.encode_notification(wire, "m", {})).is_notification
    request = decode_request(wire, frame(wire, {"jsonrpc": "2.0", "method": "m", "id": None}))
    assert not request.is_notification
    assert request.id is None


@wires
@given(ids)
def test_every_id_comes_back_as_it_was(wire, request_id):
    request = decode_request(wire, jsonrpc.encode_request(wire, request_id, "m", {}))
    assert decode_response(wire, jsonrpc.encode_result(wire, request.id, [1])).id == request_id
    assert type(request.id) is type(request_id)


@wires
def test_results_errors_and_notifications_are_told_apart(wire):
    result = decode_response(wire, jsonrpc.encode_result(wire, 3, {"a": None}))
    assert (result.id, decode_value(wire, result.result, dict)) == (3, {"a": None})
    nothing = decode_response(wire, jsonrpc.encode_result(wire, 3, None))
    assert decode_value(wire, nothing.result, type(None)) is None
    error = decode_response(wire, jsonrpc.encode_error(wire, None, jsonrpc.REFUSED, "no", {"code": "not_paid"}))
    assert (error.id, error.error) == (None, ErrorObject(-32000, "no", {"code": "not_paid"}))
    told = decode_response(wire, jsonrpc.encode_notification(wire, "delta", {"revision": 2}))
    assert (told.method, decode_value(wire, told.params, dict)) == ("delta", {"revision": 2})


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',  # the specification's example
        "",
        '{"jsonrpc":"2.0","method":"m"} {}',
        "{",
        "\ud800",
        '{"jsonrpc":"2.0","method":"m","id":"\\ud800"}',
        '{"jsonrpc":"2.0","method":"m","params":' + "[" * 100_000 + "]" * 100_000 + "}",
        " " * (jsonrpc.MAX_REQUEST_BYTES + 1),
        "中" * (jsonrpc.MAX_REQUEST_BYTES // 2),
    ],
)
def test_damaged_json_is_a_parse_error(text):
    assert code_of(decode_request, Wire.JSON, text) == PARSE_ERROR


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81",
        b"\xc1",
        b"\x80\x80",
        b"\x83\xa7jsonrpc\xa32.0\xa6method\xa1m\xa6params" + b"\x91" * 100_000 + b"\xc0",
        b"\xa1" * (jsonrpc.MAX_REQUEST_BYTES + 1),
        b"\x82\xa7jsonrpc\xa32.0\xa6method\xa1\xff",
        b"\xde\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_damaged_messagepack_is_a_parse_error(data):
    assert code_of(decode_request, Wire.MSGPACK, data) in (PARSE_ERROR, INVALID_REQUEST)


@wires
@pytest.mark.parametrize(
    "value",
    [
        [],
        [1],
        [{"jsonrpc": "2.0", "method": "m", "id": 1}] * 20,
        1,
        None,
        {"jsonrpc": "2.0", "method": 1, "params": "bar"},  # the specification's example
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "1.0", "method": "m", "id": 1},
        {"method": "m", "id": 1},
        {"jsonrpc": "2.0", "method": "", "id": 1},
        {"jsonrpc": "2.0", "method": "m" * 65, "id": 1},
        {"jsonrpc": "2.0", "method": "m", "id": "i" * 65},
        {"jsonrpc": "2.0", "method": "m", "id": 2**53},
        {"jsonrpc": "2.0", "method": "m", "id": -(2**53)},
        {"jsonrpc": "2.0", "method": "m", "id": 1.5},
        {"jsonrpc": "2.0", "method": "m", "id": True},
        {"jsonrpc": "2.0", "method": "m", "id": [1]},
    ],
)
def test_what_is_no_request_is_invalid(wire, value):
    assert code_of(decode_request, wire, frame(wire, value)) == INVALID_REQUEST


@wires
def test_a_batch_is_refused_in_words(wire):
    with pytest.raises(RpcError, match="batches are not supported"):
        decode_request(wire, frame(wire, [{"jsonrpc": "2.0", "method": "m", "id": 1}] * 20))


def test_each_form_stays_in_its_kind_of_websocket_message():
    assert code_of(decode_request, Wire.JSON, b'{"jsonrpc":"2.0","method":"m"}') == PARSE_ERROR
    assert code_of(decode_request, Wire.MSGPACK, '{"jsonrpc":"2.0","method":"m"}') == PARSE_ERROR


@wires
@pytest.mark.parametrize(
    "value",
    [
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "result": 1, "error": {"code": 1, "message": ""}},
        {"jsonrpc": "2.0", "method": "m", "id": 1, "result": 1},
        {"id": 1, "result": 1},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": "x", "message": ""}},
        {"jsonrpc": "2.0", "id": 1, "error": "no"},
        [],
    ],
)
def test_what_is_no_answer_is_invalid(wire, value):
    assert code_of(decode_response, wire, frame(wire, value)) == INVALID_REQUEST


@wires
def test_parameters_of_the_wrong_shape_say_where(wire):
    params = {"user": "a", "password": 5}
    request = decode_request(wire, frame(wire, {"jsonrpc": "2.0", "id": 1, "method": "m", "params": params}))
    with pytest.raises(RpcError, match="password") as caught:
        decode_value(wire, request.params, Login)
    assert caught.value.code == INVALID_PARAMS
    for params in ([], ["a", "b"], 5, None, {"user": "a"}, {"type": "Trigger", "user": "a", "password": "b"}):
        request = decode_request(wire, frame(wire, {"jsonrpc": "2.0", "id": 1, "method": "m", "params": params}))
        assert code_of(decode_value, wire, request.params, Login) == INVALID_PARAMS


def test_a_request_does_not_show_its_parameters():
    frame_ = jsonrpc.encode_request(Wire.JSON, 1, "session.login", Login(user="a", password="s3cret"))
    assert "s3cret" not in repr(decode_request(Wire.JSON, frame_))
    assert "s3cret" not in repr(decode_response(Wire.JSON, jsonrpc.encode_result(Wire.JSON, 1, "s3cret")))


@given(st.binary(max_size=120))
def test_arbitrary_bytes_raise_nothing_but_rpc_errors(data):
    for wire, message in ((Wire.MSGPACK, data), (Wire.JSON, data.decode("utf-8", "surrogateescape"))):
        for decode in (decode_request, decode_response):
            try:
                decode(wire, message)
            except RpcError as error:
                assert error.code in (PARSE_ERROR, INVALID_REQUEST)
        with pytest.raises(RpcError):
            decode_value(wire, msgspec.Raw(data or b"\xc1"), Sell)


@given(json_values, json_values, json_values)
def test_any_parsable_request_can_be_answered(method, request_id, params):
    for wire in Wire:
        message = frame(wire, {"jsonrpc": "2.0", "method": method, "id": request_id, "params": params})
        try:
            request = decode_request(wire, message)
        except RpcError as error:
            jsonrpc.encode_error(wire, None, error.code, str(error))
            continue
        answer = decode_response(wire, jsonrpc.encode_result(wire, request.id, request.params))
        assert decode_value(wire, answer.result, object) == params
        assert answer.id == request_id


@given(st.integers(0, 300), st.binary(min_size=1, max_size=3), st.sampled_from(Wire))
def test_mutated_requests_raise_nothing_but_rpc_errors(at, change, wire):
    message = jsonrpc.encode_request(wire, 1, "sales.sell", SALE)
    data = message.encode() if isinstance(message, str) else message
    mutated = data[:at] + change + data[at + len(change) :]
    try:
        request = decode_request(wire, mutated if wire is Wire.MSGPACK else mutated.decode("utf-8", "surrogateescape"))
        decode_value(wire, request.params, Sell)
    except RpcError:
        pass
