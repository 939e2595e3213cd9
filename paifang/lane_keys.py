"""The keys of a lane controller: what enrolment gave it, and what the lists bring; none of them signs anything."""

from __future__ import annotations

import contextlib
import hmac
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from actors.admission._identity import HashId
from paifang.keys import KeysError, public_release_keys
from protocols.errors import TicketCodeError
from protocols.ticketcode import TicketCode, Verifier
from storage.lanelists import LaneLists

NEIGHBOUR_KEY_BYTES = 32


class LaneKeys:
    """Refreshed from the lists whenever they change. `release` is kept as one dictionary, which others hold."""

    def __init__(self, site: str, identity: Path | None, lists: LaneLists) -> None:
        """Raises KeysError when the identity folder holds no release key: such a lane would obey no release."""
        self._site = site
        self._lists = lists
        self.release: dict[str, Ed25519PublicKey] = {}
        if identity is not None:
            try:
                self.release |= public_release_keys(identity)
            except KeysError as exc:
                raise KeysError(f"{exc}; enrol this lane with `paifang lane enrol`") from exc
        self._verifier: Verifier | None = None
        self._hash: HashId | None = None
        self.refresh()
        if not self.release:
            raise KeysError(f"{identity}: no release-<id>.pub, and no list that has brought one")

    def refresh(self) -> None:
        """Take over what the lists have. Keys that were there stay: an old ticket must still be read."""
        tickets = {int(name): each for name, each in self._public("ticket").items() if name.isdigit()}
        if tickets:
            self._verifier = Verifier(tickets, self._site)
        self.release.update(self._public("release"))
        hashes = self._lists.keys("hash")
        if hashes:
            self._hash = hash_with(next(iter(hashes.values())))

    def verify(self, text: str) -> TicketCode:
        """What a ticket code says. Raises TicketCodeError; without a key of the site's, `offline_refused`."""
        if self._verifier is None:
            raise TicketCodeError("offline_refused", "the lane has no ticket key yet")
        return self._verifier.verify(text)

    def hash_id(self) -> HashId | None:
        """The site's keyed hash of credentials, None until the lists have brought its key."""
        return self._hash

    def _public(self, purpose: str) -> dict[str, Ed25519PublicKey]:
        keys = {}
        for name, raw in self._lists.keys(purpose).items():
            with contextlib.suppress(ValueError):
                keys[name] = Ed25519PublicKey.from_public_bytes(raw)
        return keys


def hash_with(key: bytes) -> HashId:
    """The keyed hash of credentials, as `paifang.keys.KeyRing.hash_id` makes it."""

    def hash_id(kind: str, value: str) -> bytes:
        name = kind.encode()
        message = len(name).to_bytes(2, "big") + name + value.encode("utf-8", "surrogatepass")
        return hmac.digest(key, message, "sha256")

    return hash_id


def neighbour_key(path: Path, *, needed: bool) -> bytes:
    """The entrance's key from its file (hex). Without neighbours a passing one does. Raises KeysError."""
    try:
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as exc:
        if needed:
            raise KeysError(f"{path}: no key of the entrance ({exc}); enrol this lane again") from exc
        return _own_key(path)
    if len(key) < NEIGHBOUR_KEY_BYTES:
        raise KeysError(f"{path}: a key of the entrance has {NEIGHBOUR_KEY_BYTES} bytes")
    return key


def _own_key(path: Path) -> bytes:
    """A lane without neighbours still names what was used by a keyed digest, the same one after a restart."""
    own = path.with_name("own-uses.key")
    with contextlib.suppress(OSError, ValueError):
        key = bytes.fromhex(own.read_text().strip())
        if len(key) == NEIGHBOUR_KEY_BYTES:
            return key
    key = secrets.token_bytes(NEIGHBOUR_KEY_BYTES)
    with contextlib.suppress(OSError):
        own.parent.mkdir(parents=True, exist_ok=True)
        own.touch(mode=0o600)
        own.write_text(key.hex())
    return key
