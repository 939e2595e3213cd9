"""Label printers on real sockets: done when every label is out, refused in words, broken told from not begun.

The printer is our own simulator (`sim.label.SimLabelPrinter`).
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import zxingcpp

from core.testing import patient_time
from drivers.base import Availability, Printer
from drivers.errors import DeviceRefused, DeviceUnavailable, JobBroken, JobUnconfirmed
from drivers.printer import FontGlyphs, LabelPrinter
from paifang.templates import load_template, render_slip
from protocols.label import LabelStatus
from protocols.slip import Language, Slip, SlipTicket
from sim.label import SimLabelPrinter

sys.path.insert(0, str(Path(__file__).parents[1] / "protocols"))  # the strict renderers
import label_render

patient = pytest.fixture(autouse=True)(patient_time)

LANGUAGES = pytest.mark.parametrize("language", ["zpl", "tspl"])


@asynccontextmanager
async def simulated(language: str, label_s: float = 0.0) -> AsyncIterator[tuple[LabelPrinter, SimLabelPrinter]]:
    sim = SimLabelPrinter(language, label_s=label_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(sim.run)
        yield LabelPrinter("127.0.0.1", sim.port, language=language), sim
        nursery.cancel_scope.cancel()


def job(language: str, count: int = 1) -> bytes:
    days = {"valid_from": "2026-05-01", "valid_to": "2026-05-02"}
    tickets = [
        SlipTicket(product_zh="成人票", price_cents=12000, pax=1, code=f"PF1:{number}", print_id=f"P{number}", **days)
        for number in range(count)
    ]
    slip = Slip(site_zh="牌坊谷", tickets=tickets, order="7")
    return render_slip(load_template(f"label-{language}"), slip, FontGlyphs())


@LANGUAGES
async def test_a_job_is_done_when_its_last_label_is_out(language: str) -> None:
    async with simulated(language, label_s=0.1) as (printer, sim):
        as_seam: Printer = printer
        await as_seam.print_job(job(language, 3), 30.0)
        assert len(sim.printed) == 3
        assert b"".join(sim.printed) == job(language, 3)
        render = label_render.render_zpl if language == "zpl" else label_render.render_tspl
        labels = render(b"".join(sim.printed))
    read = [[code.text for code in zxingcpp.read_barcodes(label.image)] for label in labels]
    assert read == [["PF1:0"], ["PF1:1"], ["PF1:2"]]
    assert printer.statistics().availability is Availability.AVAILABLE


@LANGUAGES
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (LabelStatus(paper_out=True), "out of labels"),
        (LabelStatus(head_open=True), "head open"),
        (LabelStatus(ribbon_out=True), "out of ribbon"),
        (LabelStatus(paused=True), "paused"),
        (LabelStatus(error=True), "printer error"),
    ],
)
async def test_a_printer_that_cannot_is_refused_in_words_and_gets_nothing(
    language: str, status: LabelStatus, words: str
) -> None:
    async with simulated(language) as (printer, sim):
        sim.status = status
        with pytest.raises(DeviceRefused, match=f"{words}; nothing was sent") as refused:
            await printer.print_job(job(language), 5.0)
        assert not isinstance(refused.value, JobBroken)
        sim.refill()
        await trio.sleep(0.1)
        assert sim.printed == []
        await printer.print_job(job(language), 30.0)


@LANGUAGES
async def test_labels_out_in_the_middle_is_a_broken_job(language: str) -> None:
    async with simulated(language, label_s=0.02) as (printer, sim):
        sim.labels_left = 1
        with pytest.raises(JobBroken, match="缺纸 out of labels during the job"):
            await printer.print_job(job(language, 3), 30.0)
        assert len(sim.printed) == 1


@LANGUAGES
async def test_what_others_print_is_waited_for_by_refusing(language: str) -> None:
    async with simulated(language, label_s=0.4) as (printer, sim):
        stream = await trio.open_tcp_stream("127.0.0.1", sim.port)
        await stream.send_all(job(language))
        await trio.sleep(0.1)
        with pytest.raises(DeviceRefused, match="printing something else; nothing was sent"):
            await printer.print_job(job(language), 5.0)
        await stream.aclose()


@LANGUAGES
async def test_one_that_never_answers_gets_nothing(language: str) -> None:
    async with simulated(language) as (printer, sim):
        sim.silent = True
        with pytest.raises(DeviceUnavailable, match="does not answer; nothing was sent"):
            await printer.print_job(job(language), 10.0)
        assert sim.printed == []


@LANGUAGES
async def test_one_that_falls_silent_in_the_job_is_not_believed(language: str) -> None:
    async with simulated(language, label_s=0.3) as (printer, sim):

        async def fall_silent() -> None:
            while not sim._waiting:
                await trio.sleep(0.005)
            sim.silent = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fall_silent)
            with pytest.raises(JobUnconfirmed, match="sent, and not confirmed"):
                await printer.print_job(job(language), 2.0)


async def test_a_printer_of_the_other_language_is_told_apart() -> None:
    async with simulated("zpl") as (_, sim):
        sim.garbage = b"\xff" * 300
        with pytest.raises(DeviceUnavailable, match="answers, but not in ZPL"):
            await LabelPrinter("127.0.0.1", sim.port, language="zpl").print_job(job("zpl"), 5.0)
    async with simulated("tspl") as (_, sim):
        sim.garbage = b"\xff"
        await LabelPrinter("127.0.0.1", sim.port, language="tspl").print_job(job("tspl"), 5.0)  # the last byte counts


async def test_nobody_there() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(DeviceUnavailable, match=r"cannot be reached.*nothing was sent"):
        await LabelPrinter("127.0.0.1", port).print_job(b"^XA^XZ", 5.0)


def test_a_label_printer_speaks_a_labels_language() -> None:
    with pytest.raises(ValueError, match="zpl or tspl"):
        LabelPrinter("127.0.0.1", language=Language.ESCPOS)
