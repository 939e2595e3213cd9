"""From a booked ticket to paper: what is printed is decided at the sale, how it looks by the printer that prints it.

A print job carries the values (a `Slip`) and no bytes of any printer's language; `SlipPrinter` turns them into those of
its own printer, by the template that the site file names for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from drivers.base import DriverStatistics, Printer
from drivers.errors import DeviceRefused
from paifang.site import SiteFile
from paifang.templates import TemplateError, load_template, render_slip
from protocols.errors import PrinterError
from protocols.slip import Glyphs, Language, Slip, SlipTicket, Template
from storage.interfaces import BookedTicket

MARK = b"\0paifang-slip\0"  # before a job that is values; any other job is bytes for the printer as they are
DEFAULT_TEMPLATES = {"escpos": "plain-80", "zpl": "label-zpl", "tspl": "label-tspl"}
CLASSES = {
    "full": ("全价票", "Full price"),
    "discount": ("优惠票", "Reduced"),
    "group": ("团体票", "Group"),
    "free": ("免费票", "Free"),
    "annual": ("年卡", "Annual card"),
}
WHEN = "%Y-%m-%d %H:%M"


def encode_slip(slip: Slip) -> bytes:
    """A slip as the payload of a print job."""
    return MARK + msgspec.msgpack.encode(slip)


def decode_slip(payload: bytes) -> Slip | None:
    """The slip of a payload; None when it is bytes for the printer. Raises DeviceRefused for a damaged one."""
    if not payload.startswith(MARK):
        return None
    try:
        return msgspec.msgpack.decode(payload[len(MARK) :], type=Slip)
    except msgspec.MsgspecError as exc:
        raise DeviceRefused(f"the print job is damaged: {exc}") from exc


def ticket_slips(site: SiteFile, clock: Callable[[], float] = time.time) -> Callable[[BookedTicket, str, int], bytes]:
    """Turns a booked ticket, its code and its order into the payload of a print job."""
    zone = ZoneInfo(site.site.timezone)

    def when(at: float) -> str:
        return datetime.fromtimestamp(at, zone).strftime(WHEN)

    def payload(ticket: BookedTicket, code: str, order: int) -> bytes:
        class_zh, class_en = CLASSES.get(ticket.product_class, (ticket.product_class, ticket.product_class))
        return encode_slip(
            Slip(
                site_zh=site.site.name,
                site_en=site.site.name_en,
                tickets=[
                    SlipTicket(
                        product_zh=ticket.product_name_zh,
                        product_en=ticket.product_name_en,
                        class_zh=class_zh,
                        class_en=class_en,
                        price_cents=ticket.price_cents,
                        pax=ticket.pax,
                        valid_from=when(ticket.valid_from),
                        valid_to=when(ticket.valid_to),
                        ticket=str(ticket.ticket),
                        code=code,
                    )
                ],
                order=str(order or ""),
                code=code,
                printed_at=when(clock()),
                print_id=str(ticket.print_job or ""),
            )
        )

    return payload


class SlipPrinter:
    """A `drivers.base.Printer` that prints slips in the look of one printer.

    Args:
        driver: the printer itself.
        language: what it speaks: escpos, zpl or tspl.
        template: a shipped template's name or a file below `folder`; empty: as usual for the language.
        glyphs: makes what draws Chinese on label printers, once it is needed.
    """

    def __init__(
        self,
        driver: Any,
        *,
        language: str,
        template: str = "",
        folder: Path | None = None,
        glyphs: Callable[[], Glyphs] | None = None,
    ) -> None:
        self.driver: Printer = driver
        self._language = Language(language)
        self._name = template or DEFAULT_TEMPLATES[language]
        self._folder = folder
        self._make_glyphs = glyphs
        self._glyphs: Glyphs | None = None
        self._template: Template | None = None

    async def print_job(self, payload: bytes, timeout_s: float) -> None:
        """See `Printer.print_job`. DeviceRefused as well when the template cannot be used: nothing was sent then."""
        slip = decode_slip(payload)
        await self.driver.print_job(payload if slip is None else self.render(slip), timeout_s)

    def render(self, slip: Slip) -> bytes:
        """The printer's bytes. Raises DeviceRefused in words for the person beside it."""
        try:
            return render_slip(self._loaded(), slip, self._drawn())
        except (TemplateError, PrinterError) as exc:
            raise DeviceRefused(str(exc)) from exc

    async def status(self, timeout_s: float) -> Any:
        """What the printer says of itself. Raises DeviceError."""
        return await self.driver.status(timeout_s)  # type: ignore[attr-defined]

    def statistics(self) -> DriverStatistics:
        return self.driver.statistics()

    def _loaded(self) -> Template:
        if self._template is None:  # a file that was mended is read at the next job
            template = load_template(self._name, self._folder)
            if template.language is not self._language:
                words = f"{self._name} is for {template.language}, and this printer speaks {self._language}"
                raise TemplateError(words)
            self._template = template
        return self._template

    def _drawn(self) -> Glyphs | None:
        if self._glyphs is None and self._make_glyphs is not None and self._language is not Language.ESCPOS:
            self._glyphs = self._make_glyphs()
        return self._glyphs
