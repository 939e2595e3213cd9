"""Readers' lines: endings, identifiers, noise, bounds."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import scanner
from protocols.scanner import Read, ScannerFramer
from protocols.testing import feed_in_pieces

CODE = "PF1:6BFOXN%TSMAHN-H%OC*G"
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60).filter(
    lambda text: not text.startswith("]")
)


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_every_line_end(end):
    stream = scanner.line(CODE, end=end) + scanner.line("中文", "]Q1", end=end)
    assert ScannerFramer().feed(stream) == [Read(CODE), Read("中文", "]Q1")]


@pytest.mark.parametrize("symbology", ["]Q1", "]C0", "]C1", "]d2", "]e0"])
def test_the_aim_identifier_is_told_from_the_text(symbology):
    framer = ScannerFramer()
    assert framer.feed(scanner.line(CODE, symbology)) == [Read(CODE, symbology)]
    assert framer.feed(b"]x\r") == [Read("]x")]
    assert framer.feed(b"]Q1\r") == [Read("]Q1")]  # nothing behind it: not an identifier


def test_spaces_are_part_of_the_text():
    assert ScannerFramer().feed(b" A B \r") == [Read(" A B ")]


def test_noise_at_the_edges_is_taken_off():
    assert ScannerFramer().feed(b"\x00\x00\x02" + CODE.encode() + b"\x03\r\n\x00\n") == [Read(CODE)]


@pytest.mark.parametrize("noise", [b"PF1:\xff\xfe", b"A\x00B", b"A\x7fB", b"\xc3"])
def test_a_damaged_line_is_dropped_whole_and_counted(noise):
    framer = ScannerFramer()
    assert framer.feed(noise + b"\r" + CODE.encode() + b"\r") == [Read(CODE)]
    assert (framer.damaged_lines, framer.bad_frames) == (1, 1)


def test_a_group_separator_belongs_to_gs1_codes():
    assert ScannerFramer().feed(b"]C101234\x1d99\r") == [Read("01234\x1d99", "]C1")]


def test_an_oversized_line_is_dropped_whole_and_counted_once():
    framer = ScannerFramer(max_bytes=10)
    assert framer.feed(b"0123456789\r") == [Read("0123456789")]
    for _ in range(100):
        assert framer.feed(b"0123456") == []
        assert framer.pending_bytes <= 10
    assert framer.feed(b"OK\rOK\r") == [Read("OK")]
    assert (framer.oversized_lines, framer.bad_frames) == (1, 1)


def test_a_pause_ends_a_half_line():
    framer = ScannerFramer()
    framer.feed(b"PF1:HALF")
    framer.reset()
    assert framer.feed(CODE.encode() + b"\r") == [Read(CODE)]
    assert (framer.half_lines, framer.bad_frames) == (1, 1)
    framer.reset()
    assert framer.bad_frames == 1


def test_a_pause_after_an_oversized_line_counts_it_once():
    framer = ScannerFramer(max_bytes=4)
    framer.feed(b"12345")
    framer.reset()
    assert framer.feed(b"OK\r") == [Read("OK")]
    assert framer.bad_frames == 1


def test_trigger_commands():
    assert scanner.TRIGGERS["honeywell"].start == bytes.fromhex("16540d")
    assert scanner.TRIGGERS["honeywell"].stop == bytes.fromhex("16550d")
    assert scanner.TRIGGERS["newland"].start == bytes.fromhex("7e0130303030 2353434e54524731 3b03")
    assert scanner.TRIGGERS["gm65"].start == bytes.fromhex("7e000801000201abcd")


def test_a_read_does_not_show_its_text():
    assert CODE not in repr(Read(CODE)) + str(Read(CODE))


@given(st.lists(st.tuples(texts, st.sampled_from(["", "]Q1"])), max_size=5), st.lists(st.integers(0, 300), max_size=12))
def test_any_split_of_the_stream_gives_the_same_reads(sent, cuts):
    stream = b"".join(scanner.line(text, symbology) for text, symbology in sent)
    assert feed_in_pieces(ScannerFramer(), stream, cuts) == [Read(text, symbology) for text, symbology in sent]


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=12), st.integers(1, 40))
def test_any_split_of_garbage_gives_and_counts_the_same(garbage, cuts, max_bytes):
    whole, pieces = ScannerFramer(max_bytes), ScannerFramer(max_bytes)
    assert whole.feed(garbage) == feed_in_pieces(pieces, garbage, cuts)
    assert whole.bad_frames == pieces.bad_frames
    assert whole.pending_bytes == pieces.pending_bytes <= max_bytes


# --- answers to commands ----------------------------------------------------------------------------------------------

CRC_OK = bytes.fromhex("02000001003331")  # EM3095 manual, which is GM65's frame too: success
CRC_DAMAGED = bytes.fromhex("02000101000401")  # "CRC check failure"
CRC_UNKNOWN = bytes.fromhex("02000301006a61")  # "invalid command"
# HR52 manual: the answer to a data format command
NEWLAND_OK = bytes.fromhex("02013030303040 44464d414444 30363939393030333939393946313431 063b03")
NEWLAND_BAD = b"\x02\x010000#SCNTRG9\x15;\x03"
NEWLAND_UNKNOWN = b"\x02\x010000#XXXYYY\x05;\x03"


@pytest.mark.parametrize(
    ("family", "octets", "reply"),
    [
        ("gm65", CRC_OK, scanner.Reply(True)),
        ("gm65", CRC_DAMAGED, scanner.Reply(False, "damaged on the way")),
        ("gm65", CRC_UNKNOWN, scanner.Reply(False, "unknown command")),
        ("newland", NEWLAND_OK, scanner.Reply(True)),
        ("newland", NEWLAND_BAD, scanner.Reply(False, "bad value")),
        ("newland", NEWLAND_UNKNOWN, scanner.Reply(False, "unknown command")),
    ],
)
@pytest.mark.parametrize("around", [(b"", b""), (b"PF1:A\r", b"PF1:B\r"), (b"PF1:", b"AB\r"), (b"\x02", b"\x03")])
def test_published_answers_are_taken_out_of_the_stream(family, octets, reply, around):
    before, after = around
    for pieces in (1, 3, len(octets)):
        found = scanner.ReplyFilter(family)
        stream = before + octets + after
        step = max(1, len(stream) // pieces)
        passed, replies = b"", []
        for at in range(0, len(stream), step):
            rest, some = found.feed(stream[at : at + step])
            passed += rest
            replies += some
        assert (passed + found.reset(), replies) == (before + after, [reply])


def test_a_damaged_answer_is_no_answer_and_no_code():
    found = scanner.ReplyFilter("gm65")
    passed, replies = found.feed(CRC_OK[:-1] + b"\x32" + b"PF1:A\r")
    assert replies == []
    assert ScannerFramer().feed(passed + b"PF1:B\r") == [Read("PF1:B")]


def test_an_answer_that_never_ends_is_given_back():
    found = scanner.ReplyFilter("newland")
    assert found.feed(b"\x02\x010000#SCN") == (b"", [])
    assert found.pending_bytes == 10
    assert found.reset() == b"\x02\x010000#SCN"
    passed, replies = found.feed(b"\x02\x01" + b"A" * scanner.REPLY_BYTES_MAX)
    assert (len(passed), replies) == (scanner.REPLY_BYTES_MAX + 2, [])


@pytest.mark.parametrize("family", ["", "honeywell", "cipherlab"])
def test_families_that_answer_nothing_pass_everything_on(family):
    found = scanner.ReplyFilter(family)
    assert not found.answers
    assert found.feed(CRC_OK + NEWLAND_OK) == (CRC_OK + NEWLAND_OK, [])


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8), st.sampled_from(["gm65", "newland"]))
def test_any_bytes_pass_the_filter_in_any_pieces_alike(data, cuts, family):
    whole, pieces = scanner.ReplyFilter(family), scanner.ReplyFilter(family)
    passed, replies = whole.feed(data)
    rest, some = b"", []
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for begin, end in pairwise(edges):
        more, answers = pieces.feed(data[begin:end])
        rest += more
        some += answers
    assert (rest + pieces.reset(), some) == (passed + whole.reset(), replies)
    assert whole.pending_bytes == 0


@given(st.lists(st.sampled_from([CRC_OK, CRC_UNKNOWN, b"PF1:ABC\r", b"\x02CODE\x03\r"]), max_size=8))
def test_codes_come_through_between_answers(parts):
    passed, replies = scanner.ReplyFilter("gm65").feed(b"".join(parts))
    codes = [read.text for read in ScannerFramer().feed(passed)]
    assert codes == [part.strip(b"\x02\x03\r").decode() for part in parts if part.endswith(b"\r")]
    assert len(replies) == len(parts) - len(codes)
