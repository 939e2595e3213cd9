"""Modbus frames: the examples of the specification as golden bytes, and nothing but our own error on any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus import (
    Answer,
    AnswerReader,
    Function,
    ModbusError,
    Request,
    RequestReader,
    encode_answer,
    encode_request,
    read_bits,
    read_registers,
    write_coil,
    write_coils,
)

# Modbus Application Protocol Specification V1.1b3, the examples of sections 6.1 to 6.5 and 6.11 (request, response)
SPECIFIED = [
    (read_bits(1, Function.READ_COILS, 0x13, 19), "0100130013", "0103cd6b05"),
    (read_bits(1, Function.READ_DISCRETE_INPUTS, 0xC4, 22), "0200c40016", "0203acdb35"),
    (read_registers(1, Function.READ_HOLDING_REGISTERS, 0x6B, 3), "03006b0003", "0306022b00000064"),
    (read_registers(1, Function.READ_INPUT_REGISTERS, 8, 1), "0400080001", "0402000a"),
    (write_coil(1, 0xAC, True), "0500acff00", "0500acff00"),
    (
        write_coils(1, 0x13, tuple(bit == "1" for bit in "1011001110")),
        "0f0013000a02cd01",
        "0f0013000a",
    ),
]
MEANT = [
    tuple(bit == "1" for bit in "1011001111010110101"),
    tuple(bit == "1" for bit in "0011010111011011101011"),
    (0x022B, 0, 0x64),
    (10,),
    (),
    (),
]


def tcp(pdu: str, transaction: int = 7, unit: int = 1) -> bytes:
    body = bytes.fromhex(pdu)
    return transaction.to_bytes(2, "big") + b"\0\0" + (len(body) + 1).to_bytes(2, "big") + bytes([unit]) + body


@pytest.mark.parametrize(
    ("request_", "asked", "answered", "meant"), [(*row, MEANT[i]) for i, row in enumerate(SPECIFIED)]
)
def test_the_specifications_examples_in_both_directions(request_, asked, answered, meant):
    assert encode_request(request_, 7, rtu=False) == tcp(asked)
    answer = AnswerReader(request_, 7, rtu=False).feed(tcp(answered))
    assert answer is not None and (answer.bits or answer.registers) == meant and not answer.exception
    (received,) = RequestReader(rtu=False).feed(tcp(asked))
    assert received.request == request_ and received.transaction == 7
    assert encode_answer(received, answer, rtu=False) == tcp(answered)


def test_the_checksum_of_a_line_is_the_published_one():
    """A frame that many makers print: unit 17, holding registers 108 to 110."""
    request = read_registers(0x11, Function.READ_HOLDING_REGISTERS, 0x6B, 3)
    assert encode_request(request, 0, rtu=True).hex() == "1103006b00037687"
    answer = AnswerReader(request, 0, rtu=True).feed(bytes.fromhex("110306ae415652434049ad"))
    assert answer == Answer(0x11, Function.READ_HOLDING_REGISTERS, registers=(0xAE41, 0x5652, 0x4340))


def test_a_refusal_is_said_in_words():
    request = read_bits(1, Function.READ_COILS, 0, 1)
    answer = AnswerReader(request, 7, rtu=False).feed(tcp("8102"))
    assert answer is not None and answer.refusal == "illegal address"


REQUESTS = st.one_of(
    st.builds(
        read_bits,
        st.integers(1, 247),
        st.sampled_from([Function.READ_COILS, Function.READ_DISCRETE_INPUTS]),
        st.integers(0, 60000),
        st.integers(1, 2000),
    ),
    st.builds(
        read_registers,
        st.integers(1, 247),
        st.sampled_from([Function.READ_HOLDING_REGISTERS, Function.READ_INPUT_REGISTERS]),
        st.integers(0, 60000),
        st.integers(1, 125),
    ),
    st.builds(write_coil, st.integers(1, 247), st.integers(0, 65535), st.booleans()),
    st.builds(
        write_coils,
        st.integers(1, 247),
        st.integers(0, 60000),
        st.lists(st.booleans(), min_size=1, max_size=99).map(tuple),
    ),
)


def an_answer(request: Request, fill: int) -> Answer:
    if request.function in (Function.READ_COILS, Function.READ_DISCRETE_INPUTS):
        return Answer(
            request.unit, request.function, bits=tuple(bool(fill >> i % 16 & 1) for i in range(request.count))
        )
    if request.function in (Function.READ_HOLDING_REGISTERS, Function.READ_INPUT_REGISTERS):
        return Answer(request.unit, request.function, registers=(fill,) * request.count)
    return Answer(request.unit, request.function)


@given(REQUESTS, st.integers(0, 0xFFFF), st.booleans(), st.binary(max_size=6), st.integers(1, 9))
def test_what_is_sent_is_what_arrives_in_any_pieces_and_after_noise_on_a_line(request, fill, rtu, noise, piece):
    frame = encode_request(request, fill, rtu=rtu)
    reader, found = RequestReader(rtu=rtu), []
    for at in range(0, len(frame), piece):
        found += reader.feed(frame[at : at + piece])
    (received,) = found
    assert received.request == request
    answer = an_answer(request, fill)
    back = encode_answer(received, answer, rtu=rtu)
    stream = (noise.replace(bytes([request.unit]), b"") if rtu else b"") + back
    asker, got = AnswerReader(request, fill, rtu=rtu), None
    for at in range(0, len(stream), piece):
        assert got is None
        got = asker.feed(stream[at : at + piece])
    assert got == answer


@given(REQUESTS, st.integers(0, 0xFFFF), st.integers(0, 400), st.integers(1, 255))
def test_a_damaged_answer_on_a_line_is_not_believed(request, fill, where, flip):
    answer = an_answer(request, fill)
    (received,) = RequestReader(rtu=True).feed(encode_request(request, 0, rtu=True))
    frame = bytearray(encode_answer(received, answer, rtu=True))
    frame[where % len(frame)] ^= flip
    assert AnswerReader(request, 0, rtu=True).feed(bytes(frame)) is None  # a CRC-16 sees every burst of 8 bits


@given(REQUESTS, st.booleans(), st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_give_an_answer_or_our_own_error(request, rtu, pieces):
    reader = AnswerReader(request, 7, rtu=rtu)
    try:
        for piece in pieces:
            reader.feed(piece)
    except ModbusError:
        assert not rtu


@given(st.booleans(), st.lists(st.binary(max_size=40), max_size=6))
def test_any_bytes_give_requests_or_our_own_error(rtu, pieces):
    reader = RequestReader(rtu=rtu)
    try:
        for piece in pieces:
            for received in reader.feed(piece):
                encode_answer(received, 1, rtu=rtu)
    except ModbusError:
        pass


@given(st.binary(min_size=1, max_size=60))
def test_any_pdu_in_a_sound_frame_is_an_answer_or_our_own_error(body):
    """Frames whose length and checksum are right, and whose contents are anything."""
    for request, *_ in SPECIFIED:
        try:
            AnswerReader(request, 7, rtu=False).feed(tcp(body.hex()))
            RequestReader(rtu=False).feed(tcp(body.hex()))
        except ModbusError:
            continue


def test_an_answer_to_an_earlier_question_is_skipped():
    request = read_bits(1, Function.READ_COILS, 0, 1)
    reader = AnswerReader(request, 8, rtu=False)
    assert reader.feed(tcp("010101", transaction=7) + tcp("010100", transaction=8)) == Answer(
        1, request.function, (False,)
    )
    assert reader.skipped > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: read_bits(256, Function.READ_COILS, 0, 1),
        lambda: read_bits(1, Function.READ_COILS, 0, 0),
        lambda: read_bits(1, Function.READ_COILS, 65535, 2),
        lambda: read_bits(1, Function.WRITE_COIL, 0, 1),
        lambda: read_registers(1, Function.READ_INPUT_REGISTERS, 0, 126),
        lambda: write_coil(1, 65536, True),
        lambda: write_coils(1, 0, ()),
    ],
)
def test_a_request_that_no_unit_understands_is_not_made(make):
    with pytest.raises(ModbusError):
        make()


def test_a_buffer_stays_small_whatever_comes():
    request = read_bits(1, Function.READ_COILS, 0, 2000)
    reader = AnswerReader(request, 0, rtu=True)
    for _ in range(200):
        assert reader.feed(b"\x01\x01\xfa" * 40) is None
    assert len(reader._buffer) <= 600
