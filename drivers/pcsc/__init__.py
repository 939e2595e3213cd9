"""IC cards over PC/SC, at gates and at the desk where they are issued.

Needs the extra `pcsc` (pyscard) and a running pcscd; without them a reader is unavailable and says why.
"""

from drivers.pcsc._card import CardContents
from drivers.pcsc._errors import CardGone, CardRefused, NoCard, ReaderBusy, ReaderGone, ServiceGone, WrongKey
from drivers.pcsc.reader import CardReader
from protocols.cardrecord import CardKeys, CardRecord

__all__ = [
    "CardContents",
    "CardGone",
    "CardKeys",
    "CardReader",
    "CardRecord",
    "CardRefused",
    "NoCard",
    "ReaderBusy",
    "ReaderGone",
    "ServiceGone",
    "WrongKey",
]
