"""What is counted becomes metrics, and what is new and bad one log line per interval."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog.testing
import trio
from prometheus_client.parser import text_string_to_metric_families

from admin_ws.channel import ChannelStatistics
from admin_ws.server import ConsoleStatistics
from core import Address, Child, DeadLetters, Supervisor, inspect_tree
from core.testing import running
from drivers.base import Availability, DriverStatistics
from drivers.nng import SafetyStatistics
from paifang.watch import LOG_EVERY_S, Watch
from protocols.messages import Counters

DEVICE = DriverStatistics(
    availability=Availability.AVAILABLE, since_s=1.0, frames_in=5, frames_out=4, bytes_in=50, bytes_out=40,
    bad_frames=0, reconnects=1, last_heard_s=0.1, last_error="",
)  # fmt: skip
SAFETY = SafetyStatistics(
    published=1, unpublished=0, requests=9, bad_messages=2, dropped_connections=3, refused_connections=0,
    wrong_devices=0, failures=0, unsent_answers=0,
)  # fmt: skip


class Rig:
    def __init__(self) -> None:
        self.dead_letters = DeadLetters()
        self.bad_frames = 0
        self.counts: dict[str, int] = {"connected": 1}
        self.address = Address("watch", dead_letters=self.dead_letters)
        self.watch = Watch(
            tree=lambda: inspect_tree(self.tree),
            dead_letters=self.dead_letters,
            drivers={"gate/n1": lambda: msgspec.structs.replace(DEVICE, bad_frames=self.bad_frames)},
            links=lambda: {"safety": SAFETY},
            console=lambda: ConsoleStatistics(connections=2, channel=ChannelStatistics(peers=[], counts=self.counts)),
        )
        self.tree = Supervisor("site", [Child(self.address, self.watch.run)])

    def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        families = text_string_to_metric_families(self.watch.metrics().decode())
        return {(each.name, tuple(each.labels.values())): each.value for family in families for each in family.samples}


def _bury(address: Address) -> None:
    address.tell("late", deadline=trio.current_time() - 1)


async def test_garbage_of_any_wire_is_one_line_per_interval(autojump_clock: Any) -> None:
    rig = Rig()
    with structlog.testing.capture_logs() as logs:
        async with running(rig.tree):
            for _ in range(3):  # all within one interval
                rig.bad_frames += 100
                rig.counts["refused.head"] = rig.counts.get("refused.head", 0) + 1
                rig.counts["connected"] += 1
                await trio.sleep(LOG_EVERY_S / 4)
            _bury(rig.address)
            await trio.sleep(LOG_EVERY_S / 2)
            first = list(logs)
            await trio.sleep(3 * LOG_EVERY_S)
            assert logs == first  # nothing new, nothing said
            rig.bad_frames += 1
            await trio.sleep(LOG_EVERY_S)
    assert [(each["event"], each["count"]) for each in first] == [
        ("device.bad_frames", 300),
        ("console.trouble", 3),
        ("dead_letters", 1),
    ]
    assert first[0]["device"] == "gate/n1"
    assert first[1]["what"] == "refused.head"
    assert (first[2]["actor"], first[2]["type"], first[2]["reason"]) == ("watch", "str", "expired")
    assert [(each["event"], each["count"], each["total"]) for each in logs[3:]] == [("device.bad_frames", 1, 301)]


async def test_metrics_tell_of_actors_letters_devices_link_and_console(autojump_clock: Any) -> None:
    rig = Rig()
    async with running(rig.tree):
        rig.bad_frames = 7
        _bury(rig.address)
        await trio.sleep(0.1)
        found = rig.metrics()
    assert found["paifang_actor_up", ("watch",)] == 1
    assert found["paifang_mailbox_depth", ("watch",)] == 0
    assert found["paifang_actor_restarts_total", ("watch",)] == 0
    assert found["paifang_dead_letters_total", ("watch", "expired", "str")] == 1  # labels by name
    assert found["paifang_device_up", ("gate/n1",)] == 1
    assert found["paifang_device_bad_frames_total", ("gate/n1",)] == 7
    assert found["paifang_link", ("safety", "dropped_connections")] == 3
    assert found["paifang_console_connections", ()] == 2
    assert found["paifang_console_events_total", ("connected",)] == 1


async def test_the_health_of_a_device_is_in_the_metrics() -> None:
    """State apart from availability, unknown apart from unavailable, and what was said when."""
    rig = Rig()
    gates = {
        "gate/ok": msgspec.structs.replace(
            DEVICE, bad_frames=5, firmware='V2 "x"', clock_skew_s=-3.5, counters=Counters("e", 7, 2), last_said_s=9.0,
            replaced=1,
        ),
        "gate/new": msgspec.structs.replace(
            DEVICE, availability=Availability.UNKNOWN, frames_in=0, last_heard_s=None, since_s=0.0
        ),
        "gate/key": msgspec.structs.replace(DEVICE, availability=Availability.UNAUTHENTICATED),
    }  # fmt: skip
    rig.watch._drivers = {name: (lambda value=value: value) for name, value in gates.items()}  # type: ignore[misc]
    found = rig.metrics()
    assert found["paifang_device_up", ("gate/ok",)] == 1
    assert found["paifang_device_up", ("gate/new",)] == found["paifang_device_up", ("gate/key",)] == 0
    for device, state in (("ok", "available"), ("new", "unknown"), ("key", "unauthenticated")):
        states = {
            labels[1] for (name, labels), value in found.items()
            if name == "paifang_device_state" and labels[0] == f"gate/{device}" and value
        }  # fmt: skip
        assert states == {state}
    assert found["paifang_device_error_rate", ("gate/ok",)] == 0.5
    assert ("paifang_device_error_rate", ("gate/new",)) not in found
    assert found["paifang_device_clock_skew_seconds", ("gate/ok",)] == -3.5
    assert found["paifang_device_last_said_seconds", ("gate/ok",)] == 9.0
    assert ("paifang_device_last_heard_seconds", ("gate/new",)) not in found
    assert found["paifang_device_counted_total", ("gate/ok", "entry")] == 7
    assert found["paifang_device_counted_total", ("gate/ok", "exit")] == 2
    assert found["paifang_device_firmware", ("gate/ok", 'V2 "x"')] == 1
    assert found["paifang_device_replaced_total", ("gate/ok",)] == 1
