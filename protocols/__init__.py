"""Bytes to typed values and back, without any I/O.

What lives here: the messages that actors exchange (`messages`), the device link (`devicelink`) and its frames on
serial lines (`frames`), ticket codes (`ticketcode`), the console channel (`console`, `jsonrpc`) and every device
language (`board4`, `scanner`, `escpos`).  What it may import: the standard library, msgspec, msgpack, cryptography and
pure codecs (base45, cobs); never trio, never `core`.  A decoder raises its own error (a `WireError`) on any bytes, and
nothing else; a stream's framer raises nothing, it counts.  What arrives from outside is bounded (`_bounds`).
"""
