"""The language of ID card readers: published frames byte for byte, damage, and any bytes at all."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import sdt
from protocols.errors import IdCardError
from protocols.sdt import Answer, Command, DocumentBytes, Request, SdtFramer, Status
from protocols.testing import feed_in_pieces

# Published by makers and authors of drivers (softs.im, e-com-net.com, eastcoms.com, yzsam.com, wiki.nfc.im).
GOLDEN_REQUESTS = [
    (Command.FIND, b"", "aaaaaa96690003200122"),
    (Command.SELECT, b"", "aaaaaa96690003200221"),
    (Command.READ, b"", "aaaaaa96690003300132"),
    (Command.STATUS, b"", "aaaaaa9669000311ffed"),
    (Command.MODULE_NUMBER, b"", "aaaaaa9669000312ffee"),
    (Command.READ_ADDED_ADDRESS, b"", "aaaaaa96690003300330"),
    (Command.READ_WITH_FINGERPRINT, b"", "aaaaaa96690003301023"),
    (Command.SET_RADIO_BYTES, b"\x50", "aaaaaa9669000461ff50ca"),
]
GOLDEN_ANSWERS = [
    (Status.FOUND, bytes(4), "aaaaaa9669000800009f0000000097"),
    (Status.NO_CARD, b"", "aaaaaa9669000400008084"),
    (Status.OK, bytes(8), "aaaaaa9669000c00009000000000000000009c"),
    (Status.SELECT_FAILED, b"", "aaaaaa9669000400008185"),
    (Status.READ_FAILED, b"", "aaaaaa9669000400004145"),
    (Status.OK, b"", "aaaaaa9669000400009094"),
]
FRAMES = [bytes.fromhex(frame) for *_, frame in GOLDEN_REQUESTS + GOLDEN_ANSWERS]
DOCUMENT = DocumentBytes(text=bytes(range(256)), photo=bytes(1024))


def one(frame: bytes) -> bytes:
    (body,) = SdtFramer().feed(frame)
    return body


@pytest.mark.parametrize(("command", "data", "frame"), GOLDEN_REQUESTS)
def test_published_requests_are_ours_byte_for_byte(command: Command, data: bytes, frame: str) -> None:
    assert sdt.encode_request(command, data).hex() == frame
    assert sdt.decode_request(one(bytes.fromhex(frame))) == Request(command, data)


@pytest.mark.parametrize(("status", "data", "frame"), GOLDEN_ANSWERS)
def test_published_answers_are_ours_byte_for_byte(status: Status, data: bytes, frame: str) -> None:
    assert sdt.encode_answer(status, data).hex() == frame
    assert sdt.decode_answer(one(bytes.fromhex(frame))) == Answer(status, data)


def test_all_fourteen_published_frames_are_checked() -> None:
    assert len(FRAMES) == 14


@pytest.mark.parametrize(
    ("fingerprint", "photo", "prints", "total"),
    [(False, 1024, 0, 1295), (True, 1024, 0, 1297), (True, 1024, 512, 1809), (True, 1024, 1024, 2321)],
)
def test_a_whole_answer_has_the_published_length(fingerprint: bool, photo: int, prints: int, total: int) -> None:
    document = DocumentBytes(text=bytes(256), photo=bytes(photo), fingerprint=bytes(prints))
    frame = sdt.encode_answer(Status.OK, sdt.encode_document(document, fingerprint=fingerprint))
    assert len(frame) == total
    answer = sdt.decode_answer(one(frame))
    assert sdt.decode_document(answer.data, fingerprint=fingerprint) == document


def test_a_good_frame_behind_a_damaged_one_is_found() -> None:
    good = FRAMES[0]
    long = sdt.encode_answer(Status.OK, sdt.encode_document(DOCUMENT))
    framer = SdtFramer()
    assert framer.feed(b"\xaa\xaa\xaa\x00noise" + good[:-1] + b"\x00" + good) == [one(good)]
    assert framer.bad_frames == 1
    # the head of a long answer, cut off, and a whole one: the second lies inside what the first claims
    assert framer.feed(long[:100] + long + bytes(1300)) == [one(long)]
    assert framer.feed(good) == [one(good)]


def test_a_preamble_inside_a_document_is_not_a_frame() -> None:
    text = (sdt.PREAMBLE + FRAMES[0] + bytes(256))[:256]
    frame = sdt.encode_answer(Status.OK, sdt.encode_document(DocumentBytes(text=text, photo=b"")))
    assert SdtFramer().feed(frame) == [one(frame)]


@pytest.mark.parametrize("length", [0, 1, 2, sdt.LENGTH_MAX + 1, 0xFFFF])
def test_a_length_that_no_frame_has_is_passed_over(length: int) -> None:
    framer = SdtFramer()
    assert framer.feed(sdt.PREAMBLE + length.to_bytes(2, "big") + FRAMES[0]) == [one(FRAMES[0])]
    assert framer.bad_frames == 1


def test_what_is_kept_is_bounded_and_can_be_dropped() -> None:
    framer = SdtFramer()
    framer.feed(sdt.PREAMBLE + sdt.LENGTH_MAX.to_bytes(2, "big") + bytes(sdt.LENGTH_MAX - 1))
    assert framer.pending_bytes == sdt.FRAME_BYTES_MAX - 1
    framer.reset()
    assert framer.pending_bytes == 0
    framer.feed(b"\xaa" * 100_000)
    assert framer.pending_bytes <= sdt.HEAD_BYTES
    assert framer.bad_frames == 1


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_any_bytes_in_any_pieces_give_the_same_bodies(garbage: bytes, cuts: list[int]) -> None:
    stream = garbage + FRAMES[1]
    assert feed_in_pieces(SdtFramer(), stream, cuts) == SdtFramer().feed(stream)


@given(st.lists(st.sampled_from(FRAMES), max_size=6), st.lists(st.integers(0, 120), max_size=8))
def test_frames_in_any_pieces_all_arrive(frames: list[bytes], cuts: list[int]) -> None:
    assert feed_in_pieces(SdtFramer(), b"".join(frames), cuts) == [one(frame) for frame in frames]


@given(st.binary(max_size=80))
def test_decoders_raise_nothing_but_their_own_error(body: bytes) -> None:
    for decode in (sdt.decode_request, sdt.decode_answer, sdt.decode_document, sdt.module_number):
        with suppress(IdCardError):
            decode(body)


@given(st.integers(0, 255), st.binary(max_size=40), st.sampled_from(list(Command)))
def test_an_answer_fits_a_question_or_not_and_has_words(status: int, data: bytes, command: Command) -> None:
    answer = Answer(status, data)
    assert answer.can_answer(command) in (True, False)
    assert answer.words


def test_a_late_answer_is_not_taken_for_that_to_another_question() -> None:
    found, selected = Answer(Status.FOUND, bytes(4)), Answer(Status.OK, bytes(8))
    read = Answer(Status.OK, sdt.encode_document(DOCUMENT))
    fits = {
        command: [answer.can_answer(command) for answer in (found, selected, read)]
        for command in (Command.FIND, Command.SELECT, Command.READ)
    }
    assert fits == {
        Command.FIND: [True, False, False],
        Command.SELECT: [False, True, False],
        Command.READ: [False, False, True],
    }


@pytest.mark.parametrize(
    "build",
    [
        lambda: sdt.encode_request(Command.FIND, bytes(sdt.LENGTH_MAX)),
        lambda: sdt.encode_document(DocumentBytes(text=b"", photo=b"")),
        lambda: sdt.encode_document(DocumentBytes(text=bytes(256), photo=bytes(1025))),
        lambda: sdt.decode_document(b"\x01\x00\x04\x00" + bytes(1279)),
        lambda: sdt.decode_document(b"\x01\x01\x00\x00" + bytes(257)),
        lambda: sdt.decode_answer(b"\x01\x00\x90"),
    ],
)
def test_what_is_no_frame_or_document_is_refused(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(IdCardError):
        build()


def test_a_module_number_reads_as_makers_print_it() -> None:
    assert sdt.module_number(bytes.fromhex("0500010097b533014e61bc00d20a1fa5")) == (
        "05.01-20166039-0012345678-2770275026"
    )


def test_nothing_personal_is_in_a_repr() -> None:
    assert repr(Answer(0x90, b"secret")) == "Answer(status=0x90, 6 bytes)"
    assert repr(DOCUMENT) == "DocumentBytes(256, 1024 and 0 bytes)"
