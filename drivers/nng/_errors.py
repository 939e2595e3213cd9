"""Errors of the device link; the tree stands in the package's docstring."""

from drivers.errors import DeviceError, DeviceUnavailable


class LinkTimeout(DeviceUnavailable):
    """Nobody answered in time, or the connection broke: the request may or may not have been carried out."""


class LinkAddressError(DeviceError):
    """An address of the device link that must not be bound; the text names the key and the cure."""


class LinkTlsError(DeviceError):
    """Certificates or a key that cannot be used; the text names the file."""
