"""What is printed, and how: a template is data, a slip has the values, and each printer language turns both into bytes.

A template has three sections, each a list of items: `head`, `ticket` (once for each ticket) and `foot`.  It either
flows, line by line, on a roll; or its items have places, in dots from the upper left corner, on a form of a fixed
height: stock that was printed in colour before, and labels.  With `per = "slip"` all tickets of an order stand on one
paper; with `per = "ticket"` each has its own.

Texts contain fields in braces.  The language of the printer does not matter here; see `protocols.escpos_slip` and
`protocols.label`.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from protocols.errors import PrinterError

TICKETS_MAX = 200  # on one slip
ITEMS_MAX = 60  # of one section
TEXT_MAX = 200  # characters of an item's text before fields are filled in
FILLED_MAX = 400  # and after
DOTS_MAX = 2400  # of a form's width and height: 300 mm
SCALE_MAX = 8


class Language(StrEnum):
    ESCPOS = "escpos"
    ZPL = "zpl"
    TSPL = "tspl"


class SlipTicket(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket, in words of the site's own time zone. `code` is what its QR carries."""

    product_zh: str
    product_en: str = ""
    class_zh: str = ""
    class_en: str = ""
    price_cents: int
    pax: int
    valid_from: str
    valid_to: str
    ticket: str = ""
    code: str = ""
    print_id: str = ""
    copy: int = 1

    def __repr__(self) -> str:  # the code opens a gate
        return f"SlipTicket(ticket={self.ticket!r}, product={self.product_en!r})"


