"""A ticket to print at a new printer: everything that a real one has, and a code that opens nothing."""

from __future__ import annotations

import time

from paifang._device_specs import DeviceSpec
from protocols.escpos import TicketText
from protocols.escpos import ticket as render_ticket

TEST_CODE = "PAIFANG-TEST-TICKET-OPENS-NOTHING"


def test_ticket(spec: DeviceSpec) -> bytes:
    """The bytes for this printer."""
    now = time.strftime("%Y-%m-%d %H:%M")
    return render_ticket(
        TicketText(
            site_zh="打印测试",
            site_en="Printer test",
            product_zh=f"测试票 {spec.name}",
            product_en="Test ticket",
            price_cents=0,
            pax=1,
            valid_from=now,
            valid_to=now,
            order="0",
            code=TEST_CODE,
        )
    )
