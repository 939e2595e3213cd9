"""Frames for our own boards: the manual's vector, damage of every kind, bounds."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from protocols import devicelink, frames
from protocols.errors import FrameError
from protocols.frames import MAX_MESSAGE_BYTES, FrameDecoder
from protocols.testing import feed_in_pieces

MESSAGE = b"\x00one \x00\x00message\xff"
FRAME = frames.encode(MESSAGE)
messages = st.binary(min_size=1, max_size=600)


def test_the_manuals_vector_is_what_we_send_and_understand():
    manual = (Path(__file__).parents[2] / "docs" / "serial.md").read_text("utf-8")
    vector = dict(re.findall(r"^(\w+)  +(\S.*)$", manual.split("```")[1], re.MULTILINE))
    packed, frame = bytes.fromhex(vector["packed"]), bytes.fromhex(vector["frame"])
    assert frames.encode(packed) == frame
    (received,) = FrameDecoder().feed(frame)
    request = devicelink.decode_request(received)
    assert isinstance(request, devicelink.Heartbeat)
    assert msgspec.to_builtins(request) == json.loads(vector["message"])
    assert devicelink.encode(request) == packed

    # unstuffed by hand, without the library
    body, unstuffed = frame[1:-1], b""
    while body:
        code, body = body[0], body[1:]
        unstuffed, body = unstuffed + body[: code - 1], body[code - 1 :]
        if code < 0xFF and body:
            unstuffed += b"\x00"
    assert unstuffed == packed + bytes.fromhex(vector["crc"])


def test_the_manuals_bound_is_the_codes():
    assert f"{frames.MAX_STUFFED_BYTES} bytes" in (Path(__file__).parents[2] / "docs" / "serial.md").read_text("utf-8")


@given(messages)
def test_every_message_round_trips_and_has_no_zero_inside(message):
    frame = frames.encode(message)
    assert frame[0] == frame[-1] == 0
    assert 0 not in frame[1:-1]
    assert frames.decode(frame[1:-1]) == message


@pytest.mark.parametrize("fill", [b"\x00", b"\x01", b"\xff"])
def test_the_longest_message_fits(fill):
    message = fill * MAX_MESSAGE_BYTES
    decoder = FrameDecoder()
    assert decoder.feed(frames.encode(message)) == [message]
    assert decoder.bad_frames == 0


@pytest.mark.parametrize("message", [b"", b"x" * (MAX_MESSAGE_BYTES + 1)])
def test_what_does_not_fit_is_not_sent(message):
    with pytest.raises(FrameError):
        frames.encode(message)


@pytest.mark.parametrize(
    "stuffed",
    [
        b"",
        b"\x01",
        b"\x05\x01",
        cobs.encode(b"\x00\x00\x00\x00"),  # the checksum of nothing
        cobs.encode(b"message" + b"\x00\x00\x00\x00"),
        b"\x00",
        b"\x01" * (frames.MAX_STUFFED_BYTES + 1),
    ],
)
def test_what_is_no_frame_is_refused(stuffed):
    with pytest.raises(FrameError):
        frames.decode(stuffed)


@given(st.lists(messages, max_size=5), st.lists(st.integers(0, 3000), max_size=12))
def test_any_split_of_the_stream_gives_the_same_messages(sent, cuts):
    decoder = FrameDecoder()
    assert feed_in_pieces(decoder, b"".join(map(frames.encode, sent)), cuts) == sent
    assert (decoder.bad_frames, decoder.pending_bytes) == (0, 0)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=12))
def test_any_split_of_garbage_gives_and_counts_the_same(garbage, cuts):
    whole, pieces = FrameDecoder(), FrameDecoder()
    assert whole.feed(garbage) == feed_in_pieces(pieces, garbage, cuts)
    assert (whole.bad_frames, whole.pending_bytes) == (pieces.bad_frames, pieces.pending_bytes)


@given(st.binary(max_size=300))
def test_noise_before_a_frame_costs_only_itself(noise):
    decoder = FrameDecoder()
    assert decoder.feed(noise + FRAME)[-1:] == [MESSAGE]


@pytest.mark.parametrize("bit", range(len(FRAME) * 8))
def test_any_flipped_bit_loses_the_frame_and_no_other(bit):
    damaged = bytearray(FRAME)
    damaged[bit // 8] ^= 1 << bit % 8
    decoder = FrameDecoder()
    received = decoder.feed(FRAME + bytes(damaged) + FRAME)
    if 8 <= bit < (len(FRAME) - 1) * 8:
        assert received == [MESSAGE, MESSAGE]
        assert decoder.bad_frames in (1, 2)  # two when the flip made a border in the middle
    else:  # a border: the neighbours' borders still stand
        assert received in ([MESSAGE, MESSAGE], [MESSAGE] * 3)


def test_an_endless_frame_is_dropped_counted_once_and_bounded():
    decoder = FrameDecoder()
    for _ in range(100):
        assert decoder.feed(b"\x11" * 1000) == []
        assert decoder.pending_bytes <= frames.MAX_STUFFED_BYTES
    assert decoder.feed(FRAME) == [MESSAGE]
    assert decoder.bad_frames == 1


def test_a_pause_ends_a_half_frame():
    decoder = FrameDecoder()
    decoder.feed(FRAME[:-3])
    decoder.reset()
    assert decoder.feed(FRAME[1:]) == [MESSAGE]
    assert decoder.bad_frames == 1
