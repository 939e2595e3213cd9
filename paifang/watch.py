"""What the server has counted: as metrics for Prometheus, and what is new and bad as one log line per interval.

Whoever counts (drivers, the device link, the console channel, mailboxes) only counts.  This actor looks at all of them
together, so that a wire which brings garbage all day costs the log one line an interval, whatever kind of wire it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from admin_ws.server import ConsoleStatistics
from core import Address, DeadLetters, Inspection, Stop
from drivers.base import Availability, DriverStatistics
from drivers.nng import SafetyStatistics, WorkStatistics

LOG_EVERY_S = 10.0
TROUBLE_ON_CONSOLE = ("refused.", "connection.failed", "closed.error", "closed.too_")  # beginnings of event names

log = structlog.get_logger(__name__)

LinkStatistics = WorkStatistics | SafetyStatistics


class _Look(msgspec.Struct, frozen=True):
    """Time to look again."""


class Watch(Collector):
    """An actor, and the source of `/metrics`.

    Args:
        tree: the live tree of actors.
        dead_letters: of all of them.
        drivers: statistics of each device, by its name.
        links: statistics of the device link's sockets, `work` and `safety`, as far as they exist.
        console: of the console's port.
        more: further metrics.
    """

    def __init__(
        self,
        *,
        tree: Callable[[], Inspection],
        dead_letters: DeadLetters,
        drivers: Mapping[str, Callable[[], DriverStatistics]],
        links: Callable[[], Mapping[str, LinkStatistics]],
        console: Callable[[], ConsoleStatistics],
        more: Sequence[Callable[[], Iterator[Metric]]] = (),
    ) -> None:
        self._tree = tree
        self._dead_letters = dead_letters
        self._drivers = drivers
        self._links = links
        self._console = console
        self._more = more
        self._seen: dict[tuple[str, ...], int] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def run(self, me: Address) -> None:
        """Look every `LOG_EVERY_S` seconds until told to stop."""
        me.set_timer("look", LOG_EVERY_S, _Look())
        while True:
            envelope = await me.receive()
            match envelope.msg:
                case _Look():
                    me.set_timer("look", LOG_EVERY_S, _Look())
                    self.look()
                case Stop():
                    return

    def look(self) -> None:
        """Log what went wrong since the last look: one line per device, per kind of refusal, per kind of letter."""
        for name, statistics in self._drivers.items():
            now = statistics()
            if (new := self._new("device", name, total=now.bad_frames)) > 0:
                log.warning("device.bad_frames", device=name, count=new, total=now.bad_frames)
        for event, total in self._console().channel.counts.items():
            if event.startswith(TROUBLE_ON_CONSOLE) and (new := self._new("console", event, total=total)) > 0:
                log.warning("console.trouble", what=event, count=new, total=total)
        for (actor, kind, reason), new in self._dead_letters.take().items():
            log.warning("dead_letters", actor=actor, type=kind, reason=str(reason), count=new)

    def _new(self, *key: str, total: int) -> int:
        before = self._seen.get(key, 0)
        self._seen[key] = total
        return total - before

    # -- metrics ------------------------------------------------------------------------------------------------

    def metrics(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering must not look at a tree that does not stand yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        yield from _actors(self._tree())
        letters = CounterMetricFamily(
            "paifang_dead_letters", "Messages that nobody handled", labels=("actor", "type", "reason")
        )
        for (actor, kind, reason), count in self._dead_letters.counts.items():
            letters.add_metric((actor, kind, str(reason)), count)
        yield letters
        yield from _devices({name: statistics() for name, statistics in self._drivers.items()})
        link = GaugeMetricFamily("paifang_link", "Counts of the device link since start", labels=("socket", "what"))
        for socket, figures in self._links().items():
            for what, value in msgspec.structs.asdict(figures).items():
                link.add_metric((socket, what), value)
        yield link
        console = self._console()
        yield GaugeMetricFamily("paifang_console_connections", "Pages and channels open now", console.connections)
        events = CounterMetricFamily("paifang_console_events", "What happened on the console's port", labels=("event",))
        for event, total in console.channel.counts.items():
            events.add_metric((event,), total)
        yield events
        for each in self._more:
            yield from each()


_ACTOR: tuple[tuple[str, str, str], ...] = (  # attribute, name, what it is; a name in _total is a counter
    ("alive", "paifang_actor_up", "1 while the actor runs"),
    ("depth", "paifang_mailbox_depth", "Messages that wait"),
    ("system_depth", "paifang_mailbox_system_depth", "Urgent messages that wait"),
    ("oldest_age_s", "paifang_mailbox_oldest_seconds", "Age of the oldest message that waits"),
    ("held_age_s", "paifang_actor_held_seconds", "Age of the message being handled"),
    ("told", "paifang_actor_told_total", "Messages told"),
    ("handled", "paifang_actor_handled_total", "Messages handled"),
    ("refused", "paifang_actor_refused_total", "Messages refused by a full mailbox"),
    ("restarts", "paifang_actor_restarts_total", "Restarts"),
)
_DEVICE: tuple[tuple[str, str, str], ...] = (
    ("frames_in", "paifang_device_frames_in_total", "Frames received"),
    ("frames_out", "paifang_device_frames_out_total", "Frames sent"),
    ("bytes_in", "paifang_device_bytes_in_total", "Bytes received"),
    ("bytes_out", "paifang_device_bytes_out_total", "Bytes sent"),
    ("bad_frames", "paifang_device_bad_frames_total", "Frames that were damaged, cut off or too long"),
    ("reconnects", "paifang_device_reconnects_total", "Times that the device came back"),
    ("replaced", "paifang_device_replaced_total", "Times that its description was changed while the server ran"),
)
_DEVICE_AGES: tuple[tuple[str, str, str], ...] = (  # left out while there is none
    ("since_s", "paifang_device_state_seconds", "For so long in this state"),
    ("last_heard_s", "paifang_device_last_heard_seconds", "Since the last bytes from the device"),
    ("last_said_s", "paifang_device_last_said_seconds", "Since its last event"),
    ("clock_skew_s", "paifang_device_clock_skew_seconds", "The device's clock minus ours"),
)


def _actors(tree: Inspection) -> Iterator[Metric]:
    actors = list(tree.walk())
    for attribute, name, what in _ACTOR:
        yield _family(name, what, "actor", {actor.name: getattr(actor, attribute) for actor in actors})


def _devices(devices: Mapping[str, DriverStatistics]) -> Iterator[Metric]:
    up = {name: each.availability is Availability.AVAILABLE for name, each in devices.items()}
    yield _family("paifang_device_up", "1 while the device answers", "device", up)
    state = GaugeMetricFamily(
        "paifang_device_state", "1 for the state that the device is in", labels=("device", "state")
    )
    for name, each in devices.items():
        for availability in Availability:
            state.add_metric((name, availability.value), float(each.availability is availability))
    yield state
    for attribute, name, what in _DEVICE_AGES:
        values = {device: getattr(each, attribute) for device, each in devices.items()}
        yield _family(name, what, "device", {device: age for device, age in values.items() if age is not None})
    received = {name: each.frames_in + each.bad_frames for name, each in devices.items()}
    rates = {name: each.bad_frames / received[name] for name, each in devices.items() if received[name]}
    yield _family("paifang_device_error_rate", "Damaged of all frames received", "device", rates)
    counted = CounterMetricFamily(
        "paifang_device_counted", "People, as the device itself counts them", labels=("device", "direction")
    )
    for name, each in devices.items():
        if each.counters is not None:
            counted.add_metric((name, "entry"), each.counters.entries)
            counted.add_metric((name, "exit"), each.counters.exits)
    yield counted
    firmware = GaugeMetricFamily("paifang_device_firmware", "1 for what it says it runs", labels=("device", "firmware"))
    for name, each in devices.items():
        if each.firmware:
            firmware.add_metric((name, each.firmware), 1.0)
    yield firmware
    for attribute, name, what in _DEVICE:
        yield _family(name, what, "device", {device: getattr(each, attribute) for device, each in devices.items()})


def _family(name: str, what: str, label: str, values: Mapping[str, Any]) -> Metric:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family = kind(name, what, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), float(value))
    return family
