"""Codes of authenticators, against the vectors of RFC 6238 and RFC 4226."""

from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.accounts import totp

SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("at", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037"),
     (20000000000, "353130")],
)  # fmt: skip
def test_the_vectors_of_rfc_6238(at, code):
    """Appendix B has eight digits; six are the last six of them."""
    assert totp.code_at(SECRET, at // totp.STEP_S) == code


def test_the_vectors_of_rfc_4226():
    codes = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    assert [totp.code_at(SECRET, count) for count in range(10)] == codes


@pytest.mark.parametrize(("late_s", "good"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
def test_a_code_is_good_for_a_step_on_either_side(late_s, good):
    code = totp.code_at(SECRET, 1_800_000_000 // 30)
    assert (totp.step_of(SECRET, code, 1_800_000_000 + late_s) is not None) is good


def test_a_step_that_was_used_is_used():
    step = 1_800_000_000 // 30
    assert totp.step_of(SECRET, totp.code_at(SECRET, step), 1_800_000_000, used=step) is None
    assert totp.step_of(SECRET, totp.code_at(SECRET, step + 1), 1_800_000_000, used=step) == step + 1


@given(st.text(max_size=20), st.floats(min_value=0, max_value=4e9))
def test_whatever_is_typed_raises_nothing(code, now):
    found = totp.step_of(SECRET, code, now)
    assert found is None or abs(found - int(now) // 30) <= 1
    assert len(totp.recovery_hash(code)) == 64


def test_an_authenticator_reads_the_address():
    parts = urllib.parse.urlsplit(totp.uri(SECRET, "ann", "Paifang 北门"))
    query = dict(urllib.parse.parse_qsl(parts.query))
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert urllib.parse.unquote(parts.path) == "/Paifang 北门:ann"
    assert query == {"secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "issuer": "Paifang 北门", "algorithm": "SHA1",
                     "digits": "6", "period": "30"}  # fmt: skip


def test_recovery_codes_differ_and_are_read_as_people_type_them():
    codes = totp.new_recovery_codes()
    assert len(set(codes)) == totp.RECOVERY_CODES
    assert totp.recovery_hash(codes[0]) == totp.recovery_hash(f" {codes[0].upper().replace('-', ' ')}\n")
    assert totp.recovery_hash(codes[0]) != totp.recovery_hash(codes[1])
