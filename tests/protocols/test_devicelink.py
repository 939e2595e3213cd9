"""The device link: every message round-trips, and whatever else arrives raises LinkError and nothing else."""

import contextlib
import typing

import msgpack
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from protocols import devicelink
from protocols._bounds import LIST_MAX
from protocols.devicelink import Command, Release, decode_publication, decode_request, sign_release, verify_release
from protocols.errors import LinkError
from protocols.uploads import RecGrant, Record

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=20)
numbers = st.integers(0, 2**53 - 1)
clocks = st.floats(0, 1e11)
header = {
    "v": st.just(devicelink.VERSIONS[-1]),
    "speaks": st.lists(st.integers(1, 1000), max_size=16),
    "device": st.text("abc-1", min_size=1, max_size=64),
    "boot": st.text("abc-1", min_size=1, max_size=64),
    "nonce": st.text("abc-1", min_size=1, max_size=64),
    "pax": st.none() | st.integers(1, 1000),
}
command_pax = st.integers(0, 1000)
words = st.text("abc-1", min_size=1, max_size=64)
SPECIAL = {
    Command: {"pax": command_pax},
    devicelink.Grant: {"pax": command_pax},
    devicelink.Upload: {"journal": words},
    Record: {"seq": st.integers(1, 2**53 - 1)},
    RecGrant: {"pax": st.integers(1, 1000)},
}
NEVER_EMPTY = {"kind": words, "code": words, "epoch": words}
by_type = {str: texts, int: numbers, float: clocks, bool: st.booleans(), bytes: st.binary(max_size=50)}


def strategy(annotation):
    if annotation in by_type:
        return by_type[annotation]
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return struct(annotation)
    if typing.get_origin(annotation) is list:
        return st.lists(strategy(*typing.get_args(annotation)), max_size=3)
    if annotation is type(None):
        return st.none()
    return st.one_of(*map(strategy, typing.get_args(annotation)))  # X | None


def struct(kind):
    fields = typing.get_type_hints(kind)
    special = header | (NEVER_EMPTY if kind.__module__ == "protocols.uploads" else {}) | SPECIAL.get(kind, {})
    return st.builds(
        kind,
        **{field: special.get(field, strategy(fields[field])) for field in kind.__struct_fields__},
    )


def one_of(union):
    return st.one_of(*(struct(kind) for kind in typing.get_args(union)))


safety_requests = one_of(devicelink.SafetyRequest)
safety_states = struct(devicelink.SafetyState)
DECODERS = [
    devicelink.decode_request,
    devicelink.decode_reply,
    devicelink.decode_safety_request,
    devicelink.decode_safety_state,
    devicelink.decode_publication,
]


@given(one_of(devicelink.WorkRequest))
def test_work_requests_round_trip(request):
    assert decode_request(devicelink.encode(request)) == request


@given(one_of(devicelink.WorkReply))
def test_work_replies_round_trip(reply):
    assert devicelink.decode_reply(devicelink.encode(reply)) == reply


@given(safety_requests, safety_states)
def test_safety_messages_round_trip(request, state):
    assert devicelink.decode_safety_request(devicelink.encode(request)) == request
    assert devicelink.decode_safety_state(devicelink.encode(state)) == state


@given(struct(Release), texts)
def test_publications_round_trip(release, device):
    assert decode_publication(devicelink.publish_release(release)) == release
    assert decode_publication(devicelink.publish_wake(device)) == devicelink.Wake(device=device)


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_link_errors(decode, data):
    for message in (data, b"all/" + data, b"wake/" + data):
        with contextlib.suppress(LinkError):
            decode(message)


@given(
    one_of(devicelink.WorkRequest) | one_of(devicelink.WorkReply) | safety_requests | safety_states,
    st.integers(0, 400),
    st.binary(max_size=4),
)
def test_mutated_messages_raise_nothing_but_link_errors(message, at, change):
    data = devicelink.encode(message)
    mutated = data[:at] + change + data[at + len(change) :]
    for decode in DECODERS:
        for publication in (mutated, b"all/" + mutated):
            with contextlib.suppress(LinkError):
                decode(publication)


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x91" * 100_000 + b"\xc0",
        b"\x81\xa4type" + b"\x91" * 100_000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc7\x05\xffabcde",
        msgpack.packb({"type": "hello"}),
        msgpack.packb({"type": "no such type"}),
        msgpack.packb({1: 2}),
        msgpack.packb([]),
        msgpack.packb({"type": "wake", "device": 5}),
    ],
    ids=range(12),
)
def test_known_bad_messages_are_refused(decode, data):
    for message in (data, b"all/" + data, b"wake/" + data):
        with pytest.raises(LinkError):
            decode(message)


