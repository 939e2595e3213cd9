"""The wire under NNG's sockets over TCP (and TLS): a greeting, then messages with their length in front.

The server speaks it itself, on Trio's own streams: a request costs it a third of what it costs through NNG's threads,
and connections, certificates and sizes are in its own hands.  The other end is any NNG or nanomsg program.

Source: the Scalability Protocols' drafts sp-tcp-mapping-01, sp-request-reply-01 and sp-publish-subscribe-01 of the
nanomsg project.  Each end greets with 8 bytes: 00 'S' 'P' 00, its protocol as 16 bits, 00 00.  A message is its length
as 64 bits, then its bytes, all big endian.  A request begins with a stack of 32-bit words, of which the last has its
highest bit set; the reply carries the same stack.  A publication is bare; subscribers filter by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

from protocols.errors import LinkError

GREETING_BYTES = 8
HOPS_MAX = 8  # words in a request's stack: as many devices may forward it
_GREETING = Struct(">4sHH")
_LENGTH = Struct(">Q")
_MAGIC = b"\0SP\0"
_LAST_HOP = 0x80


class Protocol(IntEnum):
    """What an end speaks, as it greets."""

    PUB = 0x20
    SUB = 0x21
    REQ = 0x30
    REP = 0x31


PEERS = {
    Protocol.PUB: Protocol.SUB,
    Protocol.SUB: Protocol.PUB,
    Protocol.REQ: Protocol.REP,
    Protocol.REP: Protocol.REQ,
}


class MessageTooLarge(LinkError):
    """A message is announced that is larger than this end takes."""


def greeting(protocol: Protocol) -> bytes:
    """The first bytes that an end sends."""
    return _GREETING.pack(_MAGIC, protocol, 0)


def frame(*parts: bytes) -> bytes:
    """A message, ready to be sent; its parts are joined."""
    return b"".join((_LENGTH.pack(sum(map(len, parts))), *parts))


def split_request(message: bytes) -> tuple[bytes, bytes]:
    """A request's stack and its body. Raises LinkError when there is no end to the stack."""
    for place in range(0, min(len(message), HOPS_MAX * 4) - 3, 4):
        if message[place] & _LAST_HOP:
            return message[: place + 4], message[place + 4 :]
    raise LinkError("a request without an end of its stack")


class Decoder:
    """Bytes of a connection as they come -> messages.

    `own` is what this end speaks, `max_bytes` the largest message that it takes, with its stack.
    """

    def __init__(self, own: Protocol, max_bytes: int) -> None:
        self._greeting = greeting(PEERS[own])
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self.greeted = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the messages that are complete now.

        Raises LinkError when the other end does not greet as it should, MessageTooLarge at the first 8 bytes of what is
        larger than it may be; after either the connection is of no use.
        """
        buffer = self._buffer
        buffer += data
        if not self.greeted:
            if not self._greeting.startswith(buffer[:GREETING_BYTES]):
                raise LinkError(f"greeted with {bytes(buffer[:GREETING_BYTES])!r}")
            if len(buffer) < GREETING_BYTES:
                return
            del buffer[:GREETING_BYTES]
            self.greeted = True
        while len(buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer)
            if length > self._max_bytes:
                raise MessageTooLarge(f"a message of {length} bytes, above {self._max_bytes}")
            end = _LENGTH.size + length
            if len(buffer) < end:
                return
            message = bytes(buffer[_LENGTH.size : end])
            del buffer[:end]
            yield message
