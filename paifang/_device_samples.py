"""A ticket to print at a new printer: everything that a real one has, and a code that opens nothing."""

from __future__ import annotations

import time

from paifang._device_specs import DeviceSpec
from paifang.slips import WHEN, encode_slip
from protocols.slip import Slip, SlipTicket

TEST_CODE = "PAIFANG-TEST-TICKET-OPENS-NOTHING"


def sample_ticket(spec: DeviceSpec) -> bytes:
    """The payload of a print job, for any printer."""
    now = time.strftime(WHEN)
    ticket = SlipTicket(
        product_zh=f"打印测试 {spec.name}",
        product_en="Printer test",
        class_zh="测试票",
        class_en="Test ticket",
        price_cents=0,
        pax=1,
        valid_from=now,
        valid_to=now,
        ticket="0",
        code=TEST_CODE,
    )
    slip = Slip(
        site_zh="打印测试", site_en="Printer test", tickets=[ticket], order="0", code=TEST_CODE, printed_at=now,
        print_id="0",
    )  # fmt: skip
    return encode_slip(slip)
