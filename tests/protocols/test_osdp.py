"""OSDP frames against those of another author's control panel, cards of every length, noise, keypads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import osdp
from protocols.osdp import Frame, Keypad, OsdpError, OsdpFramer, card_value, wiegand
from protocols.testing import feed_in_pieces

# what the control panel of the package osdp 1.6 (PyPI, another author) sends to address 1 and 126
FOREIGN = [
    ("530108000460ba00", Frame(address=1, reply=False, sequence=0, code=0x60)),
    ("530109000561005014", Frame(address=1, reply=False, sequence=1, code=0x61, data=b"\0")),
    ("530109000662005318", Frame(address=1, reply=False, sequence=2, code=0x62, data=b"\0")),
    ("5301080007646d15", Frame(address=1, reply=False, sequence=3, code=0x64)),
    (
        "53010c00056800051e0052ba",
        Frame(address=1, reply=False, sequence=1, code=0x68, data=bytes.fromhex("00051e00")),
    ),
    ("53010700006045", Frame(address=1, reply=False, sequence=0, code=0x60, crc=False)),
    ("5301080001610042", Frame(address=1, reply=False, sequence=1, code=0x61, data=b"\0", crc=False)),
    (
        "53010b00016800051e0015",
        Frame(address=1, reply=False, sequence=1, code=0x68, data=bytes.fromhex("00051e00"), crc=False),
    ),
    (
        "537e13000d0311007600010203040506077a65",
        Frame(
            address=126, reply=False, sequence=1, code=0x76, data=bytes(range(8)), security=bytes.fromhex("031100")
        ),
    ),
]

frames = st.builds(
    Frame,
    address=st.integers(0, 127),
    reply=st.booleans(),
    sequence=st.integers(0, 3),
    code=st.integers(0, 255),
    data=st.binary(max_size=240),
    security=st.sampled_from([b"", b"\x02\x15", b"\x03\x11\x01", b"\x02\x18"]),
    crc=st.booleans(),
    reserved=st.sampled_from([0, 0x80]),
)


@pytest.mark.parametrize(("octets", "frame"), FOREIGN)
def test_frames_are_those_of_another_author(octets, frame):
    assert osdp.encode(frame).hex() == octets
    assert osdp.decode(bytes.fromhex(octets)) == frame
    assert OsdpFramer().feed(b"\xff" + bytes.fromhex(octets)) == [frame]


def test_the_crc_is_the_one_of_the_standard():
    assert osdp.crc16(b"123456789") == 0xE5CC


@given(st.lists(frames, max_size=4), st.lists(st.integers(0, 900), max_size=10), st.booleans())
def test_any_split_of_a_stream_gives_the_same_frames(sent, cuts, mark):
    stream = b"".join(osdp.encode(frame, mark=mark) for frame in sent)
    framer = OsdpFramer()
    assert feed_in_pieces(framer, stream, cuts) == sent
    assert (framer.bad_frames, framer.pending_bytes) == (0, 0)


@given(st.binary(max_size=600), st.lists(st.integers(0, 600), max_size=10))
def test_any_bytes_give_frames_or_nothing_and_are_not_kept(garbage, cuts):
    whole, pieces = OsdpFramer(), OsdpFramer()
    assert whole.feed(garbage) == feed_in_pieces(pieces, garbage, cuts)
    assert whole.bad_frames == pieces.bad_frames
    assert whole.pending_bytes == pieces.pending_bytes < osdp.FRAME_BYTES_MAX


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_the_codecs_own_error(data):
    try:
        frame = osdp.decode(data)
    except OsdpError:
        return
    assert osdp.encode(frame) == data


@given(st.binary(max_size=60), st.binary(max_size=60), frames)
def test_a_frame_between_noise_without_a_start_byte_is_found(before, after, frame):
    noise = [part.replace(b"\x53", b"\x00") for part in (before, after)]
    assert OsdpFramer().feed(noise[0] + osdp.encode(frame) + noise[1]) == [frame]


@given(frames, st.data())
def test_no_flipped_bit_gets_through(frame, data):
    octets = bytearray(osdp.encode(frame))
    at = data.draw(st.integers(0, len(octets) * 8 - 1))
    octets[at // 8] ^= 1 << at % 8
    found = OsdpFramer().feed(bytes(octets))
    assert frame not in found


def test_a_half_frame_is_dropped_after_a_pause_and_counted():
    framer = OsdpFramer()
    framer.feed(bytes.fromhex("53010800"))
    framer.reset()
    assert framer.feed(bytes.fromhex(FOREIGN[0][0])) == [FOREIGN[0][1]]
    assert framer.bad_frames == 1
    framer.reset()
    assert framer.bad_frames == 1


def test_a_start_byte_in_noise_does_not_swallow_the_next_frame():
    framer = OsdpFramer()
    assert framer.feed(b"\x53\x01\xff\xff\x04" + bytes.fromhex(FOREIGN[0][0])) == [FOREIGN[0][1]]
    assert framer.bad_frames == 1


@pytest.mark.parametrize(
    "frame",
    [
        Frame(address=128, reply=False, sequence=0, code=0x60),
        Frame(address=1, reply=False, sequence=4, code=0x60),
        Frame(address=1, reply=False, sequence=0, code=0x60, data=bytes(250)),
        Frame(address=1, reply=False, sequence=0, code=0x60, security=b"\x03\x15"),
        Frame(address=1, reply=False, sequence=0, code=0x60, security=b"\x02\x10"),
    ],
)
def test_what_cannot_be_sent_is_refused(frame):
    with pytest.raises(OsdpError):
        osdp.encode(frame)


def test_words_for_a_frame_name_the_reason_of_a_no_and_never_a_card():
    card = Frame(address=3, reply=True, sequence=1, code=0x50, data=bytes.fromhex("00002000deadbeef"))
    assert osdp.describe(card) == "from 3: RAW seq 1, 8 bytes"
    assert "dead" not in repr(card).lower()
    assert osdp.describe(Frame(address=1, reply=True, sequence=1, code=0x41, data=b"\x05")).endswith(
        "NAK seq 1, no secure channel here"
    )
    assert osdp.describe(Frame(address=127, reply=False, sequence=0, code=0x76, security=b"\x03\x11\x01")) == (
        "to all: CHLNG seq 0, secured 11"
    )
    assert osdp.nak_reason(Frame(address=1, reply=True, sequence=1, code=0x41)) == "no reason given"


# --- cards ------------------------------------------------------------------------------------------------------------


def test_whole_bytes_are_the_uid():
    assert card_value(bytes.fromhex("04a1b2c3d4e5f6"), 56) == "04A1B2C3D4E5F6"
    assert card_value(bytes.fromhex("00a1b2c3"), 32) == "00A1B2C3"
    assert card_value(bytes.fromhex("04a1b2c3"), 32, reverse=True) == "C3B2A104"


def test_a_26_bit_card_by_hand():
    # facility 1, card 1: 0 00000001 0000000000000001 0, even parity 1 over one bit, odd parity 0 over one bit
    assert card_value(bytes.fromhex("80800080"), 26) == "010001"
    assert wiegand(0x010001, 26).hex() == "80800080"


@pytest.mark.parametrize(("bits", "digits"), [(26, 6), (34, 8), (37, 9), (42, 10), (50, 12), (58, 14), (66, 16)])
@given(data=st.data())
def test_parity_is_taken_off_and_checked(bits, digits, data):
    number = data.draw(st.integers(1, (1 << (bits - 2)) - 1))
    octets = wiegand(number, bits)
    assert card_value(octets, bits) == f"{number:0{digits}X}"
    at = data.draw(st.integers(0, bits - 1))
    flipped = bytearray(octets)
    flipped[at // 8] ^= 0x80 >> at % 8
    with pytest.raises(OsdpError):
        card_value(bytes(flipped), bits)


def test_another_length_is_one_number():
    assert card_value(bytes.fromhex("fffe"), 15) == "7FFF"
    assert card_value(b"\x80", 1) == "1"


@pytest.mark.parametrize(("data", "bits"), [(b"", 0), (b"\x01", 9), (b"\x01\x02", 8), (bytes(65), 520), (bytes(4), 32)])
def test_what_is_no_card_is_refused(data, bits):
    with pytest.raises(OsdpError):
        card_value(data, bits)


@given(st.binary(max_size=70), st.integers(-5, 600), st.booleans())
def test_any_card_is_hexadecimal_or_the_codecs_own_error(data, bits, reverse):
    try:
        value = card_value(data, bits, reverse=reverse)
    except OsdpError:
        return
    assert value == value.upper() and int(value, 16) > 0


@pytest.mark.parametrize(("number", "bits"), [(1 << 24, 26), (-1, 26), (1, 32), (1, 18)])
def test_numbers_that_do_not_fit_are_refused(number, bits):
    with pytest.raises(OsdpError):
        wiegand(number, bits)


# --- keypads ----------------------------------------------------------------------------------------------------------


def test_a_number_ends_with_the_hash_key():
    pad = Keypad()
    assert pad.feed(b"12", 0.0) == []
    assert pad.feed(b"34\r", 1.0) == ["1234"]
    assert pad.feed(b"5#6#", 2.0) == ["5", "6"]


@pytest.mark.parametrize("back", [b"*", b"\x7f", b"A", b"\x00", b"\xff"])
def test_the_star_and_anything_strange_take_it_back(back):
    pad = Keypad()
    assert pad.feed(b"12" + back + b"34\r", 0.0) == ["34"]


def test_a_pause_takes_it_back():
    pad = Keypad()
    pad.feed(b"12", 0.0)
    assert pad.feed(b"34\r", osdp.KEY_PAUSE_S + 0.1) == ["34"]


def test_a_number_has_a_bound():
    pad = Keypad()
    assert pad.feed(b"1" * (osdp.KEYS_MAX + 1) + b"\r", 0.0) == []
    assert pad.feed(b"1" * osdp.KEYS_MAX + b"\r", 0.0) == ["1" * osdp.KEYS_MAX]
    assert pad.feed(b"\r\r", 0.0) == []
