"""Second factors of users: secrets that are being set up, codes that were used, and how secrets are kept."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable

import msgspec
import trio

from actors.errors import CommandRefused
from protocols.console_accounts import TotpSecret

from . import totp
from .users import User

SETUP_S = 600.0  # from drawing a secret to proving it
SETUPS_MAX = 200
CONFIRMS_MAX = 5  # wrong codes before a secret that is being set up is forgotten


class SealBroken(Exception):
    """A sealed secret cannot be opened: other keys, or damaged. Raised by `unseal`."""


class _Setup(msgspec.Struct):
    secret: bytes
    until: float
    wrong: int = 0


class Factors:
    """Authenticators and recovery codes.

    Args:
        issuer: what an authenticator shows beside the user's name.
        seal, unseal: keep a secret so that the users file alone opens nothing; context is the user's name. `unseal`
            raises SealBroken.
        draw: an otpauth: address as a picture (SVG).
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        *,
        issuer: str,
        seal: Callable[[bytes, str], bytes] = lambda secret, _user: secret,
        unseal: Callable[[bytes, str], bytes] = lambda sealed, _user: sealed,
        draw: Callable[[str], str] = lambda _uri: "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuer, self._seal, self._unseal, self._draw, self._clock = issuer, seal, unseal, draw, clock
        self._setups: dict[str, _Setup] = {}
        self._used: dict[str, int] = {}  # user -> the last step that a code was accepted of

    def begin(self, user: str) -> TotpSecret:
        """Draw a secret; it counts once `confirm` proved that the authenticator has it."""
        secret = totp.new_secret()
        self._setups.pop(user, None)
        if len(self._setups) >= SETUPS_MAX:
            del self._setups[next(iter(self._setups))]
        self._setups[user] = _Setup(secret, trio.current_time() + SETUP_S)
        uri = totp.uri(secret, user, self._issuer)
        return TotpSecret(secret=totp.base32(secret), uri=uri, qr_svg=self._draw(uri))

    def confirm(self, user: str, code: str) -> tuple[str, list[str], list[str]]:
        """The sealed secret, recovery codes and their hashes. Raises CommandRefused for wrong digits."""
        setup = self._setups.get(user)
        if setup is None or trio.current_time() >= setup.until:
            self._setups.pop(user, None)
            raise CommandRefused("totp_not_begun", "Begin again: the secret is too old", "请重新开始设置")
        step = totp.step_of(setup.secret, code, self._clock())
        if step is None:
            setup.wrong += 1
            if setup.wrong >= CONFIRMS_MAX:
                del self._setups[user]
            raise CommandRefused("bad_otp", "Wrong digits", "验证码错误", "Is the clock of the phone right?")
        del self._setups[user]
        self._used[user] = step
        codes = totp.new_recovery_codes()
        sealed = base64.b64encode(self._seal(setup.secret, user)).decode()
        return sealed, codes, [totp.recovery_hash(each) for each in codes]

    def accept(self, user: User, code: str) -> bool:
        """Are these the digits of now, for the first time?"""
        try:
            secret = self._unseal(base64.b64decode(user.totp, validate=True), user.name)
        except (SealBroken, binascii.Error, ValueError):
            return False
        step = totp.step_of(secret, code, self._clock(), self._used.get(user.name, -1))
        if step is None:
            return False
        self._used[user.name] = step
        return True

    def without_recovery(self, user: User, code: str) -> User | None:
        """The user without this recovery code; None if it is none of theirs."""
        hashed = totp.recovery_hash(code)
        if hashed not in user.recovery:
            return None
        return msgspec.structs.replace(user, recovery=[each for each in user.recovery if each != hashed])
