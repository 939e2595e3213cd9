"""Tickets: printed by a strict renderer, read back by zxing-cpp; text, sizes, status, and the job parser."""

import sys
from pathlib import Path

import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from qrcode.util import BIT_LIMIT_TABLE

from protocols import escpos
from protocols.errors import PrinterError
from protocols.escpos import JobParser, Paper, PrinterStatus, QrPrinted, StatusKind, TicketText
from protocols.testing import feed_in_pieces

sys.path.insert(0, str(Path(__file__).parent))  # the renderer is a helper of this test alone
import escpos_render

BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
CODE_150 = "PF1:" + (BASE45 * 4)[:146]
TICKET = TicketText(
    site_zh="雪山景区",
    site_en="Snow Mountain Scenic Area",
    product_zh="成人日票",
    product_en="Adult day ticket",
    price_cents=8800,
    pax=1,
    valid_from="2026-12-24 04:00",
    valid_to="2026-12-25 04:00",
    order="602734912733184",
    code=CODE_150,
)
papers = pytest.mark.parametrize("paper", [escpos.PAPER_58MM, escpos.PAPER_80MM], ids=["58mm", "80mm"])


@papers
@pytest.mark.parametrize("length", [1, 60, 106, 107, 150, 200, 331])
def test_what_is_printed_is_what_a_reader_reads(paper, length):
    code = (CODE_150 * 3)[:length]
    ticket = TicketText(**{field: getattr(TICKET, field) for field in TICKET.__struct_fields__} | {"code": code})
    job = escpos.ticket(ticket, paper)
    printed = escpos_render.render(job, paper.dots)
    (read,) = zxingcpp.read_barcodes(printed.image)
    assert read.text == code
    assert str(read.symbology_identifier) in ("]Q0", "]Q1")
    assert printed.cuts == 1
    assert escpos.qr_payloads(job) == [code]


@papers
def test_everything_a_visitor_needs_stands_on_the_ticket(paper):
    lines = escpos_render.render(escpos.ticket(TICKET, paper), paper.dots).lines
    assert lines[0] == "雪山景区"
    text = "\n".join(lines)
    for part in (
        "Snow Mountain Scenic Area",
        "成人日票",
        "Adult day ticket",
        "￥88.00",
        "2026-12-24 04:00",
        "2026-12-25 04:00",
        "602734912733184",
    ):
        assert part in text
    assert all(escpos.width(line) <= paper.columns for line in lines)


@papers
def test_a_long_name_still_fits(paper):
    ticket = TicketText(
        **{field: getattr(TICKET, field) for field in TICKET.__struct_fields__} | {"site_zh": "很长的景区名字" * 2}
    )
    lines = escpos_render.render(escpos.ticket(ticket, paper), paper.dots).lines
    assert lines[0] == "很长的景区名字" * 2


def test_chinese_is_switched_on_and_off_around_every_run():
    assert escpos.text_bytes("票A价") == b"\x1c&\xc6\xb1\x1c.A\x1c&\xbc\xdb\x1c."


def test_no_text_can_smuggle_a_command_in():
    assert escpos.text_bytes("a\x1b@\x1dV\x00b\n\x7f") == b"a @ V b  "


def test_what_common_printers_lack_becomes_a_question_mark():
    assert escpos.text_bytes("¥é🎫\U00020000\ud800") == b"\x1c&\xa3\xa4\xa8\xa6\x1c.???"


@given(st.text(max_size=50))
def test_any_text_is_printed_without_an_unknown_command(text):
    escpos_render.render(escpos.INIT + escpos.text_bytes(text) + b"\n", 576)
    assert JobParser().feed(escpos.text_bytes(text)) == []


def test_room_in_a_code_is_the_standards():
    for version, capacity in enumerate(escpos.QR_BYTES_AT_M, start=1):
        bits = BIT_LIMIT_TABLE[0][version]  # qrcode's index 0 is level M
        length_bits = 8 if version < 10 else 16
        assert capacity == (bits - 4 - length_bits) // 8


def test_modules_are_as_large_as_the_paper_allows():
    assert escpos.qr_module_dots(150, escpos.PAPER_58MM) == 6
    assert escpos.qr_module_dots(150, escpos.PAPER_80MM) == 8
    assert escpos.qr_module_dots(331, escpos.PAPER_58MM) == 4


@pytest.mark.parametrize(
    "build",
    [
        lambda: escpos.qr(""),
        lambda: escpos.qr("A" * 332),
        lambda: escpos.qr("A" * 150, Paper(100)),
        lambda: escpos.qr("\ud800"),
        lambda: escpos.size(0, 1),
        lambda: escpos.size(1, 9),
        lambda: escpos.feed(256),
    ],
)
def test_what_cannot_be_printed_is_refused(build):
    with pytest.raises(PrinterError):
        build()


