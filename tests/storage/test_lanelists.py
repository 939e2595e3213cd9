"""A lane's lists: whole or not at all, from where they broke off, and never in the way of a visitor."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from protocols import lists, rights
from protocols.devicelink import ListPart
from protocols.errors import LinkError
from protocols.lists import (
    ListCredential,
    ListKey,
    ListMark,
    ListPreprinted,
    ListProduct,
    ListRight,
    ListTicket,
    ListZone,
)
from protocols.messages import CredentialKind
from protocols.rights import ProductRules, ZoneRight
from storage.lanelists import LaneLists, ListsError

NOW = 1_760_000_000.0
HASH = bytes(range(32))


def day_of(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()


def right(entitlement: int = 1, **changes: object) -> ListRight:
    values: dict[str, object] = {
        "entitlement": entitlement,
        "rule": 0,
        "zone": "park",
        "sold": 1,
        "redeemed": 0,
        "held": 0,
        "refunded": 0,
        "reserved_refund": 0,
        "promised": 0,
        "day": None,
        "used_day": 0,
        "reentries_day": 0,
        "reentries_held": 0,
        "out_day": 0,
        "first_used_at": None,
        "last_used_at": None,
        "last_used_lane": "",
        "last_exit_at": None,
    }
    return ListRight(**(values | changes))  # type: ignore[arg-type]


def ticket(number: int = 7, *, state: str = "active", code_state: str = "active", **changes: object) -> ListTicket:
    return ListTicket(
        kind="t", ticket=number, product="adult", version=1, state=state, code_state=code_state, valid_from=NOW - 10,
        valid_to=NOW + 1e5, slot_from=None, slot_to=None, holder=None, face_bound=False, used_today=[],
        rights=[right(number * 10, **changes)],
    )  # fmt: skip


def card(number: int = 7, *, state: str = "active", issue: int = 1, personal: bool = False) -> ListCredential:
    key = lists.credential_key("card", HASH).decode() + str(number)
    return ListCredential(
        kind="c", key=key, credential=5, ticket=number, state=state, issue_index=issue, personal=personal,
        uses=[(number * 10, 1, 0)] if personal else [],
    )  # fmt: skip


def product() -> ListProduct:
    rules = rights.encode(ProductRules(rights=[ZoneRight(zones=["park"])]))
    return ListProduct("p", "adult/1", "adult", 1, "成人", "Adult", "full", 1, rules)


ZONE = ListZone("z", "park", 100, 5, 1, 0, False, True, None)
KEY = ListKey("k", "hash/1", "hash", "1", b"secret".hex())


def part(
    kind: str, *items: lists.ListValue, mark: int = 1, base: int | None = None, first: bool = True, cursor: str = ""
) -> ListPart:
    data, crc = lists.pack(b"\n".join(lists.encode_line(item) for item in items))
    return ListPart(
        seq=1, server_at=NOW, kind=kind, mark=ListMark(mark, "t"), base=None if base is None else ListMark(base, "t"),
        first=first, cursor=cursor, items=len(items), data=data, crc=crc,
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lists.sqlite"


def code(held: LaneLists, number: int = 7) -> list[int] | None:
    found = held.rights(CredentialKind.CODE, b"", number, NOW)
    return None if found is None else [each.redeemed for each in found.rights]


def test_a_whole_list_is_in_force_with_its_last_part_and_not_before(path: Path) -> None:
    held = LaneLists(path, day_of)
    assert held.question() == (None, None, "")
    assert not held.take(part("whole", product(), ZONE, KEY, ticket(), cursor="next"))
    assert (held.version, code(held), held.keys("hash")) == (0, None, {})
    assert held.question() == (None, ListMark(1, "t"), "next")
    assert held.take(part("whole", card(), first=False))
    assert held.question() == (ListMark(1, "t"), None, "")
    assert (held.version, held.as_of, code(held)) == (1, NOW, [0])
    assert held.keys("hash") == {"1": b"secret"}
    zone = held.zone("park")
    assert zone is not None
    assert (zone.inside, zone.limit) == (5, 100)
    assert held.zone("elsewhere") is None
    assert (held.state().tickets, held.state().credentials) == (1, 1)
    held.close()


def test_a_restart_goes_on_where_it_broke_off(path: Path) -> None:
    held = LaneLists(path, day_of)
    held.take(part("whole", product(), ticket(), cursor="next with spaces"))
    held.close()
    again = LaneLists(path, day_of)
    assert again.question() == (None, ListMark(1, "t"), "next with spaces")
    assert again.take(part("whole", ticket(8), first=False))
    assert (code(again, 7), code(again, 8)) == ([0], [0])
    again.close()
    third = LaneLists(path, day_of)
    assert (third.version, third.as_of, code(third, 8)) == (1, NOW, [0])
    third.close()


def full(path: Path) -> LaneLists:
    held = LaneLists(path, day_of)
    assert held.take(part("whole", product(), ZONE, KEY, ticket(), card()))
    return held


def test_a_delta_changes_what_it_names_and_moves_the_mark_at_its_end(path: Path) -> None:
    held = full(path)
    assert not held.take(part("delta", ticket(redeemed=1), mark=2, base=1, cursor="more"))
    assert code(held) == [1], "an item is never older than its mark"
    assert held.version == 1
    assert held.question() == (ListMark(1, "t"), ListMark(2, "t"), "more")
    assert held.take(part("delta", ticket(8), mark=2, base=1, first=False))
    assert (held.version, code(held, 8)) == (2, [0])
    assert held.take(part("same", mark=2))
    held.close()


@pytest.mark.parametrize(
    "wrong",
    [
        part("delta", ticket(8), mark=3, base=2),
        part("delta", ticket(8), mark=2, base=1, first=False),
        part("whole", ticket(8), mark=2, first=False),
        part("same", mark=2),
        part("other", mark=2),
    ],
)
def test_an_answer_that_does_not_fit_changes_nothing_and_is_asked_again(path: Path, wrong: ListPart) -> None:
    held = full(path)
    with pytest.raises(LinkError):
        held.take(wrong)
    assert (held.version, code(held, 8)) == (1, None)
    assert held.question() == (ListMark(1, "t"), None, "")
    held.close()


def test_a_damaged_part_changes_nothing(path: Path) -> None:
    held = full(path)
    good = part("delta", ticket(8), mark=2, base=1)
    for data, crc in ((good.data[:-4], good.crc), (good.data, good.crc ^ 1), (b"", 0)):
        with pytest.raises(LinkError):
            held.take(ListPart(seq=1, server_at=NOW, kind="delta", mark=good.mark, base=good.base, first=True,
                               data=data, crc=crc))  # fmt: skip
    assert (held.version, code(held, 8)) == (1, None)
    held.close()


def test_a_new_whole_list_replaces_everything_of_the_old_one(path: Path) -> None:
    held = full(path)
    held.renew()
    assert held.question() == (None, None, "")
    assert not held.take(part("whole", product(), ticket(8), mark=9, cursor="x"))
    assert code(held) == [0], "the old one holds until the new one is complete"
    assert held.take(part("whole", mark=9, first=False))
    assert (code(held), code(held, 8), held.version) == (None, [0], 9)
    held.close()


def test_the_later_of_two_items_with_one_key_counts_also_across_parts(path: Path) -> None:
    held = LaneLists(path, day_of)
    held.take(part("whole", product(), ticket(), card(issue=1), card(issue=2), cursor="a"))
    held.take(part("whole", card(issue=3), card(8, issue=1), cursor="b", first=False))
    assert held.take(part("whole", ticket(8), ticket(redeemed=1), first=False))
    assert held.state().credentials == 2
    assert held.issue_index(CredentialKind.CARD, HASH) == 3
    assert code(held) == [1]
    held.close()


def test_cards_of_a_list_that_was_given_up_are_not_in_the_next_one(path: Path) -> None:
    held = LaneLists(path, day_of)
    held.take(part("whole", product(), ticket(), card(), cursor="next"))
    held.renew()
    assert held.take(part("whole", product(), ticket(), mark=2))
    assert (held.state().tickets, held.state().credentials) == (1, 0)
    assert held.rights(CredentialKind.CARD, HASH, None, NOW) is None
    held.close()


def test_a_list_that_an_older_version_began_is_gone_on_with(path: Path) -> None:
    held = LaneLists(path, day_of)
    held.take(part("whole", product(), ticket(), cursor="next"))
    with sqlite3.connect(path) as db:  # it laid nothing down apart
        assert db.execute("select count(*) from sqlite_master where name = 'loose'").fetchone() == (0,)
        db.execute("insert into staging values ('c', ?, ?)", (card().key.encode(), lists.encode_line(card())))
    db.close()
    assert held.take(part("whole", card(8), first=False))
    assert held.state().credentials == 2
    held.close()


def test_a_restart_between_two_parts_with_cards_loses_none_of_them(path: Path) -> None:
    held = LaneLists(path, day_of)
    held.take(part("whole", product(), ticket(), card(), cursor="next"))
    held.close()
    again = LaneLists(path, day_of)
    assert again.take(part("whole", card(8), ticket(8), first=False))
    found = again.rights(CredentialKind.CARD, HASH, None, NOW)
    assert found is not None and [each.ticket for each in found.rights] == [7, 8]
    again.close()


def test_nothing_is_left_beside_the_list_in_force(path: Path) -> None:
    held = LaneLists(path, day_of)
    held.take(part("whole", product(), ticket(), card()))
    with sqlite3.connect(path) as db:
        names = {name for (name,) in db.execute("select name from sqlite_master where type = 'table'")}
        assert names == {"items", "meta"}
    db.close()
    assert code(held) == [0]
    held.close()


def test_what_a_card_gives_and_what_its_owner_has_used(path: Path) -> None:
    held = full(path)
    found = held.rights(CredentialKind.CARD, HASH, None, NOW)
    assert found is not None
    assert [(each.ticket, each.credential_state, each.person) for each in found.rights] == [(7, "active", None)]
    assert held.issue_index(CredentialKind.CARD, HASH) == 1
    assert held.rights(CredentialKind.CARD, bytes(32), None, NOW) is None
    held.take(part("delta", card(state="lost", issue=4, personal=True), mark=2, base=1))
    found = held.rights(CredentialKind.CARD, HASH, None, NOW)
    assert found is not None
    assert found.rights[0].credential_state == "lost"
    assert found.rights[0].person is not None
    assert found.rights[0].person.redeemed == 1
    assert held.issue_index(CredentialKind.CARD, HASH) == 4
    held.close()


def test_a_code_that_was_never_sold_opens_nothing(path: Path) -> None:
    held = full(path)
    held.take(part("delta", ListPreprinted("b", 99, "printed"), ListPreprinted("b", 98, "lost"), mark=2, base=1))
    refused = {}
    for number in (98, 99):
        found = held.rights(CredentialKind.CODE, b"", number, NOW)
        assert found is not None
        assert found.rights == []
        refused[number] = found.refused
    assert refused == {99: "not_yet_active", 98: "void"}
    held.close()


def test_the_counters_of_a_day_are_those_of_that_day(path: Path) -> None:
    held = full(path)
    held.take(part("delta", ticket(day=day_of(NOW).isoformat(), used_day=3), mark=2, base=1))
    for now, used in ((NOW, 3), (NOW + 2 * 86400, 0)):
        found = held.rights(CredentialKind.CODE, b"", 7, now)
        assert found is not None
        assert found.rights[0].used_day == used
    held.close()


def test_a_damaged_file_is_made_anew(path: Path) -> None:
    full(path).close()
    path.write_bytes(b"garbage" * 1000)
    held = LaneLists(path, day_of)
    assert (held.version, held.question()) == (0, (None, None, ""))
    held.close()


def test_a_folder_that_cannot_be_made_is_an_error_with_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ListsError):
        LaneLists(tmp_path / "file" / "lists.sqlite", day_of)


def test_a_list_that_is_still_up_to_date_is_as_young_as_the_answer(path: Path) -> None:
    held = full(path)
    later = ListPart(seq=1, server_at=NOW + 500, kind="same", mark=ListMark(1, "t"))
    assert held.take(later)
    held.close()
    again = LaneLists(path, day_of)
    assert again.as_of == NOW + 500
    again.close()
