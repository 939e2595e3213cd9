"""A line of the log names the message that it was written about, by the trace that the console shows."""

from __future__ import annotations

import json

import structlog

from core import Address, Child, Supervisor
from core.testing import running
from paifang.serve import configure_logs


class Lane:
    """Writes a line about each scan, and hands it on."""

    def __init__(self, ledger: Address | None = None) -> None:
        self.address = Address("lane" if ledger else "ledger")
        self.ledger = ledger

    async def main(self, me: Address) -> None:
        while True:
            envelope = await me.receive()
            if envelope.msg != "scan":
                return
            structlog.get_logger(me.name).info("handled", by=me.name)
            if self.ledger is not None:
                await self.ledger.ask("scan", 1.0)
            envelope.reply("done")


async def test_the_lines_of_one_scan_in_every_actor_carry_its_trace(capsys, autojump_clock) -> None:
    ledger = Lane()
    lane = Lane(ledger.address)
    configure_logs("info")
    try:
        structlog.get_logger("before").info("nobody was asked")
        async with running(Supervisor("site", [Child(each.address, each.main) for each in (ledger, lane)])):
            await lane.address.ask("scan", 1.0, trace="4f1c0b7a9d22")
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    said = [(line.get("by"), line.get("trace")) for line in lines if line["event"] != "stopped"]
    assert said == [(None, None), ("lane", "4f1c0b7a9d22"), ("ledger", "4f1c0b7a9d22")]
