"""Metrics of what the site shows, and the files in deploy/ that name them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from core import DeadLetters
from paifang._wire_alarms import Outgoing
from paifang._wire_metrics import EVENTS_MAX, Passing, Views
from paifang.check import load
from paifang.testing import free_ports, site_text
from paifang.watch import _ACTOR, _DEVICE, _DEVICE_AGES
from protocols.console import DeviceView, EvacuationView, FeedEvent, LaneRelease, LaneView, ZoneView

DEPLOY = Path(__file__).parents[2] / "deploy"
BY_PROMETHEUS = {"up"}  # not ours
ALARMS = """
[[alarms.webhooks]]
id = "a"
url = "https://receiver.example/"
secret_env = "PAIFANG_TEST_KEY"
"""


class _All(Collector):
    def __init__(self, *sources: Any) -> None:
        self._sources = sources

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Any:
        for source in self._sources:
            yield from source()


def text_of(*sources: Any) -> str:
    registry = CollectorRegistry()
    registry.register(_All(*sources))
    return generate_latest(registry).decode()


def seen() -> Views:
    views = Views()
    views.see(
        LaneView(
            lane="n1", name="北1", entrance="north", kind="wing", transport="link", from_zone="outside", to_zone="park",
            mode="bidirectional", state="idle", available=True, barrier="closed", entries=12, exits=3,
        )
    )  # fmt: skip
    views.see(ZoneView(zone="park", name="Park", inside=40, held=2, limit=100, state="normal"))
    lanes = [
        LaneRelease(
            lane=lane, commanded=True, acknowledged=True, sensed_open=sensed, barrier="released",
            acknowledged_after_ms=1.0,
        )
        for lane, sensed in (("n1", True), ("n2", False))
    ]  # fmt: skip
    views.see(EvacuationView(state="released", incident=1, drill=True, lanes=lanes, out=5, left=35))
    views.see(DeviceView(device="database", kind="database", lane="", availability="available"))
    views.see(FeedEvent(at=1.0, kind="refused", severity="notice", code="unknown_code"))
    return views


def test_lanes_zones_and_the_evacuation_are_measured() -> None:
    text = text_of(seen().metrics)
    for line in (
        'paifang_lane_up{entrance="north",lane="n1"} 1.0',
        'paifang_lane_today{direction="entry",lane="n1"} 12.0',
        'paifang_zone_inside{zone="park"} 40.0',
        "paifang_evacuation_released 1.0",
        "paifang_evacuation_drill 1.0",
        "paifang_evacuation_lanes_not_open 1.0",
        "paifang_evacuation_people_left 35.0",
        "paifang_database_up 1.0",
        'paifang_feed_events_total{code="unknown_code",kind="refused",severity="notice"} 1.0',
    ):
        assert line in text, line


def test_a_flood_of_codes_does_not_fill_the_memory() -> None:
    views = Views()
    for number in range(2 * EVENTS_MAX):
        views.see(FeedEvent(at=1.0, kind="refused", severity="notice", code=f"c{number}"))
    assert len(views.events) <= EVENTS_MAX + 1
    assert sum(views.events.values()) == 2 * EVENTS_MAX


def test_ready_is_a_site_that_can_let_visitors_in() -> None:
    assert Views().ready() == {"database": False, "lanes": False}
    views = seen()
    assert all(views.ready().values())
    views.see(DeviceView(device="database", kind="database", lane="", availability="unavailable"))
    assert views.ready() == {"database": False, "lanes": True}


async def test_what_passes_by_is_told_all_the_same() -> None:
    passed: list[Any] = []
    address = Passing("hub", capacity=4, dead_letters=DeadLetters(), see=passed.append)
    address.tell("x")
    assert passed == ["x"]


def _exported(tmp_path: Path) -> set[str]:
    path = tmp_path / "site.toml"
    path.write_text(site_text(serial=1, linked=1, limit=10, ports=free_ports(8), database="") + ALARMS)
    outgoing = Outgoing(load(path), tmp_path, DeadLetters())
    outgoing.children(Passing("hub", capacity=4, dead_letters=DeadLetters(), see=lambda message: None))
    text = text_of(seen().metrics, outgoing.metrics)
    ours = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    watched = {name for _, name, _ in (*_ACTOR, *_DEVICE, *_DEVICE_AGES)}
    source = (Path(__file__).parents[2] / "paifang" / "watch.py").read_text()
    named = set(re.findall(r'"(paifang_\w+)"', source))
    process = {
        "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_max_fds",
    }  # fmt: skip
    return ours | watched | named | {f"{name}_total" for name in named} | process


def _names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:paifang|process)_\w+|\bup\b", expression))


def test_every_metric_that_the_dashboard_shows_is_exported(tmp_path: Path) -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "paifang.json").read_text())
    shown = {target["expr"] for panel in dashboard["panels"] for target in panel["targets"]}
    shown |= {each["expr"] for each in dashboard["annotations"]["list"]}
    names = {name for expression in shown for name in _names(expression)}
    assert len(names) > 15
    assert names - _exported(tmp_path) == set()
    places = [tuple(panel["gridPos"][key] for key in "xy") for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


def test_every_metric_that_an_alert_asks_for_is_exported(tmp_path: Path) -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "paifang.rules.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert all({"alert", "expr", "labels", "annotations"} <= set(rule) for rule in alerts)
    names = {name for rule in alerts for name in _names(rule["expr"])}
    assert names - _exported(tmp_path) - BY_PROMETHEUS == set()
