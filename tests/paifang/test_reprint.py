"""A broken job is printed again: the paper says so, and has a number of its own."""

from __future__ import annotations

from paifang.reprint import reprinted
from paifang.slips import MARK, decode_slip, encode_slip
from protocols.slip import Slip, SlipTicket

TICKET = SlipTicket(
    product_zh="成人票", price_cents=100, pax=1, valid_from="a", valid_to="b", code="PF1:X", print_id="77"
)
SLIP = Slip(site_zh="牌坊谷", tickets=[TICKET], order="1", print_id="77")


def test_a_copy_has_a_print_id_of_its_own_and_says_which_it_is() -> None:
    second, third = (decode_slip(reprinted(encode_slip(SLIP), copy)) for copy in (2, 3))
    assert second is not None and third is not None
    assert (second.copy, second.print_id, third.copy, third.print_id) == (2, "77-2", 3, "77-3")
    assert (second.tickets[0].copy, second.tickets[0].print_id) == (2, "77-2")
    assert second.tickets[0].code == TICKET.code


def test_what_has_no_number_gets_none_and_what_is_no_slip_stays() -> None:
    bare = decode_slip(reprinted(encode_slip(Slip(site_zh="", tickets=[], order="")), 2))
    assert bare is not None and bare.print_id == ""
    assert reprinted(b"bytes for a printer", 2) == b"bytes for a printer"
    assert reprinted(MARK + b"\xc1", 2) == MARK + b"\xc1"
