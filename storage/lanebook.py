"""What a lane controller knows of its own lane: open grants, counts, who used what; each change with its record.

The lane's own answer to what the server's ledger answers (`storage.interfaces`): the same messages in, the same
messages out, from the journal's file.  Every change is one transaction with the record that will be uploaded, flushed
before the answer.  Synchronous; one thread at a time.
"""

from __future__ import annotations

import collections
import sqlite3
from collections.abc import Callable, Sequence

import msgspec

from protocols.edge import NewGrant, Use
from protocols.messages import Booked, Direction, Ended, Passed, Settled
from protocols.uploads import Body, RecBaseline, RecEnded, RecPassed
from storage.interfaces import CounterBaseline, LaneBooks, LaneLedger, Ok, OpenGrant
from storage.journal import Journal, JournalError, JournalState, Record

USES_KEPT_S = 3 * 24 * 3600.0  # how long a use is remembered by itself; by then every list knows it
USES_MAX = 200_000  # uses of this lane and its neighbours; the oldest go first
BOUND_EVERY = 64  # one grant in so many looks whether old uses can go
GRANTS_MAX = 1000  # open grants of one lane; more means that nobody ends them

UNWRITTEN_MAX = 1000  # grants that the disk did not take, and on which the lane opened all the same

_encode = msgspec.msgpack.Encoder().encode
_body: msgspec.msgpack.Decoder[Body] = msgspec.msgpack.Decoder(Body)


class Settlement(msgspec.Struct, frozen=True):
    """An end as booked, and what became of its uses."""

    settled: Settled
    uses: list[Use]


