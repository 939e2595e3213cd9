"""Errors of the driver seam.

    DeviceError
    ├─ DeviceUnavailable   nobody answers: unplugged, switched off, out of reach
    └─ DeviceRefused       it answers, and says no: paper out, cover open, busy

Of a print job there are two more, because only after them may something have come out of the printer:

    DeviceUnavailable ── JobUnconfirmed   sent, and never confirmed
    DeviceRefused ────── JobBroken        begun, and it names a reason why it did not end well
"""


class DeviceError(Exception):
    """A device did not do what it was asked."""


class DeviceUnavailable(DeviceError):
    """Nobody answers at the device's address."""


class DeviceRefused(DeviceError):
    """The device answers and says no."""


class JobUnconfirmed(DeviceUnavailable):
    """A print job was sent, wholly or in part, and the printer did not say that it is done: it may be, or not.

    Print again under a new print id, so that a copy that did come out is void.
    """


class JobBroken(DeviceRefused):
    """A print job was begun and broke: paper out, cover open, a fault. Print again under a new print id."""
