"""A print job as another copy: its own print id, and a mark that says that it was printed again."""

from __future__ import annotations

import msgspec

from drivers.errors import DeviceRefused
from paifang.slips import decode_slip, encode_slip

SEPARATOR = "-"  # between a print id and the number of its copy


def reprinted(payload: bytes, copy: int) -> bytes:
    """`payload` as copy `copy` (2 and above). A job that is bytes for a printer, or damaged, stays as it is."""
    try:
        slip = decode_slip(payload)
    except DeviceRefused:
        return payload  # the printer says so, in words
    if slip is None:
        return payload
    tickets = [
        msgspec.structs.replace(
            ticket, copy=copy, print_id=f"{ticket.print_id}{SEPARATOR}{copy}" if ticket.print_id else ""
        )
        for ticket in slip.tickets
    ]
    print_id = f"{slip.print_id}{SEPARATOR}{copy}" if slip.print_id else ""
    return encode_slip(msgspec.structs.replace(slip, copy=copy, print_id=print_id, tickets=tickets))
