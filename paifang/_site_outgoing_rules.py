"""What must hold for `[evacuation]` and `[alarms]`: programs and receivers that can be spoken to, and secrets."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from paifang._site_outgoing import Alarms, EvacuationTable, Mail, Webhook
from paifang._site_shape import Problem, shown

RECEIVERS_MAX = 32
ANNOUNCE_MAX_S = 600.0  # a program that speaks for longer blocks the next one
TIMEOUT_MAX_S = 120.0
TOPICS = (
    "admitted", "refused", "passage", "alarm", "sale", "print", "device", "mode", "evacuation", "case", "login",
)  # fmt: skip


def problems(evacuation: EvacuationTable | None, alarms: Alarms | None) -> Iterator[Problem]:
    """Everything that would only be found when it is needed."""
    if evacuation is not None:
        yield from _evacuation(evacuation)
    if alarms is None:
        return
    count = len(alarms.webhooks) + len(alarms.mail)
    if count > RECEIVERS_MAX:
        yield Problem("alarms", f"{count} receivers", f"at most {RECEIVERS_MAX}")
    seen: set[str] = set()
    for position, hook in enumerate(alarms.webhooks):
        key = f"alarms.webhooks[{position}]"
        if hook.id in seen:
            yield Problem(f"{key}.id", f"{shown(hook.id)} is used twice", "another id")
        seen.add(hook.id)
        yield from _webhook(key, hook)
    for position, mail in enumerate(alarms.mail):
        yield from _mail(f"alarms.mail[{position}]", mail)


def _evacuation(table: EvacuationTable) -> Iterator[Problem]:
    if table.announce and not table.announce[0].startswith("/"):
        yield Problem("evacuation.announce[0]", f"{shown(table.announce[0])} is no whole path", "a path from / on")
    if table.announce_timeout_s > ANNOUNCE_MAX_S:
        yield Problem(
            "evacuation.announce_timeout_s", f"{table.announce_timeout_s:g} is too long", f"up to {ANNOUNCE_MAX_S:g}"
        )


def _webhook(key: str, hook: Webhook) -> Iterator[Problem]:
    try:
        parts = urlsplit(hook.url)
        good = bool(parts.hostname) and parts.scheme in ("https", "http") and (parts.port or 1) > 0
        user = parts.username is not None or parts.password is not None
    except ValueError:
        good, user, parts = False, False, urlsplit("")
    if not good:
        yield Problem(f"{key}.url", f"{shown(hook.url)} is no address of a server", "https://HOST/PATH")
    elif user:
        yield Problem(f"{key}.url", "a user or password in the address", "secret_file or secret_env")
    elif parts.scheme == "http" and not hook.private:
        yield Problem(f"{key}.url", "http:// without private = true", "https://, or private = true in your own network")
    if bool(hook.secret_file) == bool(hook.secret_env):
        yield Problem(f"{key}.secret_file", "where is the signing key?", "one of secret_file and secret_env")
    yield from _topics(key, hook.topics)
    yield from _timeout(key, hook.timeout_s)


def _mail(key: str, mail: Mail) -> Iterator[Problem]:
    if not mail.to:
        yield Problem(f"{key}.to", "nobody", "one address or more")
    for place, address in (("sender", mail.sender), *((f"to[{n}]", each) for n, each in enumerate(mail.to))):
        user, at, host = address.rpartition("@")
        if not (user and at and host) or any(c.isspace() or c in "<>,;" for c in address):
            yield Problem(f"{key}.{place}", f"{shown(address)} is no mail address", "NAME@HOST")
    if not mail.host:
        yield Problem(f"{key}.host", "no mail server", "its name")
    if mail.user and bool(mail.password_file) == bool(mail.password_env):
        yield Problem(f"{key}.password_file", "where is the password?", "one of password_file and password_env")
    if mail.tls == "none" and mail.user:
        yield Problem(f"{key}.tls", "a password without TLS", "starttls or implicit")
    yield from _topics(key, mail.topics)
    yield from _timeout(key, mail.timeout_s)


def _topics(key: str, topics: list[str]) -> Iterator[Problem]:
    for position, topic in enumerate(topics):
        if topic not in TOPICS:
            yield Problem(f"{key}.topics[{position}]", f"{shown(topic)} is unknown", ", ".join(TOPICS))


def _timeout(key: str, timeout_s: float) -> Iterator[Problem]:
    if timeout_s > TIMEOUT_MAX_S:
        yield Problem(f"{key}.timeout_s", f"{timeout_s:g} is too long", f"up to {TIMEOUT_MAX_S:g}")
