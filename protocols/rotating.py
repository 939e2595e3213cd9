"""Rotating codes: a QR code in an app that is another one every 30 seconds, so that a picture of it is soon worthless.

    PFR1: base45( ticket 7 bytes | step 5 bytes | HMAC-SHA256(key of the ticket, context | ticket | step), first 12 )

All numbers are big endian; `step` counts 30 s since the Unix epoch.  Each ticket has a key of its own, which the
server derives from a secret of the site (`KeyRing.rotating_key`) and gives to the holder's app; the app makes codes
without being connected.  A code is accepted one step before and after the verifier's own.  Where no QR code can be
shown, a typed code takes its place (`protocols.shortcode`).  Source of the scheme: RFC 6238, time-based one-time
passwords, with the ticket named beside the password.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import base45

from protocols.errors import TicketCodeError

PREFIX = "PFR1:"
STEP_S = 30
STEPS_OFF_MAX = 1  # accepted before and after: clocks differ, and a code is shown for a while before it is scanned
TICKET_BYTES = 7
STEP_BYTES = 5
MAC_BYTES = 12
BODY_BYTES = TICKET_BYTES + STEP_BYTES + MAC_BYTES
TEXT_CHARACTERS = len(PREFIX) + BODY_BYTES // 2 * 3  # BODY_BYTES is even
TICKET_BITS = 53
CONTEXT = b"paifang-rotating-1"

KeyOf = Callable[[int], bytes]
"""A ticket's own key, by its number."""


def rotating_text(ticket: int, key: bytes, at: float) -> str:
    """The text to show at `at` (seconds since the epoch). Raises ValueError for a number that no ticket has."""
    if not 0 <= ticket < 1 << TICKET_BITS:
        raise ValueError(f"a ticket's number has {TICKET_BITS} bits")
    step = int(at // STEP_S)
    body: bytes = base45.b45encode(_head(ticket, step) + _mac(key, ticket, step))
    return PREFIX + body.decode("ascii")


def is_rotating(text: str) -> bool:
    """Does a text claim to be a rotating code?"""
    return text.startswith(PREFIX)


def verify_rotating(text: str, key_of: KeyOf, at: float) -> int:
    """The number of the ticket.

    Raises TicketCodeError with `reason` `unknown_code` (not this format) or `bad_signature` (forged, damaged, or of
    another time than `at`; the text says which).
    """
    if len(text) != TEXT_CHARACTERS or not text.startswith(PREFIX):
        raise TicketCodeError("unknown_code", "not a rotating code")
    body = text[len(PREFIX) :]
    try:
        raw: bytes = base45.b45decode(body)
    except ValueError as exc:
        raise TicketCodeError("unknown_code", "not base45") from exc
    if len(raw) != BODY_BYTES or base45.b45encode(raw).decode("ascii") != body:
        raise TicketCodeError("unknown_code", "not canonical base45")
    ticket = int.from_bytes(raw[:TICKET_BYTES], "big")
    step = int.from_bytes(raw[TICKET_BYTES : TICKET_BYTES + STEP_BYTES], "big")
    if ticket >> TICKET_BITS:
        raise TicketCodeError("unknown_code", "no ticket has this number")
    if not hmac.compare_digest(raw[-MAC_BYTES:], _mac(key_of(ticket), ticket, step)):
        raise TicketCodeError("bad_signature", "forged or damaged")
    if abs(step - int(at // STEP_S)) > STEPS_OFF_MAX:
        raise TicketCodeError("bad_signature", "out of date: the code changes every 30 s; show the live one")
    return ticket


def _head(ticket: int, step: int) -> bytes:
    return ticket.to_bytes(TICKET_BYTES, "big") + step.to_bytes(STEP_BYTES, "big")


def _mac(key: bytes, ticket: int, step: int) -> bytes:
    return hmac.digest(key, CONTEXT + _head(ticket, step), hashlib.sha256)[:MAC_BYTES]
