"""The lane's own book: the same answers as the server's ledger gives, each on disk with its record."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from protocols.edge import NewGrant, Use
from protocols.messages import Counters, Direction, Ended, EndReason, PassageKind, Passed
from protocols.uploads import RecGrant, RecPassed, RecRefused
from storage.interfaces import CounterBaseline, LaneLedger
from storage.journal import TIDY_COMMITS, WAL_PAGES_MAX, JournalError, open_journal
from storage.lanebook import LaneBook

SUBJECT = b"s" * 16
RECORD = RecGrant(nonce="nonce-1", kind="code", credential=b"h", pax=2)


@pytest.fixture
def book(tmp_path: Path) -> LaneBook:
    return LaneBook(open_journal(tmp_path / "journal.sqlite"), "n1", lambda at: "2026-11-22")


def grant(
    number: int = 1, *, pax: int = 2, from_server: bool = False, nonce: str = "", at: float = 100.0
) -> NewGrant:
    return NewGrant(
        grant=number,
        nonce=nonce or f"nonce-{number}",
        ticket=7,
        pax=pax,
        passed=0,
        at=at,
        ttl_s=5.0,
        direction=Direction.ENTRY,
        counters=Counters("e1", 10, 3),
        from_server=from_server,
        subject=SUBJECT,
        zone="park",
    )


def person(seq: int, number: int | None = 1, *, direction: Direction = Direction.ENTRY) -> Passed:
    return Passed(
        lane="n1", device="d", boot="e1", seq=seq, direction=direction, kind=PassageKind.GRANTED, grant=number,
        from_zone="outside", to_zone="park", at=101.0,
    )  # fmt: skip


def end(number: int | None = 1, nonce: str = "nonce-1", passed: int = 0) -> Ended:
    why = EndReason.COMPLETE if number is not None else EndReason.NEVER_OPENED
    return Ended(lane="n1", device="d", grant=number, nonce=nonce, passed=passed, why=why, at=102.0)


def question() -> LaneLedger:
    return LaneLedger(lane="n1", device="d", epoch=None)


def kinds(book: LaneBook) -> list[str]:
    return [record.kind for record in book.pending(100)]


def test_a_grant_is_open_until_its_end_and_what_did_not_pass_was_not_used(book: LaneBook) -> None:
    use = book.grant(grant(pax=3), RECORD)
    assert use == Use(subject=SUBJECT, lane="n1", grant=1, zone="park", pax=3, at=100.0)
    assert [each.grant for each in book.books(question(), 0.0).open_grants] == [1]
    book.passed(person(11))
    settlement = book.ended(end())
    assert (settlement.settled.passed, settlement.settled.repeated) == (1, False)
    assert [each.pax for each in settlement.uses] == [1]
    assert [each.pax for each in book.uses(SUBJECT)] == [1]
    assert book.books(question(), 0.0).open_grants == []
    assert kinds(book) == ["grant", "passed", "ended"]


def test_a_grant_on_which_nobody_passed_leaves_no_use(book: LaneBook) -> None:
    book.grant(grant(), RECORD)
    assert [each.pax for each in book.ended(end()).uses] == [0], "neighbours are to forget it"
    assert book.uses(SUBJECT) == []


def test_what_is_said_twice_is_written_once(book: LaneBook) -> None:
    assert book.grant(grant(), RECORD) is not None
    assert book.grant(grant(), RECORD) is None
    assert not book.passed(person(11)).repeated
    assert book.passed(person(11)).repeated
    assert book.passed(person(10)).repeated
    assert not book.ended(end(passed=1)).settled.repeated
    assert book.ended(end(passed=1)).settled.repeated
    assert kinds(book) == ["grant", "passed", "ended"]
    assert book.books(question(), 0.0).entries == 11


def test_a_scan_that_was_given_up_is_told_to_the_server_and_ends_a_grant_of_its_nonce(book: LaneBook) -> None:
    book.grant(grant(), RECORD)
    assert book.ended(end(None, "nonce-1")).settled.nonce == "nonce-1"
    assert book.open_grants() == []
    assert not book.ended(end(None, "never heard of")).settled.repeated
    assert kinds(book) == ["grant", "ended", "ended"]


def test_counters_begin_anew_with_their_epoch(book: LaneBook) -> None:
    assert book.books(question(), 0.0).epoch is None
    book.baseline(CounterBaseline(lane="n1", device="d", epoch="e1", entries=10, exits=3, at=1.0))
    book.passed(person(11, None))
    book.passed(person(4, None, direction=Direction.EXIT))
    books = book.books(question(), 0.0)
    assert (books.epoch, books.entries, books.exits) == ("e1", 11, 4)
    assert (books.entries_today, books.exits_today) == (1, 1)
    book.baseline(CounterBaseline(lane="n1", device="d", epoch="e2", entries=0, exits=0, at=1.0))
    books = book.books(question(), 0.0)
    assert (books.epoch, books.entries, books.exits) == ("e2", 0, 0)


def test_the_server_is_owed_its_grants_until_it_has_their_ends(book: LaneBook) -> None:
    book.grant(grant(1, from_server=True), None)
    book.grant(grant(2), RECORD)
    assert book.owed() == [1]
    book.passed(person(11, 1))
    book.ended(end(1))
    assert book.owed() == [1], "its records are on the way"
    book.acknowledged(book.boot, book.pending(10)[-1].seq)
    assert book.owed() == []
    assert [each.grant for each in book.open_grants()] == [2]


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    first = open_journal(tmp_path / "j")
    book = LaneBook(first, "n1", lambda at: "day")
    book.grant(grant(), RECORD)
    book.passed(person(11))
    before = (book.books(question(), 0.0), book.uses(SUBJECT), book.pending(10), book.boot)
    first.close()
    again = LaneBook(open_journal(tmp_path / "j"), "n1", lambda at: "day")
    assert (again.books(question(), 0.0), again.uses(SUBJECT), again.pending(10), again.boot) == before


def test_neighbours_uses_are_kept_taken_back_and_never_ours(book: LaneBook) -> None:
    use = Use(subject=SUBJECT, lane="n2", grant=9, zone="park", pax=2, at=100.0)
    book.neighbour([use, msgspec.structs.replace(use, lane="n1", grant=8)])
    assert book.uses(SUBJECT, b"another") == [use]
    book.neighbour([msgspec.structs.replace(use, pax=0)])
    assert book.uses(SUBJECT) == []
    book.grant(grant(), RECORD)
    book.neighbour([Use(subject=SUBJECT, lane="n1", grant=1, zone="park", pax=0, at=100.0)])
    assert len(book.uses(SUBJECT)) == 1
    assert [each.grant for each in book.own_uses(0.0, 10)] == [1]
    assert book.own_uses(101.0, 10) == []


def test_a_neighbour_that_was_away_is_told_the_newest(book: LaneBook) -> None:
    for number in range(1, 9):
        book.grant(grant(number, nonce=f"n{number}", at=100.0 + number), None)
    assert [each.grant for each in book.own_uses(0.0, 3)] == [6, 7, 8]


def test_a_probe_writes_what_waits_and_leaves_no_record(book: LaneBook) -> None:
    book.keep(grant(), RECORD)
    assert (book.unwritten, book.waiting) == (1, 0)
    book.probe(5.0)
    assert (book.unwritten, book.waiting) == (0, 1)
    book.probe(6.0)
    assert book.waiting == 1


def test_old_uses_go(book: LaneBook) -> None:
    book.neighbour([Use(subject=SUBJECT, lane="n2", grant=1, zone="park", pax=1, at=100.0)])
    late = Use(subject=b"t" * 16, lane="n2", grant=64, zone="park", pax=1, at=100.0 + 4 * 24 * 3600)
    book.neighbour([late])
    assert book.uses(SUBJECT) == []
    assert book.uses(b"t" * 16) == [late]


def test_a_passage_names_the_servers_grant_by_number_and_its_own_by_nonce(book: LaneBook) -> None:
    book.grant(grant(1, from_server=True), None)
    book.grant(grant(2, nonce="mine"), RECORD)
    book.passed(person(11, 1))
    book.passed(person(12, 2))
    book.passed(person(13, 99))
    found = [body for record in book.pending(10) if isinstance(body := book.body(record), RecPassed)]
    assert [(body.grant, body.nonce) for body in found] == [(1, ""), (None, "mine"), (None, "")]


def test_a_grant_that_the_disk_did_not_take_is_written_before_its_passage(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "j")
    book = LaneBook(journal, "n1", lambda at: "day")
    journal.read("pragma query_only=on")
    with pytest.raises(JournalError):
        book.grant(grant(), RECORD)
    book.keep(grant(), RECORD)
    with pytest.raises(JournalError):
        book.passed(person(11))
    assert book.unwritten == 1
    journal.read("pragma query_only=off")
    assert not book.passed(person(11)).repeated
    assert book.unwritten == 0
    assert kinds(book) == ["grant", "passed"]
    assert book.ended(end()).settled.passed == 1


def test_a_note_is_a_record(book: LaneBook) -> None:
    book.note(RecRefused(nonce="n", kind="code", code="expired"), -5.0)
    assert [(record.kind, record.at) for record in book.pending(9)] == [("refused", 0.0)]


def test_the_wal_is_written_away_while_somebody_walks_and_not_while_a_visitor_waits(
    book: LaneBook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = book._journal
    wal = tmp_path / "journal.sqlite-wal"
    tidied: list[int] = []
    tidy = journal.tidy

    def watched() -> None:
        before = journal._commits
        tidy()
        tidied.append(before - journal._commits)

    monkeypatch.setattr(journal, "tidy", watched)
    visitors = 3 * TIDY_COMMITS
    for number in range(1, visitors + 1):
        book.grant(grant(number), RECORD)
        assert len(tidied) == number - 1, "not on the way of who waits"
        book.passed(person(number, number))
        book.ended(end(number, f"nonce-{number}", 1))
    assert len(tidied) == visitors and sum(each > 0 for each in tidied) >= visitors * 3 // (TIDY_COMMITS + 3)
    assert wal.stat().st_size < 4096 * WAL_PAGES_MAX // 2, "it begins again from its beginning each time"
    assert kinds(book)[:3] == ["grant", "passed", "ended"]


def test_a_journal_that_cannot_be_tidied_says_nothing_and_goes_on(book: LaneBook) -> None:
    journal = book._journal
    journal.close()  # whatever is wrong with the file
    journal._commits = TIDY_COMMITS
    journal.tidy()
    journal._opened = None
    journal._commits = TIDY_COMMITS
    journal.tidy()
