"""The console's vocabulary travels unchanged over JSON-RPC in both forms, and secrets stay out of representations."""

import inspect
import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import console, jsonrpc
from protocols._bounds import Pax
from protocols.errors import RpcError
from protocols.jsonrpc import Wire
from protocols.messages import Base

STRUCTS = [
    value
    for _, value in inspect.getmembers(console, inspect.isclass)
    if issubclass(value, Base) and value.__module__.startswith(console.__name__)
]
VALUES = {
    str: st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=10),
    int: st.integers(0, 2**53 - 1),
    float: st.floats(0, 1e11),
    bool: st.booleans(),
    bytes: st.binary(max_size=40),
    type(None): st.none(),
}


def strategy(annotation):
    if annotation in VALUES:
        return VALUES[annotation]
    if annotation is Pax:
        return st.integers(1, 1000)
    if typing.get_origin(annotation) is typing.Annotated:
        return strategy(typing.get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, Base):
        fields = typing.get_type_hints(annotation, include_extras=True)
        return st.builds(annotation, **{name: strategy(fields[name]) for name in annotation.__struct_fields__})
    if typing.get_origin(annotation) is list:
        return st.lists(strategy(*typing.get_args(annotation)), max_size=2)
    return st.one_of(*map(strategy, typing.get_args(annotation)))


def test_the_vocabulary_was_found():
    assert {"LaneView", "Snapshot", "Delta", "Login", "Sell", "Sold"} <= {kind.__name__ for kind in STRUCTS}


@pytest.mark.parametrize("kind", STRUCTS)
@settings(max_examples=20)  # there are more than a hundred of them
@given(data=st.data())
def test_every_struct_round_trips_as_parameters_and_as_a_result(kind, data):
    value = data.draw(strategy(kind))
    for wire in Wire:
        request = jsonrpc.decode_request(wire, jsonrpc.encode_request(wire, 1, "m", value))
        assert jsonrpc.decode_value(wire, request.params, kind) == value
        told = jsonrpc.decode_response(wire, jsonrpc.encode_notification(wire, "m", value))
        assert jsonrpc.decode_value(wire, told.params, kind) == value
        answer = jsonrpc.decode_response(wire, jsonrpc.encode_result(wire, 1, value))
        assert jsonrpc.decode_value(wire, answer.result, kind) == value


@pytest.mark.parametrize("kind", STRUCTS)
@given(data=st.binary(max_size=80))
def test_arbitrary_parameters_raise_nothing_but_rpc_errors(kind, data):
    for wire in Wire:
        try:
            jsonrpc.decode_value(wire, msgspec.Raw(data), kind)
        except RpcError as error:
            assert error.code in (jsonrpc.INVALID_PARAMS, jsonrpc.PARSE_ERROR)


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (console.Login, {"user": "a\x00", "password": "x"}),
        (console.Login, {"user": "a", "password": "x" * 513}),
        (console.SetMode, {"lane": "l", "mode": "m", "reason": "r" * 201}),
        (console.ManualOpen, {"lane": "l", "pax": 0, "reason": ""}),
        (console.Sell, {"key": "k\n", "lines": [], "tenders": []}),
        (console.Sell, {"key": "k", "lines": [], "tenders": [{"tender": "cash", "amount_cents": 1}] * 257}),
        (console.Tender, {"tender": "cash", "amount_cents": 2**53}),
        (console.SellLine, {"product": "p", "quantity": -1}),
        (console.GetPrintJobs, {"order": 2**64 - 1}),
    ],
)
def test_parameters_that_no_table_could_hold_are_refused(kind, params):
    for wire in Wire:
        request = jsonrpc.decode_request(wire, jsonrpc.encode_request(wire, 1, "m", params))
        with pytest.raises(RpcError) as caught:
            jsonrpc.decode_value(wire, request.params, kind)
        assert caught.value.code == jsonrpc.INVALID_PARAMS


def test_no_reason_is_too_long_for_an_evacuation():
    for wire in Wire:
        params = {"reason": "火\x00" * 10_000, "drill": False}
        request = jsonrpc.decode_request(wire, jsonrpc.encode_request(wire, 1, "m", params))
        assert jsonrpc.decode_value(wire, request.params, console.Trigger).reason == params["reason"]


def test_secrets_stay_out_of_representations():
    secret = "PF1:SECRET"
    for value in (
        console.Login(user="a", password=secret),
        console.Resume(token=secret),
        console.SellLine(product="p", quantity=1, card=secret, holder=secret, photo=secret.encode()),
        console.SoldTicket(ticket=1, product="p", code=secret, pax=1, valid_from=0.0, valid_to=0.0),
        console.Session(token=secret, user="a", role="cashier", permissions=[]),
    ):
        assert secret not in repr(value), type(value).__name__
