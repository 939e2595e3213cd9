"""Mach Power's language: the published frames, both directions, and everything that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import machpower
from protocols.errors import BoardError
from protocols.machpower import FRAME_BYTES, Command, Frame
from protocols.testing import feed_in_pieces

frames = st.builds(Frame, st.integers(0, 255), st.sampled_from(Command))


@pytest.mark.parametrize(
    ("published", "command"),
    [("EB 01 40 00 AA", Command.LEFT_OPEN), ("EB 01 41 00 AB", Command.RIGHT_OPEN)],
)
def test_published_frames_in_both_directions(published, command):
    data = bytes.fromhex(published)
    assert machpower.encode(1, command) == data
    assert machpower.decode(data) == Frame(1, command)
    assert machpower.framer().feed(data) == [Frame(1, command)]


@pytest.mark.parametrize(
    ("printed", "command", "by_rule"),
    [("EB 01 42 00 AB", Command.DROP_ARM, "EB 01 42 00 A8"), ("EB 01 43 00 AB", Command.RAISE_ARM, "EB 01 43 00 A9")],
)
def test_the_arm_follows_the_printed_rule_and_not_its_misprinted_example(printed, command, by_rule):
    assert machpower.encode(1, command) == bytes.fromhex(by_rule)
    assert machpower.decode(bytes.fromhex(by_rule)) == Frame(1, command)
    with pytest.raises(BoardError, match="checksum"):
        machpower.decode(bytes.fromhex(printed))


def test_ban_and_recovery_have_the_listed_codes():
    assert machpower.encode(0x20, Command.BAN).hex() == "eb204a0081"
    assert machpower.encode(0x20, Command.RECOVER).hex() == "eb204b0080"


@pytest.mark.parametrize("address", [-1, 256])
def test_an_address_that_is_no_byte_is_refused(address):
    with pytest.raises(BoardError, match="address"):
        machpower.encode(address, Command.BAN)


@given(frames)
def test_frames_round_trip(frame):
    assert machpower.decode(machpower.encode(frame.address, frame.command)) == frame


@given(st.binary(max_size=12))
def test_decode_raises_nothing_else(data):
    try:
        frame = machpower.decode(data)
    except BoardError:
        return
    assert machpower.encode(frame.address, frame.command) == data


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 30), max_size=8))
def test_any_split_of_the_stream_gives_the_same_frames(sent, cuts):
    stream = b"".join(machpower.encode(frame.address, frame.command) for frame in sent)
    assert feed_in_pieces(machpower.framer(), stream, cuts) == sent


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_any_split_of_garbage_counts_the_same(garbage, cuts):
    whole, pieces = machpower.framer(), machpower.framer()
    assert whole.feed(garbage) == feed_in_pieces(pieces, garbage, cuts)
    assert (whole.bad_frames, whole.skipped_bytes) == (pieces.bad_frames, pieces.skipped_bytes)
    assert whole.pending_bytes == pieces.pending_bytes < FRAME_BYTES


@given(st.binary(max_size=60).filter(lambda data: machpower.START not in data), frames)
def test_finds_the_frame_after_garbage(garbage, frame):
    framer = machpower.framer()
    assert framer.feed(garbage + machpower.encode(frame.address, frame.command)) == [frame]
    assert framer.skipped_bytes == len(garbage)


@pytest.mark.parametrize("bit", range(FRAME_BYTES * 8))
def test_any_flipped_bit_costs_only_its_frame(bit):
    sound = machpower.encode(7, Command.DROP_ARM)
    damaged = bytearray(sound)
    damaged[bit // 8] ^= 1 << bit % 8
    framer = machpower.framer()
    assert framer.feed(bytes(damaged) + sound) == [Frame(7, Command.DROP_ARM)]
    assert framer.bad_frames == 1


def test_reset_drops_and_counts_a_half_frame():
    framer = machpower.framer()
    assert framer.feed(machpower.encode(1, Command.BAN)[:3]) == []
    framer.reset()
    assert (framer.pending_bytes, framer.bad_frames, framer.skipped_bytes) == (0, 1, 3)
