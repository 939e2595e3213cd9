"""What label printers say of themselves, and the commands that go to them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import label
from protocols.errors import PrinterError
from protocols.label import LabelStatus
from protocols.slip import Bitmap, Item, Language, Slip, SlipTicket, Template

FLAGS = ("paper_out", "ribbon_out", "head_open", "paused", "jammed", "error")
READY = b"\x02030,0,0,1245,000,0,0,0,000,0,0,0\x03\r\n\x02001,0,0,0,1,2,6,0,00000000,1,000\x03\r\n\x021234,0\x03\r\n"
SLIP = Slip(
    site_zh="牌坊谷",
    order="1",
    tickets=[SlipTicket(product_zh="票", price_cents=100, pax=1, valid_from="a", valid_to="b", code="PF1:X")],
)


class Blocks:
    """Every text is a black box of `height` by `height` for each character."""

    def draw(self, text: str, height: int, *, bold: bool = False) -> Bitmap:
        width = height * len(text)
        return Bitmap(width, height, b"".join([_ones(width)] * height))


def _ones(width: int) -> bytes:
    whole, rest = divmod(width, 8)
    return b"\xff" * whole + (bytes((0xFF << (8 - rest) & 0xFF,)) if rest else b"")


def template(language: Language, *items: Item) -> Template:
    return Template(name="t", language=language, width=400, height=200, end="none", ticket=list(items))


def test_a_zpl_printer_as_the_maker_prints_its_answer_is_ready() -> None:
    assert label.decode_zpl_status(READY) == LabelStatus()
    assert label.decode_zpl_status(READY).done  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("at", "flag"), [((0, 1), "paper_out"), ((0, 2), "paused"), ((0, 10), "error"), ((0, 11), "error"),
                     ((1, 2), "head_open"), ((1, 3), "ribbon_out")],
)  # fmt: skip
def test_every_flag_of_a_zpl_answer_is_known(at: tuple[int, int], flag: str) -> None:
    lines = [line.split(b",") for line in READY.split(b"\x03\r\n")]
    line, field = at
    lines[line][field] = b"1"
    status = label.decode_zpl_status(b"\x03\r\n".join(b",".join(fields) for fields in lines))
    assert status == LabelStatus(**{flag: True}) and not status.ready


def test_labels_that_have_not_come_out_are_counted() -> None:
    waiting = READY.replace(b"1245,000", b"1245,002").replace(b"00000000", b"00000003")
    status = label.decode_zpl_status(waiting)
    assert status is not None and status.pending == 5 and status.ready and not status.done


def test_an_answer_comes_in_any_pieces() -> None:
    end = len(READY) - len(b"\r\n\x021234,0\x03\r\n")
    for cut in range(end):
        assert label.decode_zpl_status(READY[:cut]) is None
    assert label.decode_zpl_status(READY[:end]) == LabelStatus()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (0x00, LabelStatus()),
        (0x01, LabelStatus(head_open=True)),
        (0x02, LabelStatus(jammed=True)),
        (0x03, LabelStatus(jammed=True, head_open=True)),
        (0x04, LabelStatus(paper_out=True)),
        (0x05, LabelStatus(paper_out=True, head_open=True)),
        (0x08, LabelStatus(ribbon_out=True)),
        (0x0D, LabelStatus(ribbon_out=True, paper_out=True, head_open=True)),
        (0x10, LabelStatus(paused=True)),
        (0x20, LabelStatus(pending=1)),
        (0x80, LabelStatus(error=True)),
    ],
)
def test_every_answer_of_a_tspl_printer_is_known(answer: int, status: LabelStatus) -> None:
    assert label.decode_tspl_status(bytes((answer,))) == status
    assert label.encode_tspl_status(status) == bytes((answer,))


@given(st.builds(LabelStatus, **{flag: st.booleans() for flag in FLAGS}, pending=st.integers(0, 99)))
def test_a_status_comes_back(status: LabelStatus) -> None:
    zpl = label.decode_zpl_status(label.encode_zpl_status(status))
    assert zpl is not None
    named = status.paper_out or status.head_open or status.ribbon_out
    # ZPL has no word for a jam, and a printer in trouble is paused as well
    assert (zpl.ready, zpl.pending, zpl.paper_out) == (status.ready, status.pending, status.paper_out)
    assert zpl.paused == (not named and not status.ready)
    tspl = label.decode_tspl_status(label.encode_tspl_status(status))
    assert tspl is not None and tspl.ready == status.ready


@given(st.binary(max_size=300))
def test_any_bytes_are_a_status_or_an_error_of_our_own(data: bytes) -> None:
    for decode in (label.decode_zpl_status, label.decode_tspl_status):
        with suppress(PrinterError):
            decode(data)


@given(st.lists(st.sampled_from([b"\x02", b"\x03", b",", b"0", b"1", b"x", READY[:40], READY[40:]]), max_size=12))
def test_nearly_a_status_is_one_or_an_error_of_our_own(parts: list[bytes]) -> None:
    with suppress(PrinterError):
        label.decode_zpl_status(b"".join(parts))


def test_babble_is_noticed_and_not_collected_for_ever() -> None:
    with pytest.raises(PrinterError):
        label.decode_zpl_status(b"x" * 300)
    with pytest.raises(PrinterError):
        label.decode_zpl_status(b"\x02a\x03\x02b\x03")
    assert label.decode_tspl_status(b"") is None
    with pytest.raises(PrinterError):
        label.decode_tspl_status(b"\xff")


def test_zpl_is_spelled_as_the_maker_does() -> None:
    items = (
        Item(type="text", text="{valid_from}^FS~JA", x=10, y=10, height=30),
        Item(type="qr", text="{code}", x=0, y=40, width=160),
        Item(type="rule", x=0, y=190, width=400, height=8),
    )
    assert label.render_label(template(Language.ZPL, *items), SLIP) == (
        b"^XA^CI28^PW400^LL200^LH0,0"
        b"^FO10,10^A0N,30,0^FB390,1,0,L^FH_^FDa_5EFS_7EJA^FS"
        b"^FO20,60^BQN,2,5,M^FH_^FDMA,PF1:X^FS"
        b"^FO0,190^GB400,3,3^FS"
        b"^PQ1,0,1,Y^XZ\n"
    )


def test_tspl_is_spelled_as_the_maker_does() -> None:
    items = (
        Item(type="text", text='a"b', x=10, y=10, height=24),
        Item(type="qr", text="{code}", x=0, y=40, width=160),
        Item(type="rule", x=0, y=190, width=400, height=8),
    )
    assert label.render_label(template(Language.TSPL, *items), SLIP) == (
        b"SIZE 50.00 mm,25.00 mm\r\nGAP 3.00 mm,0\r\nDIRECTION 1\r\nCLS\r\n"
        b'TEXT 10,10,"3",0,1,1,"a\\["]b"\r\n'
        b'QRCODE 20,60,M,5,A,0,"PF1:X"\r\n'
        b"BAR 0,190,400,3\r\nPRINT 1,1\r\n"
    )


def test_chinese_goes_out_as_a_picture_of_black_dots() -> None:
    item = Item(type="text", text="{site_zh}", x=8, y=8, height=9, width=27)
    row = _ones(27)
    zpl = label.render_label(template(Language.ZPL, item), SLIP, Blocks())
    assert b"^FO8,8^GFA,36,36,4," + (row * 9).hex().upper().encode() + b"^FS" in zpl
    tspl = label.render_label(template(Language.TSPL, item), SLIP, Blocks())
    assert b"BITMAP 8,8,4,9,0," + bytes(octet ^ 255 for octet in row * 9) + b"\r\n" in tspl


def test_a_picture_that_is_too_wide_is_cut_off_with_nothing_beyond() -> None:
    item = Item(type="text", text="{site_zh}", x=8, y=8, height=9, width=13)
    zpl = label.render_label(template(Language.ZPL, item), SLIP, Blocks())
    assert b"^GFA,18,18,2," + (_ones(13) * 9).hex().upper().encode() in zpl


@pytest.mark.parametrize("language", [Language.ZPL, Language.TSPL])
def test_chinese_without_a_font_is_refused(language: Language) -> None:
    with pytest.raises(PrinterError, match="no font"):
        label.render_label(template(language, Item(type="text", text="票")), SLIP)


def test_a_ticket_template_is_not_a_label() -> None:
    with pytest.raises(PrinterError, match="template for escpos"):
        label.render_label(template(Language.ESCPOS), SLIP)


@given(st.text(max_size=60))
def test_no_text_ends_a_command(text: str) -> None:
    slip = Slip(site_zh="", order=text, tickets=SLIP.tickets)
    item = Item(type="text", text="{order}", when="order")
    for language in (Language.ZPL, Language.TSPL):
        with suppress(PrinterError):
            job = label.render_label(template(language, item), slip, Blocks())
            if language is Language.ZPL:
                assert job.count(b"^") == (13 if b"^FD" in job else 10 if b"^GFA" in job else 7)
            assert job.count(b"PRINT 1,1\r\n") == (language is Language.TSPL)
