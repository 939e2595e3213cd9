"""Ticket codes: the manual's vector, exactly one accepted text, every forgery refused by its reason."""

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import get_args

import base45
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from paifang import site
from protocols import ticketcode
from protocols.errors import TicketCodeError
from protocols.ticketcode import EPOCH_S, ProductClass, TicketCode, Verifier, sign

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
CODE = TicketCode(
    key_id=7,
    site=ticketcode.site_hash("snow-mountain"),
    ticket=602734912733184,
    valid_from=1798056000,
    valid_to=1798142400,
    pax=2,
    product_class=ProductClass.FULL,
    zones=0b110,
)
TEXT = sign(CODE, KEY)
VERIFIER = Verifier({7: KEY.public_key()})
BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493

minutes = st.integers(0, 2**32 - 1)
codes = st.builds(
    lambda key_id, site, ticket, times, pax, class_, zones: TicketCode(
        key_id=key_id,
        site=site,
        ticket=ticket,
        valid_from=EPOCH_S + 60 * min(times),
        valid_to=EPOCH_S + 60 * max(times),
        pax=pax,
        product_class=class_,
        zones=zones,
    ),
    st.integers(0, 0xFFFF),
    st.binary(min_size=4, max_size=4),
    st.integers(0, 2**53 - 1),
    st.tuples(minutes, minutes),
    st.integers(1, 255),
    st.sampled_from(ProductClass),
    st.integers(0, 0xFFFF),
)


def refusal(text, verifier=VERIFIER):
    with pytest.raises(TicketCodeError) as caught:
        verifier.verify(text)
    assert len(text) < 20 or text not in str(caught.value)  # an error is logged, a code is not
    return caught.value.reason


def test_the_manuals_vector_is_what_we_sign_and_verify():
    manual = (Path(__file__).parents[2] / "docs" / "ticket-code.md").read_text("utf-8")
    vector = dict(re.findall(r"^(\w[\w ()]*?)  +(\S.*)$", manual.split("```")[1], re.MULTILINE))
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["private key (seed)"]))
    code = TicketCode(
        key_id=int(vector["key id"]),
        site=ticketcode.site_hash(vector["site"]),
        ticket=int(vector["ticket"]),
        valid_from=int(datetime.fromisoformat(vector["from"]).timestamp()),
        valid_to=int(datetime.fromisoformat(vector["until"]).timestamp()),
        pax=int(vector["pax"]),
        product_class=ProductClass(int(vector["class"])),
        zones=int(vector["zones"]),
    )
    assert sign(code, key) == vector["text"] == TEXT

    # the manual's steps, by hand and without the module
    text, digits = vector["text"], []
    assert len(text) == 138
    for at in range(4, 138, 3):
        group = [BASE45.index(character) for character in text[at : at + 3]]
        value = sum(digit * 45**place for place, digit in enumerate(group))
        digits += list(value.to_bytes(len(group) - 1, "big"))
    payload, signature = bytes(digits[:25]), bytes(digits[25:])
    assert payload.hex() == vector["payload"]
    assert signature.hex() == vector["signature"]
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["public key"]))
    public.verify(signature, b"paifang-ticket-1" + payload)
    assert payload[2:6] == hashlib.sha256(vector["site"].encode()).digest()[:4]
    assert int.from_bytes(payload[6:13], "big") == code.ticket


@given(codes)
@settings(max_examples=50)
def test_every_code_round_trips_and_has_the_same_length(code):
    text = sign(code, KEY)
    assert len(text) == ticketcode.TEXT_CHARACTERS == 138
    assert set(text) <= set(BASE45)
    assert text == text.strip()
    assert Verifier({code.key_id: KEY.public_key()}).verify(text) == code


def test_a_forged_code_is_refused():
    assert refusal(sign(CODE, OTHER_KEY)) == "bad_signature"


def test_a_code_of_an_unknown_key_is_refused():
    assert refusal(sign(msgspec.structs.replace(CODE, key_id=8), KEY)) == "bad_signature"


def test_old_keys_still_verify():
    both = Verifier({7: KEY.public_key(), 8: OTHER_KEY.public_key()})
    newer = msgspec.structs.replace(CODE, key_id=8)
    assert both.verify(TEXT) == CODE
    assert both.verify(sign(newer, OTHER_KEY)) == newer
    assert refusal(sign(newer, KEY), both) == "bad_signature"


