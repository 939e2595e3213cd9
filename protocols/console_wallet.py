"""What a sales window asks to hand a ticket to a visitor's phone, and what it is answered."""

from __future__ import annotations

from protocols._bounds import Number, Word
from protocols.messages import Base


class GetWallet(Base, frozen=True, kw_only=True):
    """ticket.wallet: a link to the page that shows the ticket on a phone, and the code to type. Audited each time."""

    ticket: Number
    by: Word = ""
    by_role: Word = ""


class Wallet(Base, frozen=True, kw_only=True):
    """A ticket for a phone. What stands behind the `#` of `link` opens a gate: it is given to its visitor only.

    `link` begins with the site's `public_url`; without one it is a path on the console's own origin.  `short` is the
    same each time.
    """

    ticket: int
    link: str
    short: str
    product_zh: str
    product_en: str
    valid_from: float
    valid_to: float

    def __repr__(self) -> str:
        return f"Wallet(ticket={self.ticket!r})"
