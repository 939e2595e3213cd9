"""What the actors of a lane controller share: its disk, its lists, its policy, and what they tell each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar

import msgspec
import trio

from protocols.edge import NewGrant, Use
from protocols.messages import Base, Booked, CredentialKind, Ended, Passed, Settled, Telemetry
from protocols.uploads import Body
from storage.interfaces import (
    CounterBaseline,
    LaneBooks,
    LaneLedger,
    LedgerUnavailable,
    Ok,
    OpenGrant,
    RightFacts,
    ZoneFacts,
)

T = TypeVar("T")


class EdgePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a lane decides by itself.

    `answer_limit_s`: a server that has not answered by then is not waited for.  `unlisted`: a ticket with a good
    signature that stands in no list, because it was sold since.  `face`: a product that asks for a face, which a lane
    cannot compare by itself.  `list_age_max_s`: with older lists nothing is accepted; `limited_age_s` is the same for
    products with `offline = "accept_limited"`.  `journal_failure`: what becomes of a scan that cannot be written down.
    """

    answer_limit_s: float = 1.0
    unlisted: Literal["accept", "refuse"] = "accept"
    face: Literal["refuse", "waive"] = "refuse"
    list_age_max_s: float = 3 * 24 * 3600.0
    limited_age_s: float = 3600.0
    journal_failure: Literal["refuse", "accept"] = "refuse"


class ListedRights(Protocol):
    """What the lists say of a credential. `rights` empty: it is listed, and opens nothing, for the reason `refused`."""

    @property
    def rights(self) -> list[RightFacts]: ...
    @property
    def refused(self) -> str: ...


class Lists(Protocol):
    """The site's lists as this lane has them. Blocks for the disk."""

    @property
    def version(self) -> int:
        """0 when there is none yet."""

    @property
    def as_of(self) -> float:
        """The server's clock when they were last known to be up to date; 0.0 when there are none yet."""

    def rights(
        self, kind: CredentialKind, credential_hash: bytes, ticket: int | None, now: float
    ) -> ListedRights | None:
        """None: in no list."""

    def issue_index(self, kind: CredentialKind, credential_hash: bytes) -> int:
        """The newest issue of a card that the lists know; 0: none."""

    def zone(self, zone: str) -> ZoneFacts | None: ...


class Book(Protocol):
    """`storage.lanebook.LaneBook`. Every method may raise the journal's error; all of them block for the disk."""

    @property
    def boot(self) -> str: ...
    @property
    def waiting(self) -> int: ...
    def grant(self, new: NewGrant, body: Body | None) -> Use | None: ...
    def keep(self, new: NewGrant, body: Body | None) -> None: ...
    def passed(self, statement: Passed) -> Booked: ...
    def ended(self, statement: Ended) -> Settlement: ...
    def baseline(self, statement: CounterBaseline) -> Ok: ...
    def note(self, body: Body, at: float) -> int: ...
    def probe(self, at: float) -> None: ...
    def neighbour(self, uses: Sequence[Use]) -> None: ...
    def books(self, question: LaneLedger, now: float) -> LaneBooks: ...
    def open_grants(self) -> list[OpenGrant]: ...
    def owed(self) -> list[int]: ...
    def uses(self, ticket: bytes, credential: bytes = b"") -> list[Use]: ...
    def own_uses(self, after: float, limit: int) -> list[Use]: ...
    def pending(self, limit: int, after: int = 0) -> Sequence[Any]: ...
    def body(self, record: Any) -> Body: ...
    def acknowledged(self, boot: str, seq: int) -> int: ...


class Settlement(Protocol):
    """`storage.lanebook.Settlement`."""

    @property
    def settled(self) -> Settled: ...
    @property
    def uses(self) -> list[Use]: ...


class Disk:
    """The lane's book behind one thread: in order, one at a time, and nobody waits for the disk but who asks.

    `failures` are the errors that mean "not written"; they come out as LedgerUnavailable, and `trouble` says the last
    one until something was written again.  `inline` does without the thread, for tests in virtual time.
    """

    def __init__(
        self,
        book: Book,
        failures: tuple[type[Exception], ...],
        *,
        changed: Callable[[str], None] = lambda trouble: None,
        inline: bool = False,
    ) -> None:
        self.book = book
        self.trouble = ""
        self._failures = failures
        self._changed = changed
        self._inline = inline
        self._turn = trio.CapacityLimiter(1)

    async def do(self, work: Callable[[Book], T], *, reads: bool = False) -> T:
        """Carry `work` out. Raises LedgerUnavailable when the disk refuses.

        `reads`: it only looks, which a full disk lets it do, so that its success says nothing.
        """
        try:
            if self._inline:
                result = work(self.book)
            else:
                result = await trio.to_thread.run_sync(work, self.book, limiter=self._turn)
        except self._failures as exc:
            self._say(str(exc))
            raise LedgerUnavailable(str(exc)) from exc
        if not reads:
            self._say("")
        return result

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._changed(trouble)


Ask = Callable[[Any, float], Awaitable[Any]]
"""(request, deadline) -> the server's answer; raises DeviceError when there is none (`LinkClient.ask`)."""


class Written(Telemetry, frozen=True, kw_only=True):
    """somebody -> upload: there are new records."""


class Uploaded(Telemetry, frozen=True, kw_only=True):
    """upload -> decider: the server has everything on disk."""


class Tell(Base, frozen=True, kw_only=True):
    """somebody -> neighbours: what this lane let in, or took back."""

    overflow = "drop_oldest"
    uses: list[Use]


class LinkUp(Telemetry, frozen=True, kw_only=True):
    """link -> everybody: the server answers, or does not."""

    up: bool


class ModeChanged(Telemetry, frozen=True, kw_only=True):
    """decider -> link and status: who decides now, `online` or `offline_edge`, and why."""

    mode: str
    why: str
