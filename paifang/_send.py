"""Delivering to somebody else's server: signed webhooks and mail, each from a thread of its own and with a deadline.

Webhooks are signed as https://www.standardwebhooks.com (version 1) says.  By default nothing but HTTPS to public
addresses is spoken, no redirect is followed, and the address that was judged is the one that is connected to: who may
write the site file must not be able to reach the site's inner servers by way of ours.
"""

from __future__ import annotations

import base64
import email.message
import email.utils
import functools
import hashlib
import hmac
import http.client
import ipaddress
import os
import smtplib
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import trio

from actors.alarms import Delivery, NotTaken, Send
from actors.alarms_words import Told, letter, subject
from paifang._site_outgoing import Mail, Webhook

SENDERS_MAX = 8  # threads that deliver at the same time
ANSWER_MAX_BYTES = 64 * 1024  # of a receiver's answer that are read
SECRET_MIN_BYTES = 16
GRACE_S = 2.0  # for a thread to notice its own deadline before it is left behind
USER_AGENT = "Paifang-Webhooks/1"

Resolve = Callable[[str, int], list[str]]


class SecretMissing(NotTaken):
    """The signing key or password cannot be read. The text names where it should be, never what it is."""


def webhook_sender(hook: Webhook, folder: Path, *, resolve: Resolve | None = None, ca_file: str = "") -> Send:
    """Delivers to one webhook. `folder` is where a relative `secret_file` is looked for."""
    limiter = trio.CapacityLimiter(SENDERS_MAX)

    async def send(delivery: Delivery) -> None:
        work = functools.partial(post, hook, folder, delivery, resolve or addresses, ca_file)
        await _within(hook.timeout_s, work, limiter)

    return send


def mail_sender(mail: Mail, folder: Path, *, site: str, site_name: str, timezone: str) -> Send:
    """Delivers by mail, one letter for each event."""
    limiter = trio.CapacityLimiter(SENDERS_MAX)
    zone = ZoneInfo(timezone)

    async def send(delivery: Delivery) -> None:
        work = functools.partial(post_letter, mail, folder, delivery, site, site_name, zone)
        await _within(mail.timeout_s, work, limiter)

    return send


async def _within(timeout_s: float, work: Callable[[], None], limiter: trio.CapacityLimiter) -> None:
    """A thread that is too late is left behind: what it still delivers has the same id as the next try."""
    try:
        with trio.fail_after(timeout_s + GRACE_S):
            await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
    except trio.TooSlowError as exc:
        raise NotTaken(f"no answer within {timeout_s:g} s") from exc


def secret(file: str, variable: str, folder: Path) -> str:
    """What stands in a file (its first line) or in a variable of the environment. Raises SecretMissing."""
    if file:
        try:
            lines = (folder / file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise SecretMissing(f"{file} cannot be read") from exc
        return lines[0].strip() if lines else ""
    if variable:
        return os.environ.get(variable, "")
    return ""


# --- webhooks -------------------------------------------------------------------------------------------------------


def sign(key: bytes, id: str, at: int, body: bytes) -> str:
    """The header `webhook-signature`."""
    mac = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def signing_key(text: str) -> bytes:
    """`whsec_` and base64, or any other text as it is. Raises SecretMissing when it is too short."""
    try:
        key = base64.b64decode(text[6:], validate=True) if text.startswith("whsec_") else text.encode()
    except ValueError as exc:
        raise SecretMissing("the signing key is not base64") from exc
    if len(key) < SECRET_MIN_BYTES:
        raise SecretMissing(f"the signing key has less than {SECRET_MIN_BYTES} bytes, or none is there")
    return key


def post(hook: Webhook, folder: Path, delivery: Delivery, resolve: Resolve, ca_file: str = "") -> None:
    """One try, in a thread. Raises NotTaken."""
    parts, host, port = target(hook)
    key = signing_key(secret(hook.secret_file, hook.secret_env, folder))
    at = int(time.time())
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": delivery.id,
        "webhook-timestamp": str(at),
        "webhook-signature": sign(key, delivery.id, at, delivery.body),
        "connection": "close",
    }
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    context = ssl.create_default_context(cafile=ca_file or None) if parts.scheme == "https" else None
    try:
        address = permitted(resolve(host, port), private=hook.private)
        connection = _Connection(host, port, address, hook.timeout_s, context)
        try:
            connection.request("POST", path, delivery.body, headers)
            answer = connection.getresponse()
            answer.read(ANSWER_MAX_BYTES)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise NotTaken(f"{host}: {type(exc).__name__}: {exc}") from exc
    if not 200 <= answer.status < 300:
        raise NotTaken(f"{host} answered {answer.status}")


