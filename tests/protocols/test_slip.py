"""Templates: every one that we ship is printed by a strict renderer, its codes are read, its Chinese compared in dots.

The renderers (`escpos_render`, `label_render`) share no code with what they check; the codes are read by zxing-cpp; the
font is that of Debian's fonts-wqy-microhei.
"""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy
import pytest
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from drivers.printer import FontGlyphs
from paifang.templates import load_template, render_slip, template_names
from protocols import escpos, escpos_slip, slip
from protocols.errors import PrinterError
from protocols.slip import Item, Language, Slip, SlipTicket, Template

sys.path.insert(0, str(Path(__file__).parent))  # the renderers are helpers of these tests alone
import escpos_render
import label_render

BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"


def ticket(number: int = 0, **changes: object) -> SlipTicket:
    fields: dict[str, object] = {
        "product_zh": ("成人日票", "儿童优惠票")[number % 2],
        "product_en": ("Adult day ticket", "Child, reduced")[number % 2],
        "class_zh": ("全价", "优惠")[number % 2],
        "class_en": ("full", "reduced")[number % 2],
        "price_cents": (12000, 6050)[number % 2],
        "pax": 1 + number,
        "valid_from": "2026-12-24 04:00",
        "valid_to": "2026-12-25 04:00",
        "ticket": str(602734912733184 + number),
        "code": f"PF1:{number}" + (BASE45 * 4)[: 138 - 5 - len(str(number))] + "7",
        "print_id": f"P{7000 + number}",
    }
    return SlipTicket(**{**fields, **changes})  # type: ignore[arg-type]


def one_slip(count: int = 1, **changes: object) -> Slip:
    fields: dict[str, object] = {
        "site_zh": "牌坊谷景区",
        "site_en": "Paifang Valley",
        "tickets": [ticket(number) for number in range(count)],
        "order": "602734912733999",
        "cashier": "王芳",
        "printed_at": "2026-12-24 09:31",
        "print_id": "P9001",
        "code": "PF1:GROUP-CODE-7",
        "stock": "A0001234",
        "paid": "现金 Cash ￥240.00",
    }
    return Slip(**{**fields, **changes})  # type: ignore[arg-type]


def pictures(template: Template, job: bytes) -> list[Image.Image]:
    if template.language is Language.ESCPOS:
        return [escpos_render.render(job, template.width).image]
    render = label_render.render_zpl if template.language is Language.ZPL else label_render.render_tspl
    return [label.image for label in render(job)]


def texts(template: Template, job: bytes) -> str:
    """Plain text and Chinese that the printer draws itself."""
    if template.language is Language.ESCPOS:
        return "\n".join(escpos_render.render(job, template.width).lines)
    render = label_render.render_zpl if template.language is Language.ZPL else label_render.render_tspl
    return "\n".join(text for label in render(job) for text in label.texts)


def codes(images: list[Image.Image]) -> list[str]:
    return sorted(found.text for image in images for found in zxingcpp.read_barcodes(image))


SHIPPED = pytest.mark.parametrize("name", template_names())
ESCPOS = pytest.mark.parametrize(
    "name", [name for name in template_names() if load_template(name).language is Language.ESCPOS]
)
LABELS = pytest.mark.parametrize(
    "name", [name for name in template_names() if load_template(name).language is not Language.ESCPOS]
)
EXPECTED_CODES = {"receipt-80": 0, "group-80": 1}  # the others: one for each ticket


def test_all_kinds_of_paper_are_shipped() -> None:
    assert template_names() == [
        "group-80", "label-tspl", "label-zpl", "merged-80", "plain-58", "plain-80", "receipt-80", "stock-80",
    ]  # fmt: skip


@SHIPPED
@pytest.mark.parametrize("count", [1, 3])
def test_every_code_of_every_template_is_read_by_a_foreign_decoder(name: str, count: int) -> None:
    template, printed = load_template(name), one_slip(count)
    job = render_slip(template, printed, FontGlyphs())
    expected = [each.code for each in printed.tickets]
    if name in EXPECTED_CODES:
        expected = [printed.code] * EXPECTED_CODES[name]
    assert codes(pictures(template, job)) == sorted(expected)


