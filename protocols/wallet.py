"""What a visitor's phone needs to show a ticket by itself: the fragment of a link to the page `/ticket`.

    https://HOST/ticket#1.BASE64URL( JSON array, UTF-8 )

    [ticket, key, short code, site zh, site en, product zh, product en, class, pax, valid from, valid to,
     slot from, slot to, [zone, ...]]

`key` is the ticket's own rotating key (32 bytes, base64url without padding; `protocols.rotating`), never one of the
site's.  Times are whole seconds since the Unix epoch, 0 for no slot.  A browser keeps what stands behind `#` to itself,
so that no server and no log in between ever sees it.  The page reads it in `admin_ws/console/src/ticket/fragment.ts`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec

from protocols.errors import WireError

VERSION = "1"
PAGE = "/ticket"
KEY_BYTES = 32
FRAGMENT_CHARACTERS_MAX = 1400  # a QR code of this is still read from a screen
NAME_CHARACTERS_MAX = 40  # of each name; longer ones are cut
ZONES_MAX = 8  # named on the page
NUMBER_MAX = (1 << 53) - 1  # what JavaScript counts exactly


class WalletError(WireError):
    """This is no fragment of a ticket's link, or it would be too long for one."""


_Number = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
_Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]


class WalletTicket(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """One ticket as the page shows it. Times are seconds since the epoch; `key` is base64url."""

    ticket: _Number
    key: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}$")]
    short: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-HJKMNP-TV-Z]{10}$")]
    site_zh: _Name
    site_en: _Name
    product_zh: _Name
    product_en: _Name
    product_class: _Name
    pax: _Number
    valid_from: _Number
    valid_to: _Number
    slot_from: _Number = 0
    slot_to: _Number = 0
    zones: Annotated[list[_Name], msgspec.Meta(max_length=ZONES_MAX)] = []

    def __repr__(self) -> str:  # key and short code open a gate
        return f"WalletTicket(ticket={self.ticket!r})"


def key_text(key: bytes) -> str:
    """A key of `KEY_BYTES` as it stands in the fragment."""
    return _encode(key)


def key_bytes(text: str) -> bytes:
    """The key of a decoded ticket. Raises WalletError."""
    return _decode(text)


def named(text: str) -> str:
    """A name, cut to what the fragment holds."""
    return text[:NAME_CHARACTERS_MAX]


def encode_fragment(ticket: WalletTicket) -> str:
    """What stands behind the `#`. Raises WalletError when it would be too long."""
    text = f"{VERSION}.{_encode(msgspec.json.encode(ticket))}"
    if len(text) > FRAGMENT_CHARACTERS_MAX:
        raise WalletError(f"the link would have {len(text)} characters behind its #")
    return text


def decode_fragment(text: str) -> WalletTicket:
    """The ticket of a fragment, with or without the `#`. Raises WalletError."""
    text = text.removeprefix("#")
    version, dot, body = text.partition(".")
    if version != VERSION or not dot or len(text) > FRAGMENT_CHARACTERS_MAX:
        raise WalletError("not a ticket's fragment")
    try:
        return msgspec.json.decode(_decode(body), type=WalletTicket)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise WalletError("not a ticket's fragment") from exc


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as exc:
        raise WalletError("not base64url") from exc
    if _encode(data) != text:
        raise WalletError("not canonical base64url")
    return data