class _Connection(http.client.HTTPConnection):
    """Connects to an address that was judged before; the certificate is checked against the name."""

    def __init__(self, host: str, port: int, address: str, timeout_s: float, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address = address
        self._context = context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        try:
            self.sock = plain if self._context is None else self._context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def target(hook: Webhook) -> tuple[urllib.parse.SplitResult, str, int]:
    """Where a webhook goes. Raises NotTaken for an address that is never spoken to."""
    try:
        parts = urllib.parse.urlsplit(hook.url)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise NotTaken("the URL cannot be read") from exc
    if parts.scheme not in ("https", "http") or not host:
        raise NotTaken("the URL needs https:// and a host")
    if parts.scheme == "http" and not hook.private:
        raise NotTaken("http:// is for a site's own network only (private = true)")
    if parts.username is not None or parts.password is not None:
        raise NotTaken("a URL must not hold a user or a password")
    return parts, host, port or (443 if parts.scheme == "https" else 80)


def addresses(host: str, port: int) -> list[str]:
    """All addresses of a name. Raises OSError."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def permitted(found: list[str], *, private: bool) -> str:
    """The first address, if none of them leads into a network that is nobody's business. Raises NotTaken."""
    if not found:
        raise NotTaken("the name has no address")
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if mapped.is_multicast or mapped.is_unspecified or mapped.is_reserved or mapped.is_link_local:
            raise NotTaken(f"{text} is no server's address")
        if not private and not mapped.is_global:
            raise NotTaken(f"{text} is an inner address (private = true permits it)")
    return found[0]


# --- mail -----------------------------------------------------------------------------------------------------------


def compose(
    mail: Mail, delivery: Delivery, site: str, site_name: str, timezone: ZoneInfo
) -> email.message.EmailMessage:
    """The letter. Raises NotTaken for an event that cannot be read."""
    try:
        event = msgspec.json.decode(delivery.body, type=Told)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise NotTaken("an event that cannot be read") from exc
    message = email.message.EmailMessage()
    message["Subject"] = subject(event, site_name, mail.language)
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.to)
    message["Date"] = email.utils.formatdate(event.at if 0 <= event.at < 2**33 else time.time())
    message["Message-ID"] = f"<{delivery.id}@{site}.paifang>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter(event, site_name, timezone, mail.language))
    return message


def post_letter(
    mail: Mail, folder: Path, delivery: Delivery, site: str, site_name: str, timezone: ZoneInfo
) -> None:
    """One try, in a thread. Raises NotTaken."""
    if mail.tls == "none" and not _is_loopback(mail.host):
        raise NotTaken("mail without TLS is for a server on this machine only")
    password = secret(mail.password_file, mail.password_env, folder)
    try:
        message = compose(mail, delivery, site, site_name, timezone)
        context = ssl.create_default_context(cafile=str(folder / mail.ca_file) if mail.ca_file else None)
        server: smtplib.SMTP
        if mail.tls == "implicit":
            server = smtplib.SMTP_SSL(mail.host, mail.port, timeout=mail.timeout_s, context=context)
        else:
            server = smtplib.SMTP(mail.host, mail.port, timeout=mail.timeout_s)
        with server:
            if mail.tls == "starttls":
                server.starttls(context=context)
            if mail.user:
                server.login(mail.user, password)
            refused = server.send_message(message)
    except smtplib.SMTPAuthenticationError as exc:  # its text may repeat what was sent
        raise NotTaken(f"{mail.host} does not accept the user or the password ({exc.smtp_code})") from exc
    except (OSError, smtplib.SMTPException, ValueError) as exc:
        raise NotTaken(f"{mail.host}: {type(exc).__name__}: {exc}") from exc
    if refused:
        raise NotTaken(f"{mail.host} refused {len(refused)} of {len(mail.to)} recipients")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
