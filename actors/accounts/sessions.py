"""Open sessions: bounded in number, in time, and in time without a command. Only hashes of tokens are kept."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Iterable

import msgspec
import trio

from protocols.console_accounts import Session, SessionRow
from protocols.console_rights import MUST_CHANGE, ROLES

from .users import User

SESSION_S = 12 * 3600.0  # a shift and a little; unless the site says otherwise
IDLE_S = 2 * 3600.0  # the same without a command; looking at a page is none
SESSIONS_MAX = 1000
TOKEN_BYTES = 32
NAME_BYTES = 6  # of a session's name, which opens nothing


class Held(msgspec.Struct):
    """An open session. Times are Trio's; `since` and `seen` are seconds since the epoch, for people and the file."""

    session: Session  # without its token
    until: float
    active: float
    since: float
    seen: float
    mark: str  # of the password it was opened with


class Kept(msgspec.Struct, frozen=True):
    """A session in the file that carries sessions over a restart of the server."""

    token_hash: str
    session: Session
    since: float
    seen: float
    until: float  # seconds since the epoch
    mark: str


class Sessions:
    """All sessions of a site.

    Args:
        clock: seconds since the epoch.
        site: whose roles count.
        longest_s, idle_s: how long a session lasts from its log-in, and without a command.
    """

    def __init__(
        self, *, clock: Callable[[], float], site: str, longest_s: float = SESSION_S, idle_s: float = IDLE_S
    ) -> None:
        self._clock, self._site = clock, site
        self._longest_s, self._idle_s = longest_s, idle_s
        self._held: dict[str, Held] = {}  # by the token's hash, the oldest first

    def __len__(self) -> int:
        return len(self._held)

    def open(self, user: User) -> Session:
        """A new session; beyond `SESSIONS_MAX` the oldest one ends."""
        now, wall = trio.current_time(), self._clock()
        role = user.role_at(self._site)
        session = Session(
            token="",
            user=user.name,
            role=role,
            permissions=_permissions(role, user.must_change),
            session=secrets.token_hex(NAME_BYTES),
            must_change=user.must_change,
            totp=bool(user.totp),
            ends_at=wall + self._longest_s,
            idle_s=self._idle_s,
        )
        if len(self._held) >= SESSIONS_MAX:
            del self._held[next(iter(self._held))]
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._held[_hash(token)] = Held(session, now + self._longest_s, now, wall, wall, _mark(user))
        return msgspec.structs.replace(session, token=token)

    def look(self, token: str, user_of: Callable[[str], User | None], idle_s: float = math.inf) -> Session | None:
        """The session of a token, or None when it is over: too old, idle, or its user is another one by now.

        `idle_s`: how long ago something was commanded with it, as far as the asker knows.
        """
        key, now = _hash(token), trio.current_time()
        held = self._held.get(key)
        if held is None:
            return None
        if now - idle_s > held.active:
            held.active, held.seen = now - idle_s, self._clock() - idle_s
        user = user_of(held.session.user)
        same = (
            user is not None
            and not user.disabled
            and user.role_at(self._site) == held.session.role
            and _mark(user) == held.mark
        )
        if not same or now >= held.until or now - held.active >= self._idle_s:
            del self._held[key]
            return None
        return msgspec.structs.replace(held.session, token=token)

    def end(self, *, session: str = "", user: str = "", but: str = "") -> list[str]:
        """End one session by its name, or all of a user except `but`; returns their names."""
        over = {
            key: held.session.session
            for key, held in self._held.items()
            if held.session.session != but and (held.session.session == session or (user and held.session.user == user))
        }
        for key in over:
            del self._held[key]
        return list(over.values())

    def rows(self, user: str = "") -> list[SessionRow]:
        """Open sessions, of one user or of all. What is over is forgotten."""
        now = trio.current_time()
        self._held = {k: h for k, h in self._held.items() if now < h.until and now - h.active < self._idle_s}
        return [
            SessionRow(
                session=held.session.session,
                user=held.session.user,
                role=held.session.role,
                since=held.since,
                last_seen=held.seen,
                ends_at=held.session.ends_at or 0.0,
            )
            for held in self._held.values()
            if user in ("", held.session.user)
        ]

    # -- over a restart of the server ---------------------------------------------------------------------------

    def keep(self) -> list[Kept]:
        """What a file should hold."""
        return [
            Kept(key, held.session, held.since, held.seen, held.session.ends_at or 0.0, held.mark)
            for key, held in self._held.items()
        ]

    def restore(self, kept: Iterable[Kept]) -> None:
        """Take over what a file held. A clock that was set back lengthens no session beyond `longest_s`."""
        now, wall = trio.current_time(), self._clock()
        for each in list(kept)[-SESSIONS_MAX:]:
            left_s = min(self._longest_s, each.until - wall)
            idle_s = max(0.0, wall - each.seen)
            if left_s > 0 and idle_s < self._idle_s and each.token_hash not in self._held:
                session = msgspec.structs.replace(
                    each.session,
                    permissions=_permissions(each.session.role, each.session.must_change),
                    ends_at=min(each.until, wall + self._longest_s),
                    idle_s=self._idle_s,
                )
                self._held[each.token_hash] = Held(
                    session, now + left_s, now - idle_s, each.since, each.seen, each.mark
                )


def _hash(token: str) -> str:
    """Looking a token up by its hash takes the same time whatever is right about it."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _permissions(role: str, must_change: bool) -> list[str]:
    allowed = ROLES.get(role, frozenset())
    return sorted(allowed & MUST_CHANGE if must_change else allowed)


def _mark(user: User) -> str:
    return hashlib.sha256(user.password_hash.encode()).hexdigest()[:16]
