"""Tickets on visitors' phones at a site: names and secrets for `actors.wallet`."""

from __future__ import annotations

from actors.wallet import Wallets, WalletSecrets, WalletSite
from core import Address
from paifang.keys import KeyRing
from paifang.setups import product_setups
from paifang.site import SiteFile
from protocols.messages import CredentialKind


def wallets(site: SiteFile, keys: KeyRing, ledger: Address) -> Wallets:
    """The actor behind `ticket.wallet`."""
    return Wallets(
        site=WalletSite(
            name_zh=site.site.name,
            name_en=site.site.name_en,
            public_url=site.http.public_url.rstrip("/"),
            zones={zone.id: zone.name for zone in site.zones},
            classes={product.product: product.product_class for product in product_setups(site)},
        ),
        secrets=WalletSecrets(
            rotating_key=keys.rotating_key,
            short_digest=keys.short_digest,
            hash_short=lambda code: keys.hash_id(CredentialKind.SHORT, code),
        ),
        ledger=ledger,
    )
