"""The text on Chinese identity documents with a chip, and the check digit of their numbers.

256 bytes of UTF-16, little endian, in fixed places, padded with spaces.  The letter at byte 248 says what kind it is:

    blank  resident identity card                       GA/T 490
    J      residence permit for Hong Kong, Macao, Taiwan  the same places, and pass number and issues in the last field
    I      foreigner's permanent residence card, 2017     places of its own
    Y      the same, 2023: 18 digits, the first a 9       places not published where we could read them

Of the last only the number is taken, from the place where a resident's card has it, and only when it begins with 9
and its check digit is right.  The number is the last character's matter everywhere else too: ISO 7064 MOD 11-2
(GB 11643), so that a read that was damaged on the line is not taken for somebody else.
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise

import msgspec

from protocols.errors import IdCardError
from protocols.sdt import TEXT_BYTES

TYPE_AT = 248  # byte of the letter that says what kind of document it is
LONG_TERM = "长期"  # instead of a last day
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_CHARACTERS = "10X98765432"
_NUMBER = re.compile(r"[0-9]{17}[0-9X]", re.ASCII)
_NUMBER_2017 = re.compile(r"[A-Z]{3}[0-9]{12}", re.ASCII)


class DocumentKind(StrEnum):
    RESIDENT = "resident"
    PERMIT = "permit"  # Hong Kong, Macao and Taiwan residents
    FOREIGNER_2017 = "foreigner_2017"
    FOREIGNER_2023 = "foreigner_2023"


class IdDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What a document says. Days are YYYYMMDD as on the chip; `sex` and `nation` are the codes of GB/T 2261 and 3304.

    `valid_to` may be `LONG_TERM`.  What a kind of document does not have is empty.
    """

    kind: DocumentKind
    number: str
    name: str = ""
    name_en: str = ""
    sex: str = ""
    nation: str = ""
    nationality: str = ""
    birth: str = ""
    address: str = ""
    issuer: str = ""
    valid_from: str = ""
    valid_to: str = ""
    pass_number: str = ""
    issues: str = ""
    version: str = ""

    def __repr__(self) -> str:  # every field is personal
        return f"IdDocument({self.kind.value})"


# (field, bytes) in the order of the chip; an empty name is what we do not use
_RESIDENT = (("name", 30), ("sex", 2), ("nation", 4), ("birth", 16), ("address", 70), ("number", 36), ("issuer", 30),
             ("valid_from", 16), ("valid_to", 16), ("", 36))  # fmt: skip
_PERMIT = (*_RESIDENT[:-1], ("pass_number", 18), ("issues", 4), ("", 6), ("", 8))
_FOREIGNER = (("name_en", 120), ("sex", 2), ("number", 30), ("nationality", 6), ("name", 30), ("valid_from", 16),
              ("valid_to", 16), ("birth", 16), ("version", 4), ("issuer", 8), ("", 8))  # fmt: skip
_NUMBER_AT = slice(122, 158)  # of a resident's card
_LETTERS = {
    "": DocumentKind.RESIDENT,
    "J": DocumentKind.PERMIT,
    "I": DocumentKind.FOREIGNER_2017,
    "Y": DocumentKind.FOREIGNER_2023,
}
_LAYOUTS = {
    DocumentKind.RESIDENT: _RESIDENT,
    DocumentKind.PERMIT: _PERMIT,
    DocumentKind.FOREIGNER_2017: _FOREIGNER,
    DocumentKind.FOREIGNER_2023: _RESIDENT,
}


def check_digit(first: str) -> str:
    """The 18th character for 17 digits. Raises IdCardError when they are not 17 digits."""
    if len(first) != 17 or not (first.isascii() and first.isdigit()):
        raise IdCardError("the check digit is that of 17 digits")
    return _CHECK_CHARACTERS[sum(int(digit) * weight for digit, weight in zip(first, _WEIGHTS, strict=True)) % 11]


def number_is_sound(number: str) -> bool:
    """Eighteen characters with the right check digit, or fifteen as on a foreigner's card of 2017."""
    if _NUMBER.fullmatch(number):
        return check_digit(number[:17]) == number[17]
    return bool(_NUMBER_2017.fullmatch(number))


def decode_text(text: bytes) -> IdDocument:
    """A document from its 256 bytes of text.

    Raises IdCardError for a wrong size, bytes that are no text, a kind that is not known, and a number that is not
    sound; the error never contains what was read.
    """
    if len(text) != TEXT_BYTES:
        raise IdCardError(f"the text has {len(text)} bytes, not {TEXT_BYTES}")
    letter = _field(text[TYPE_AT : TYPE_AT + 2])
    # a letter of the Latin alphabet is a kind; a resident's card has blanks there, or the end of an added text
    kind = _LETTERS.get(letter) if letter.isascii() and (letter.isalpha() or not letter) else DocumentKind.RESIDENT
    if kind is None:
        raise IdCardError(f"documents of the kind {letter} are not known")
    if kind is DocumentKind.FOREIGNER_2023:
        document = IdDocument(kind=kind, number=_field(text[_NUMBER_AT]))
    else:
        fields: dict[str, str] = {}
        at = 0
        for name, length in _LAYOUTS[kind]:
            if name:
                fields[name] = _field(text[at : at + length])
            at += length
        document = msgspec.convert({"kind": kind, **fields}, IdDocument)
    if not number_is_sound(document.number) or not _fits(document):
        raise IdCardError("the number on the document is not sound")
    return document


def encode_text(document: IdDocument) -> bytes:
    """The chip's side. Raises IdCardError when a field is too long."""
    parts = []
    for name, length in _LAYOUTS[document.kind]:
        value = getattr(document, name) if name else ""
        try:
            encoded = value.encode("utf-16-le")
        except UnicodeEncodeError as exc:
            raise IdCardError(f"{name} is not text") from exc
        if len(encoded) > length:
            raise IdCardError(f"{name} has {len(encoded)} bytes; there is room for {length}")
        parts.append(encoded + b" \0" * ((length - len(encoded)) // 2))
    text = b"".join(parts)
    letter = next(letter for letter, kind in _LETTERS.items() if kind is document.kind) or " "
    return text[:TYPE_AT] + letter.encode("utf-16-le") + text[TYPE_AT + 2 :]


def _fits(document: IdDocument) -> bool:
    """Whether the number is one of this kind of document."""
    if document.kind is DocumentKind.FOREIGNER_2017:
        return len(document.number) == 15
    if len(document.number) != 18:
        return False
    if document.kind is DocumentKind.PERMIT:
        return document.number[:2] in ("81", "82", "83")
    return (document.number[0] == "9") == (document.kind is DocumentKind.FOREIGNER_2023)


def _field(data: bytes) -> str:
    """A field without its padding. Raises IdCardError for what is no text."""
    try:
        text = data.decode("utf-16-le")
    except UnicodeDecodeError as exc:
        raise IdCardError("a field is not UTF-16") from exc
    return text.rstrip(" \0　").lstrip(" ")


def _check_layouts() -> None:
    """Every layout fills the text, and has its letter's place at the edge of a field or in one that is not used."""
    for layout in _LAYOUTS.values():
        edges = [0]
        for _, length in layout:
            edges.append(edges[-1] + length)
        names = {begin: name for (begin, _), (name, _) in zip(pairwise(edges), layout, strict=True)}
        if edges[-1] != TEXT_BYTES or names[max(begin for begin in names if begin <= TYPE_AT)]:
            raise AssertionError("a layout of the chip's text does not add up")


_check_layouts()