@SHIPPED
def test_a_ticket_has_everything_that_stands_on_tickets(name: str) -> None:
    """Class, validity, amount, people, order, cashier, time, the paper's own number."""
    template = load_template(name)
    printed = texts(template, render_slip(template, one_slip(), FontGlyphs()))
    wanted = {"602734912733999", "2026-12-24 09:31"}
    if name != "receipt-80":
        wanted |= {"2026-12-24 04:00", "2026-12-25 04:00", "P9001" if template.per == "slip" else "P7000"}
    if template.language is Language.ESCPOS:
        wanted |= {"￥120.00", "王芳", "成人日票"}
        if name != "receipt-80":
            wanted |= {"人数"}
        if name not in ("receipt-80", "group-80"):
            wanted |= {"全价"}
    assert {word for word in wanted if word not in printed} == set()


@ESCPOS
def test_nothing_is_wider_than_the_paper_and_every_paper_is_cut(name: str) -> None:
    template = load_template(name)
    english = "A very long name of a scenic area in the mountains " * 3
    long = one_slip(3, site_zh="很长的景区名字" * 6, site_en=english, cashier="名" * 40)
    rendered = escpos_render.render(render_slip(template, long), template.width)
    assert rendered.cuts == (1 if template.per == "slip" else 3)
    if not template.placed:
        assert all(escpos.width(line) <= template.width // 12 for line in rendered.lines)


@ESCPOS
def test_chinese_is_switched_on_and_off_around_every_run(name: str) -> None:
    job = render_slip(load_template(name), one_slip(2))
    assert job.count(b"\x1c&") == job.count(b"\x1c.") > 3
    plain = re.sub(rb"\x1d\(k..|\x1bW.{8}|[\x1b\x1d]\$..", b"", job, flags=re.DOTALL)  # numbers inside of commands
    outside = b"".join(part.split(b"\x1c.")[-1] for part in plain.split(b"\x1c&"))
    assert max(outside) < 0x80
    for run in job.split(b"\x1c&")[1:]:
        assert run.split(b"\x1c.")[0].decode("gb18030").isprintable()


# --- glyph by glyph


def of_the_font(character: str, across: int, down: int, bold: bool) -> numpy.ndarray:  # type: ignore[type-arg]
    """The character as the font draws it in a printer's cell of 24 by 24 dots, enlarged."""
    font = ImageFont.truetype(str(escpos_render.FONT), 20)
    advance = int(font.getlength(character) + 1)
    glyph = Image.new("L", (max(24, advance), 24), 255)
    place = ((glyph.width - advance) / 2, 0)
    ImageDraw.Draw(glyph).text(place, character, font=font, fill=0, stroke_width=1 if bold else 0)
    return numpy.asarray(glyph.resize((24, 24)).resize((24 * across, 24 * down)))


@ESCPOS
def test_chinese_on_a_ticket_is_the_fonts_glyph_by_glyph(name: str) -> None:
    """The Chinese that the slip and the template have, in its order, and each in its cell as the font draws it."""
    template = load_template(name)
    printed = one_slip()
    rendered = escpos_render.render(render_slip(template, printed), template.width)
    (paper,) = slip.papers(template, printed)
    wanted = [character for item in paper.items for character in item.label + item.text if "一" <= character <= "鿿"]
    cells = [cell for cell in rendered.cells if "一" <= cell[0] <= "鿿"]
    assert [cell[0] for cell in cells] == wanted and len(set(wanted)) > 10
    picture = numpy.asarray(rendered.image)
    for expected, (_, x, y, across, down, bold) in zip(wanted, cells, strict=True):
        region = picture[y : y + 24 * down, x : x + 24 * across]
        assert (region == of_the_font(expected, across, down, bold)).all(), expected


@LABELS
def test_chinese_on_a_label_is_the_fonts_glyph_by_glyph(name: str) -> None:
    """Each Chinese text is a picture on the label; each character in it is the font's own at the same height."""
    template, glyphs = load_template(name), FontGlyphs()
    job = render_slip(template, one_slip(), glyphs)
    render = label_render.render_zpl if template.language is Language.ZPL else label_render.render_tspl
    (label,) = render(job)
    expected = ["牌坊谷景区", "成人日票", "全价 ￥120.00", "人数 Persons 1", "自 From", "至 Until", "王芳"]
    items = [item for section in (template.head, template.ticket, template.foot) for item in section]
    assert len(label.bitmaps) == len(expected)
    for (x, y, picture), text in zip(label.bitmaps, expected, strict=True):
        item = next(item for item in items if item.y == y and item.x <= x and item.type == "text")
        got = black(picture)
        for place, character in enumerate(text):
            if "一" <= character <= "鿿":
                glyph = alone(glyphs, character, item)
                left = advance(glyphs, text[:place], item)
                window = got[:, left : left + glyph.shape[1]]
                # up to a dot at the sides: a character does not always begin at a whole dot
                assert any(
                    same(window, glyph, shift) for shift in (-1, 0, 1)
                ), f"{character} of {text} is not the font's"


def black(picture: Image.Image) -> numpy.ndarray:  # type: ignore[type-arg]
    return numpy.asarray(picture.convert("L")) < 128


def alone(glyphs: FontGlyphs, character: str, item: Item) -> numpy.ndarray:  # type: ignore[type-arg]
    bitmap = glyphs.draw(character, item.height, bold=item.bold)
    return black(Image.frombytes("1", (bitmap.row_bytes * 8, bitmap.height), bytes(b ^ 255 for b in bitmap.data)))[
        :, : bitmap.width
    ]


def advance(glyphs: FontGlyphs, text: str, item: Item) -> int:
    return int(glyphs._font(item.height).getlength(text)) if text else 0


def same(window: numpy.ndarray, glyph: numpy.ndarray, shift: int) -> bool:  # type: ignore[type-arg]
    width = min(window.shape[1], glyph.shape[1]) - 2
    a, b = window[:, 1 : 1 + width], numpy.roll(glyph, shift, axis=1)[:, 1 : 1 + width]
    return bool(a.any()) and float((a != b).mean()) < 0.06


def test_the_glyph_comparison_can_fail() -> None:
    rendered = escpos_render.render(escpos.INIT + escpos.text_bytes("票") + b"\n", 576)
    _, x, y, *_ = rendered.cells[0]
    region = numpy.asarray(rendered.image)[y : y + 24, x : x + 24]
    assert (region == of_the_font("票", 1, 1, False)).all() and not (region == of_the_font("粟", 1, 1, False)).all()
    item = Item(type="text", text="x", height=40)
    one, other = alone(FontGlyphs(), "票", item), alone(FontGlyphs(), "粟", item)
    assert same(one, one, 0) and not any(same(one, other, shift) for shift in (-1, 0, 1))


# --- reprints, merged, stock


@SHIPPED
def test_a_reprint_says_so_and_has_its_own_number(name: str) -> None:
    template = load_template(name)
    again = one_slip(copy=2, print_id="P9002", tickets=[ticket(print_id="P9002")])
    first, second = (texts(template, render_slip(template, each, FontGlyphs())) for each in (one_slip(), again))
    if template.language is Language.ESCPOS:
        assert "补打 REPRINT 1" in second and "REPRINT" not in first
    if name != "receipt-80":
        assert "P9002" in second and "P9002" not in first


def test_only_what_did_not_come_out_is_marked_as_printed_again() -> None:
    tickets = [ticket(0), ticket(1, copy=3)]
    lines = texts(load_template("merged-80"), render_slip(load_template("merged-80"), one_slip(tickets=tickets)))
    assert lines.count("REPRINT") == 1 and "REPRINT 2" in lines


def test_merged_printing_counts_people_and_money() -> None:
    lines = texts(load_template("merged-80"), render_slip(load_template("merged-80"), one_slip(3)))
    assert "共 3 张 6 人" in lines and "￥300.50" in lines
    group = texts(load_template("group-80"), render_slip(load_template("group-80"), one_slip(3)))
    assert "人数 Persons" in group and "￥300.50" in group


def test_stock_is_printed_at_its_places_and_fed_to_its_mark() -> None:
    template = load_template("stock-80")
    job = render_slip(template, one_slip(2))
    assert job.count(b"\x1d\x0c") == 2 and b"\x1dV" not in job
    rendered = escpos_render.render(job, template.width)
    assert "@336,334 全价" in rendered.lines  # the lower edge of what stands at y = 310
    first = numpy.asarray(rendered.image)[20 : 20 + template.height]
    assert (first[:200] == 255).all()  # the picture's place stays free
    assert (first[300:600, 331:336] == 255).all()  # and so does what is between code and text


def test_a_printer_that_counts_from_the_upper_edge_is_a_matter_of_the_template() -> None:
    template = msgspec.structs.replace(load_template("stock-80"), page_reference="top")
    assert b"\x1d$\x36\x01\x1b$\x50\x01" in render_slip(template, one_slip())  # 310, 336


def test_what_does_not_fit_a_place_is_cut_off_and_nothing_overlaps() -> None:
    tickets = [ticket(product_zh="很长的票名" * 12, class_zh="类" * 50)]
    long = one_slip(cashier="名" * 60, order="9" * 60, tickets=tickets)
    for name in ("stock-80", "label-zpl", "label-tspl"):
        template = load_template(name)
        pictures(template, render_slip(template, long, FontGlyphs()))  # the renderers refuse overlaps and edges


# --- what cannot be


def flowing(**changes: object) -> Template:
    fields = {"width": 576, "ticket": [Item(type="text", text="{pax}")], **changes}
    return Template(name="t", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ticket": [Item(type="text", text="{nonsense}")]}, "no field {nonsense}; there are"),
        ({"ticket": [Item(type="text", text="{pax.__class__}")]}, "no field"),
        ({"ticket": [Item(type="text", text="{pax!r}")]}, "no field"),
        ({"ticket": [Item(type="text", text="{pax:>9999999}")]}, "no field"),
        ({"ticket": [Item(type="text", text="{")]}, "Single '{'"),
        ({"ticket": [Item(type="text", text="a", when="nothing")]}, "no field 'nothing'"),
        ({"ticket": [Item(type="text")]}, "needs a text"),
        ({"ticket": [Item(type="text", text="a" * 201)]}, "more than 200 characters"),
        ({"ticket": [Item(type="text", text="a", across=9)]}, "enlarged"),
        ({"ticket": [Item(type="feed", lines=99)]}, "lines can be fed"),
        ({"ticket": [Item(type="qr", text="a", module=17)]}, "module"),
        ({"ticket": [Item(type="text", text="a", x=5)]}, "no places"),
        ({"ticket": [Item(type="text", text="a")] * 61}, "more than 60 items"),
        ({"width": 50}, "dots"),
        ({"height": 9999}, "dots"),
        ({"language": Language.ZPL}, "a label has a height"),
        ({"height": 400, "per": "slip"}, "a form has one ticket"),
        ({"height": 400, "ticket": [Item(type="row", text="a")]}, "places, not rows"),
        ({"height": 400, "ticket": [Item(type="text", text="a", x=600)]}, "not on the form"),
        ({"height": 400, "ticket": [Item(type="text", text="a", x=500, width=100)]}, "over the edge"),
        ({"height": 400, "ticket": [Item(type="text", text="a", y=390)]}, "over the edge"),
        ({"per": "slip", "head": [Item(type="text", text="{pax}")]}, "no field {pax}"),
    ],
)
def test_a_template_that_cannot_be_printed_is_refused_in_words(changes: dict[str, object], words: str) -> None:
    with pytest.raises(PrinterError) as refused:
        slip.check_template(flowing(**changes))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "printed",
    [
        one_slip(0),
        one_slip(201),
        one_slip(tickets=[ticket(code="A" * 400)]),
        one_slip(tickets=[ticket(code="\ud800")]),
        one_slip(tickets=[ticket(code="")], code=""),
    ],
    ids=["none", "too many", "code too long", "code no text", "no code"],
)
@pytest.mark.parametrize("name", ["plain-80", "stock-80", "label-zpl", "label-tspl"])
def test_a_slip_that_cannot_be_printed_is_refused(name: str, printed: Slip) -> None:
    with pytest.raises(PrinterError):
        render_slip(load_template(name), printed, FontGlyphs())


@settings(deadline=None, max_examples=120)
@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(template_names()))
def test_no_text_breaks_out_of_its_place(product: str, cashier: str, name: str) -> None:
    """Whatever is in a name, a strict printer understands the job, and the codes are those of the tickets."""
    template = load_template(name)
    printed = one_slip(tickets=[ticket(product_zh=product, product_en=product)], cashier=cashier, site_zh=product)
    with suppress(PrinterError):
        job = render_slip(template, printed, FontGlyphs())
        pictures(template, job)
        if template.language is Language.ESCPOS:
            assert len(escpos.qr_payloads(job)) == (0 if name == "receipt-80" else 1)


@given(st.text(max_size=80), st.integers(2, 60))
def test_wrapping_loses_nothing_but_spaces_and_never_is_too_wide(text: str, columns: int) -> None:
    lines = escpos_slip.wrapped(text, columns)
    assert "".join("".join(lines).split(" ")) == "".join(text.split(" "))
    assert all(escpos.width(line) <= columns for line in lines)
    assert escpos.width(escpos_slip.cut_off(text, columns)) <= columns


def test_nothing_secret_is_in_a_repr() -> None:
    printed = one_slip()
    assert printed.tickets[0].code not in repr(printed) + repr(printed.tickets[0])
