"""Who may command: users, passwords, second factors, sessions, locks.

Users stand in a file beside the database (names, roles, Argon2id hashes), so that people can log in and trigger an
evacuation when the database is away.  The actor is in `actor`, what a system manager does in `managing`, beside them
the parts that know nothing of actors: `users` (what a user is, how the list may change), `sessions`, `locks` (against
guessing) and `totp` (RFC 6238).  Who may do what with a role is the table in `protocols.console_rights`.
"""

from protocols.console_rights import EVACUATE, LANE_OPEN, OFFICE, RESTORE, ROLES

from .actor import Accounts, LoginRefused
from .users import User, UsersUnreadable, hash_password, matches

__all__ = [
    "EVACUATE",
    "LANE_OPEN",
    "OFFICE",
    "RESTORE",
    "ROLES",
    "Accounts",
    "LoginRefused",
    "User",
    "UsersUnreadable",
    "hash_password",
    "matches",
]
