"""Identity documents: the fields of each kind in their places, the check digit, and nothing personal in words."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols import idcard
from protocols.errors import IdCardError
from protocols.idcard import LONG_TERM, DocumentKind, IdDocument

DIGITS = st.text("0123456789", min_size=17, max_size=17)
RESIDENT = IdDocument(
    kind=DocumentKind.RESIDENT,
    number="11010519491231002X",  # the example of GB 11643
    name="测试人",
    sex="1",
    nation="01",
    birth="19491231",
    address="测试省测试市测试路1号",
    issuer="测试公安局",
    valid_from="20200101",
    valid_to=LONG_TERM,
)
PERMIT = IdDocument(
    kind=DocumentKind.PERMIT,
    number="810000199408230021",
    name="测试人",
    sex="2",
    nation="",
    birth="19940823",
    address="测试市",
    issuer="测试公安局",
    valid_from="20200101",
    valid_to="20250101",
    pass_number="H12345678",
    issues="01",
)
FOREIGNER = IdDocument(
    kind=DocumentKind.FOREIGNER_2017,
    number="USA110077101501",
    name="测试",
    name_en="DOE, JANE",
    sex="2",
    nationality="USA",
    birth="19770101",
    issuer="1100",
    valid_from="20180101",
    valid_to="20280101",
    version="01",
)
KINDS = pytest.mark.parametrize("document", [RESIDENT, PERMIT, FOREIGNER], ids=lambda document: document.kind)


@KINDS
def test_every_field_of_every_kind_comes_back(document: IdDocument) -> None:
    text = idcard.encode_text(document)
    assert len(text) == 256
    assert idcard.decode_text(text) == document


def test_fields_stand_where_the_standard_puts_them() -> None:
    text = bytearray(b" \0" * 128)
    for at, value in ((0, "测试人"), (30, "1"), (32, "01"), (36, "19491231"), (52, "某路"),
                      (122, "11010519491231002X"), (158, "某局"), (188, "20200101"), (204, LONG_TERM)):  # fmt: skip
        text[at : at + 2 * len(value)] = value.encode("utf-16-le")
    read = idcard.decode_text(bytes(text))
    assert (read.name, read.sex, read.nation, read.birth) == ("测试人", "1", "01", "19491231")
    assert (read.address, read.number, read.issuer) == ("某路", "11010519491231002X", "某局")
    assert (read.valid_from, read.valid_to) == ("20200101", LONG_TERM)


def test_the_new_card_for_foreigners_gives_its_number_or_nothing() -> None:
    number = "91115612000101001"
    number += idcard.check_digit(number)
    text = bytearray(idcard.encode_text(IdDocument(kind=DocumentKind.FOREIGNER_2023, number=number, name="Unsure")))
    assert idcard.decode_text(bytes(text)) == IdDocument(kind=DocumentKind.FOREIGNER_2023, number=number)
    text[122:124] = b"1\0"
    with pytest.raises(IdCardError):
        idcard.decode_text(bytes(text))


@pytest.mark.parametrize("number", ["11010519491231002X", "440524188001010014", "810000199408230021"])
def test_known_numbers_are_sound(number: str) -> None:
    assert idcard.number_is_sound(number)


@given(DIGITS, st.integers(0, 16), st.integers(1, 9))
def test_any_wrong_digit_is_noticed(first: str, at: int, step: int) -> None:
    number = first + idcard.check_digit(first)
    wrong = number[:at] + str((int(number[at]) + step) % 10) + number[at + 1 :]
    assert idcard.number_is_sound(number)
    assert not idcard.number_is_sound(wrong)


@given(DIGITS, st.integers(0, 15))
def test_two_exchanged_digits_are_noticed(first: str, at: int) -> None:
    number = first + idcard.check_digit(first)
    swapped = number[:at] + number[at + 1] + number[at] + number[at + 2 :]
    assert idcard.number_is_sound(swapped) == (swapped == number)


@pytest.mark.parametrize(
    "number",
    ["", "1", "110105194912310021", "11010519491231002x", "１" * 17 + "X", "US1110077101501"],
)
def test_what_is_no_number_is_not_sound(number: str) -> None:
    assert not idcard.number_is_sound(number)


def with_number(document: IdDocument, number: str) -> bytes:
    return idcard.encode_text(IdDocument(**{**{f: getattr(document, f) for f in document.__struct_fields__},
                                            "number": number}))  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b"",
        bytes(255),
        bytes(256),  # a document without a number
        with_number(RESIDENT, "110105194912310021"),
        with_number(RESIDENT, FOREIGNER.number),
        with_number(PERMIT, RESIDENT.number),
        with_number(FOREIGNER, ""),
        b"\x00\xd8" + idcard.encode_text(RESIDENT)[2:],  # half a surrogate pair
        idcard.encode_text(RESIDENT)[:248] + b"Q\0" + idcard.encode_text(RESIDENT)[250:],
    ],
)
def test_what_cannot_be_trusted_is_refused_without_saying_it(text: bytes) -> None:
    with pytest.raises(IdCardError) as refused:
        idcard.decode_text(text)
    assert not any(value in str(refused.value) for value in (RESIDENT.number, FOREIGNER.number, "测试"))


def test_a_long_text_at_the_end_of_a_residents_card_is_no_kind_of_document() -> None:
    text = idcard.encode_text(RESIDENT)
    assert idcard.decode_text(text[:248] + "路".encode("utf-16-le") + text[250:]).number == RESIDENT.number


@given(st.binary(min_size=250, max_size=260))
def test_any_bytes_are_a_document_or_an_error_of_our_own(text: bytes) -> None:
    with suppress(IdCardError):
        idcard.decode_text(text)


@given(st.sampled_from([RESIDENT, PERMIT, FOREIGNER]), st.integers(0, 255), st.integers(1, 255))
def test_a_damaged_document_is_still_a_document_or_an_error_of_our_own(
    document: IdDocument, at: int, change: int
) -> None:
    text = bytearray(idcard.encode_text(document))
    text[at] ^= change
    try:
        read = idcard.decode_text(bytes(text))
    except IdCardError:
        return
    assert idcard.number_is_sound(read.number)


@pytest.mark.parametrize(("name", "value"), [("name", "测" * 16), ("number", "1" * 19), ("name", "\ud800")])
def test_what_has_no_room_on_the_chip_is_refused(name: str, value: str) -> None:
    fields = {field: getattr(RESIDENT, field) for field in RESIDENT.__struct_fields__}
    with pytest.raises(IdCardError):
        idcard.encode_text(IdDocument(**{**fields, name: value}))


def test_the_check_digit_is_that_of_seventeen_digits() -> None:
    for wrong in ("", "1" * 16, "1" * 16 + "X", "１" * 17):
        with pytest.raises(IdCardError):
            idcard.check_digit(wrong)


@KINDS
def test_nothing_personal_is_in_a_repr(document: IdDocument) -> None:
    assert repr(document) == f"IdDocument({document.kind.value})"
