"""The key folder: modes, rotation, crashes at every step, and that no secret ever shows."""

import base64
import copy
import fcntl
import itertools
import os
import pickle
import shutil
import stat
import traceback
import warnings
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from paifang import keys
from paifang.keys import KeyRing, KeysError, SealError
from protocols import devicelink, ticketcode
from protocols.errors import TicketCodeError

SECRETS = ("ticket-1.pem", "release-1.pem", "id_hash.key", "data.key")


@pytest.fixture
def folder(tmp_path):
    KeyRing.init(tmp_path / "keys")
    return tmp_path / "keys"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def state(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# --- init and load


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_new_folder_is_closed_to_others_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        KeyRing.init(tmp_path / "keys")
    finally:
        os.umask(before)
    assert mode(tmp_path / "keys") == 0o700
    assert {name: mode(tmp_path / "keys" / name) for name in SECRETS} == dict.fromkeys(SECRETS, 0o600)
    assert names(tmp_path / "keys") == sorted([*SECRETS, "release-1.pub"])
    assert names(tmp_path) == ["keys"]


def test_files_have_their_mode_from_the_moment_they_exist(tmp_path, monkeypatch):
    opened = []
    real_open = os.open

    def watch(path, flags, mode=0o777, **rest):
        if flags & os.O_CREAT:
            assert flags & os.O_EXCL
            opened.append((Path(path).name, mode))
        return real_open(path, flags, mode, **rest)

    monkeypatch.setattr(os, "open", watch)
    KeyRing.init(tmp_path / "keys").rotate("ticket")
    assert len(opened) == 6
    assert all(mode == 0o600 or ".pub." in name for name, mode in opened)


def test_load_gives_the_same_keys(folder):
    one, two = KeyRing.load(folder), KeyRing.load(folder)
    assert one.ticket_signer[0] == two.ticket_signer[0] == 1
    assert one.ticket_signer[1].private_bytes_raw() == two.ticket_signer[1].private_bytes_raw()
    assert one.release_signer[0] == "1"
    assert one.hash_id("ticket", "x") == two.hash_id("ticket", "x")
    assert two.open(one.seal(b"face", "pass/1"), "pass/1") == b"face"


def test_two_sites_share_nothing(tmp_path):
    one, two = KeyRing.init(tmp_path / "one"), KeyRing.init(tmp_path / "two")
    assert one.hash_id("ticket", "x") != two.hash_id("ticket", "x")
    with pytest.raises(SealError):
        two.open(one.seal(b"face", "pass/1"), "pass/1")
    assert one.ticket_verifiers[1] != two.ticket_verifiers[1]


def test_init_never_overwrites(folder):
    before = state(folder)
    with pytest.raises(KeysError, match="already"):
        KeyRing.init(folder)
    assert state(folder) == before
    assert names(folder.parent) == ["keys"]


def test_init_takes_an_empty_folder_and_makes_the_way_to_it(tmp_path):
    (tmp_path / "keys").mkdir(mode=0o755)
    KeyRing.init(tmp_path / "keys")
    KeyRing.init(tmp_path / "a" / "b" / "keys")
    assert mode(tmp_path / "keys") == 0o700


def test_no_folder_says_how_to_make_one(tmp_path):
    for change in (KeyRing.load, lambda path: KeyRing.load(path).rotate("ticket")):
        with pytest.raises(KeysError, match="paifang keys init"):
            change(tmp_path / "keys")


@pytest.mark.parametrize("wrong", [0o701, 0o710, 0o740, 0o755, 0o777])
def test_a_folder_that_others_may_enter_is_refused_with_the_cure(folder, wrong):
    folder.chmod(wrong)
    with pytest.raises(KeysError) as caught:
        KeyRing.load(folder)
    assert f"chmod 700 '{folder}'" in str(caught.value)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("wrong", [0o604, 0o640, 0o620, 0o666])
def test_a_file_that_others_may_read_is_refused_with_the_cure(folder, name, wrong):
    (folder / name).chmod(wrong)
    with pytest.raises(KeysError) as caught:
        KeyRing.load(folder)
    assert f"chmod 600 '{folder / name}'" in str(caught.value)


@pytest.mark.parametrize("name", SECRETS)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(KeysError, match=name.replace("-1", "-(1|<id>)")):
        KeyRing.load(folder)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("junk", [b"", b"junk", b"\xff" * 50, b"A" * 100_000, base64.b64encode(b"short")])
def test_a_damaged_file_is_named_and_not_quoted(folder, name, junk):
    (folder / name).write_bytes(junk)
    with pytest.raises(KeysError) as caught:
        KeyRing.load(folder)
    assert name in str(caught.value)
    assert len(junk) < 4 or junk.decode("latin1") not in str(caught.value)


def test_a_key_of_another_algorithm_is_refused(folder):
    pem = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "ticket-1.pem").write_bytes(pem)
    with pytest.raises(KeysError, match="Ed25519"):
        KeyRing.load(folder)


