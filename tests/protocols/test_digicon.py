"""Digicon's language: the published frames, both directions, and everything that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import digicon
from protocols.digicon import DIRECTIONS, FRAME_BYTES_MAX, REPLIES, Code, Frame
from protocols.errors import BoardError
from protocols.testing import feed_in_pieces

WITH_DIRECTION = (Code.FREE, Code.PROGRAM)
frames = st.one_of(
    st.builds(Frame, st.sampled_from([code for code in Code if code not in WITH_DIRECTION])),
    st.builds(Frame, st.sampled_from(WITH_DIRECTION), st.sampled_from(sorted(DIRECTIONS))),
)


@pytest.mark.parametrize(
    ("published", "frame"),
    [
        ("02 02 00 48 48", Frame(Code.RIGHT_TO_LEFT)),
        ("02 03 00 4C 48 05", Frame(Code.FREE, Code.RIGHT_TO_LEFT)),
        ("02 02 00 06 06", Frame(Code.ACK)),
    ],
)
def test_published_frames_in_both_directions(published, frame):
    data = bytes.fromhex(published)
    assert digicon.encode(frame.code, frame.direction) == data
    assert digicon.decode(data) == frame
    assert digicon.framer().feed(data) == [frame]


def test_the_listed_replies_follow_the_published_rule():
    assert digicon.encode(Code.NAK).hex() == "0202001515"
    assert digicon.encode(Code.PASSED_RIGHT_TO_LEFT).hex() == "0202001a1a"
    assert digicon.encode(Code.PASSED_LEFT_TO_RIGHT).hex() == "0202001b1b"
    assert {Code.ACK, Code.NAK, Code.PASSED_LEFT_TO_RIGHT, Code.PASSED_RIGHT_TO_LEFT} == REPLIES


def test_the_probe_is_well_formed_and_no_command():
    probe = digicon.encode_probe()
    assert probe.hex() == "0202003f3f"
    with pytest.raises(BoardError, match="not listed"):
        digicon.decode(probe)


@pytest.mark.parametrize(
    ("code", "direction"),
    [
        (Code.FREE, None),
        (Code.CONTROL, Code.RIGHT_TO_LEFT),
        (Code.FREE, Code.ACK),
    ],
)
def test_what_does_not_go_together_is_refused(code, direction):
    with pytest.raises(BoardError):
        digicon.encode(code, direction)


@pytest.mark.parametrize(
    "data", ["02 02 00 48 49", "02 03 00 48 48", "03 02 00 48 48", "02 03 00 48 06 4f", "02 02 00", ""]
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(BoardError):
        digicon.decode(bytes.fromhex(data))


@given(frames)
def test_frames_round_trip(frame):
    assert digicon.decode(digicon.encode(frame.code, frame.direction)) == frame


@given(st.binary(max_size=12))
def test_decode_raises_nothing_else(data):
    try:
        frame = digicon.decode(data)
    except BoardError:
        return
    assert digicon.encode(frame.code, frame.direction) == data


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 30), max_size=8))
def test_any_split_of_the_stream_gives_the_same_frames(sent, cuts):
    stream = b"".join(digicon.encode(frame.code, frame.direction) for frame in sent)
    assert feed_in_pieces(digicon.framer(), stream, cuts) == sent


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_any_split_of_garbage_counts_the_same(garbage, cuts):
    whole, pieces = digicon.framer(), digicon.framer()
    assert whole.feed(garbage) == feed_in_pieces(pieces, garbage, cuts)
    assert (whole.bad_frames, whole.skipped_bytes) == (pieces.bad_frames, pieces.skipped_bytes)
    assert whole.pending_bytes == pieces.pending_bytes < FRAME_BYTES_MAX


@given(st.binary(max_size=60).filter(lambda data: digicon.START not in data), frames)
def test_finds_the_frame_after_garbage(garbage, frame):
    framer = digicon.framer()
    assert framer.feed(garbage + digicon.encode(frame.code, frame.direction)) == [frame]
    assert framer.skipped_bytes == len(garbage)


@pytest.mark.parametrize("bit", range(48))
def test_a_flipped_bit_is_noticed_and_later_frames_are_found(bit):
    sound = digicon.encode(Code.FREE, Code.RIGHT_TO_LEFT)
    damaged = bytearray(sound)
    damaged[bit // 8] ^= 1 << bit % 8
    framer = digicon.framer()
    found = framer.feed(bytes(damaged) + sound + sound)
    assert found[-1] == Frame(Code.FREE, Code.RIGHT_TO_LEFT) and framer.bad_frames >= 1
    assert set(found) == {Frame(Code.FREE, Code.RIGHT_TO_LEFT)}
