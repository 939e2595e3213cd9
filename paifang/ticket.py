"""`paifang ticket`: the link and the short code of a ticket for a phone, over the server's console channel."""

from __future__ import annotations

import json
import urllib.parse

import click
import msgspec
import segno

from admin_ws.client import ConsoleClient
from protocols.console import GetWallet, Wallet
from protocols.shortcode import grouped

ORIGINS = {"ws": "http", "wss": "https"}


def origin_of(channel_url: str) -> str:
    """Where the pages beside a console channel are: ws://host:1/channel -> http://host:1."""
    parts = urllib.parse.urlsplit(channel_url)
    return f"{ORIGINS.get(parts.scheme, 'http')}://{parts.netloc}"


async def hand_out(url: str, user: str, password: str, ticket: int, as_json: bool) -> None:
    """Ask the server and print; a link without a host gets that of the channel. Raises ConsoleError."""
    async with ConsoleClient.connect(url) as client:
        await client.login(user, password)
        wallet = await client.call("ticket.wallet", GetWallet(ticket=ticket), Wallet)
    link = wallet.link if "://" in wallet.link else origin_of(url) + wallet.link
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(wallet) | {"link": link}, ensure_ascii=False))
        return
    click.echo(f"ticket {wallet.ticket}: {wallet.product_en} {wallet.product_zh}")
    click.echo(f"short code 短码: {grouped(wallet.short)}")
    segno.make(link, error="l", micro=False).terminal(compact=True)
    click.echo(link)