def test_a_fifo_in_place_of_a_key_does_not_hang(folder):
    (folder / "data.key").unlink()
    os.mkfifo(folder / "data.key", 0o600)
    with pytest.raises(KeysError, match="not a regular file"):
        KeyRing.load(folder)


# --- what the keys are for


def test_tickets_sold_before_a_rotation_still_verify(folder):
    ring = KeyRing.load(folder)
    old = sign_ticket(ring)
    assert ring.rotate("ticket") == "2"
    ring = KeyRing.load(folder)
    assert ring.ticket_signer[0] == 2
    new = sign_ticket(ring)
    verifier = ticketcode.Verifier(ring.ticket_verifiers)
    assert verifier.verify(old).key_id == 1
    assert verifier.verify(new).key_id == 2
    with pytest.raises(TicketCodeError):
        ticketcode.Verifier({1: ring.ticket_verifiers[2]}).verify(old)


def sign_ticket(ring):
    key_id, key = ring.ticket_signer
    code = ticketcode.TicketCode(
        key_id=key_id,
        site=ticketcode.site_hash("s"),
        ticket=1,
        valid_from=ticketcode.EPOCH_S,
        valid_to=ticketcode.EPOCH_S,
        pax=1,
        product_class=ticketcode.ProductClass.FULL,
    )
    return ticketcode.sign(code, key)


def test_a_release_key_signs_only_after_lanes_could_learn_it(folder, tmp_path):
    ring = KeyRing.load(folder)
    lane = tmp_path / "lane"
    lane.mkdir()
    ring.export_release_keys(lane)
    assert ring.rotate("release") == "2"
    assert ring.release_signer[0] == KeyRing.load(folder).release_signer[0] == "1"
    obeyed(ring, keys.public_release_keys(lane))  # the lane does not know key 2 yet, and need not

    with pytest.raises(KeysError, match="pending"):
        ring.rotate("release")
    ring.export_release_keys(lane)
    ring.activate("2")
    assert ring.release_signer[0] == KeyRing.load(folder).release_signer[0] == "2"
    obeyed(ring, keys.public_release_keys(lane))
    with pytest.raises(KeysError, match="no pending release key 2"):
        ring.activate("2")
    assert ring.rotate("release") == "3"


def obeyed(ring, lane_keys):
    key_id, key = ring.release_signer
    release = devicelink.sign_release(key, key_id, site="s", incident=1)
    devicelink.verify_release(release, lane_keys[release.key])


def test_the_key_folder_itself_has_the_public_parts(folder):
    ring = KeyRing.load(folder)
    ring.rotate("release")
    assert keys.public_release_keys(folder) == ring.release_verifiers
    assert sorted(ring.release_verifiers) == ["1", "2"]
    assert b"PRIVATE" not in (folder / "release-2.pub").read_bytes()


def test_a_lane_without_a_usable_release_key_says_so(tmp_path):
    with pytest.raises(KeysError, match=r"release-<id>\.pub"):
        keys.public_release_keys(tmp_path)
    with pytest.raises(KeysError):
        keys.public_release_keys(tmp_path / "nowhere")
    (tmp_path / "release-1.pub").write_bytes(b"junk")
    with pytest.raises(KeysError, match=r"release-1\.pub"):
        keys.public_release_keys(tmp_path)


