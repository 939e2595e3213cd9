"""The authority: what it issues, what it refuses, and what is on disk."""

import json
import stat
import time

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from drivers.nng import SERVER_NAME, Peer
from drivers.nng.testing import until
from paifang._wire_pki import CertificateWatch, LinkGuard
from paifang.cli import main
from paifang.pki import Authority, PkiError, device_tls, new_key, new_request, read_revoked, server_tls

DAY_S = 86400.0


@pytest.fixture
def authority(tmp_path):
    return Authority.init(tmp_path / "pki", "valley")


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_what_is_secret_is_for_the_owner_alone(authority):
    authority.issue_files("gate-1")
    modes = {
        file.relative_to(authority.folder).as_posix(): stat.S_IMODE(file.stat().st_mode)
        for file in authority.folder.rglob("*")
        if file.is_file()
    }
    secret = {"ca.key", "server.pem", "neighbour.key", "devices/gate-1/device.key"}
    assert {name for name, mode in modes.items() if mode == 0o600} == secret
    assert all(mode == 0o644 for name, mode in modes.items() if name not in secret)
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700
    assert len(authority.neighbour_key()) == 32


def test_a_device_has_its_id_as_common_name_and_may_be_a_client_only(authority):
    files = device_tls(authority.issue_files("gate-1"))
    issued = certificate(files.certificate)
    issued.verify_directly_issued_by(authority.certificate)
    assert [name.value for name in issued.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["gate-1"]
    usage = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    assert key.public_key() == issued.public_key()
    server = certificate(server_tls(authority.folder).certificate)
    assert [name.value for name in server.subject] == [SERVER_NAME]


def test_a_second_authority_does_not_take_the_place_of_the_first(authority):
    before = (authority.folder / "ca.pem").read_bytes()
    with pytest.raises(PkiError, match="already"):
        Authority.init(authority.folder, "valley")
    assert (authority.folder / "ca.pem").read_bytes() == before
    assert [each.name for each in authority.folder.parent.iterdir()] == ["pki"]  # nothing half made


@pytest.mark.parametrize("name", ["", SERVER_NAME, "Gate", "a/b", "../a", "a" * 41, "gate 1", "门", "-a"])
def test_odd_names_are_refused(authority, name):
    if name == SERVER_NAME:
        with pytest.raises(PkiError, match="renewed"):
            authority.revoke(name)
    with pytest.raises(PkiError):
        authority.issue_files(name)


@pytest.mark.parametrize("damage", ["missing", "open", "other", "garbage"])
def test_a_damaged_folder_is_named(authority, tmp_path, damage):
    key = authority.folder / "ca.key"
    match damage:
        case "missing":
            key.unlink()
        case "open":
            key.chmod(0o640)
        case "other":
            key.write_bytes((Authority.init(tmp_path / "other", "x").folder / "ca.key").read_bytes())
        case "garbage":
            key.write_text("no key")
    with pytest.raises(PkiError.__mro__[1], match=r"ca\.key"):
        Authority.load(authority.folder)


def test_without_an_authority_it_says_how_to_make_one(tmp_path):
    with pytest.raises(PkiError, match="pki init"):
        Authority.load(tmp_path / "pki")


def test_a_request_gives_its_key_and_nothing_else(authority):
    key = new_key()
    pem = authority.issue_request("gate-1", new_request("somebody-else", key))
    issued = x509.load_pem_x509_certificate(pem)
    assert issued.public_key() == key.public_key()
    assert [name.value for name in issued.subject] == ["gate-1"]


def bad_requests():
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gate-1")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    pem = serialization.Encoding.PEM
    good = new_request("gate-1", new_key())
    yield b""
    yield b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
    yield good[: len(good) // 2]
    yield builder.sign(rsa.generate_private_key(65537, 2048), hashes.SHA256()).public_bytes(pem)
    yield builder.sign(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()).public_bytes(pem)
    der = bytearray(x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1  # in the signature
    yield x509.load_der_x509_csr(bytes(der)).public_bytes(pem)


def test_bad_requests_are_refused(authority):
    before = len(list((authority.folder / "issued").iterdir()))
    for request in bad_requests():
        with pytest.raises(PkiError):
            authority.issue_request("gate-1", request)
    assert len(list((authority.folder / "issued").iterdir())) == before


def test_revoking_covers_every_certificate_of_a_device_and_no_later_one(authority):
    now = time.time()
    authority.issue_files("gate-1")
    authority.renew("gate-1")
    authority.issue_files("gate-2")
    assert authority.revoke("gate-1") == 2
    assert authority.revoke("gate-1") == 0
    assert len(read_revoked(authority.folder)) == 2
    with pytest.raises(PkiError, match="enrol-code"):
        authority.renew("gate-1")
    authority.issue_files("gate-1")
    states = [(each.device, each.state) for each in authority.certificates(now)]
    assert states[0] == (SERVER_NAME, "valid")
    assert sorted(states[1:]) == [("gate-1", "revoked")] * 2 + [("gate-1", "valid"), ("gate-2", "valid")]
    with pytest.raises(PkiError, match="no certificate"):
        authority.revoke("gate-9")


def test_renewing_keeps_the_key_and_replaces_what_is_to_be_carried(authority):
    files = device_tls(authority.issue_files("gate-1", days=10))
    before = certificate(files.certificate)
    pem = authority.renew("gate-1")
    after = certificate(files.certificate)
    assert x509.load_pem_x509_certificate(pem) == after
    assert after.public_key() == before.public_key()
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert [each.state for each in authority.certificates(time.time())[1:]] == ["valid", "replaced"]


@pytest.mark.parametrize(
    ("in_days", "state"), [(0, "valid"), (57, "valid"), (60, "expiring"), (98, "expiring"), (100.5, "expired")]
)
def test_running_out_is_seen_weeks_ahead(authority, in_days, state):
    authority.issue_files("gate-1", days=100)
    assert authority.certificates(time.time() + in_days * DAY_S)[1].state == state


def peer_of(path, **fields):
    issued = certificate(path)
    digits = f"{issued.serial_number:X}"
    serial = digits.rjust(len(digits) + len(digits) % 2, "0")
    return Peer("10.0.0.1", "gate-1", serial, issued.not_valid_after_utc.timestamp())


def test_the_guard_sees_a_revocation_and_an_end(authority):
    clock = [time.time()]
    guard = LinkGuard(authority.folder, lambda: clock[0])
    peer = peer_of(device_tls(authority.issue_files("gate-1", days=10)).certificate)
    assert guard.accepts_work(peer)
    assert guard.accepts_safety(peer)
    assert not guard.look()
    clock[0] += 11 * DAY_S
    assert (guard.accepts_work(peer), guard.accepts_safety(peer)) == (False, True)
    clock[0] -= 11 * DAY_S
    authority.revoke("gate-1")
    assert guard.look()
    assert (guard.accepts_work(peer), guard.accepts_safety(peer)) == (False, False)


def test_a_lost_list_of_revocations_stops_work_and_not_safety_and_forgets_nobody(authority):
    guard = LinkGuard(authority.folder)
    good = peer_of(device_tls(authority.issue_files("gate-1")).certificate)
    bad = peer_of(device_tls(authority.issue_files("gate-2")).certificate)
    authority.revoke("gate-2")
    guard.look()
    for damage in ("garbage", '{"version": 2, "revoked": {}}', '{"version": 1}', None):
        file = authority.folder / "revoked.json"
        file.unlink(missing_ok=True)
        if damage is not None:
            file.write_text(damage)
        guard.look()
        assert (guard.accepts_work(good), guard.accepts_safety(good)) == (False, True)
        assert (guard.accepts_work(bad), guard.accepts_safety(bad)) == (False, False)


class Told:
    def __init__(self):
        self.told = []

    def tell(self, message, **_):
        self.told.append(message)


def test_people_are_told_once_weeks_ahead_and_once_at_the_end(authority):
    clock = [time.time()]
    hub, ledger = Told(), Told()
    authority.issue_files("gate-1", days=100)
    authority.issue_files("not-here", days=1)
    watch = CertificateWatch(authority.folder, ["gate-1"], hub=hub, ledger=ledger, clock=lambda: clock[0])
    for in_days in (0, 50, 60, 61, 99, 101, 102):
        watch.tell(authority.certificates(clock[0] + in_days * DAY_S))
    assert [case.kind for case in ledger.told] == ["certificate_expiring", "certificate_expired"]
    assert len({case.key for case in ledger.told}) == 2
    assert "paifang pki renew gate-1" in ledger.told[0].detail
    assert [event.severity for event in hub.told] == ["warning", "alarm"]
    assert all(event.text_zh and event.text_en for event in hub.told)
    assert set(watch.days_left) == {SERVER_NAME, "gate-1"}
    watch.tell(authority.certificates(clock[0]))
    clock[0] += 101 * DAY_S
    watch.tell(authority.certificates(clock[0]))
    seen = watch.statistics()
    assert (seen.certificates, seen.expiring, seen.expired) == (2, 0, 1)
    assert -1.1 < seen.least_days_left < -0.9


async def test_the_servers_own_certificate_is_renewed_by_itself_weeks_ahead(tmp_path, nursery):
    then = time.time() - 700 * DAY_S
    authority = Authority.init(tmp_path / "pki", "valley", now=then)
    hub, ledger = Told(), Told()
    guard = LinkGuard(authority.folder)
    watch = CertificateWatch(authority.folder, [], hub=hub, ledger=ledger)
    nursery.start_soon(watch.run)
    await until(lambda: watch.days_left, 20.0)
    assert watch.days_left[SERVER_NAME] > 700
    assert (hub.told, ledger.told) == ([], [])
    assert guard.look()  # and shows it to new connections
    nursery.cancel_scope.cancel()


def run(*args):
    return CliRunner().invoke(main, [str(each) for each in args])


def test_the_commands(tmp_path):
    data = tmp_path / "var"
    assert run("pki", "list", "--data", data).exit_code == 1  # in words, no traceback
    made = run("pki", "init", "--data", data)
    assert (made.exit_code, "SHA-256" in made.output) == (0, True)
    assert run("pki", "init", "--data", data).exit_code == 1
    issued = run("pki", "issue", "gate-1", "--data", data, "--days", 20)
    assert issued.exit_code == 0
    assert (data / "pki" / "devices" / "gate-1" / "device.key").exists()
    listed = run("pki", "list", "--data", data)
    assert (listed.exit_code, "expiring" in listed.output) == (1, True)
    assert "BEGIN CERTIFICATE" in run("pki", "renew", "gate-1", "--data", data).output
    assert run("pki", "list", "--data", data).exit_code == 0
    assert run("pki", "renew", "--data", data).exit_code == 2
    assert run("pki", "renew", "--server", "--data", data).exit_code == 0
    assert "2 certificate" in run("pki", "revoke", "gate-1", "--data", data).output
    assert "already" in run("pki", "revoke", "gate-1", "--data", data).output
    everything = json.loads(run("pki", "list", "--all", "--json", "--data", data).output)
    assert [each["state"] for each in everything] == ["valid", "replaced", "revoked", "revoked"]
    refused = run("pki", "enrol-code", "nobody", "--data", data)
    assert (refused.exit_code, "site file" in refused.output) == (1, True)
