"""Ticket printers over real sockets and ptys: done only when the printer says so, refused in words, never mixed.

The printer is our own simulator (`drivers.testing.PrinterDouble`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from drivers.base import Availability, Printer
from drivers.errors import DeviceRefused, DeviceUnavailable
from drivers.printer import SerialPrinter, TcpPrinter
from drivers.testing import PrinterDouble, PtyLine, open_descriptors
from protocols.escpos import PrinterStatus, TicketText, ticket

JOB = ticket(
    TicketText(
        site_zh="牌坊谷",
        site_en="Paifang Valley",
        product_zh="成人票",
        product_en="Adult",
        price_cents=12000,
        pax=1,
        valid_from="2025-05-01",
        valid_to="2025-05-01",
        order="1001",
        code="PF1:ABCDEFGH",
    )
)


@asynccontextmanager
async def connected(kind: str, tmp_path: Path) -> AsyncIterator[tuple[TcpPrinter | SerialPrinter, PrinterDouble]]:
    double = PrinterDouble()
    async with trio.open_nursery() as nursery:
        if kind == "tcp":
            port = await nursery.start(double.serve_tcp)
            yield TcpPrinter("127.0.0.1", port), double
            nursery.cancel_scope.cancel()
        else:
            line = PtyLine(tmp_path / "printer")
            nursery.start_soon(double.serve_line, line)
            yield SerialPrinter(line.path, 19200), double
            nursery.cancel_scope.cancel()
            line.hang_up()


@pytest.fixture(params=["tcp", "serial"])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[TcpPrinter | SerialPrinter, PrinterDouble]]:
    async with connected(request.param, tmp_path) as made:
        yield made


Pair = tuple[TcpPrinter | SerialPrinter, PrinterDouble]


async def test_a_job_arrives_whole_and_is_confirmed(pair: Pair) -> None:
    printer, double = pair
    as_seam: Printer = printer
    await as_seam.print_job(JOB, 5.0)
    assert b"".join(double.jobs) == JOB
    statistics = printer.statistics()
    assert statistics.availability is Availability.AVAILABLE
    assert statistics.frames_out == 1 and statistics.bytes_out == len(JOB)
    assert statistics.last_error == ""


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (PrinterStatus(online=False, cover_open=True), "cover open"),
        (PrinterStatus(online=False, paper_end=True), "out of paper"),
        (PrinterStatus(online=True, paper_end=True), "out of paper"),
        (PrinterStatus(online=False, error=True), "printer error"),
        (PrinterStatus(online=False), "offline"),
    ],
)
async def test_a_printer_that_cannot_is_refused_in_words_and_gets_nothing(
    pair: Pair, status: PrinterStatus, words: str
) -> None:
    printer, double = pair
    double.status = status
    with pytest.raises(DeviceRefused, match=f"{words}.*nothing was sent"):
        await printer.print_job(JOB, 5.0)
    assert b"".join(double.jobs) == b""
    assert printer.statistics().availability is Availability.AVAILABLE
    assert words in printer.statistics().last_error


async def test_paper_near_its_end_still_prints(pair: Pair) -> None:
    printer, double = pair
    double.status = PrinterStatus(online=True, paper_near_end=True)
    await printer.print_job(JOB, 5.0)
    assert (await printer.status()).paper_near_end is True


async def test_paper_that_runs_out_in_the_job_is_a_failed_job(pair: Pair) -> None:
    printer, double = pair

    def out() -> None:
        double.status = PrinterStatus(online=False, paper_end=True)

    double.on_print = out
    with pytest.raises(DeviceRefused, match="out of paper during the job"):
        await printer.print_job(JOB, 5.0)


async def test_a_printer_that_is_busy_after_the_job_is_waited_for(pair: Pair) -> None:
    printer, double = pair

    def busy() -> None:
        double.status = PrinterStatus(online=False)

    double.on_print = busy

    async def recover() -> None:
        await trio.sleep(0.6)
        double.status = PrinterStatus(online=True)

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recover)
        await printer.print_job(JOB, 5.0)
    assert trio.current_time() - started > 0.5


async def test_one_that_never_answers_gets_nothing(pair: Pair) -> None:
    printer, double = pair
    double.answers = 0
    with pytest.raises(DeviceUnavailable, match="does not answer; nothing was sent"):
        await printer.print_job(JOB, 10.0)
    assert b"".join(double.jobs) == b""
    assert printer.statistics().availability is Availability.UNAVAILABLE


async def test_sent_and_not_confirmed_is_not_done(pair: Pair) -> None:
    printer, double = pair
    double.answers = 3  # it answers before the job, and is switched off in it
    with pytest.raises(DeviceUnavailable, match="sent, and not confirmed"):
        await printer.print_job(JOB, 1.0)
    double.answers = 100
    await printer.print_job(JOB, 5.0)


async def test_bytes_that_answer_nothing_are_passed_over(pair: Pair) -> None:
    printer, double = pair
    double.stray = b"\x11\x13\xff"
    await printer.print_job(JOB, 5.0)


async def test_a_stranger_that_only_babbles_is_told_apart(pair: Pair) -> None:
    printer, double = pair
    double.stray = b"\xff" * 200
    with pytest.raises(DeviceUnavailable, match="not as an ESC/POS printer"):
        await printer.print_job(JOB, 5.0)


async def test_two_jobs_never_mix(pair: Pair) -> None:
    printer, double = pair
    double.byte_s = 0.0002
    jobs = [bytes((ordinal,)) * 700 for ordinal in b"ABC"]
    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(printer.print_job, job, 10.0)
    printed = b"".join(double.jobs)
    assert sorted(printed[at : at + 700] for at in range(0, 2100, 700)) == jobs


async def test_a_job_that_waited_too_long_for_another_was_not_begun(pair: Pair) -> None:
    printer, double = pair
    double.byte_s = 0.001

    async def second() -> None:
        with pytest.raises(DeviceRefused, match="waiting for another job"):
            await printer.print_job(b"B" * 100, 0.2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(printer.print_job, b"A" * 700, 10.0)
        await trio.sleep(0.05)
        nursery.start_soon(second)
    assert b"B" not in b"".join(double.jobs)


@pytest.mark.parametrize("size", [0, 300_000])
async def test_a_job_of_impossible_size_is_a_mistake_of_the_caller(pair: Pair, size: int) -> None:
    printer, double = pair
    with pytest.raises(ValueError, match="bytes"):
        await printer.print_job(b"x" * size, 1.0)
    assert double.connections <= 1


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.003, 0.01, 0.05, 0.2])
async def test_cancelled_at_any_moment_nothing_stays_open_and_the_next_job_prints(pair: Pair, delay_s: float) -> None:
    printer, double = pair
    double.byte_s = 0.0002
    await printer.print_job(b"warm", 5.0)
    await trio.sleep(0.05)
    before = open_descriptors()
    with trio.move_on_after(delay_s):
        await printer.print_job(b"A" * 700, 5.0)
    await trio.sleep(0.3)
    assert open_descriptors() == before
    await printer.print_job(b"NEXT", 5.0)
    assert b"".join(double.jobs).endswith(b"NEXT")


async def test_tcp_a_connection_that_breaks_in_the_job(tmp_path: Path) -> None:
    async with connected("tcp", tmp_path) as (printer, double):
        double.hang_up_after = 10
        with pytest.raises(DeviceUnavailable):
            await printer.print_job(JOB, 5.0)


async def test_tcp_nobody_there() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    printer = TcpPrinter("127.0.0.1", port)
    with pytest.raises(DeviceUnavailable, match=f"127.0.0.1:{port}: cannot be reached.*nothing was sent"):
        await printer.print_job(JOB, 5.0)


async def test_tcp_a_job_that_was_given_up_is_not_delivered_later() -> None:
    """The printer takes nothing for a while: what waits in our socket is thrown away with the job."""
    received = b""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    small = listeners[0].socket
    small.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    port = small.getsockname()[1]
    payload = b"L" * 200_000

    async def slow() -> None:
        nonlocal received
        stream = await listeners[0].accept()
        while received.count(b"\x10\x04") < 3:
            received += await stream.receive_some(100)
            await stream.send_all(b"\x12" * received.count(b"\x10\x04"))
        await trio.sleep(1.5)
        try:
            while data := await stream.receive_some(65536):
                received += data
        except trio.BrokenResourceError:
            pass
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        with pytest.raises(DeviceUnavailable, match="sending"):
            await TcpPrinter("127.0.0.1", port).print_job(payload, 0.8)
    assert received.count(b"L") < 12_000  # what was in the printer's own buffer, and nothing of ours
    await listeners[0].aclose()


async def test_serial_unplugged_in_the_job(tmp_path: Path) -> None:
    double = PrinterDouble()
    line = PtyLine(tmp_path / "printer")
    double.on_print = line.hang_up
    printer = SerialPrinter(line.path, 19200)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(double.serve_line, line)
        with pytest.raises(DeviceUnavailable):
            await printer.print_job(JOB, 5.0)
        double.on_print = lambda: None
        with pytest.raises(DeviceUnavailable, match="not plugged in"):
            await printer.print_job(JOB, 5.0)
        line.replug()
        await printer.print_job(JOB, 5.0)
        nursery.cancel_scope.cancel()
    line.hang_up()