def test_an_evacuation_needs_the_release_key_alone(folder):
    key_id, key = keys.load_release_signer(folder)
    (folder / "data.key").unlink()
    (folder / "release-1.pem").chmod(0o644)
    folder.chmod(0o755)
    again_id, again = keys.load_release_signer(folder)
    assert (key_id, key.private_bytes_raw()) == (again_id, again.private_bytes_raw())
    (folder / "release-7.pem").write_bytes(b"junk")
    (folder / "release-8.pending.pem").write_bytes((folder / "release-1.pem").read_bytes())
    assert keys.load_release_signer(folder)[0] == "1"
    (folder / "release-1.pem").unlink()
    for path in (folder, folder / "nowhere"):
        with pytest.raises(KeysError):
            keys.load_release_signer(path)


def test_hashes_are_keyed_and_kinds_are_apart(folder):
    ring = KeyRing.load(folder)
    hashes = {ring.hash_id(kind, value) for kind, value in (("a", "bc"), ("ab", "c"), ("abc", ""), ("", "abc"))}
    assert {len(value) for value in hashes} == {32}
    assert len(hashes) == 4
    assert ring.hash_id("a", "票") == ring.hash_id("a", "票")


def test_sealed_data_opens_only_whole_and_in_its_context(folder):
    ring = KeyRing.load(folder)
    sealed = ring.seal(b"face", "pass/1")
    assert sealed != ring.seal(b"face", "pass/1")
    assert b"face" not in sealed
    assert ring.open(sealed, "pass/1") == b"face"
    with pytest.raises(SealError):
        ring.open(sealed, "pass/2")
    for bit in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            ring.open(bytes(damaged), "pass/1")
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            ring.open(sealed[:length], "pass/1")


def test_data_sealed_before_a_rotation_still_opens(folder):
    ring = KeyRing.load(folder)
    old = ring.seal(b"old", "c")
    assert ring.rotate("data") == "2"
    assert ring.rotate("data") == "3"
    ring = KeyRing.load(folder)
    new = ring.seal(b"new", "c")
    assert (ring.open(old, "c"), ring.open(new, "c")) == (b"old", b"new")
    assert (old[2], new[2]) == (1, 3)
    assert mode(folder / "data.key") == 0o600


@pytest.mark.parametrize("kind", ["id_hash", "", "tickets", "../x"])
def test_what_cannot_be_rotated_is_refused(folder, kind):
    before = state(folder)
    with pytest.raises(KeysError):
        KeyRing.load(folder).rotate(kind)
    assert state(folder) == before


def test_key_ids_end_where_the_wire_ends(folder):
    (folder / "ticket-1.pem").rename(folder / "ticket-65535.pem")
    ring = KeyRing.load(folder)
    with pytest.raises(KeysError, match="65535"):
        ring.rotate("ticket")
    (folder / "ticket-65535.pem").rename(folder / "ticket-65536.pem")
    with pytest.raises(KeysError, match="65536"):
        KeyRing.load(folder)


