"""What can go wrong between actors.

    ActorError
    ├─ MailboxFull        the receiver has no room; nothing was queued, or the message was shed for a newer one
    ├─ ActorDown          the receiver died holding the message, or is stopped for good
    ├─ AskTimeout         no answer in time; whether the message was carried out is unknown
    │  └─ Expired         the deadline passed before the message was read: certainly not carried out
    └─ TooManyRestarts    a supervisor gave up; the one above decides

The first four are *values of the protocol*: catch them where the message was sent. An actor that lets one of them
escape is restarted for its neighbour's fault.
"""

from __future__ import annotations

import inspect

__all__ = ["ActorDown", "ActorError", "AskTimeout", "Expired", "MailboxFull", "TooManyRestarts"]


class ActorError(Exception):
    """Something went wrong between two actors.

    `actor` is the name of the actor concerned; without a `detail` the first line of the class docstring is the text.
    """

    def __init__(self, actor: str = "", detail: str = "") -> None:
        self.actor = actor
        self.detail = detail or (inspect.getdoc(type(self)) or "").partition("\n")[0].rstrip(".")
        super().__init__(actor, self.detail)

    def __str__(self) -> str:
        return f"{self.actor}: {self.detail}" if self.actor else self.detail


class MailboxFull(ActorError):
    """The mailbox has no room for this message.

    Raised to the sender of a command at once, so that it can say no; never raised for telemetry, which is shed.
    """


class ActorDown(ActorError):
    """The actor died while it held this message, or is stopped for good.

    In the first case the message may have been carried out in part. `__cause__` is the error of the crash, if any.
    You do *not* get it while an actor waits for its restart: its queue survives, and the deadline decides.
    """


class AskTimeout(ActorError):
    """No answer came in time.

    The message had been read, so it may have been carried out: ask again only what may be done twice.
    """


class Expired(AskTimeout):
    """The deadline passed before the message was read: it was certainly not carried out."""


class TooManyRestarts(ActorError):
    """The children of a supervisor crash faster than it may restart them.

    `__cause__` is the last crash. You do not get it from a supervisor with `escalate=False`.
    """
