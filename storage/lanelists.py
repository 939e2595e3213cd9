"""The site's lists as a lane controller holds them: in SQLite, so that half a million tickets cost no memory.

What arrives in parts (`protocols.lists`) is put beside the list in force and takes its place whole, in one
transaction; a part that is in is never asked for again, also after a restart.  A file that is damaged is made anew,
because the server has it all.  One thread reads (`rights`, `zone`), another one writes (`take`); both block.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import msgspec

from protocols import lists
from protocols.devicelink import ListPart
from protocols.errors import LinkError
from protocols.lists import ListCredential, ListKey, ListMark, ListPreprinted, ListProduct, ListRight, ListTicket
from protocols.messages import CredentialKind
from protocols.rights import ProductRules, RulesError
from protocols.rights import decode as decode_rules
from storage import _staging
from storage.interfaces import PersonFacts, RightFacts, ZoneFacts

CACHE_KIB = 4 * 1024  # of pages, for the reader
WRITER_CACHE_KIB = 24 * 1024  # while a whole list comes in
CREDENTIALS_MAX = 32  # tickets on one credential that are looked at
AS_OF_STEP_S = 60.0  # how often it is written that the list is still up to date
BUSY_S = 5.0
SCHEMA_VERSION = 1


class ListsError(Exception):
    """The lists cannot be read or written; the text says which file and why."""


class ListsState(msgspec.Struct, frozen=True, kw_only=True):
    """For people: which list is in force, how old, how large."""

    version: int
    as_of: float
    tickets: int
    credentials: int
    coming: bool  # a whole list or a delta is under way


class _Product(msgspec.Struct, frozen=True):
    product_class: str
    pax: int
    rules: ProductRules


class ListedRights(msgspec.Struct, frozen=True, kw_only=True):
    """What the lists say of a credential. `rights` empty: it is listed, and opens nothing, for the reason `refused`."""

    rights: list[RightFacts]
    refused: str = ""


class LaneLists:
    """One lane's lists. `day_of` gives the business day of a moment."""

    def __init__(self, path: Path, day_of: Callable[[float], date]) -> None:
        """Open or make the file. Raises ListsError when the folder cannot be written."""
        self._path = path
        self._day_of = day_of
        self._mark: ListMark | None = None
        self._as_of = self._written_as_of = 0.0
        self._today = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (sqlite3.DatabaseError, ValueError):
            self._make_anew()
        except OSError as exc:
            raise ListsError(f"{path}: {exc.strerror}") from exc

    def _make_anew(self) -> None:
        try:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._open()
        except (sqlite3.Error, OSError) as exc:
            raise ListsError(f"{self._path}: {exc}") from exc

    def _open(self) -> None:
        self._writer = _connect(self._path, WRITER_CACHE_KIB)
        try:
            if self._writer.execute("pragma quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("malformed")
            if self._writer.execute("pragma user_version").fetchone()[0] != SCHEMA_VERSION:
                _make(self._writer)
            self._reader = _connect(self._path, CACHE_KIB)
            self._remember()
        except BaseException:
            self._writer.close()
            raise

    # --- what is asked next, and what comes ------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """0 when there is no list yet."""
        return 0 if self._mark is None else self._mark.version

    @property
    def as_of(self) -> float:
        """The server's clock when the list was last known to be up to date; 0.0 when there is none."""
        return self._as_of

    @property
    def coming(self) -> bool:
        """Whether parts are still to be asked for."""
        return self._part is not None

    def question(self) -> tuple[ListMark | None, ListMark | None, str]:
        """`have`, `part` and `cursor` of the next `GetList`."""
        if self._part is None:
            return (None if self._renewing else self._mark), None, ""
        return (self._mark if self._delta else None), self._part, self._cursor

    def renew(self) -> None:
        """Ask for a whole list next. The one in force stays until that is complete. Raises ListsError."""
        self._expect(None, delta=False, cursor="")
        self._renewing = True

    def take(self, part: ListPart) -> bool:
        """Put one answer away. True when the list is complete and up to date as of that answer.

        Raises LinkError for an answer that does not fit (the next question begins anew), ListsError for the disk.
        """
        try:
            if part.kind == "same":
                if self._mark != part.mark:
                    self._forget()
                    raise LinkError("the server says that nothing is new since another mark")
                self._now_as_of(part.server_at)
                return True
            if part.kind == "whole":
                return self._take_whole(part)
            if part.kind == "delta":
                return self._take_delta(part)
        except sqlite3.Error as exc:
            raise ListsError(f"{self._path}: {exc}") from exc
        raise LinkError(f"a list's part of the unknown kind {part.kind!r}")

    def _take_whole(self, part: ListPart) -> bool:
        if not part.first and (self._delta or part.mark != self._part):
            self._forget()
            raise LinkError("a part of another list")
        items = lists.unpack(part.data, part.crc)
        with _transaction(self._writer) as db:
            if part.first:
                _staging.begin(db)
            _staging.add(db, items)
            if part.cursor:
                self._write_expected(part.mark, delta=False, cursor=part.cursor)
            else:
                _staging.finish(db)
                self._write_mark(part.mark, part.server_at)
        self._remember()
        if not part.cursor:
            self._shrink()
        return not part.cursor

    def _take_delta(self, part: ListPart) -> bool:
        fits = part.base == self._mark and self._mark is not None
        if not fits or (not part.first and (not self._delta or part.mark != self._part)):
            self._forget()
            raise LinkError("a delta that starts from another list")
        rows = [(item.kind, item.key, item.line) for item in lists.unpack(part.data, part.crc)]
        with _transaction(self._writer) as db:
            # an item may be newer than its mark, never older: what has come is put in force at once
            db.executemany("insert or replace into items values (?, ?, ?)", rows)
            if part.cursor:
                self._write_expected(part.mark, delta=True, cursor=part.cursor)
            else:
                self._write_mark(part.mark, part.server_at)
        self._remember()
        return not part.cursor

    def _forget(self) -> None:
        self._expect(None, delta=False, cursor="")

    def _expect(self, part: ListMark | None, *, delta: bool, cursor: str) -> None:
        try:
            with _transaction(self._writer):
                self._write_expected(part, delta=delta, cursor=cursor)
        except sqlite3.Error as exc:
            raise ListsError(f"{self._path}: {exc}") from exc
        self._part, self._delta, self._cursor = part, delta, cursor

    def _write_expected(self, part: ListMark | None, *, delta: bool, cursor: str) -> None:
        told = "" if part is None else f"{part.version} {int(delta)} {part.token} {cursor}"
        self._writer.execute("insert or replace into meta values ('expected', ?)", (told,))

    def _write_mark(self, mark: ListMark, as_of: float) -> None:
        self._write_expected(None, delta=False, cursor="")
        self._writer.execute(
            "insert or replace into meta values ('mark', ?), ('as_of', ?)",
            (f"{mark.version} {mark.token}", repr(as_of)),
        )

    def _now_as_of(self, at: float) -> None:
        if abs(at - self._written_as_of) >= AS_OF_STEP_S:
            with _transaction(self._writer) as db:
                db.execute("insert or replace into meta values ('as_of', ?)", (repr(at),))
            self._written_as_of = at
        self._as_of = at

    def _shrink(self) -> None:
        """Give the room of a list that was replaced back, as far as that costs nothing."""
        with contextlib.suppress(sqlite3.Error):
            self._writer.execute("pragma wal_checkpoint(truncate)")
            self._writer.execute("pragma shrink_memory")

    # --- what is in force -------------------------------------------------------------------------------------------

    def rights(
        self, kind: CredentialKind, credential_hash: bytes, ticket: int | None, now: float
    ) -> ListedRights | None:
        """What a credential gives; None: in no list. `ticket` is what a signed code names. Raises ListsError."""
        self._today = self._day_of(now).isoformat()
        try:
            if ticket is not None:
                return self._of_code(ticket)
            return self._of_credential(kind, credential_hash) if credential_hash else None
        except (sqlite3.Error, LinkError) as exc:
            raise ListsError(f"{self._path}: {exc}") from exc

    def _of_code(self, ticket: int) -> ListedRights | None:
        key = lists.ticket_key(ticket)
        found = self._get(lists.TICKET, key)
        if isinstance(found, ListTicket):
            return ListedRights(rights=self._facts(found, found.code_state, None))
        unsold = self._get(lists.PREPRINTED, key)
        if isinstance(unsold, ListPreprinted):
            code = "void" if unsold.state in ("void", "lost") else "not_yet_active"
            return ListedRights(rights=[], refused=code)
        return None

    def _of_credential(self, kind: CredentialKind, credential_hash: bytes) -> ListedRights | None:
        prefix = lists.credential_key(kind.value, credential_hash)
        rows = self._reader.execute(
            "select line from items where kind = ? and key >= ? and key < ? limit ?",
            (lists.CREDENTIAL, prefix, prefix + b"\xff", CREDENTIALS_MAX),
        ).fetchall()
        rights: list[RightFacts] = []
        for (line,) in rows:
            credential = lists.value(line)
            if not isinstance(credential, ListCredential):
                continue
            ticket = self._get(lists.TICKET, lists.ticket_key(credential.ticket))
            if isinstance(ticket, ListTicket):
                rights += self._facts(ticket, credential.state, credential if credential.personal else None)
        return ListedRights(rights=rights) if rows else None

    def issue_index(self, kind: CredentialKind, credential_hash: bytes) -> int:
        """The newest issue of a card that the lists know; 0: none. Raises ListsError."""
        prefix = lists.credential_key(kind.value, credential_hash)
        try:
            rows = self._reader.execute(
                "select line from items where kind = ? and key >= ? and key < ? limit ?",
                (lists.CREDENTIAL, prefix, prefix + b"\xff", CREDENTIALS_MAX),
            ).fetchall()
            values = [lists.value(line) for (line,) in rows]
        except (sqlite3.Error, LinkError) as exc:
            raise ListsError(f"{self._path}: {exc}") from exc
        return max((each.issue_index for each in values if isinstance(each, ListCredential)), default=0)

    def zone(self, zone: str) -> ZoneFacts | None:
        """A zone as the list has it, None when it does not know it."""
        found = self._zones.get(zone)
        if found is None:
            return None
        return ZoneFacts(
            zone=zone,
            inside=found.inside,
            held=found.held,
            limit=found.limit,
            staff=found.staff,
            stopped=found.stopped,
            reentry_when_stopped=found.reentry_when_stopped,
            left_today=found.left_today,
        )

    def keys(self, purpose: str) -> dict[str, bytes]:
        """Keys of a purpose (`ticket`, `release`, `hash`) by their ids."""
        return {key.id: bytes.fromhex(key.value) for key in self._keys if key.purpose == purpose}

    def state(self) -> ListsState:
        """For people. Counts rows: not for the way of a visitor. Raises ListsError."""
        try:
            counts = dict(self._reader.execute("select kind, count(*) from items group by kind").fetchall())
        except sqlite3.Error as exc:
            raise ListsError(f"{self._path}: {exc}") from exc
        return ListsState(
            version=self.version,
            as_of=self._as_of,
            tickets=counts.get(lists.TICKET, 0),
            credentials=counts.get(lists.CREDENTIAL, 0),
            coming=self.coming,
        )

    def close(self) -> None:
        """Let go of the file."""
        for each in (self._reader, self._writer):
            with contextlib.suppress(sqlite3.Error):
                each.close()

    def _get(self, kind: str, key: bytes) -> lists.ListValue | None:
        row = self._reader.execute("select line from items where kind = ? and key = ?", (kind, key)).fetchone()
        return None if row is None else lists.value(row[0])

    def _facts(self, ticket: ListTicket, credential_state: str, person: ListCredential | None) -> list[RightFacts]:
        product = self._products.get(f"{ticket.product}/{ticket.version}")
        if product is None:
            return []  # its rules are not known: nothing is opened on it
        used = {} if person is None else {each[0]: each for each in person.uses}
        facts = []
        for right in ticket.rights:
            if not 0 <= right.rule < len(product.rules.rights):
                continue
            of_person = None
            if person is not None:
                _, redeemed, held = used.get(right.entitlement, (0, 0, 0))
                of_person = PersonFacts(held=held, redeemed=redeemed)
            facts.append(self._right(ticket, right, product, credential_state, of_person))
        return facts

    def _right(
        self, ticket: ListTicket, right: ListRight, product: _Product, state: str, person: PersonFacts | None
    ) -> RightFacts:
        counts = right.day is not None and right.day >= self._today
        first = right.first_used_at
        return RightFacts(
            entitlement=right.entitlement,
            ticket=ticket.ticket,
            ticket_state=ticket.state,
            credential_state=state,
            product=ticket.product,
            product_class=product.product_class,
            rules=product.rules,
            rule=right.rule,
            zone=right.zone or "",
            pax=product.pax,
            sold=right.sold,
            redeemed=right.redeemed,
            held=right.held,
            refunded=right.refunded,
            reserved_refund=right.reserved_refund,
            valid_from=ticket.valid_from,
            valid_to=ticket.valid_to,
            last_used_at=right.last_used_at,
            last_used_lane=right.last_used_lane,
            first_used_at=first,
            first_used_on=None if first is None else self._day_of(first),
            last_exit_at=right.last_exit_at,
            used_day=right.used_day if counts else 0,
            reentries_day=right.reentries_day if counts else 0,
            reentries_held=right.reentries_held,
            out_day=right.out_day if counts else 0,
            slot_from=ticket.slot_from,
            slot_to=ticket.slot_to,
            holder_hash=None if ticket.holder is None else bytes.fromhex(ticket.holder),
            face_bound=ticket.face_bound,
            used_today=ticket.used_today,
            promised=right.promised,
            person=person,
        )

    def _remember(self) -> None:
        """Read what is small and asked for at every scan."""
        meta = dict(self._writer.execute("select name, value from meta").fetchall())
        told = str(meta.get("mark", "")).split(" ", 1)
        self._mark = ListMark(int(told[0]), told[1]) if len(told) == 2 else None
        self._as_of = self._written_as_of = float(meta.get("as_of", "0"))
        self._part, self._delta, self._cursor = None, False, ""
        self._renewing = False
        expected = str(meta.get("expected", "")).split(" ", 3)
        if len(expected) == 4:
            self._part, self._delta = ListMark(int(expected[0]), expected[2]), expected[1] == "1"
            self._cursor = expected[3]
        small = self._writer.execute(
            "select line from items where kind in (?, ?, ?)", (lists.PRODUCT, lists.ZONE, lists.KEY)
        ).fetchall()
        self._products: dict[str, _Product] = {}
        self._zones: dict[str, lists.ListZone] = {}
        self._keys: list[ListKey] = []
        for (line,) in small:
            with contextlib.suppress(LinkError, RulesError):
                self._put(lists.value(line))

    def _put(self, value: lists.ListValue) -> None:
        match value:
            case ListProduct():
                rules = decode_rules(value.rules)
                self._products[value.key] = _Product(value.product_class, value.pax, rules)
            case lists.ListZone():
                self._zones[value.zone] = value
            case ListKey():
                self._keys.append(value)


def _connect(path: Path, cache_kib: int) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    try:
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=normal")  # what a power cut takes is asked for again
        db.execute(f"pragma cache_size=-{cache_kib}")
    except BaseException:
        db.close()
        raise
    return db


def _make(db: sqlite3.Connection) -> None:
    with _transaction(db):
        _staging.clear(db)
        for table in ("items", "meta"):
            db.execute(f"drop table if exists {table}")
        db.execute(f"create table items {_staging.ITEMS}")
        db.execute("create table meta (name text primary key, value text not null) without rowid")
        db.execute(f"pragma user_version={SCHEMA_VERSION}")


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("begin immediate")
    try:
        yield db
        db.execute("commit")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("rollback")
        raise
