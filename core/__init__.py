"""The actor runtime: addresses, mailboxes, supervision, state machines, inspection. See docs/actors.md.

Imports the standard library, trio and msgspec; nothing of ours. Public is what is named here (and `core.errors`,
`core.testing`); modules with an underscore are private.

    errors          what can go wrong between actors
    _messages       the envelope, the runtime's own messages, the trace
    _dead_letters   messages that nobody handled
    _mailbox        lanes and overflow: synchronous decisions
    _address        tell, put, ask, receive, timers, watch
    _machine        state machines
    _supervisor     start, restart, stop
    _inspect        a picture of the tree
    _trail          the way of a message through the actors, by its trace
    testing         probes and friends
"""

from ._address import MAILBOX_CAPACITY, Address, AddressStatistics
from ._dead_letters import DeadLetter, DeadLetters, Reason
from ._inspect import Inspection, inspect_tree
from ._machine import Machine, State
from ._messages import Down, Envelope, Failed, Inspect, Overflow, Stop, current_trace, new_trace
from ._supervisor import Child, Notice, NoticeKind, Restart, Strategy, Supervisor
from ._trail import Trail, TrailStep, keep_trail
from .errors import ActorDown, ActorError, AskTimeout, Expired, MailboxFull, TooManyRestarts

__all__ = [
    "MAILBOX_CAPACITY",
    "ActorDown",
    "ActorError",
    "Address",
    "AddressStatistics",
    "AskTimeout",
    "Child",
    "DeadLetter",
    "DeadLetters",
    "Down",
    "Envelope",
    "Expired",
    "Failed",
    "Inspect",
    "Inspection",
    "Machine",
    "MailboxFull",
    "Notice",
    "NoticeKind",
    "Overflow",
    "Reason",
    "Restart",
    "State",
    "Stop",
    "Strategy",
    "Supervisor",
    "TooManyRestarts",
    "Trail",
    "TrailStep",
    "current_trace",
    "inspect_tree",
    "keep_trail",
    "new_trace",
]
