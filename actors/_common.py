"""Small things that several actors do the same way."""

from __future__ import annotations

import math
from typing import Any

from core import Address, Envelope, MailboxFull


def hand_over(envelope: Envelope, to: Address, message: Any) -> None:
    """Let `to` answer in our place: its answer goes to whoever waits for ours.

    Raises MailboxFull when `to` has no room; the duty stays with us then.
    """
    to.tell(message, deadline=envelope.deadline, trace=envelope.trace, reply_to=envelope)


def offer(to: Address, message: Any, *, system: bool = False, deadline: float = math.inf, trace: str = "") -> bool:
    """Tell, and say whether there was room. For notes whose loss is bearable and already counted by the mailbox."""
    try:
        to.tell(message, system=system, deadline=deadline, trace=trace)
    except MailboxFull:
        return False
    return True
