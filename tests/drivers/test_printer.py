"""Ticket printers over real sockets and ptys: done only when the printer says so, refused in words, never mixed.

The printers are our own simulators (`drivers.testing.PrinterDouble`, `sim.printer.SimPrinter`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from drivers.base import Availability, Printer
from drivers.errors import DeviceRefused, DeviceUnavailable, JobBroken, JobUnconfirmed
from drivers.printer import Confirm, FilePrinter, SerialPrinter, TcpPrinter
from drivers.serial import open_line
from drivers.testing import PrinterDouble, PtyLine, open_descriptors
from paifang.templates import load_template, render_slip
from protocols.escpos import PrinterStatus, TicketText, qr_payloads, ticket
from protocols.slip import Slip, SlipTicket
from sim import truth
from sim.printer import SimPrinter

patient = pytest.fixture(autouse=True)(patient_time)

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


Pair = tuple[TcpPrinter | SerialPrinter | FilePrinter, PrinterDouble]


@asynccontextmanager
async def connected(kind: str, tmp_path: Path) -> AsyncIterator[Pair]:
    double = PrinterDouble()
    async with trio.open_nursery() as nursery:
        if kind == "tcp":
            port = await nursery.start(double.serve_tcp)
            yield TcpPrinter("127.0.0.1", port), double
            nursery.cancel_scope.cancel()
        else:
            line = PtyLine(tmp_path / "printer")
            nursery.start_soon(double.serve_line, line)
            # a pty stands for the printer's file as well: a character device that is read and written
            yield SerialPrinter(line.path, 19200) if kind == "serial" else FilePrinter(line.path), double
            nursery.cancel_scope.cancel()
            line.hang_up()


@pytest.fixture(params=["tcp", "serial", "file"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with connected(request.param, tmp_path) as made:
        yield made


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
    with pytest.raises(DeviceRefused, match=f"{words}.*nothing was sent") as refused:
        await printer.print_job(JOB, 5.0)
    assert not isinstance(refused.value, JobBroken)  # the same print id may be tried again
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
    with pytest.raises(JobBroken, match="out of paper during the job"):
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
    with pytest.raises(JobUnconfirmed, match="sent, and not confirmed"):
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


# --- done when the printer says so, in its turn


@asynccontextmanager
async def simulated(tmp_path: Path, **options: object) -> AsyncIterator[tuple[TcpPrinter, SimPrinter]]:
    """A printer with a memory and a head that needs time."""
    with truth.Truth(tmp_path / "truth.jsonl") as writer:
        sim = SimPrinter("window", "127.0.0.1", 0, tmp_path / "printed", writer, **options)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            await nursery.start(sim.run)
            yield TcpPrinter("127.0.0.1", sim.port), sim
            nursery.cancel_scope.cancel()


def printed(tmp_path: Path) -> list[str]:
    """The codes of all tickets that came out, in order."""
    return [
        code
        for event in truth.read(tmp_path / "truth.jsonl")
        if isinstance(event, truth.Print)
        for code in event.codes
    ]


def paper(print_id: str, copy: int = 1) -> bytes:
    days = {"valid_from": "2026-05-01", "valid_to": "2026-05-02"}
    one = SlipTicket(product_zh="成人票", price_cents=12000, pax=1, code=f"PF1:{print_id}", **days)
    slip = Slip(site_zh="牌坊谷", tickets=[one], order="1001", print_id=print_id, copy=copy)
    return render_slip(load_template("plain-80"), slip)


async def test_a_job_is_done_when_it_is_on_paper_not_when_it_is_in_the_printers_memory(tmp_path: Path) -> None:
    async with simulated(tmp_path, bytes_per_s=1000.0) as (printer, sim):
        for number in range(2):
            await printer.print_job(paper(f"P{number}"), 30.0)
            assert sim.jobs == number + 1
    assert printed(tmp_path) == ["PF1:P0", "PF1:P1"]


async def test_without_the_question_in_sequence_done_means_taken(tmp_path: Path) -> None:
    """The weaker promise for printers that do not know it; and it is tried only once."""
    async with simulated(tmp_path, bytes_per_s=1000.0, sequence=False) as (printer, sim):
        await printer.print_job(paper("P1"), 30.0)
        assert sim.jobs == 0
        with trio.fail_after(20):
            while sim.jobs < 1:
                await trio.sleep(0.02)
        await printer.print_job(paper("P2"), 30.0)
        with trio.fail_after(20):
            while sim.jobs < 2:
                await trio.sleep(0.02)
        (second,) = [path for path in (tmp_path / "printed").iterdir() if path.name.endswith("2.escpos")]
        assert b"\x1dr" not in second.read_bytes()


async def test_a_printer_that_must_answer_in_sequence_and_does_not_is_not_believed(tmp_path: Path) -> None:
    async with simulated(tmp_path, sequence=False) as (_, sim):
        printer = TcpPrinter("127.0.0.1", sim.port, confirm=Confirm.SEQUENCE)
        with pytest.raises(JobUnconfirmed, match="sent, and not confirmed"):
            await printer.print_job(paper("P1"), 1.0)
        assert sim.jobs == 1


async def test_a_printer_that_was_exchanged_for_a_simpler_one_is_learned_again(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (printer, sim):
        await printer.print_job(paper("P0"), 30.0)
        sim.sequence = False
        with pytest.raises(JobUnconfirmed):
            await printer.print_job(paper("P1"), 2.0)
        await printer.print_job(paper("P2", copy=2), 30.0)
        assert sim.jobs == 3


@pytest.mark.parametrize("left", [1, 60, 300])
async def test_paper_out_in_the_middle_is_a_broken_job_and_its_reprint_has_its_own_number(
    tmp_path: Path, left: int
) -> None:
    """What was in the printer's memory comes out with the new paper: that copy has the old number, and is void."""
    async with simulated(tmp_path, bytes_per_s=4000.0) as (printer, sim):
        await printer.print_job(paper("P0"), 30.0)
        sim.paper_left = left
        with pytest.raises(JobBroken, match="缺纸 out of paper during the job"):
            await printer.print_job(paper("P1"), 30.0)
        assert sim.jobs == 1
        assert printer.statistics().availability is Availability.AVAILABLE
        with pytest.raises(DeviceRefused, match="out of paper; nothing was sent") as refused:
            await printer.print_job(paper("P2", copy=2), 30.0)
        assert not isinstance(refused.value, JobBroken)  # so this number is still good
        sim.refill()
        await printer.print_job(paper("P2", copy=2), 30.0)
    assert printed(tmp_path) == ["PF1:P0", "PF1:P1", "PF1:P2"]


