"""The simulated sales window against a real console channel whose site is a double."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from admin_ws.testing import StubSite
from core.testing import patient_time
from paifang.demo import with_free_ports
from protocols.console import Done, ManualOpen, Sell, SellLine
from sim import truth
from sim.window import Desk, SaleRefused, SalesWindow

patient = pytest.fixture(autouse=True)(patient_time)

USER, WORD = "max", "everything"  # the double's user who may do everything


# trio-websocket 0.12 leaves the socket of a handshake that the server broke off to the garbage collector
broken_off = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning",
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
)


def free_port() -> int:
    return int(with_free_ports("port = 1").split(" = ")[1])


async def test_a_sale_is_paid_answered_and_noted(tmp_path: Path) -> None:
    async with StubSite().open() as site, trio.open_nursery() as nursery:
        with truth.Truth(tmp_path / "truth.jsonl") as writer:
            desk = Desk(site.channel_url, USER, WORD)
            nursery.start_soon(desk.run)
            window = SalesWindow(desk, writer, name="window-1", printer="printer-1", run_id="r")
            with trio.fail_after(5):
                sold = await window.sell([SellLine(product="adult", quantity=2)], printed=True)
        nursery.cancel_scope.cancel()
    assert len(sold.tickets) == 2
    (order,) = (message for message in site.sees if isinstance(message, Sell))
    assert order.tenders[0].amount_cents == 40_000  # two at 190.00, paid with hundreds
    assert (order.key, order.printer, order.by) == ("r-1", "printer-1", USER)
    asked, answered = truth.read(tmp_path / "truth.jsonl")
    assert isinstance(asked, truth.Sell)
    assert isinstance(answered, truth.Sold)
    assert asked.key == answered.key == "r-1"
    assert answered.tickets == [ticket.ticket for ticket in sold.tickets]


@broken_off
async def test_a_sale_that_finds_no_server_is_made_with_the_same_key_once_there_is_one(tmp_path: Path) -> None:
    port = free_port()
    with truth.Truth(tmp_path / "truth.jsonl") as writer:
        desk = Desk(f"ws://127.0.0.1:{port}/channel", USER, WORD)
        window = SalesWindow(desk, writer, name="window-1", printer="", run_id="r")
        done = trio.Event()

        async def sell() -> None:
            await window.sell([SellLine(product="adult", quantity=1)])
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.run)
            nursery.start_soon(sell)
            await trio.sleep(0.4)
            assert not done.is_set()
            assert desk.losses > 0
            site = StubSite(port=port)
            async with site.open():
                with trio.fail_after(10):
                    await done.wait()
            nursery.cancel_scope.cancel()
    assert {message.key for message in site.sees if isinstance(message, Sell)} == {"r-1"}


@broken_off
async def test_a_desk_logs_in_again_after_a_restart(tmp_path: Path) -> None:
    port = free_port()
    desk = Desk(f"ws://127.0.0.1:{port}/channel", USER, WORD)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.run)
        for logins in (1, 2):
            async with StubSite(port=port).open():
                with trio.fail_after(10):
                    assert await desk.connected(10)
                    await desk.call("lane.open", ManualOpen(lane="n1", pax=1, reason="test"), Done)
                assert desk.logins == logins
            await trio.sleep(0.3)
        nursery.cancel_scope.cancel()


async def test_a_sale_that_the_server_refuses_is_given_up_with_its_code(tmp_path: Path) -> None:
    async with StubSite().open() as site, trio.open_nursery() as nursery:
        with truth.Truth(tmp_path / "truth.jsonl") as writer:
            desk = Desk(site.channel_url, "dora", "only looking")
            nursery.start_soon(desk.run)
            window = SalesWindow(desk, writer, name="window-1", printer="", run_id="r")
            with trio.fail_after(5), pytest.raises(SaleRefused) as refused:
                await window.sell([SellLine(product="adult", quantity=1)])
        nursery.cancel_scope.cancel()
    assert refused.value.code == "forbidden"