def heartbeat(**change):
    return {"type": "heartbeat", "v": 1, "device": "d", "boot": "b", "seq": 1, "at": 1.0} | change


def test_a_newer_device_may_say_more():
    assert decode_request(msgpack.packb(heartbeat(colour="green"))).device == "d"


@pytest.mark.parametrize(
    "change",
    [
        {"v": 3},
        {"v": 0},
        {"device": ""},
        {"device": "d" * 65},
        {"device": "d\x00"},
        {"boot": ""},
        {"boot": "b" * 65},
        {"seq": "1"},
        {"seq": -1},
        {"seq": 2**53},
        {"at": "now"},
        {"at": float("nan")},
        {"at": float("inf")},
        {"at": -1.0},
        {"barrier": "open\n"},
        {"barrier": "x" * 65},
        {"queue_depth": 2**64 - 1},
    ],
)
def test_what_no_table_could_hold_is_refused(change):
    with pytest.raises(LinkError):
        decode_request(msgpack.packb(heartbeat(**change)))


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": ""},
        {"nonce": "n\x00"},
        {"nonce": "n" * 65},
        {"value": "x" * 513},
        {"pax": 0},
        {"pax": 2**31},
        {"direction": "up\x00"},
    ],
)
def test_a_scan_out_of_bounds_is_refused(change):
    scan = heartbeat(type="scan", nonce="n", kind="code", value="x")
    decode_request(msgpack.packb(scan))
    with pytest.raises(LinkError):
        decode_request(msgpack.packb(scan | change))


def test_lists_are_bounded():
    decode_request(msgpack.packb(heartbeat(type="fetch", done=[1] * LIST_MAX)))
    for message in ({"type": "fetch", "done": [1]}, {"type": "hello", "firmware": "1", "open_grants": [1]}):
        [name] = [key for key, value in message.items() if value == [1]]
        with pytest.raises(LinkError):
            decode_request(msgpack.packb(heartbeat(**message | {name: [1] * (LIST_MAX + 1)})))


def test_a_scan_does_not_show_what_was_scanned():
    scan = devicelink.Scan(device="d", boot="b", seq=1, at=1.0, nonce="n", kind="card", value="6221", photo=b"JFIF")
    assert "6221" not in repr(scan)
    assert "JFIF" not in repr(scan)
    assert "nonce='n'" in repr(scan)


def test_messages_over_the_bounds_are_refused_before_they_are_read():
    with pytest.raises(LinkError, match="at most"):
        decode_request(b"\x80" * (devicelink.MAX_WORK_BYTES + 1))
    with pytest.raises(LinkError, match="at most"):
        devicelink.decode_safety_request(b"\x80" * (devicelink.MAX_SAFETY_BYTES + 1))


@pytest.mark.parametrize("data", [b"", b"all", b"lane-1"])
def test_a_publication_needs_a_topic(data):
    with pytest.raises(LinkError, match="slash"):
        decode_publication(data)


def test_a_release_is_verified_by_its_key_alone():
    release = sign_release(KEY, "1", site="snow-mountain", incident=7)
    verify_release(release, KEY.public_key())
    # golden: other implementations sign the same bytes
    assert release.signed_part() == b"paifang-release-1\x94\xadsnow-mountain\x07\xa4site\xc2"
    with pytest.raises(LinkError):
        verify_release(release, Ed25519PrivateKey.generate().public_key())


@pytest.mark.parametrize(
    "change",
    [
        {"site": "lake"},
        {"incident": 8},
        {"scope": "lane-1"},
        {"drill": True},
        {"signature": b""},
        {"signature": bytes(64)},
    ],
)
def test_a_changed_release_does_not_verify(change):
    release = msgspec.structs.replace(sign_release(KEY, "1", site="snow-mountain", incident=7), **change)
    with pytest.raises(LinkError):
        verify_release(release, KEY.public_key())
