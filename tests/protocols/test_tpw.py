"""TPW's language: the published frame and the tables, both directions, with and without an address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import tpw
from protocols.errors import BoardError
from protocols.testing import feed_in_pieces
from protocols.tpw import FRAME_BYTES_MAX, Arm, Counter, Frame, Kind, Mode, Panel, Passing

addresses = st.one_of(st.none(), st.integers(0, 255))
digits = st.text("0123456789", min_size=1, max_size=tpw.DIGITS_MAX)
words = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=tpw.CONTENT_MAX)
contents = st.one_of(
    st.tuples(st.sampled_from([Kind.CONNECT, Kind.DONE, Kind.FAILED]), st.just("")),
    st.tuples(st.sampled_from([Kind.MODEL, Kind.VERSION, Kind.IDENTITY, Kind.ARM]), words),
    st.tuples(st.sampled_from([Kind.ENTRIES, Kind.EXITS]), digits),
    st.tuples(st.just(Kind.MODE), st.sampled_from([str(mode) for mode in Mode])),
    st.tuples(st.just(Kind.PASSAGE), st.text("0123", min_size=2, max_size=2)),
    st.tuples(st.just(Kind.DELAY), st.text("0123456789", min_size=3, max_size=3)),
)


@st.composite
def frames(draw, address=addresses):
    kind, content = draw(contents)
    return Frame(draw(address), kind, content)


def test_the_published_frame_in_both_directions():
    assert tpw.connect(None).hex() == "02ff0004"
    assert tpw.decode(bytes.fromhex("02 FF 00 04"), addressed=False) == Frame(None, Kind.CONNECT)
    assert tpw.connect(5).hex() == "0502ff0004"
    assert tpw.decode(bytes.fromhex("05 02 FF 00 04"), addressed=True) == Frame(5, Kind.CONNECT)


@pytest.mark.parametrize(
    ("made", "table"),
    [
        (tpw.done(None), "02 44 00 04"),
        (tpw.set_mode(None, Mode.NORMALLY_OPEN), "02 41 01 30 04"),
        (tpw.set_mode(None, Mode.NORMALLY_CLOSED), "02 41 01 31 04"),
        (tpw.set_mode(None, Mode.ENTRY_OPEN), "02 41 01 32 04"),
        (tpw.set_mode(None, Mode.EXIT_OPEN), "02 41 01 33 04"),
        (tpw.set_passing(None, Passing.FREE, Passing.FREE), "02 14 02 31 31 04"),
        (tpw.set_passing(None, Passing.FORBIDDEN, Passing.CONTROLLED), "02 14 02 32 30 04"),
        (tpw.set_delay(None, 60), "02 18 03 30 36 30 04"),
        (tpw.move_arm(None, Arm.DROP), "02 24 01 30 04"),
        (tpw.move_arm(None, Arm.RAISE), "02 24 01 31 04"),
        (tpw.read_counter(None, Counter.ENTRY), "02 28 01 30 04"),
        (tpw.read_counter(None, Counter.EXIT), "02 28 01 31 04"),
        (tpw.reset_counter(None, Counter.EXIT), "02 22 01 31 04"),
        (tpw.show(None, Panel.EXIT, 3), "02 82 02 32 33 04"),
    ],
)
def test_commands_are_as_in_the_published_tables(made, table):
    assert made == bytes.fromhex(table)
    frame = tpw.decode(made, addressed=False)
    assert tpw.encode(frame) == made


@pytest.mark.parametrize(
    ("said", "kind", "content"),
    [
        ("02 44 00 04", Kind.DONE, ""),
        ("02 F4 00 04", Kind.FAILED, ""),
        ("02 21 06 30 30 31 32 33 34 04", Kind.ENTRIES, "001234"),
        ("02 22 02 34 32 04", Kind.EXITS, "42"),
        ("02 41 01 31 04", Kind.MODE, "1"),
        ("02 14 02 30 31 04", Kind.PASSAGE, "01"),
        ("02 81 01 35 04", Kind.SENSITIVITY, "5"),
        ("02 42 01 37 04", Kind.SPEED, "7"),
    ],
)
def test_what_the_board_says_is_as_in_the_published_tables(said, kind, content):
    data = bytes.fromhex(said)
    assert tpw.decode(data, addressed=False) == Frame(None, kind, content)
    assert tpw.encode(Frame(None, kind, content)) == data
    assert tpw.framer(addressed=True).feed(b"\x09" + data) == [Frame(9, kind, content)]


def test_values_are_read_and_others_refused():
    assert tpw.count(Frame(1, Kind.ENTRIES, "001234")) == 1234
    assert tpw.mode(Frame(1, Kind.MODE, "2")) is Mode.ENTRY_OPEN
    assert tpw.passing(Frame(1, Kind.PASSAGE, "02")) == (Passing.CONTROLLED, Passing.FORBIDDEN)
    for read in (tpw.count, tpw.mode, tpw.passing):
        with pytest.raises(BoardError):
            read(Frame(1, Kind.DONE))


@pytest.mark.parametrize(
    "build",
    [
        lambda: tpw.set_delay(1, 61),
        lambda: tpw.set_delay(1, -1),
        lambda: tpw.connect(256),
        lambda: tpw.connect(-1),
        lambda: tpw.show(1, Panel.ENTRY, 6),
        lambda: tpw.encode(Frame(1, Kind.MODE, "7")),
        lambda: tpw.encode(Frame(1, Kind.MODEL, "闸机")),
        lambda: tpw.encode(Frame(1, Kind.ENTRIES, "٣")),
        lambda: tpw.encode(Frame(1, Kind.MODEL, "x" * 33)),
        lambda: tpw.decode(b"", addressed=True),
        lambda: tpw.decode(b"\x01", addressed=True),
        lambda: tpw.decode(bytes.fromhex("02 FF 00 04 04"), addressed=False),
        lambda: tpw.decode(bytes.fromhex("02 41 01 39 04"), addressed=False),
        lambda: tpw.decode(bytes.fromhex("02 41 01 31 05"), addressed=False),
        lambda: tpw.decode(bytes.fromhex("02 F1 01 ff 04"), addressed=False),
    ],
)
def test_what_does_not_belong_is_refused(build):
    with pytest.raises(BoardError):
        build()


@given(frames())
def test_frames_round_trip(frame):
    data = tpw.encode(frame)
    assert tpw.decode(data, addressed=frame.address is not None) == frame


@given(st.binary(max_size=40), st.booleans())
def test_decode_raises_nothing_else(data, addressed):
    try:
        frame = tpw.decode(data, addressed=addressed)
    except BoardError:
        return
    assert tpw.encode(frame) == data


@given(st.lists(frames(st.integers(0, 255)), max_size=5), st.lists(st.integers(0, 80), max_size=8))
def test_any_split_of_the_stream_gives_the_same_frames(sent, cuts):
    stream = b"".join(map(tpw.encode, sent))
    assert feed_in_pieces(tpw.framer(addressed=True), stream, cuts) == sent


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10), st.booleans())
def test_any_split_of_garbage_counts_the_same(garbage, cuts, addressed):
    whole, pieces = tpw.framer(addressed=addressed), tpw.framer(addressed=addressed)
    assert whole.feed(garbage) == feed_in_pieces(pieces, garbage, cuts)
    assert (whole.bad_frames, whole.skipped_bytes) == (pieces.bad_frames, pieces.skipped_bytes)
    assert whole.pending_bytes == pieces.pending_bytes < FRAME_BYTES_MAX


@given(st.binary(max_size=60).filter(lambda data: tpw.START not in data), frames(st.just(9)))
def test_finds_the_frame_after_garbage(garbage, frame):
    framer = tpw.framer(addressed=True)
    assert framer.feed(garbage + tpw.encode(frame)) == [frame]
    assert framer.skipped_bytes == len(garbage)
