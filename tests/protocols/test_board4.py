"""Board 4: golden frames, both directions, resynchronisation, counters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import board4
from protocols.board4 import Action, Board4Framer, Command, Frame, State
from protocols.errors import BoardError
from protocols.testing import feed_in_pieces

ENTER_OPEN = bytes.fromhex("aa000102000008 0000000000000000 0b")
QUERY_11 = bytes.fromhex("aa00010200 0b08 ff00000000000000 15")
STATUS_11 = bytes.fromhex("aa000b1200 0108 6200 0004d2 0004b0 12")

frames = st.builds(
    Frame,
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(min_size=8, max_size=8),
)


def test_golden_commands():
    assert board4.enter_open(0) == ENTER_OPEN
    assert board4.query(11) == QUERY_11
    assert board4.enter_hold(0).hex() == "aa0001020000080001000000000000" + "0c"
    assert board4.enter_close(0)[8] == 2
    assert board4.exit_open(0, 20).hex() == "aa000102000008" + "0003140000000000" + "22"
    assert board4.exit_hold(0)[8] == 4
    assert board4.exit_close(0)[8] == 5


def test_golden_status():
    frame = board4.decode_frame(STATUS_11)
    assert board4.decode_status(frame) == board4.status(11, State.TAILGATING, 1234, 1200)
    assert board4.encode_status(board4.status(11, State.TAILGATING, 1234, 1200)) == STATUS_11


@pytest.mark.parametrize(
    ("build", "published"),
    [
        (board4.enter_open, "AA 00 01 02 00 1E 08 00 00 00 00 00 00 00 00 29"),
        (board4.exit_open, "AA 00 01 02 00 1E 08 00 03 00 00 00 00 00 00 2C"),
        (board4.enter_hold, "AA 00 01 02 00 1E 08 00 01 00 00 00 00 00 00 2A"),
        (board4.exit_hold, "AA 00 01 02 00 1E 08 00 04 00 00 00 00 00 00 2D"),
        (board4.enter_close, "AA 00 01 02 00 1E 08 00 02 00 00 00 00 00 00 2B"),
        (board4.exit_close, "AA 00 01 02 00 1E 08 00 05 00 00 00 00 00 00 2E"),
    ],
)
def test_the_frames_of_another_published_host_program_in_both_directions(build, published):
    data = bytes.fromhex(published)
    assert build(0x1E) == data
    assert board4.encode_command(board4.decode_command(board4.decode_frame(data))) == data


@pytest.mark.parametrize(
    ("locked", "published"),
    [
        (True, "AA 00 01 02 05 1E 02 00 01 00 00 00 00 00 00 29"),
        (False, "AA 00 01 02 05 1E 02 00 00 00 00 00 00 00 00 28"),
    ],
)
def test_the_published_lock_in_both_directions(locked, published):
    data = bytes.fromhex(published)
    assert board4.encode_lock(0x1E, locked) == data
    (frame,) = Board4Framer().feed(data)
    assert board4.decode_lock(frame) is locked
    assert board4.encode_frame(frame) == data
    for read in (board4.decode_command, board4.decode_status):
        with pytest.raises(BoardError):
            read(frame)
    with pytest.raises(BoardError):
        board4.decode_lock(board4.decode_frame(ENTER_OPEN))
    with pytest.raises(BoardError):
        board4.encode_lock(256, locked)


@pytest.mark.parametrize("state", [state for state in State if state is not State.UNLISTED])
def test_every_listed_state_round_trips(state):
    sent = board4.status(3, state, 0xFFFFFF, 0)
    assert board4.decode_status(board4.decode_frame(board4.encode_status(sent))) == sent


def test_the_state_sets_do_not_overlap_and_leave_only_the_self_test():
    sets = [
        board4.CLOSED_STATES,
        board4.OPEN_STATES,
        board4.OPENING_STATES,
        board4.CLOSING_STATES,
        board4.ALARM_STATES,
    ]
    union = frozenset().union(*sets)
    assert sum(map(len, sets)) == len(union)
    assert set(State) - union == {State.SELF_TEST, State.UNLISTED}


def test_an_unlisted_state_keeps_the_counters():
    status = board4.decode_status(Frame(4, board4.CID_STATUS, 0, 1, bytes((0x77, 0, 0, 0, 9, 0, 0, 8))))
    assert status == board4.Status(4, State.UNLISTED, 9, 8, 0x77)
    assert board4.decode_frame(board4.encode_status(status)).data[0] == 0x77


@given(st.integers(0, 255), st.sampled_from([None, *Action]), st.integers(1, 255))
def test_commands_round_trip(address, action, pax):
    counted = action in (Action.ENTER_OPEN, Action.EXIT_OPEN)
    command = Command(address, action, pax if counted else 1)
    assert board4.decode_command(board4.decode_frame(board4.encode_command(command))) == command


@pytest.mark.parametrize(
    "build",
    [
        lambda: board4.enter_open(256),
        lambda: board4.enter_open(1, 0),
        lambda: board4.enter_open(1, 256),
        lambda: board4.encode_status(board4.status(1, State.CLOSED_IDLE, 1 << 24, 0)),
        lambda: board4.encode_status(board4.status(1, State.UNLISTED, 0, 0)),
        lambda: board4.encode_frame(Frame(0, 0, 0, 0, b"short")),
        lambda: board4.decode_status(board4.decode_frame(ENTER_OPEN)),
        lambda: board4.decode_command(board4.decode_frame(STATUS_11)),
        lambda: board4.decode_command(Frame(1, board4.CID_COMMAND, 0, 0, bytes((0, 6, 0, 0, 0, 0, 0, 0)))),
        lambda: board4.decode_command(Frame(1, board4.CID_COMMAND, 0, 0, bytes((7, 0, 0, 0, 0, 0, 0, 0)))),
        lambda: board4.decode_frame(ENTER_OPEN[:-1]),
        lambda: board4.decode_frame(ENTER_OPEN[:-1] + b"\x0c"),
        lambda: board4.decode_frame(b"\xab" + ENTER_OPEN[1:]),
    ],
)
def test_what_does_not_belong_is_refused(build):
    with pytest.raises(BoardError):
        build()


@given(st.binary(max_size=40))
def test_decode_frame_raises_nothing_else(data):
    try:
        frame = board4.decode_frame(data)
    except BoardError:
        return
    assert board4.encode_frame(frame) == data


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 80), max_size=10))
def test_any_split_of_the_stream_gives_the_same_frames(sent, cuts):
    stream = b"".join(map(board4.encode_frame, sent))
    assert feed_in_pieces(Board4Framer(), stream, cuts) == sent


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_any_split_of_garbage_counts_the_same(garbage, cuts):
    whole, pieces = Board4Framer(), Board4Framer()
    assert whole.feed(garbage) == feed_in_pieces(pieces, garbage, cuts)
    assert (whole.bad_frames, whole.skipped_bytes) == (pieces.bad_frames, pieces.skipped_bytes)
    assert whole.pending_bytes == pieces.pending_bytes < board4.FRAME_BYTES


@given(st.binary(max_size=100).filter(lambda data: board4.START not in data), frames)
def test_finds_the_frame_after_garbage(garbage, frame):
    framer = Board4Framer()
    assert framer.feed(garbage + board4.encode_frame(frame)) == [frame]
    assert framer.skipped_bytes == len(garbage)
    assert framer.bad_frames == -(-len(garbage) // board4.FRAME_BYTES)


@pytest.mark.parametrize("lost", range(1, 16))
def test_a_frame_that_lost_its_tail_costs_only_itself(lost):
    framer = Board4Framer()
    assert framer.feed(STATUS_11[:-lost] + STATUS_11) == [board4.decode_frame(STATUS_11)]
    assert framer.bad_frames == 1


@pytest.mark.parametrize("bit", range(128))
def test_any_flipped_bit_costs_only_its_frame(bit):
    damaged = bytearray(STATUS_11)
    damaged[bit // 8] ^= 1 << bit % 8
    framer = Board4Framer()
    assert framer.feed(bytes(damaged) + STATUS_11) == [board4.decode_frame(STATUS_11)]
    assert framer.bad_frames == 1


def test_reset_drops_and_counts_a_half_frame():
    framer = Board4Framer()
    assert framer.feed(STATUS_11[:9]) == []
    framer.reset()
    assert (framer.pending_bytes, framer.bad_frames, framer.skipped_bytes) == (0, 1, 9)
    assert framer.feed(STATUS_11) == [board4.decode_frame(STATUS_11)]
    framer.reset()
    assert framer.bad_frames == 1


@pytest.mark.parametrize(
    ("old", "new", "people"),
    [
        (7, 7, 0),
        (7, 9, 2),
        (0xFFFFFF, 0, 1),
        (0xFFFFF0, 4, 20),
        (1234, 0, None),
        (1234, 1233, None),
        (0x800000, 12, None),
        (5, 5 + board4.ADVANCE_MAX, board4.ADVANCE_MAX),
        (5, 6 + board4.ADVANCE_MAX, None),
    ],
)
def test_counters_wrap_and_reset(old, new, people):
    assert board4.advance(old, new) == people


@given(st.integers(0, 0xFFFFFF), st.integers(0, board4.WRAP_ADVANCE_MAX))
def test_a_counter_that_moved_a_little_is_understood_everywhere(old, moved):
    assert board4.advance(old, (old + moved) % board4.COUNTER_MODULUS) == moved
