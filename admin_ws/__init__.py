"""The control-room console: one port with the pages and a WebSocket channel, and the hub of what they show.

What lives here: the front (`front`, `server`), the pages (`pages`, built from `console/`), the channel (`channel`,
with a bounded outbox per peer), the hub of views and events (`hub`), a client (`client`), and the generator of the
page's TypeScript types (`typescript`).  What it may import: `core`, `protocols`, trio-websocket, hypercorn, starlette,
structlog.  It talks to addresses only: which actor answers a method is told by the composition root, as `Route`s.
"""

from .channel import Channel, ChannelStatistics, Route
from .client import ConsoleClient, ConsoleClosed, ConsoleError, ConsoleRefused, ConsoleTimeout
from .hub import HUB_MAILBOX_CAPACITY, Hub, HubStatistics
from .server import Console, ConsoleStatistics

__all__ = [
    "HUB_MAILBOX_CAPACITY",
    "Channel",
    "ChannelStatistics",
    "Console",
    "ConsoleClient",
    "ConsoleClosed",
    "ConsoleError",
    "ConsoleRefused",
    "ConsoleStatistics",
    "ConsoleTimeout",
    "Hub",
    "HubStatistics",
    "Route",
]
