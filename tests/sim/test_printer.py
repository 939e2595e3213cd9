"""The simulated printer over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from protocols.escpos import PrinterStatus, StatusKind, TicketText, decode_status, qr_payloads, status_request, ticket
from sim import truth
from sim.printer import SimPrinter

patient = pytest.fixture(autouse=True)(patient_time)

TEXT = TicketText(
    site_zh="牌坊谷景区",
    site_en="Paifang Valley",
    product_zh="成人票",
    product_en="Adult",
    price_cents=12000,
    pax=1,
    valid_from="2025-07-01",
    valid_to="2025-07-01",
    order="42",
    code="PF:TEST-CODE",
)


@asynccontextmanager
async def printer(tmp_path: Path) -> AsyncIterator[tuple[SimPrinter, trio.SocketStream]]:
    with truth.Truth(tmp_path / "truth.jsonl") as writer:
        made = SimPrinter("window-1", "127.0.0.1", 0, tmp_path / "printed", writer)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            stream = await trio.open_tcp_stream("127.0.0.1", made.port)
            async with stream:
                yield made, stream
            nursery.cancel_scope.cancel()


async def _status(stream: trio.SocketStream, kind: StatusKind) -> PrinterStatus:
    await stream.send_all(status_request(kind))
    with trio.fail_after(2):
        return decode_status(kind, (await stream.receive_some(1))[0])


async def test_a_ticket_is_printed_into_a_file_and_its_code_is_noted(tmp_path: Path) -> None:
    async with printer(tmp_path) as (made, stream):
        job = ticket(TEXT)
        await stream.send_all(job[:50])
        await stream.send_all(job[50:])
        assert (await _status(stream, StatusKind.PRINTER)).online
        assert made.jobs == 1
    (event,) = truth.read(tmp_path / "truth.jsonl")
    assert isinstance(event, truth.Print)
    assert event.codes == ["PF:TEST-CODE"]
    assert qr_payloads((tmp_path / "printed" / event.job).read_bytes()) == ["PF:TEST-CODE"]


async def test_without_paper_it_says_so_and_prints_nothing(tmp_path: Path) -> None:
    async with printer(tmp_path) as (made, stream):
        made.status = PrinterStatus(online=False, paper_end=True)
        await stream.send_all(ticket(TEXT))
        assert not (await _status(stream, StatusKind.PRINTER)).online
        assert (await _status(stream, StatusKind.PAPER)).paper_end
        assert made.jobs == 0
        assert list(truth.read(tmp_path / "truth.jsonl")) == []


async def test_bytes_that_are_no_print_job_close_the_connection_only(tmp_path: Path) -> None:
    async with printer(tmp_path) as (made, stream):
        await stream.send_all(b"\x1b\x00\xff\x1d\x99" * 20)
        with trio.fail_after(2):
            assert await stream.receive_some(1) == b""
        again = await trio.open_tcp_stream("127.0.0.1", made.port)
        async with again:
            assert (await _status(again, StatusKind.PRINTER)).online