class LaneBook:
    """One lane's book over its journal. `day_of` gives the business day of a moment, for the counts of today."""

    def __init__(self, journal: Journal, lane: str, day_of: Callable[[float], str]) -> None:
        self._journal = journal
        self._lane = lane
        self._day_of = day_of
        self._unwritten: collections.deque[tuple[NewGrant, Body | None]] = collections.deque(maxlen=UNWRITTEN_MAX)

    # --- writing --------------------------------------------------------------------------------------------------

    def grant(self, new: NewGrant, body: Body | None) -> Use | None:
        """Write a grant down. Known already: nothing changes. The use that neighbours are to hear of, if any.

        `body` is its record; None for a grant of the server's, which knows it.  Raises JournalError; then the lane
        must not open on it, unless its site says otherwise (`keep`).
        """
        self._catch_up()
        return self._grant(new, body)

    def keep(self, new: NewGrant, body: Body | None) -> None:
        """The disk does not take this grant, and the lane opens on it: written as soon as anything can be."""
        self._unwritten.append((new, body))

    @property
    def unwritten(self) -> int:
        """Grants that are kept in memory alone."""
        return len(self._unwritten)

    def _catch_up(self) -> None:
        while self._unwritten:
            self._grant(*self._unwritten[0])
            self._unwritten.popleft()

    def _grant(self, new: NewGrant, body: Body | None) -> Use | None:
        counters = new.counters
        with self._journal.writing() as db:
            found = db.execute("select 1 from open_grants where grant_id = ?", (new.grant,)).fetchone()
            if found is not None:
                return None
            if body is not None:
                self._add(body, new.at)
            db.execute(
                "insert into open_grants values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    new.grant,
                    new.nonce,
                    new.ticket,
                    new.pax,
                    new.passed,
                    new.at,
                    new.ttl_s,
                    new.direction.value,
                    None if counters is None else counters.epoch,
                    None if counters is None else counters.entries,
                    None if counters is None else counters.exits,
                    new.from_server,
                ),
            )
            if not new.subject or new.direction is Direction.EXIT:
                return None
            use = Use(
                subject=new.subject, lane=self._lane, grant=new.grant, zone=new.zone, pax=new.pax, at=new.at
            )
            _put_use(db, use)
            if new.grant % BOUND_EVERY == 0:
                _bound_uses(db, new.at)
        return use

    def passed(self, statement: Passed) -> Booked:
        """Book one person. Its identity is the board's counter: said twice, it is booked once. Raises JournalError."""
        self._catch_up()
        with self._journal.writing() as db:
            row = db.execute(
                "select epoch, value from counters where direction = ?", (statement.direction.value,)
            ).fetchone()
            repeated = row is not None and row[0] == statement.boot and statement.seq <= row[1]
            if not repeated:
                self._add(self._passage(db, statement), statement.at)
                _put_counter(db, statement.direction, statement.boot, statement.seq)
                if statement.grant is not None:
                    db.execute(
                        "update open_grants set passed = passed + 1 where grant_id = ? and passed < pax",
                        (statement.grant,),
                    )
                self._count(db, statement)
        self._journal.tidy()  # who passed walks on, and the next one waits until the barrier is closed
        return Booked(
            device=statement.device,
            boot=statement.boot,
            seq=statement.seq,
            direction=statement.direction,
            kind=statement.kind,
            repeated=repeated,
        )

    def ended(self, statement: Ended) -> Settlement:
        """A grant is over: what did not pass was not used. Said twice, it is written once. Raises JournalError."""
        self._catch_up()
        with self._journal.writing() as db:
            row = db.execute(
                "select grant_id, nonce, passed, from_server from open_grants"
                " where grant_id = ? or (? is null and nonce = ?)",
                (statement.grant, statement.grant, statement.nonce),
            ).fetchone()
            if row is None and statement.grant is not None:
                settled = Settled(grant=statement.grant, nonce=statement.nonce, passed=statement.passed, repeated=True)
                return Settlement(settled, [])
            # a nonce that nobody knows here: the server may have granted it after all, and has to hear of it
            grant, nonce, passed, from_server = (None, statement.nonce, 0, False) if row is None else row
            body = RecEnded(
                grant=grant if from_server else None, nonce=nonce, passed=passed, why=statement.why.value
            )
            self._add(body, statement.at)
            uses: list[Use] = []
            if grant is not None:
                db.execute("delete from open_grants where grant_id = ?", (grant,))
                uses = _settle_uses(db, self._lane, grant, passed)
        return Settlement(Settled(grant=statement.grant, nonce=nonce, passed=passed, repeated=False), uses)

    def baseline(self, statement: CounterBaseline) -> Ok:
        """The counting begins here. Raises JournalError."""
        with self._journal.writing() as db:
            body = RecBaseline(epoch=statement.epoch, entries=statement.entries, exits=statement.exits)
            self._add(body, statement.at)
            _put_counter(db, Direction.ENTRY, statement.epoch, statement.entries)
            _put_counter(db, Direction.EXIT, statement.epoch, statement.exits)
        return Ok()

    def note(self, body: Body, at: float) -> int:
        """Write a record that changes nothing here: a refused scan, an alarm. Raises JournalError."""
        self._catch_up()
        with self._journal.writing():
            return self._add(body, at)

    def probe(self, at: float) -> None:
        """Write what waits in memory, and see whether the disk takes anything. Raises JournalError."""
        self._catch_up()
        self._journal.probe(at)

    def neighbour(self, uses: Sequence[Use]) -> None:
        """What neighbours say they let in; `pax` 0 takes it back. Of our own lane nobody else tells us.

        Raises JournalError.
        """
        others = [use for use in uses if use.lane != self._lane]
        if not others:
            return
        with self._journal.writing(0) as db:
            for use in others:
                if use.pax > 0:
                    _put_use(db, use)
                else:
                    db.execute(
                        "delete from uses where subject = ? and lane = ? and grant_id = ?",
                        (use.subject, use.lane, use.grant),
                    )
            if others[0].grant % BOUND_EVERY == 0:
                _bound_uses(db, max(use.at for use in others))

    # --- reading --------------------------------------------------------------------------------------------------

    def books(self, question: LaneLedger, now: float) -> LaneBooks:
        """What the lane's machine asks at its start. Raises JournalError."""
        counters = {row[0]: row[1:] for row in self._journal.read("select direction, epoch, value from counters")}
        entries, exits = counters.get(Direction.ENTRY.value), counters.get(Direction.EXIT.value)
        latest = entries or exits
        epoch = question.epoch or (None if latest is None else str(latest[0]))
        today = self._journal.read("select value from meta where name = ?", (f"today/{self._day_of(now)}",))
        inward, outward = (int(each) for each in str(today[0][0]).split()) if today else (0, 0)
        return LaneBooks(
            lane=question.lane,
            open_grants=self.open_grants(),
            epoch=epoch,
            entries=None if entries is None or entries[0] != epoch else int(entries[1]),
            exits=None if exits is None or exits[0] != epoch else int(exits[1]),
            entries_today=inward,
            exits_today=outward,
        )

    def open_grants(self) -> list[OpenGrant]:
        """Grants that the lane has not ended, oldest first. Raises JournalError."""
        rows = self._journal.read(
            "select grant_id, nonce, ticket, pax, passed, granted_at, ttl_s, counter_epoch, counter_entries,"
            " counter_exits, direction from open_grants order by granted_at, grant_id limit ?",
            (GRANTS_MAX,),
        )
        names = ("grant", "nonce", "ticket", "pax", "passed", "granted_at", "ttl_s")
        counters = ("counter_epoch", "counter_entries", "counter_exits", "direction")
        return [msgspec.convert(dict(zip(names + counters, row, strict=True)), OpenGrant) for row in rows]

    def owed(self) -> list[int]:
        """The server's grants for which it has not heard everything yet: open here, or their records on the way."""
        rows = self._journal.read("select grant_id from open_grants where from_server")
        owed = {int(row[0]) for row in rows}
        for record in self._journal.pending(GRANTS_MAX):
            body = self.body(record)
            if isinstance(body, RecPassed | RecEnded) and body.grant is not None:
                owed.add(body.grant)
        return sorted(owed)

    def uses(self, ticket: bytes, credential: bytes = b"") -> list[Use]:
        """Who let people in on a ticket or a credential, oldest first. Raises JournalError."""
        rows = self._journal.read(
            "select subject, lane, grant_id, zone, pax, at from uses where subject in (?, ?) order by at",
            (ticket, credential),
        )
        return [_use(row) for row in rows]

    def own_uses(self, after: float, limit: int) -> list[Use]:
        """Our own newest uses since `after`, oldest first, for a neighbour that was away. Raises JournalError."""
        rows = self._journal.read(
            "select * from (select subject, lane, grant_id, zone, pax, at from uses"
            " where lane = ? and at >= ? order by at desc limit ?) order by at",
            (self._lane, after, limit),
        )
        return [_use(row) for row in rows]

    def pending(self, limit: int, after: int = 0) -> list[Record]:
        """Records to upload, in order. Raises JournalError."""
        return self._journal.pending(limit, after)

    def acknowledged(self, boot: str, seq: int) -> int:
        """The server has them. Raises JournalError."""
        return self._journal.acknowledged(boot, seq)

    @property
    def boot(self) -> str:
        """The journal's name: (device, boot, seq) names a record."""
        return self._journal.boot

    @property
    def waiting(self) -> int:
        """Records that the server has not acknowledged."""
        return self._journal.count

    def state(self) -> JournalState:
        """What SQLite says of the file. Raises JournalError."""
        return self._journal.state()

    def body(self, record: Record) -> Body:
        """What a record says. Raises JournalError for one that cannot be read."""
        try:
            return _body.decode(record.body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise JournalError(f"record {record.seq} cannot be read: {exc}") from exc

    def _add(self, body: Body, at: float) -> int:
        return self._journal.add(type(body).__name__.removeprefix("Rec").lower(), _encode(body), max(0.0, at))

    def _passage(self, db: sqlite3.Connection, statement: Passed) -> RecPassed:
        """A passage as the server is to book it: on its own grant by number, on the lane's by nonce."""
        row = None
        if statement.grant is not None:
            row = db.execute(
                "select nonce, from_server from open_grants where grant_id = ?", (statement.grant,)
            ).fetchone()
        return RecPassed(
            direction=statement.direction.value,
            kind=statement.kind.value,
            grant=statement.grant if row is not None and row[1] else None,
            nonce=str(row[0]) if row is not None and not row[1] else "",
        )

    def _count(self, db: sqlite3.Connection, statement: Passed) -> None:
        name = f"today/{self._day_of(statement.at)}"
        row = db.execute("select value from meta where name = ?", (name,)).fetchone()
        entries, exits = (0, 0) if row is None else (int(each) for each in str(row[0]).split())
        if statement.direction is Direction.ENTRY:
            entries += 1
        else:
            exits += 1
        if row is None:  # a new day
            db.execute("delete from meta where name like 'today/%'")
        db.execute("insert or replace into meta (name, value) values (?, ?)", (name, f"{entries} {exits}"))


def _put_counter(db: sqlite3.Connection, direction: Direction, epoch: str, value: int) -> None:
    db.execute("insert or replace into counters values (?, ?, ?)", (direction.value, epoch, value))


def _put_use(db: sqlite3.Connection, use: Use) -> None:
    db.execute(
        "insert or replace into uses (subject, lane, grant_id, zone, pax, at) values (?, ?, ?, ?, ?, ?)",
        (use.subject, use.lane, use.grant, use.zone, use.pax, use.at),
    )


def _settle_uses(db: sqlite3.Connection, lane: str, grant: int, passed: int) -> list[Use]:
    """Correct what a grant used to who passed; returns the corrections, 0 people meaning none."""
    rows = db.execute(
        "select subject, lane, grant_id, zone, pax, at from uses where lane = ? and grant_id = ?", (lane, grant)
    ).fetchall()
    changed = [msgspec.structs.replace(_use(row), pax=passed) for row in rows if row[4] != passed]
    for use in changed:
        if passed > 0:
            _put_use(db, use)
        else:
            db.execute(
                "delete from uses where subject = ? and lane = ? and grant_id = ?", (use.subject, lane, grant)
            )
    return changed


def _bound_uses(db: sqlite3.Connection, now: float) -> None:
    db.execute("delete from uses where at < ?", (now - USES_KEPT_S,))
    row = db.execute("select at from uses order by at desc limit 1 offset ?", (USES_MAX,)).fetchone()
    if row is not None:
        db.execute("delete from uses where at <= ?", (row[0],))


def _use(row: tuple[bytes, str, int, str, int, float]) -> Use:
    subject, lane, grant, zone, pax, at = row
    return Use(subject=subject, lane=lane, grant=grant, zone=zone, pax=pax, at=at)