async def test_a_printer_that_loses_power_in_the_job_is_not_done(tmp_path: Path) -> None:
    async with simulated(tmp_path, bytes_per_s=1000.0) as (printer, sim):
        await printer.print_job(paper("P0"), 30.0)

        async def cut() -> None:
            while not sim.midway:  # the head has no event to wait for
                await trio.sleep(0.005)
            sim.power_loss()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            with pytest.raises(JobUnconfirmed):
                await printer.print_job(paper("P1"), 3.0)
    assert printed(tmp_path) == ["PF1:P0"]


@pytest.mark.parametrize("fault", ["twice", "garbage"])
async def test_a_printer_that_answers_badly_still_prints(tmp_path: Path, fault: str) -> None:
    async with simulated(tmp_path) as (printer, sim):
        if fault == "twice":
            sim.twice = True
        else:
            sim.garbage = b"\x11\x13\xff"
        for number in range(3):
            await printer.print_job(paper(f"P{number}"), 30.0)
    assert printed(tmp_path) == ["PF1:P0", "PF1:P1", "PF1:P2"]


async def test_behind_a_serial_line_the_same_is_true(tmp_path: Path) -> None:
    async with simulated(tmp_path, line=tmp_path / "tty", bytes_per_s=8000.0) as (_, sim):
        printer = SerialPrinter(str(tmp_path / "tty"), 115200)
        await printer.print_job(paper("P0"), 30.0)
        sim.paper_left = 200
        with pytest.raises(JobBroken, match="out of paper"):
            await printer.print_job(paper("P1"), 30.0)
        sim.refill()
        await printer.print_job(paper("P2", copy=2), 30.0)
    assert printed(tmp_path) == ["PF1:P0", "PF1:P1", "PF1:P2"]


async def test_what_is_printed_is_the_job_and_nothing_else(tmp_path: Path) -> None:
    async with simulated(tmp_path) as (printer, _):
        await printer.print_job(paper("P0"), 30.0)
        await printer.print_job(paper("P1"), 30.0)
    files = sorted((tmp_path / "printed").iterdir())
    assert [qr_payloads(file.read_bytes()) for file in files] == [["PF1:P0"], ["PF1:P1"]]
    assert all(paper(f"P{number}") in file.read_bytes() for number, file in enumerate(files))


# --- a USB printer's file


async def test_file_what_is_no_printer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, words in ((tmp_path / "file", "is not a printer"), (tmp_path / "none", "not plugged in")):
        with pytest.raises(DeviceUnavailable, match=f"{words}.*nothing was sent"):
            await FilePrinter(str(path)).print_job(JOB, 5.0)
    assert (tmp_path / "file").read_bytes() == b""


async def test_file_in_use_by_another_is_named(tmp_path: Path) -> None:
    line = PtyLine(tmp_path / "lp0")
    with open_line(line.path, 9600):
        with pytest.raises(DeviceUnavailable, match="in use by another process"):
            await FilePrinter(line.path).print_job(JOB, 5.0)
    line.hang_up()


async def test_file_unplugged_in_the_job(tmp_path: Path) -> None:
    double = PrinterDouble()
    line = PtyLine(tmp_path / "lp0")
    double.on_print = line.hang_up
    printer = FilePrinter(line.path, confirm=Confirm.STATUS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(double.serve_line, line)
        with pytest.raises(JobUnconfirmed):
            await printer.print_job(JOB, 5.0)
        double.on_print = lambda: None
        line.replug()
        await printer.print_job(JOB, 5.0)
        nursery.cancel_scope.cancel()
    line.hang_up()


async def test_file_a_full_device_is_out_of_paper() -> None:
    """What Linux says of a USB printer without paper; /dev/full says it of everything."""
    printer = FilePrinter("/dev/full")
    with pytest.raises(DeviceRefused, match="out of paper") as refused:
        await printer.print_job(JOB, 5.0)
    assert not isinstance(refused.value, JobBroken)
