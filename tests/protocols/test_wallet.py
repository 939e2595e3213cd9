"""The fragment of a ticket's link: what goes in comes out, nothing else is taken, and it stays short."""

from __future__ import annotations

import base64
import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.shortcode import derived_short
from protocols.wallet import (
    FRAGMENT_CHARACTERS_MAX,
    KEY_BYTES,
    NAME_CHARACTERS_MAX,
    NUMBER_MAX,
    ZONES_MAX,
    WalletError,
    WalletTicket,
    decode_fragment,
    encode_fragment,
    key_bytes,
    key_text,
    named,
)

KEY = bytes(range(KEY_BYTES))
PLAIN = WalletTicket(
    ticket=602_734_912_733_184,
    key=key_text(KEY),
    short=derived_short(b"digest"),
    site_zh="牌坊谷景区",
    site_en="Paifang Valley",
    product_zh="成人票",
    product_en="Adult",
    product_class="full",
    pax=1,
    valid_from=1_795_276_800,
    valid_to=1_795_363_200,
    zones=["园区"],
)
numbers = st.integers(0, NUMBER_MAX)
letters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\')
names = st.text(letters, max_size=12)
keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)


def fragment(value: object) -> str:
    return "1." + base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_the_vector() -> None:
    text = encode_fragment(PLAIN)
    assert text.startswith("1.WzYwMjczNDkxMjczMzE4NCwiQUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOCIs")
    assert decode_fragment(text) == decode_fragment("#" + text) == PLAIN
    assert key_bytes(PLAIN.key) == KEY


@given(numbers, keys, names, names, numbers, st.lists(names, max_size=ZONES_MAX))
def test_what_goes_in_comes_out(ticket: int, key: bytes, zh: str, en: str, number: int, zones: list[str]) -> None:
    changes = {"ticket": ticket, "key": key_text(key), "product_zh": zh, "site_en": en, "slot_from": number}
    whole = msgspec.structs.replace(PLAIN, **changes, valid_to=number, zones=zones)
    text = encode_fragment(whole)
    assert decode_fragment(text) == whole and key_bytes(decode_fragment(text).key) == key
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: "1." + key_text(data)))
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(WalletError):
        decode_fragment(text)


@given(st.data())
def test_a_changed_character_is_never_another_text_for_the_same_ticket(data: st.DataObject) -> None:
    text = encode_fragment(PLAIN)
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("AZaz09-_.=+/ #").filter(lambda each: each != text[place]))
    with contextlib.suppress(WalletError):
        assert decode_fragment(text[:place] + letter + text[place + 1 :]) != PLAIN


FIELDS = list(msgspec.to_builtins(PLAIN))


@pytest.mark.parametrize(
    "value",
    [
        {}, [], None, 1, FIELDS[:10], [*FIELDS, "one more"], [-1, *FIELDS[1:]], [NUMBER_MAX + 1, *FIELDS[1:]],
        [1.5, *FIELDS[1:]], [True, *FIELDS[1:]], [FIELDS[0], "short", *FIELDS[2:]], [*FIELDS[:2], "ILOU", *FIELDS[3:]],
        [*FIELDS[:13], ["zone"] * (ZONES_MAX + 1)], [*FIELDS[:3], "x" * (NAME_CHARACTERS_MAX + 1), *FIELDS[4:]],
    ],
)  # fmt: skip
def test_what_is_no_ticket_is_refused(value: object) -> None:
    with pytest.raises(WalletError):
        decode_fragment(fragment(value))


def test_the_plain_one_is_taken_in_that_form_and_so_without_what_has_a_default() -> None:
    assert decode_fragment(fragment(FIELDS)) == PLAIN
    assert decode_fragment(fragment(FIELDS[:11])) == msgspec.structs.replace(PLAIN, zones=[])


def test_one_that_is_too_long_is_not_made_and_not_read() -> None:
    long = named("长" * 100)
    assert len(long) == NAME_CHARACTERS_MAX
    full = msgspec.structs.replace(PLAIN, site_zh=long, product_zh=long, zones=[long] * ZONES_MAX)
    with pytest.raises(WalletError, match="characters behind"):
        encode_fragment(full)
    with pytest.raises(WalletError):
        decode_fragment(fragment([*FIELDS[:13], ["x" * FRAGMENT_CHARACTERS_MAX]]))


def test_it_never_shows_its_key() -> None:
    assert PLAIN.key not in repr(PLAIN) and PLAIN.short not in f"{[PLAIN]}"
