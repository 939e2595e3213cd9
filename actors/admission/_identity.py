"""From what a reader read to the form in which a credential is stored."""

from __future__ import annotations

from collections.abc import Callable

from protocols.errors import TicketCodeError
from protocols.messages import Credential, CredentialKind
from protocols.ticketcode import TicketCode

CARD_CHARACTERS_MAX = 64

HashId = Callable[[str, str], bytes]
"""(kind, value) -> keyed hash of a credential, the only form in which one is stored. A code's value is its ticket."""

Verify = Callable[[str], TicketCode]
"""What a ticket code says. Raises TicketCodeError."""


def identify(credential: Credential, verify: Verify, hash_id: HashId) -> bytes:
    """The stored form of what was scanned. Raises TicketCodeError for what cannot be one of ours."""
    value = credential.value
    if credential.kind is CredentialKind.CODE:
        return hash_id(CredentialKind.CODE, str(verify(value).ticket))
    if not 0 < len(value) <= CARD_CHARACTERS_MAX:
        raise TicketCodeError("unknown_code")
    return hash_id(credential.kind, value)
