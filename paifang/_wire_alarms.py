"""Wiring of what is told to others: a look at the feed, the outbox, one sender for each receiver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from actors._common import offer
from actors.alarms import Alarms, Send
from actors.alarms_words import RANK, Interest
from core import Address, Child, DeadLetters
from paifang._send import mail_sender, webhook_sender
from paifang.site import SiteFile
from protocols.console import FeedEvent
from storage.outbox import Delivery, Outbox, OutboxError

MAILBOX_CAPACITY = 8192  # events on their way; the actor reads them without waiting for anything
OUTBOX = "outgoing.db"  # in the data folder
HOUR_S = 3600.0


class Outgoing:
    """Everything of `[alarms]`; without a receiver in the site file there is no actor and no file."""

    def __init__(self, site: SiteFile, data: Path, dead_letters: DeadLetters) -> None:
        table = site.alarms
        self._site, self._data, self._dead_letters = site, data, dead_letters
        self.address = Address("alarms", capacity=MAILBOX_CAPACITY, dead_letters=dead_letters)
        self.interests = [
            *(
                Interest(receiver=f"webhook/{hook.id}", topics=frozenset(hook.topics), severity=hook.severity)
                for hook in table.webhooks
            ),
            *(
                Interest(receiver=f"mail/{number}", topics=frozenset(mail.topics), severity=mail.severity)
                for number, mail in enumerate(table.mail, 1)
            ),
        ]
        self._rank = min((RANK[interest.severity] for interest in self.interests), default=0)
        self._actor: Alarms | None = None

    def see(self, message: object) -> None:
        """Take what anybody wants to hear of, on its way to the consoles; whether their hub lives or not."""
        if self.interests and isinstance(message, FeedEvent) and RANK.get(message.severity, self._rank) >= self._rank:
            offer(self.address, message)

    def children(self, hub: Address) -> list[Child]:
        """The actor, if there is anybody to tell."""
        if not self.interests:
            return []
        self._actor = Alarms(
            site=self._site.site.id,
            interests=self.interests,
            senders=self._senders(),
            outbox=Outbox(self._data / OUTBOX),
            make=_delivery,
            hub=hub,
            outbox_error=OutboxError,
            keep_s=self._site.alarms.keep_hours * HOUR_S,
        )
        return [Child(self.address, self._actor.run)]

    def _senders(self) -> dict[str, Send]:
        site, table = self._site.site, self._site.alarms
        senders: dict[str, Send] = {
            f"webhook/{hook.id}": webhook_sender(hook, self._data) for hook in table.webhooks
        }
        for number, mail in enumerate(table.mail, 1):
            senders[f"mail/{number}"] = mail_sender(
                mail, self._data, site=site.id, site_name=site.name, timezone=site.timezone
            )
        return senders

    def metrics(self) -> Iterator[Metric]:
        """What became of it all."""
        if self._actor is None:
            return
        waiting = GaugeMetricFamily("paifang_alarms_waiting", "Not taken by their receiver yet", labels=("receiver",))
        total = CounterMetricFamily("paifang_alarms", "What became of deliveries", labels=("receiver", "result"))
        for name, counts in self._actor.counts.items():
            waiting.add_metric((name,), counts.waiting)
            for result in ("taken", "failed", "given_up"):
                total.add_metric((name, result), getattr(counts, result))
        yield waiting
        yield total
        yield CounterMetricFamily("paifang_alarms_lost", "Shed for want of room", self._actor.lost)


def _delivery(id: str, receiver: str, topic: str, body: bytes, made_at: float) -> Delivery:
    return Delivery(id=id, receiver=receiver, topic=topic, body=body, made_at=made_at)