class Slip(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `code` stands for all tickets together, where there is one code for several people.

    `print_id` names this piece of paper; a reprint has another one, and `copy` 2, 3 … (also on each ticket: after a
    broken job only those that did not come out are printed again).  `stock` is the number of a pre-printed form.
    """

    site_zh: str
    site_en: str = ""
    tickets: list[SlipTicket]
    order: str
    cashier: str = ""
    window: str = ""
    printed_at: str = ""
    print_id: str = ""
    copy: int = 1
    code: str = ""
    stock: str = ""
    paid: str = ""

    def __repr__(self) -> str:
        return f"Slip(order={self.order!r}, {len(self.tickets)} tickets)"


SLIP_FIELDS = frozenset({"site_zh", "site_en", "order", "cashier", "window", "printed_at", "print_id", "copy",
                         "reprint", "code", "stock", "paid", "tickets", "total_pax", "total"})  # fmt: skip
TICKET_FIELDS = frozenset({"product_zh", "product_en", "class_zh", "class_en", "price", "pax", "valid_from",
                           "valid_to", "ticket", "code", "number", "print_id", "copy", "reprint"})  # fmt: skip


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing on the paper.

    `text`: a line; `row`: `label` at the left, `text` at the right; `rule`: a line across; `qr`: `text` as a QR code;
    `feed`: `lines` empty lines.  `when` names a field: without a value of it the item is left out.  `across` and `down`
    enlarge characters.  On a form, `x` and `y` are the item's upper left corner in dots, `width` the room for a text
    that is to be centred, set to the right or cut off (0: to the edge), and `height` that of its characters.
    """

    type: Literal["text", "row", "rule", "qr", "feed"]
    text: str = ""
    label: str = ""
    when: str = ""
    align: Literal["left", "centre", "right"] = "left"
    across: int = 1
    down: int = 1
    bold: bool = False
    lines: int = 1
    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 24
    module: int = 0  # dots of a QR module's side; 0: as large as there is room


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a slip looks. `width` and `height` in dots (8 a millimetre at 203 dpi); a height of 0 is a roll.

    `end`: what comes after each paper: `cut`, `mark` (to the next mark or gap of the stock), or nothing.  `gap` is the
    space between two labels in dots.  `page_reference`: where page mode counts from, `bottom` as Epson has it.
    """

    name: str
    language: Language = Language.ESCPOS
    width: int
    height: int = 0
    gap: int = 24
    per: Literal["ticket", "slip"] = "ticket"
    end: Literal["cut", "mark", "none"] = "cut"
    page_reference: Literal["bottom", "top"] = "bottom"
    head: list[Item] = []
    ticket: list[Item] = []
    foot: list[Item] = []

    @property
    def placed(self) -> bool:
        """Items have places on a form."""
        return self.height > 0


class Bitmap(msgspec.Struct, frozen=True):
    """Black and white. Rows from the top, each padded to whole bytes, the leftmost dot highest; 1 is black."""

    width: int
    height: int
    data: bytes

    @property
    def row_bytes(self) -> int:
        return (self.width + 7) // 8


class Glyphs(Protocol):
    """Draws text where a printer's language has no characters for it. `drivers.printer.FontGlyphs` is one."""

    def draw(self, text: str, height: int, *, bold: bool = False) -> Bitmap:
        """One line, `height` dots high. Raises PrinterError."""


class Paper(msgspec.Struct, frozen=True):
    """One paper of a job: its items with every field filled in."""

    items: list[Item]


def check_template(template: Template) -> None:
    """Raises PrinterError, saying what is wrong with which item, for a template that cannot be printed."""
    if not 100 <= template.width <= DOTS_MAX or not 0 <= template.height <= DOTS_MAX or not 0 <= template.gap <= 400:
        size = f"{template.width} by {template.height}"
        raise PrinterError(f"{template.name}: a form has 100 to {DOTS_MAX} dots, not {size}")
    if template.language is not Language.ESCPOS and not template.placed:
        raise PrinterError(f"{template.name}: a label has a height")
    if template.placed and template.per == "slip":
        raise PrinterError(f"{template.name}: a form has one ticket; several on one paper need a roll")
    sections = (("head", template.head), ("ticket", template.ticket), ("foot", template.foot))
    for section, items in sections:
        if len(items) > ITEMS_MAX:
            raise PrinterError(f"{template.name}: more than {ITEMS_MAX} items in {section}")
        fields = SLIP_FIELDS
        if section == "ticket" or template.per == "ticket":
            fields |= TICKET_FIELDS
        for place, item in enumerate(items, 1):
            reason = _wrong(item, template, fields)
            if reason:
                raise PrinterError(f"{template.name}: {section} {place} ({item.type}): {reason}")


def papers(template: Template, slip: Slip) -> Iterator[Paper]:
    """The papers of a job with their texts filled in. Raises PrinterError.

    Every text is at most FILLED_MAX characters long afterwards: what is longer is cut off.
    """
    if not 1 <= len(slip.tickets) <= TICKETS_MAX:
        raise PrinterError(f"a slip has 1 to {TICKETS_MAX} tickets, not {len(slip.tickets)}")
    common = _slip_values(slip)
    if template.per == "slip":
        items = _filled(template.head, common)
        for number, ticket in enumerate(slip.tickets, 1):
            items += _filled(template.ticket, common | _ticket_values(slip, ticket, number))
        yield Paper(items + _filled(template.foot, common))
        return
    for number, ticket in enumerate(slip.tickets, 1):
        values = common | _ticket_values(slip, ticket, number)
        yield Paper(_filled([*template.head, *template.ticket, *template.foot], values))


def money(cents: int) -> str:
    """￥12.00"""
    sign = "-" if cents < 0 else ""
    return f"{sign}￥{abs(cents) // 100}.{abs(cents) % 100:02d}"


def _filled(items: list[Item], values: dict[str, str]) -> list[Item]:
    return [
        msgspec.structs.replace(
            item,
            text=item.text.format_map(values)[:FILLED_MAX],
            label=item.label.format_map(values)[:FILLED_MAX],
        )
        for item in items
        if not item.when or values.get(item.when)
    ]


def _slip_values(slip: Slip) -> dict[str, str]:
    return {
        "site_zh": slip.site_zh,
        "site_en": slip.site_en,
        "order": slip.order,
        "cashier": slip.cashier,
        "window": slip.window,
        "printed_at": slip.printed_at,
        "print_id": slip.print_id,
        "copy": str(slip.copy),
        "reprint": _reprint(slip.copy),
        "code": slip.code,
        "stock": slip.stock,
        "paid": slip.paid,
        "tickets": str(len(slip.tickets)),
        "total_pax": str(sum(ticket.pax for ticket in slip.tickets)),
        "total": money(sum(ticket.price_cents for ticket in slip.tickets)),
    }


def _ticket_values(slip: Slip, ticket: SlipTicket, number: int) -> dict[str, str]:
    copy = max(slip.copy, ticket.copy)
    return {
        "product_zh": ticket.product_zh,
        "product_en": ticket.product_en,
        "class_zh": ticket.class_zh,
        "class_en": ticket.class_en,
        "price": money(ticket.price_cents),
        "pax": str(ticket.pax),
        "valid_from": ticket.valid_from,
        "valid_to": ticket.valid_to,
        "ticket": ticket.ticket,
        "code": ticket.code or slip.code,
        "number": str(number),
        "print_id": ticket.print_id or slip.print_id,
        "copy": str(copy),
        "reprint": _reprint(copy),
    }


def _reprint(copy: int) -> str:
    """What stands on a paper that was printed again; nothing on the first one."""
    return f"补打 REPRINT {copy - 1}" if copy > 1 else ""


def _wrong(item: Item, template: Template, fields: frozenset[str]) -> str:
    """What is wrong with an item; empty when nothing is."""
    for text in (item.text, item.label):
        if len(text) > TEXT_MAX:
            return f"a text of more than {TEXT_MAX} characters"
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as exc:
            return f"{text!r}: {exc}"
        for _, field, specification, conversion in parsed:
            if field is not None and (field not in fields or specification or conversion):
                return f"there is no field {{{field}}}; there are {', '.join(sorted(fields))}"
    if item.when and item.when not in fields:
        return f"there is no field {item.when!r}; there are {', '.join(sorted(fields))}"
    if item.type in ("text", "row", "qr") and not item.text:
        return "it needs a text"
    if not (1 <= item.across <= SCALE_MAX and 1 <= item.down <= SCALE_MAX):
        return f"characters can be enlarged 1 to {SCALE_MAX} times"
    if not 0 <= item.lines <= 60:
        return "0 to 60 lines can be fed"
    if not 0 <= item.module <= 16:
        return "a QR module has up to 16 dots"
    if template.placed:
        if item.type in ("row", "feed"):
            return "a form has places, not rows"
        if not (0 <= item.x < template.width and 0 <= item.y < template.height):
            return f"{item.x}, {item.y} is not on the form of {template.width} by {template.height} dots"
        if item.width < 0 or item.x + item.width > template.width:
            return "its width goes over the edge of the form"
        if not 8 <= item.height <= 240 or item.y + item.height > template.height:
            return "its height is not 8 to 240 dots, or goes over the edge of the form"
    elif item.x or item.y or item.width:
        return "on a roll there are no places: give the template a height, or leave out x, y and width"
    return ""