def test_a_code_of_another_site_is_refused():
    assert Verifier({7: KEY.public_key()}, site="snow-mountain").verify(TEXT) == CODE
    assert refusal(TEXT, Verifier({7: KEY.public_key()}, site="lake")) == "unknown_code"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PF1:",
        "http://example.org/t/1",
        TEXT + " ",
        TEXT + "\n",
        " " + TEXT,
        TEXT[:-1],
        TEXT[:-1] + "\n",
        TEXT.lower(),
        "pf1:" + TEXT[4:],
        "PF2:" + TEXT[4:],
        TEXT.replace("0", "０", 1),
        TEXT[:10] + "a" + TEXT[11:],
        TEXT[:10] + "_" + TEXT[11:],
        TEXT[:4] + ":::" + TEXT[7:],  # 91124: more than two bytes hold
        TEXT[:-2] + "::",
        "\x00" * 138,
        "\ud800" * 138,
    ],
)
def test_what_is_not_our_format_is_refused_as_unknown(text):
    assert refusal(text) == "unknown_code"


@given(st.integers(4, 137), st.sampled_from(BASE45))
def test_one_wrong_character_is_never_accepted(at, character):
    changed = TEXT[:at] + character + TEXT[at + 1 :]
    if changed == TEXT:
        assert VERIFIER.verify(changed) == CODE
    else:
        assert refusal(changed) in ("bad_signature", "unknown_code")


def test_every_flipped_bit_is_refused():
    signed = base45.b45decode(TEXT[4:])
    for bit in range(len(signed) * 8):
        damaged = bytearray(signed)
        damaged[bit // 8] ^= 1 << bit % 8
        assert refusal("PF1:" + base45.b45encode(bytes(damaged)).decode()) == "bad_signature"


def test_a_signature_has_one_form():
    signed = base45.b45decode(TEXT[4:])
    scalar = int.from_bytes(signed[57:], "little") + ED25519_ORDER
    twin = signed[:57] + scalar.to_bytes(32, "little")
    assert refusal("PF1:" + base45.b45encode(twin).decode()) == "bad_signature"


@pytest.mark.parametrize(
    ("offset", "value"),
    [(6, 0xFF), (17, 0x00), (21, 0), (22, 0), (22, 15)],
    ids=["ticket over 53 bits", "ends before it begins", "nobody", "class 0", "class 15"],
)
def test_a_signed_payload_that_is_no_ticket_is_refused(offset, value):
    payload = bytearray(base45.b45decode(TEXT[4:])[:25])
    payload[offset] = value
    if offset == 17:
        payload[17:21] = bytes(4)
    signature = KEY.sign(b"paifang-ticket-1" + bytes(payload))
    assert refusal("PF1:" + base45.b45encode(bytes(payload) + signature).decode()) == "unknown_code"


def test_the_signature_is_bound_to_its_purpose():
    payload = base45.b45decode(TEXT[4:])[:25]
    assert refusal("PF1:" + base45.b45encode(payload + KEY.sign(payload)).decode()) == "bad_signature"


SIGNED = st.binary(min_size=89, max_size=89).map(lambda data: base45.b45encode(data).decode())


@given(
    SIGNED
    | st.text(BASE45, min_size=134, max_size=134)
    | st.tuples(SIGNED, st.integers(0, 133), st.characters()).map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] + 1 :])
)
def test_texts_are_read_as_the_library_reads_them_and_one_text_alone_says_something(body):
    """RFC 9285 by somebody else: what it reads and would write like this is ours, nothing else is."""
    try:
        expected = base45.b45decode(body)
        expected = expected if base45.b45encode(expected).decode() == body else None
    except ValueError:
        expected = None
    try:
        assert ticketcode._decode("PF1:" + body) == expected
    except TicketCodeError as exc:
        assert expected is None and exc.reason == "unknown_code"


@given(st.text(max_size=200) | st.text(BASE45, min_size=134, max_size=134).map("PF1:".__add__))
def test_any_text_is_refused_with_a_reason(text):
    assert refusal(text) in ("bad_signature", "unknown_code")


def test_a_huge_text_costs_nothing():
    assert refusal("PF1:" + "A" * 50_000_000) == "unknown_code"


@pytest.mark.parametrize(
    "change",
    [
        {"ticket": 2**53},
        {"ticket": -1},
        {"site": b"abc"},
        {"pax": 0},
        {"pax": 256},
        {"key_id": 65536},
        {"zones": 65536},
        {"valid_from": 1798056001},
        {"valid_from": 0},
        {"valid_from": EPOCH_S + (1 << 32) * 60, "valid_to": EPOCH_S + (1 << 32) * 60},
        {"valid_to": 1798056000 - 60},
    ],
)
def test_what_does_not_fit_is_not_signed(change):
    with pytest.raises(ValueError):
        sign(msgspec.structs.replace(CODE, **change), KEY)


def test_minutes_widen_the_validity():
    assert ticketcode.floor_minute(EPOCH_S + 59.9) == EPOCH_S
    assert ticketcode.ceil_minute(EPOCH_S + 0.1) == EPOCH_S + 60
    assert ticketcode.ceil_minute(EPOCH_S) == ticketcode.floor_minute(EPOCH_S) == EPOCH_S


def test_class_words_are_those_of_the_site_file():
    assert [class_.word for class_ in ProductClass] == list(get_args(site.ProductClass))
