"""What a card reader reports beside the credentials."""

from __future__ import annotations

from drivers.base import DeviceEvent


class CardRejected(DeviceEvent, frozen=True, kw_only=True):
    """A card was presented that is not to be trusted. Nothing of it is said but the reason.

    `wrong_key` (not ours, or a copied number), `no_record`, `not_authentic`, `other_site`, `random_uid` (a telephone),
    `unreadable` (it left too early, or is of a kind that we do not know).
    """

    reason: str
