"""Turnstile boards: one module per board language, one bus per line, one table of models.

    buses = Buses()
    gate = buses.gate("board4", path="/dev/serial/by-id/…", address=3)   # a drivers.base.Gate; opens nothing yet
    await gate.run(emit)

Gates of one path share its line.  `models` says what each can do; `evacuation` releases a board beside a server that
hangs.
"""

from drivers.turnstile._speech import Standing
from drivers.turnstile.board4 import Board4Gate, release_frames
from drivers.turnstile.buses import Buses
from drivers.turnstile.evacuation import Listener, release_bytes
from drivers.turnstile.gate import TurnstileGate
from drivers.turnstile.models import (
    LANGUAGES,
    MODELS,
    Body,
    CommandLacking,
    Model,
    Transport,
    check_people,
    check_standing,
    model_of,
)

__all__ = [
    "LANGUAGES",
    "MODELS",
    "Board4Gate",
    "Body",
    "Buses",
    "CommandLacking",
    "Listener",
    "Model",
    "Standing",
    "Transport",
    "TurnstileGate",
    "check_people",
    "check_standing",
    "model_of",
    "release_bytes",
    "release_frames",
]
