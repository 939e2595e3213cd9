"""The wire under NNG: whole messages whatever the pieces, and nothing but LinkError for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LinkError
from protocols.sp import HOPS_MAX, Decoder, MessageTooLarge, Protocol, frame, greeting, split_request


def test_the_greetings_are_those_of_the_drafts():
    assert greeting(Protocol.REP) == b"\x00SP\x00\x00\x31\x00\x00"
    assert greeting(Protocol.PUB) == b"\x00SP\x00\x00\x20\x00\x00"
    assert frame(b"ab", b"c") == b"\0\0\0\0\0\0\0\x03abc"


@given(st.lists(st.binary(max_size=300), max_size=6), st.data())
def test_messages_come_out_whole_in_whatever_pieces_they_come(messages, data):
    wire = greeting(Protocol.REQ) + b"".join(map(frame, messages))
    decoder, found = Decoder(Protocol.REP, 300), []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        found += decoder.feed(wire[:cut])
        wire = wire[cut:]
    assert found == messages
    assert decoder.greeted


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_are_messages_or_a_link_error(pieces):
    decoder = Decoder(Protocol.REP, 50)
    try:
        for piece in pieces:
            for message in decoder.feed(piece):
                assert len(message) <= 50
    except LinkError:
        pass


@pytest.mark.parametrize("wrong", [b"GET / HTTP", b"\0SP\0\0\x31\0\0", b"\0SP\0\0\x21\0\0", b"\0SP\1", b"\x16\x03\x01"])
def test_whoever_greets_otherwise_is_refused_at_the_first_wrong_byte(wrong):
    with pytest.raises(LinkError):
        list(Decoder(Protocol.REP, 50).feed(wrong))


def test_a_message_too_large_is_refused_before_it_comes():
    decoder = Decoder(Protocol.REP, 50)
    assert list(decoder.feed(greeting(Protocol.REQ) + frame(b"x" * 50))) == [b"x" * 50]
    with pytest.raises(MessageTooLarge, match="51 bytes"):
        list(decoder.feed(frame(b"x" * 51)[:8]))


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (b"\x80\0\0\1body", (b"\x80\0\0\1", b"body")),
        (b"\0\0\0\2\x80\0\0\1body", (b"\0\0\0\2\x80\0\0\1", b"body")),
        (b"\xff\0\0\1", (b"\xff\0\0\1", b"")),
    ],
)
def test_a_request_is_its_stack_and_its_body(message, parts):
    assert split_request(message) == parts


@pytest.mark.parametrize(
    "message", [b"", b"\x80\0\0", b"\0\0\0\1", b"\0\0\0\1\x80", b"\0\0\0\1" * HOPS_MAX + b"\x80\0\0\0"]
)
def test_a_stack_without_an_end_is_refused(message):
    with pytest.raises(LinkError):
        split_request(message)
