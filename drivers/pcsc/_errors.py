"""What goes wrong with a card, each a kind of its own because people do something else about it.

    DeviceUnavailable
    ├─ ServiceGone   pcscd does not run, or does not answer
    ├─ ReaderGone    no reader of that name
    └─ CardGone      the card left the field: hold it on the reader again
    DeviceRefused
    ├─ NoCard        nothing lay on the reader in time
    ├─ ReaderBusy    another program holds the card
    ├─ WrongKey      not our card, or a copy of one
    └─ CardRefused   the card says no to a command
"""

from __future__ import annotations

from drivers.errors import DeviceRefused, DeviceUnavailable


class ServiceGone(DeviceUnavailable):
    """The PC/SC service does not run, or does not answer."""


class ReaderGone(DeviceUnavailable):
    """The service knows no reader of this name."""


class CardGone(DeviceUnavailable):
    """The card left the field."""


class NoCard(DeviceRefused):
    """Nothing lay on the reader in time."""


class ReaderBusy(DeviceRefused):
    """Another program has the card for itself."""


class WrongKey(DeviceRefused):
    """The card does not accept our key: it is not ours, or a copy of one that is."""


class CardRefused(DeviceRefused):
    """The card says no. `status` is its status word."""

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(detail)
        self.status = status
