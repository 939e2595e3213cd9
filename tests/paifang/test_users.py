"""The users file: written whole, private, and an error in it says where and what to do."""

from __future__ import annotations

import os
import stat

import pytest

from actors.accounts import ROLES, UsersUnreadable, matches
from paifang.users import NAME_PATTERN, UsersError, add_user, load_users, remove_user, users_path

PASSWORD = "correct horse"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def test_a_site_without_a_users_file_has_no_users(data):
    assert load_users(data) == {}


def test_a_user_is_added_with_a_hash_and_not_a_password(data):
    add_user(data, "ann", "operator", PASSWORD)
    user = load_users(data)["ann"]
    assert (user.name, user.role) == ("ann", "operator")
    assert matches(user.password_hash, PASSWORD) and not matches(user.password_hash, PASSWORD + "!")
    assert PASSWORD not in users_path(data).read_text() and user.password_hash.startswith("$argon2id$")


def test_the_file_is_for_the_servers_account_alone(data):
    add_user(data, "ann", "operator", PASSWORD)
    assert stat.S_IMODE(users_path(data).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_read_or_write_is_not_used(data, mode):
    add_user(data, "ann", "operator", PASSWORD)
    users_path(data).chmod(mode)
    with pytest.raises(UsersError, match="chmod 600"):
        load_users(data)


def test_an_existing_user_gets_a_new_role_and_password(data):
    add_user(data, "ann", "operator", PASSWORD)
    add_user(data, "bob.b-1_x", "cashier", PASSWORD)
    add_user(data, "ann", "security", "another one")
    users = load_users(data)
    assert {name: user.role for name, user in users.items()} == {"ann": "security", "bob.b-1_x": "cashier"}
    assert matches(users["ann"].password_hash, "another one") and not matches(users["ann"].password_hash, PASSWORD)


def test_a_user_is_removed_and_the_others_stay(data):
    add_user(data, "ann", "operator", PASSWORD)
    add_user(data, "bob", "cashier", PASSWORD)
    remove_user(data, "ann")
    assert list(load_users(data)) == ["bob"]
    with pytest.raises(UsersError, match="no user 'ann'"):
        remove_user(data, "ann")


@pytest.mark.parametrize(
    ("name", "role", "password", "complaint"),
    [
        ("", "operator", PASSWORD, "user name"),
        ("Ann", "operator", PASSWORD, "user name"),
        ("-ann", "operator", PASSWORD, "user name"),
        ("ann\n", "operator", PASSWORD, "user name"),
        ('a"]\n[eve', "operator", PASSWORD, "user name"),
        ("a" * 41, "operator", PASSWORD, "user name"),
        ("ann", "wizard", PASSWORD, "is not one of"),
        ("ann", "operator", "short", "8 to 256"),
        ("ann", "operator", "x" * 257, "8 to 256"),
    ],
)
def test_what_cannot_be_a_user_is_refused_and_the_file_stays_as_it_was(data, name, role, password, complaint):
    add_user(data, "bob", "cashier", PASSWORD)
    before = users_path(data).read_bytes()
    with pytest.raises(UsersError, match=complaint):
        add_user(data, name, role, password)
    assert users_path(data).read_bytes() == before


def test_every_name_that_is_allowed_survives_the_file(data):
    for name in ("a", "0", "a.b", "a-b", "a_b", "a" * 40):
        assert NAME_PATTERN.match(name)
        add_user(data, name, "cashier", PASSWORD)
        assert name in load_users(data)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_survives_the_file(data, role):
    add_user(data, "ann", role, PASSWORD)
    assert load_users(data)["ann"].role == role


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[ann\n", "users.toml"),
        ("\xff", "users.toml"),
        ("ann = 3\n", "needs role and password_hash"),
        ('[ann]\nrole = "operator"\n', "needs role and password_hash"),
        ('[ann]\nrole = "operator"\npassword_hash = 3\n', "needs role and password_hash"),
        ('[ann]\nrole = "wizard"\npassword_hash = "x"\n', "is not one of"),
        ('[ann]\npassword_hash = "x"\n', "is not one of"),
        ('[ann]\nrole = ["operator"]\npassword_hash = "x"\n', "is not one of"),
        ('[ann]\nrole = "operator"\npassword_hash = "x"\n[ann]\n', "users.toml"),
    ],
)
def test_a_broken_file_says_where_and_is_never_half_believed(data, text, complaint):
    data.mkdir()
    users_path(data).write_bytes(text.encode("latin-1"))
    users_path(data).chmod(0o600)
    with pytest.raises(UsersError, match=complaint) as broken:
        load_users(data)
    assert isinstance(broken.value, UsersUnreadable), "the accounts actor goes on with the users it knew"


def test_a_broken_file_is_not_overwritten(data):
    data.mkdir()
    users_path(data).write_text("[ann\n")
    users_path(data).chmod(0o600)
    with pytest.raises(UsersError):
        add_user(data, "bob", "cashier", PASSWORD)
    assert users_path(data).read_text() == "[ann\n"


def test_a_crash_while_writing_leaves_the_old_file_and_no_litter(data, monkeypatch):
    add_user(data, "ann", "operator", PASSWORD)
    before = users_path(data).read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsersError, match="No space left"):
        add_user(data, "bob", "cashier", PASSWORD)
    assert users_path(data).read_bytes() == before
    assert [path.name for path in data.iterdir()] == ["users.toml"]


def test_a_data_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UsersError, match=r"users\.toml"):
        add_user(tmp_path / "data", "ann", "operator", PASSWORD)