def test_a_ticket_does_not_show_its_code():
    assert CODE_150 not in repr(TICKET) + str(TICKET)
    assert CODE_150 not in repr(QrPrinted(CODE_150))


# --- status


def test_status_requests():
    assert [escpos.status_request(kind).hex() for kind in StatusKind] == ["100401", "100402", "100403", "100404"]


@pytest.mark.parametrize(
    ("kind", "answer", "status"),
    [
        (StatusKind.PRINTER, 0x12, PrinterStatus(online=True)),
        (StatusKind.PRINTER, 0x1A, PrinterStatus(online=False)),
        (StatusKind.OFFLINE_CAUSE, 0x12, PrinterStatus(cover_open=False, paper_end=False, error=False)),
        (StatusKind.OFFLINE_CAUSE, 0x16, PrinterStatus(cover_open=True, paper_end=False, error=False)),
        (StatusKind.OFFLINE_CAUSE, 0x32, PrinterStatus(cover_open=False, paper_end=True, error=False)),
        (StatusKind.OFFLINE_CAUSE, 0x52, PrinterStatus(cover_open=False, paper_end=False, error=True)),
        (StatusKind.ERROR_CAUSE, 0x1A, PrinterStatus(error=True)),  # the cutter
        (StatusKind.PAPER, 0x12, PrinterStatus(paper_near_end=False, paper_end=False)),
        (StatusKind.PAPER, 0x1E, PrinterStatus(paper_near_end=True, paper_end=False)),
        (StatusKind.PAPER, 0x7E, PrinterStatus(paper_near_end=True, paper_end=True)),
    ],
)
def test_status_answers(kind, answer, status):
    assert escpos.decode_status(kind, answer) == status
    assert escpos.encode_status(kind, status) == bytes((answer,))


def test_bytes_that_are_no_answer_are_refused():
    answers = [byte for byte in range(256) if byte & 0x93 == 0x12]
    for byte in range(256):
        if byte in answers:
            escpos.decode_status(StatusKind.PAPER, byte)
        else:
            with pytest.raises(PrinterError):
                escpos.decode_status(StatusKind.PAPER, byte)


def test_a_printer_is_ready_only_when_it_said_so():
    online = PrinterStatus(online=True)
    assert online.ready
    assert not PrinterStatus().ready
    assert not online.combined(PrinterStatus(cover_open=True)).ready
    assert not PrinterStatus(paper_end=True).combined(online).combined(PrinterStatus(paper_end=False)).ready
    assert online.combined(PrinterStatus(paper_near_end=True)).ready
    assert not online.combined(PrinterStatus(online=False)).ready


# --- the parser


def test_the_parser_tells_what_happened():
    job = escpos.status_request(StatusKind.PAPER) + escpos.ticket(TICKET) + escpos.status_request(StatusKind.PRINTER)
    assert JobParser().feed(job) == [
        escpos.StatusAsked(StatusKind.PAPER),
        QrPrinted(CODE_150),
        escpos.PaperCut(),
        escpos.StatusAsked(StatusKind.PRINTER),
    ]


@given(st.lists(st.integers(0, 2500), max_size=20))
def test_any_split_of_a_job_gives_the_same_events(cuts):
    stream = (escpos.ticket(TICKET) + escpos.status_request(StatusKind.PAPER)) * 2
    assert feed_in_pieces(JobParser(), stream, cuts) == JobParser().feed(stream)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=10))
def test_the_parser_raises_nothing_but_its_own_error(garbage, cuts):
    outcomes = []
    for splits in ([], cuts):
        try:
            outcomes.append(feed_in_pieces(JobParser(), garbage, splits))
        except PrinterError:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]


@given(st.integers(0, 700), st.binary(max_size=3))
def test_a_mutated_job_raises_nothing_but_its_own_error(at, change):
    job = escpos.ticket(TICKET)
    mutated = job[:at] + change + job[at + len(change) :]
    try:
        texts = escpos.qr_payloads(mutated)
    except PrinterError:
        return
    assert len(texts) <= 2


def test_the_parser_is_bounded_and_can_start_anew():
    parser = JobParser()
    with pytest.raises(PrinterError):
        parser.feed(b"\x1d(k\xff\xff1P0")
    parser.feed(b"\x1d(k\x00\x201P0")
    parser.reset()
    assert parser.pending_bytes == 0
    assert parser.feed(escpos.CUT) == [escpos.PaperCut()]
