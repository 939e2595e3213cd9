"""Renewal: only who holds the key of a certificate in force gets another one, and only in time; files change whole."""

import time

import msgspec
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from drivers.nng import client_config
from paifang import pki_renew
from paifang.pki import Authority, PkiError, device_tls, new_key, new_request, private_pem
from paifang.pki_renew import LaneCertificate, due_at, renewed

DAY_S = 86400.0
DEVICE = "lane-n1"


@pytest.fixture
def authority(tmp_path):
    return Authority.init(tmp_path / "pki", "valley")


def identity(authority, folder, *, now=None, days=730, device=DEVICE):
    """What enrolment leaves of a lane, with a certificate that was issued at `now`."""
    key = new_key()
    folder.mkdir()
    (folder / "device.pem").write_bytes(authority.issue(device, key.public_key(), days=days, now=now))
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "device.key").write_bytes(private_pem(key))
    (folder / "device.key").chmod(0o600)
    return key


def pems(authority, device=DEVICE):
    return [each for each in authority.certificates(time.time()) if each.device == device]


def test_two_years_are_renewed_sixty_days_before_their_end_and_a_day_when_a_third_is_left():
    assert due_at(0.0, 730 * DAY_S) == 670 * DAY_S
    assert due_at(0.0, 3 * DAY_S) == 2 * DAY_S


@given(st.floats(0, 4e9), st.floats(1, 20 * 365 * DAY_S))
def test_it_is_due_within_its_life_and_before_people_are_warned(begin, life_s):
    due = due_at(begin, begin + life_s)
    assert begin <= due <= begin + life_s
    assert begin + life_s - due <= pki_renew.RENEW_S + 1e-3


def test_a_new_one_for_the_same_key_and_asking_again_changes_nothing(authority, tmp_path):
    now = time.time()
    key = identity(authority, tmp_path / "lane", now=now - 700 * DAY_S)
    mine = LaneCertificate(tmp_path / "lane", DEVICE)
    assert mine.due_in_s() < 0
    assert mine.days_left == pytest.approx(30, abs=0.1)
    request = mine.request()
    fresh = renewed(authority, DEVICE, request)
    assert renewed(authority, DEVICE, request) == fresh, "an answer that was lost: the same again"
    assert len(pems(authority)) == 2
    assert mine.take(fresh)
    assert not mine.take(fresh)
    assert mine.days_left == pytest.approx(730, abs=0.1)
    assert mine.due_in_s() > 600 * DAY_S
    assert x509.load_pem_x509_certificate((tmp_path / "lane" / "device.pem").read_bytes()).public_key() == (
        key.public_key()
    )
    client_config(device_tls(tmp_path / "lane"))  # NNG takes them
    assert [each.name for each in (tmp_path / "lane").iterdir() if each.name.startswith(".")] == []


def test_too_early_is_answered_with_what_is_there(authority, tmp_path):
    identity(authority, tmp_path / "lane")
    mine = LaneCertificate(tmp_path / "lane", DEVICE)
    assert renewed(authority, DEVICE, mine.request()) == (tmp_path / "lane" / "device.pem").read_bytes()
    assert len(pems(authority)) == 1


def test_who_gets_none(authority, tmp_path):
    now = time.time()
    identity(authority, tmp_path / "lane", now=now - 700 * DAY_S)
    request = LaneCertificate(tmp_path / "lane", DEVICE).request()
    with pytest.raises(PkiError, match="for this key"):
        renewed(authority, DEVICE, new_request(DEVICE, new_key()))  # our device, another key
    with pytest.raises(PkiError, match="for this key"):
        renewed(authority, "lane-n2", request)  # another device with our key
    for garbage in (b"", b"x" * 5000, request[:-40], b"\xff" * 9):
        with pytest.raises(PkiError, match="request"):
            renewed(authority, DEVICE, garbage)
    with pytest.raises(PkiError, match="run out"):
        renewed(authority, DEVICE, request, now=now + 31 * DAY_S)
    authority.revoke(DEVICE)
    with pytest.raises(PkiError, match="for this key"):
        renewed(authority, DEVICE, request)
    assert len(pems(authority)) == 1


def test_what_a_lane_does_not_take(authority, tmp_path):
    now = time.time()
    key = identity(authority, tmp_path / "lane", now=now - 700 * DAY_S)
    file = tmp_path / "lane" / "device.pem"
    before = file.read_bytes()
    mine = LaneCertificate(tmp_path / "lane", DEVICE)
    stranger = Authority.init(tmp_path / "other", "valley")
    for pem, why in (
        (stranger.issue(DEVICE, key.public_key()), "authority"),
        (authority.issue("lane-n2", key.public_key()), "another device"),
        (authority.issue(DEVICE, new_key().public_key()), "another key"),
        (authority.issue(DEVICE, key.public_key(), days=10, now=now), "no longer"),
        (b"", "not a certificate"),
        (before[:-60], "not a certificate"),
    ):
        with pytest.raises(PkiError, match=why):
            mine.take(pem)
        assert file.read_bytes() == before


def test_a_certificate_that_somebody_has_put_there_is_found(authority, tmp_path):
    identity(authority, tmp_path / "lane", now=time.time() - 700 * DAY_S)
    mine = LaneCertificate(tmp_path / "lane", DEVICE)
    assert not mine.look()
    (tmp_path / "lane" / "device.pem").write_bytes(authority.renew(DEVICE))
    assert mine.look()
    assert mine.days_left == pytest.approx(730, abs=0.1)


def test_damage_is_named(authority, tmp_path):
    with pytest.raises(PkiError, match=r"device\.pem"):
        LaneCertificate(tmp_path, DEVICE)
    identity(authority, tmp_path / "lane")
    mine = LaneCertificate(tmp_path / "lane", DEVICE)
    (tmp_path / "lane" / "device.key").write_bytes(b"no key")
    with pytest.raises(PkiError, match=r"device\.key"):
        mine.request()
    (tmp_path / "lane" / "device.pem").write_bytes(b"no certificate")
    with pytest.raises(PkiError, match=r"device\.pem"):
        mine.look()


def test_every_certificate_fits_into_a_message(authority, tmp_path):
    from protocols.devicelink import CERTIFICATE_BYTES_MAX, Renew, decode_request, encode

    device = "a" * 40
    identity(authority, tmp_path / "lane", device=device)
    request = LaneCertificate(tmp_path / "lane", device).request()
    assert len(authority.renew(device)) < CERTIFICATE_BYTES_MAX / 4
    sent = Renew(device=device, boot="b", seq=1, at=0.0, request=request)
    assert decode_request(encode(sent)) == sent
    assert msgspec.structs.asdict(sent)["v"] == 2
