"""Bounded types for what arrives from outside and ends up in tables.

Nothing that no table could hold passes a codec: NUL and other control characters, NaN, numbers of more than 53 bits,
endless texts and lists.  What a value *means* is for the domain to judge, with its own refusals.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

WORD_CHARACTERS_MAX = 64
DETAIL_CHARACTERS_MAX = 200
SECRET_CHARACTERS_MAX = 512  # a credential, a password, a token: never stored as it is
NUMBER_MAX = (1 << 53) - 1
CLOCK_MAX_S = 1e11  # year 5138
PAX_MAX = 1000
LIST_MAX = 256

_NO_CONTROLS = r"^[^\x00-\x1f\x7f]*\Z"

Word = Annotated[str, msgspec.Meta(max_length=WORD_CHARACTERS_MAX, pattern=_NO_CONTROLS)]
Detail = Annotated[str, msgspec.Meta(max_length=DETAIL_CHARACTERS_MAX, pattern=_NO_CONTROLS)]
Secret = Annotated[str, msgspec.Meta(max_length=SECRET_CHARACTERS_MAX)]
Number = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
Signed = Annotated[int, msgspec.Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
Pax = Annotated[int, msgspec.Meta(ge=1, le=PAX_MAX)]
Clock = Annotated[float, msgspec.Meta(ge=0, le=CLOCK_MAX_S)]
Numbers = Annotated[list[Number], msgspec.Meta(max_length=LIST_MAX)]
