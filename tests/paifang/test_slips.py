"""A sold ticket becomes paper in the look of the printer that prints it."""

from __future__ import annotations

from pathlib import Path

import escpos_render
import pytest

from drivers.base import DriverStatistics
from drivers.errors import DeviceRefused
from drivers.printer import FontGlyphs
from paifang import slips
from paifang._device_samples import TEST_CODE, sample_ticket
from paifang._device_specs import device_specs
from paifang._wires import Wires
from paifang.check import load
from paifang.reprint import reprinted
from paifang.slips import SlipPrinter, decode_slip, encode_slip, ticket_slips
from paifang.templates import FOLDER, load_template, render_slip, template_names
from protocols.slip import Language
from storage.interfaces import BookedTicket

DEMO = Path(__file__).parents[2] / "sites" / "demo.toml"
TICKET = BookedTicket(
    ticket=4711, product="adult", product_name_zh="成人一日票", product_name_en="Adult day ticket",
    product_class="discount", zones=["park"], price_cents=12_000, pax=1, valid_from=1_790_000_040.0,
    valid_to=1_790_086_400.0, print_job=99,
)  # fmt: skip


class Paper:
    """A printer that keeps what it was sent."""

    def __init__(self) -> None:
        self.jobs: list[bytes] = []

    async def print_job(self, payload: bytes, timeout_s: float) -> None:
        self.jobs.append(payload)

    async def status(self, timeout_s: float) -> str:
        return f"asked within {timeout_s:g} s"

    def statistics(self) -> DriverStatistics:
        raise NotImplementedError


def payload() -> bytes:
    return ticket_slips(load(DEMO), lambda: 1_790_000_000.0)(TICKET, "PF1:CODE", 12)


async def test_without_a_template_it_is_the_plain_ticket_of_80_mm() -> None:
    """With everything that stands on tickets; a copy that was printed again says so."""
    paper = Paper()
    printer = SlipPrinter(paper, language="escpos")
    await printer.print_job(payload(), 1.0)
    await printer.print_job(reprinted(payload(), 2), 1.0)
    slip, again = decode_slip(payload()), decode_slip(reprinted(payload(), 2))
    assert slip is not None and again is not None
    assert paper.jobs == [render_slip(load_template("plain-80"), each) for each in (slip, again)]
    first, second = ("".join(escpos_render.render(job, 576).lines) for job in paper.jobs)
    assert all(word in first for word in ("成人一日票", "优惠票", "￥120.00", "人数", "2026-09-21 22:13", "12", "99"))
    assert "REPRINT" not in first and "REPRINT 1" in second and "99-2" in second


def test_a_job_says_everything_that_a_template_may_want() -> None:
    slip = decode_slip(payload())
    assert slip is not None
    [ticket] = slip.tickets
    assert (ticket.class_zh, ticket.class_en, ticket.ticket, slip.print_id) == ("优惠票", "Reduced", "4711", "99")
    assert slip.printed_at == "2026-09-21 22:13"  # the site's clock, whatever the server's is set to
    assert "PF1:CODE" not in repr(slip)


@pytest.mark.parametrize("name", template_names())
async def test_every_template_of_ours_prints_on_a_printer_of_its_language(name: str) -> None:
    paper, language = Paper(), load_template(name).language
    printer = SlipPrinter(paper, language=language.value, template=name, glyphs=FontGlyphs)
    await printer.print_job(payload(), 1.0)
    assert len(paper.jobs[0]) > 100
    assert (b"PF1:CODE" in paper.jobs[0]) == (name != "receipt-80")  # a receipt opens nothing
    other = next(each for each in Language if each is not language)
    with pytest.raises(DeviceRefused, match=f"is for {language.value}"):
        await SlipPrinter(paper, language=other.value, template=name).print_job(payload(), 1.0)
    assert len(paper.jobs) == 1


@pytest.mark.parametrize("language", ["zpl", "tspl"])
async def test_a_label_printer_has_a_template_without_naming_one(language: str) -> None:
    paper = Paper()
    await SlipPrinter(paper, language=language, glyphs=FontGlyphs).print_job(payload(), 1.0)
    assert b"PF1:CODE" in paper.jobs[0]


async def test_a_sites_own_template_is_read_when_it_is_needed_and_again_when_it_was_mended(tmp_path: Path) -> None:
    paper = Paper()
    printer = SlipPrinter(paper, language="escpos", template="own.toml", folder=tmp_path)
    with pytest.raises(DeviceRefused, match=r"own\.toml"):
        await printer.print_job(payload(), 1.0)
    (tmp_path / "own.toml").write_text("width = ", encoding="utf-8")
    with pytest.raises(DeviceRefused, match=r"own\.toml"):
        await printer.print_job(payload(), 1.0)
    (tmp_path / "own.toml").write_bytes((FOLDER / "plain-80.toml").read_bytes())
    await printer.print_job(payload(), 1.0)
    assert len(paper.jobs) == 1


async def test_bytes_that_are_no_slip_go_through_and_a_damaged_one_does_not() -> None:
    paper = Paper()
    printer = SlipPrinter(paper, language="escpos", template="plain-80")
    await printer.print_job(b"\x1b@hello\n", 1.0)
    assert paper.jobs == [b"\x1b@hello\n"]
    with pytest.raises(DeviceRefused, match="damaged"):
        await printer.print_job(slips.MARK + b"\xc1", 1.0)
    assert await printer.status(2.0) == "asked within 2 s"


def test_the_test_ticket_opens_nothing(tmp_path: Path) -> None:
    site = load(DEMO.with_name("devices.toml"))
    wires = Wires(tmp_path)
    for spec in device_specs(site).values():
        if spec.kind == "printer":
            slip = decode_slip(sample_ticket(spec))
            assert slip is not None
            assert slip.tickets[0].code == TEST_CODE
            printer = spec.make(wires)
            assert isinstance(printer, SlipPrinter)
            assert TEST_CODE.encode() in printer.render(slip)
    assert decode_slip(encode_slip(slip)) == slip
