"""From what a reader read to the form in which a credential is stored."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from protocols.errors import TicketCodeError
from protocols.messages import Credential, CredentialKind
from protocols.rotating import KeyOf, is_rotating, verify_rotating
from protocols.shortcode import parse_short
from protocols.ticketcode import TicketCode

CARD_CHARACTERS_MAX = 64

HashId = Callable[[str, str], bytes]
"""(kind, value) -> keyed hash of a credential, the only form in which one is stored. A code's value is its ticket."""

Verify = Callable[[str], TicketCode]
"""What a ticket code says. Raises TicketCodeError."""


class Identity(msgspec.Struct, frozen=True):
    """A credential as it is looked up; `ticket` is what a code names."""

    hash: bytes
    ticket: int | None = None


class Identify:
    """Turns what was scanned into what is looked up: checks signatures and check characters, asks nobody."""

    def __init__(
        self,
        verify: Verify,
        hash_id: HashId,
        rotating_key: KeyOf | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verify = verify
        self._hash_id = hash_id
        self._rotating_key = rotating_key
        self._clock = clock

    def __call__(self, credential: Credential, at: float | None = None) -> Identity:
        """The stored form; a rotating code must be that of `at` (None: of now).

        Raises TicketCodeError for what cannot be one of ours.
        """
        kind, value = credential.kind, credential.value
        if kind is CredentialKind.CODE:
            if self._rotating_key is not None and is_rotating(value):
                ticket = verify_rotating(value, self._rotating_key, self._clock() if at is None else at)
            else:
                ticket = self._verify(value).ticket
            return Identity(self._hash_id(CredentialKind.CODE, str(ticket)), ticket)
        if kind is CredentialKind.SHORT:
            return Identity(self._hash_id(kind, parse_short(value)))
        if not 0 < len(value) <= CARD_CHARACTERS_MAX:
            raise TicketCodeError("unknown_code")
        return Identity(self._hash_id(kind, value.strip().upper() if kind is CredentialKind.ID_NUMBER else value))

    def stored(self, credential: Credential) -> bytes:
        """The stored form's hash, or nothing for what cannot be one of ours: to note down what was refused unasked."""
        try:
            return self(credential).hash
        except TicketCodeError:
            return b""


class Tries:
    """How many codes somebody may type: guesses must not find one, and nobody types faster than people do.

    Bounded in devices as well: the one that was quiet for the longest is forgotten.
    """

    def __init__(self, most: int, within_s: float, devices_max: int = 1024) -> None:
        self._most = most
        self._within_s = within_s
        self._devices_max = devices_max
        self._times: dict[str, list[float]] = {}

    def allow(self, device: str, now: float) -> bool:
        """Count one try of a device; False when there were too many."""
        times = [at for at in self._times.pop(device, []) if 0 <= now - at < self._within_s]
        self._times[device] = times
        while len(self._times) > self._devices_max:
            del self._times[next(iter(self._times))]
        if len(times) >= self._most:
            return False
        times.append(now)
        return True
