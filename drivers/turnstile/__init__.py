"""Turnstile boards: one module per board language, one bus per line, one table of models."""

from drivers.turnstile.board4 import Board4Gate, release_frames

__all__ = ["Board4Gate", "release_frames"]
