"""What a site tells people beyond its consoles: tables `[evacuation]` and `[alarms]` of the site file."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from paifang._site_types import Name, Positive
from paifang._site_types import Table as _Table

ARGUMENTS_MAX = 64
RECIPIENTS_MAX = 50

Severity = Literal["info", "notice", "warning", "alarm"]


class EvacuationTable(_Table, frozen=True, kw_only=True):
    """`announce`: a program and its arguments that speaks to the crowd, started after the release and never waited for.

    It learns what happened from its environment (`docs/evacuation.md`) and is ended after `announce_timeout_s`.
    """

    announce: Annotated[list[str], msgspec.Meta(max_length=ARGUMENTS_MAX)] = []
    announce_timeout_s: Positive = 30.0


class Webhook(_Table, frozen=True, kw_only=True):
    """Somebody else's server that is told. `topics` are kinds of feed events; none: all that are serious enough.

    `secret_file` or `secret_env` is where the signing key stands, never the file itself. `private`: the address may be
    one of the site's own network.
    """

    id: Name
    url: str
    topics: list[str] = []
    severity: Severity = "warning"
    secret_file: str = ""
    secret_env: str = ""
    private: bool = False
    timeout_s: Positive = 10.0


class Mail(_Table, frozen=True, kw_only=True):
    """E-mail through the site's own mail server. `tls`: from the first byte, after STARTTLS, or none on loopback."""

    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str = ""
    password_file: str = ""
    password_env: str = ""
    ca_file: str = ""
    sender: str
    to: Annotated[list[str], msgspec.Meta(max_length=RECIPIENTS_MAX)]
    topics: list[str] = []
    severity: Severity = "alarm"
    language: Literal["zh", "en", "both"] = "both"
    timeout_s: Positive = 20.0


class Alarms(_Table, frozen=True, kw_only=True):
    """`keep_hours`: what a receiver has not taken by then is given up, and said to be."""

    webhooks: list[Webhook] = []
    mail: list[Mail] = []
    keep_hours: Positive = 72.0