def test_two_cannot_rotate_at_once(folder):
    ring = KeyRing.load(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for change in (lambda: ring.rotate("data"), lambda: ring.activate("1")):
            with pytest.raises(KeysError, match="somebody else"):
                change()
    finally:
        os.close(descriptor)
    assert ring.rotate("data") == "2"


def test_list_tells_everything_but_the_secrets(folder):
    ring = KeyRing.load(folder)
    for kind in ("ticket", "release", "data"):
        ring.rotate(kind)
    assert [(key.kind, key.id, key.use, key.file) for key in ring.list()] == [
        ("ticket", "1", "verifies", "ticket-1.pem"),
        ("ticket", "2", "signs", "ticket-2.pem"),
        ("release", "1", "signs", "release-1.pem"),
        ("release", "2", "pending", "release-2.pending.pem"),
        ("id_hash", "1", "hashes", "id_hash.key"),
        ("data", "1", "opens", "data.key"),
        ("data", "2", "seals", "data.key"),
    ]
    fingerprints = [key.fingerprint for key in ring.list()[:4]]
    assert len(set(fingerprints)) == 4
    assert all(key.made_at > 1e9 for key in ring.list())


# --- crashes


STEPS = ("open", "fsync", "fdopen", "fchmod", "rename", "replace", "mkdir")
OPERATIONS = {
    "init": KeyRing.init,
    "ticket": lambda folder: KeyRing.load(folder).rotate("ticket"),
    "release": lambda folder: KeyRing.load(folder).rotate("release"),
    "data": lambda folder: KeyRing.load(folder).rotate("data"),
    "activate": lambda folder: KeyRing.load(folder).activate("2"),
}


def crash(operation, folder, crash_at):
    """Carry out the operation in a child that dies at the n-th call into the file system; whether it died."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the time-out's thread does not matter to this child
        child = os.fork()
    if child == 0:
        calls = itertools.count(1)

        def dying(real):
            def call(*args, **kwargs):
                if next(calls) == crash_at:
                    os._exit(9)  # like kill -9: no clean-up runs
                return real(*args, **kwargs)

            return call

        for name in STEPS:
            setattr(os, name, dying(getattr(os, name)))
        try:
            OPERATIONS[operation](folder)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("operation", ["ticket", "release", "data", "activate"])
def test_a_crash_at_any_step_of_a_change_leaves_the_old_keys_or_the_new(tmp_path, operation):
    ring = KeyRing.init(tmp_path / "keys")
    if operation == "activate":
        ring.rotate("release")
    sold, sealed, before = sign_ticket(ring), ring.seal(b"x", "c"), described(ring)
    outcomes = []
    for crash_at in itertools.count(1):
        folder = tmp_path / str(crash_at)
        shutil.copytree(tmp_path / "keys", folder)
        died = crash(operation, folder, crash_at)
        ring = KeyRing.load(folder)
        outcomes.append(described(ring))
        assert ticketcode.Verifier(ring.ticket_verifiers).verify(sold).ticket == 1
        assert ring.open(sealed, "c") == b"x"
        obeyed(ring, keys.public_release_keys(folder))
        assert all(file.name.endswith(".pub") or mode(file) & 0o077 == 0 for file in folder.iterdir() if whole(file))
        if not died:
            break
        if outcomes[-1] == before:  # it can simply be done again, and nothing of the first attempt stays
            OPERATIONS[operation](folder)
            assert described(KeyRing.load(folder)) != before
            assert all(whole(file) for file in folder.iterdir())
    assert len(outcomes) > 4
    assert outcomes[0] == before
    after = outcomes[-1]
    assert after != before
    assert all(outcome in (before, after) for outcome in outcomes)


def test_a_crash_at_any_step_of_init_leaves_nothing_or_everything(tmp_path):
    for crash_at in itertools.count(1):
        folder = tmp_path / str(crash_at) / "keys"
        died = crash("init", folder, crash_at)
        if folder.exists():
            KeyRing.load(folder)
        else:
            KeyRing.init(folder)
        if not died:
            break
    assert crash_at > 20


def whole(file):
    return ".new-" not in file.name


def described(ring):
    return [(info.kind, info.id, info.use) for info in ring.list()]


# --- nothing shows a secret


def test_no_secret_in_repr_errors_or_pickles(folder):
    ring = KeyRing.load(folder)
    hidden = [
        ring.ticket_signer[1].private_bytes_raw(),
        ring.release_signer[1].private_bytes_raw(),
        base64.b64decode((folder / "data.key").read_bytes()),
        base64.b64decode((folder / "id_hash.key").read_bytes()),
    ]
    shown = [repr(ring), str(ring), repr(ring.list())]
    for name in SECRETS:
        (folder / name).chmod(0o644)
        try:
            KeyRing.load(folder)
        except KeysError:
            shown.append(traceback.format_exc())
        (folder / name).chmod(0o600)
    for wrong in (lambda: ring.rotate("x"), lambda: ring.open(b"y", "z")):
        try:
            wrong()
        except KeysError:
            shown.append(traceback.format_exc())
    assert len(shown) == 9
    text = "\n".join(shown)
    for secret in hidden:
        assert secret.hex() not in text
        assert base64.b64encode(secret).decode() not in text
        assert repr(secret)[2:-1] not in text
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take(ring)
