"""Turnstile boards on serial lines, one module per board language; `board4` is the one that is spoken so far."""

from drivers.turnstile.board4 import Board4Gate, release_frames

__all__ = ["Board4Gate", "release_frames"]
