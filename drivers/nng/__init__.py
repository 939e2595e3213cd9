"""The device link over NNG: the server's sockets, and the device's side as the reference for whoever builds a gate.

`WorkServer` answers what gates ask; `SafetyServer` publishes releases and collects acknowledgements on sockets of its
own.  Both speak NNG's wire on Trio's streams (`_sp`), with TLS if there is.  `LinkClient` is a device's end of both, on
pynng, which `_sockets` keeps in bounds.  May import `protocols`, trio, pynng, structlog; `docs/device-link.md` is the
manual of the wire.

    DeviceError                     drivers.errors
    ├─ DeviceUnavailable
    │  ├─ LinkTimeout               nobody answered within the deadline, or the connection broke
    │  └─ (itself)                  an address cannot be bound
    ├─ LinkTlsError                 certificates or a key that cannot be used
    └─ LinkAddressError             an address that must not be bound: neither loopback nor with TLS
"""

from drivers.nng._address import check_address, check_loopback
from drivers.nng._client import ClientStatistics, LinkAddresses, LinkClient
from drivers.nng._endpoint import Sensed
from drivers.nng._errors import LinkAddressError, LinkTimeout, LinkTlsError
from drivers.nng._neighbours import NeighbourLink
from drivers.nng._safety import SafetyServer, SafetyStatistics, ask_safety
from drivers.nng._sp import Peer
from drivers.nng._tls import SERVER_NAME, LinkTls, client_config, server_context
from drivers.nng._work import WorkServer, WorkStatistics

__all__ = [
    "SERVER_NAME",
    "ClientStatistics",
    "LinkAddressError",
    "LinkAddresses",
    "LinkClient",
    "LinkTimeout",
    "LinkTls",
    "LinkTlsError",
    "NeighbourLink",
    "Peer",
    "SafetyServer",
    "SafetyStatistics",
    "Sensed",
    "WorkServer",
    "WorkStatistics",
    "ask_safety",
    "check_address",
    "check_loopback",
    "client_config",
    "server_context",
]
