"""The accounts of a site: where users and sessions are kept, and how secrets of authenticators are sealed."""

from __future__ import annotations

import io
from pathlib import Path

import segno

from actors.accounts import Accounts
from actors.accounts.factors import Factors, SealBroken
from core import Address
from paifang.keys import KeyRing, SealError
from paifang.site import SiteFile
from paifang.users import load_sessions, load_users, store_sessions, write_users

TOTP_CONTEXT = "totp:"  # and the user's name, so that one user's secret is nobody else's
QR_SCALE = 5  # SVG units of a module


def accounts_of(
    site: SiteFile, data: Path, keys: KeyRing, *, hub: Address, ledger: Address, web: Address
) -> Accounts:
    """The actor, with its files in the data folder."""

    def unseal(sealed: bytes, user: str) -> bytes:
        try:
            return keys.open(sealed, TOTP_CONTEXT + user)
        except SealError as exc:
            raise SealBroken(str(exc)) from exc

    return Accounts(
        load_users=lambda: load_users(data),
        store_users=lambda users: write_users(data, users),
        load_sessions=lambda: load_sessions(data),
        store_sessions=lambda sessions: store_sessions(data, sessions),
        hub=hub,
        ledger=ledger,
        web=web,
        site=site.site.id,
        longest_s=site.sessions.longest_s,
        idle_s=site.sessions.idle_s,
        factors=Factors(
            issuer=f"Paifang {site.site.id}",
            seal=lambda secret, user: keys.seal(secret, TOTP_CONTEXT + user),
            unseal=unseal,
            draw=draw_qr,
        ),
    )


def draw_qr(text: str) -> str:
    """A QR as SVG without scripts and styles, black on white whatever the page's theme."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", scale=QR_SCALE, border=4, light="#fff", xmldecl=False, svgclass=None, lineclass=None
    )
    return out.getvalue().decode()
