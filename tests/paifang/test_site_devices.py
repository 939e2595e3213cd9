"""The site file's device tables: the example is good, every driver can be made from it, and mistakes are named."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from core import Address
from core.testing import Probe
from paifang import _site_devices
from paifang._device_specs import device_specs
from paifang._wire_devices import Devices
from paifang._wires import Broken, Wires
from paifang.check import check, load

EXAMPLE = Path(__file__).parents[2] / "sites" / "devices.toml"


def test_the_example_is_good_and_without_a_doubt() -> None:
    report = check(EXAMPLE)
    assert report.lines() == []


def test_every_kind_of_device_is_in_the_example() -> None:
    specs = device_specs(load(EXAMPLE)).values()
    shown = {(spec.kind, spec.language) for spec in specs}

    def kinds(struct: type, field: str) -> set[str]:
        [found] = [each for each in msgspec.inspect.type_info(struct).fields if each.name == field]  # type: ignore[union-attr]
        return set(found.type.values)  # type: ignore[union-attr]

    assert {language for kind, language in shown if kind == "gate"} == kinds(_site_devices.Board, "language")
    assert {language for kind, language in shown if kind == "reader"} == kinds(_site_devices.Reader, "kind")
    assert {language for kind, language in shown if kind == "counter"} == kinds(_site_devices.CounterDevice, "kind")
    assert {language for kind, language in shown if kind == "fire"} == {"modbus", "uhppote"}


def test_every_driver_of_the_example_can_be_made_and_opens_nothing(tmp_path: Path) -> None:
    """Those that want a key file that is not there say so, and keep nobody else from starting."""
    site = load(EXAMPLE)
    wires = Wires(tmp_path, site.feedback, site=site.site.id)
    made = {name: spec.make(wires) for name, spec in device_specs(site).items()}
    broken = {name for name, driver in made.items() if isinstance(driver, Broken)}
    assert broken == {"reader/e1/2", "reader/e1/3", "reader/e1/5", "people/garden-1", "people/garden-4"}
    assert made["gate/n1"]._bus is made["gate/n2"]._bus  # type: ignore[union-attr]
    assert made["gate/n1"]._bus is not made["gate/s1"]._bus  # type: ignore[union-attr]


def test_a_whole_site_of_them_is_wired(tmp_path: Path) -> None:
    site = load(EXAMPLE)
    lanes: dict[str, Address] = {lane.id: Probe(f"lane/{lane.id}") for lane in site.lanes}
    statistics: dict = {}
    devices = Devices(
        site, tmp_path, address=lambda name, capacity: Address(name, capacity=capacity), lanes=lanes,
        ledger=Probe("ledger"), hub=Probe("hub"), evacuation=Probe("evacuation"), statistics=statistics,
    )  # fmt: skip
    from actors.lane import LaneParts

    parts = LaneParts(
        admission=Probe("a"), books=Probe("b"), evacuation=Probe("e"), occupancy=Probe("o"), hub=Probe("h")
    )
    children = devices.children(parts, Probe("link"))
    names = [child.address.name for child in children]
    assert len(names) == len(set(names))
    assert set(device_specs(site)) <= set(names)
    assert set(statistics) == set(device_specs(site))
    assert set(devices.refuses) == set(lanes)
    assert names.index("fire/panel") < names.index("gate/n1")  # who hears a fire is there before who may say it


def changed(tmp_path: Path, old: str, new: str) -> list[str]:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert text.count(old) == 1, (old, text.count(old))
    path = tmp_path / "site.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    report = check(path)
    for problem in [*report.problems, *report.warnings]:
        assert problem.line, problem
    return [re.sub(r"^.*site\.toml:", "", line) for line in report.lines()]


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ('usb-rs485-north", address = 2', 'usb-rs485-north", address = 1', "lanes[1].board.address", "already that of"),
        ('usb-rs485-north", address = 2', 'usb-rs485-north", address = 2, baud = 19200', "lanes[1].board.baud", "9600"),
        ('usb-rs485-north", address = 2', 'usb-rs485-north", address = 2, language = "tpw"', "lanes[1].board.path",
         "a line of its own"),
        ('"AC-ATRI-018"', '"AC-ATRI-O18"', "lanes[3].board.model", 'Did you mean "AC-ATRI-018"'),
        ("max_group = 1 ", "max_group = 2 ", "lanes[3].max_group", "2 people, with AC-ATRI-018"),
        ('language = "machpower"', 'language = "machpowr"', "lanes[3].board.language", 'Did you mean "machpower"'),
        ('board = { host = "10.0.20.13" }', 'board = { host = "10.0.20.13", language = "digicon" }',
         "lanes[2].board.host", "no network"),
        ('board = { host = "10.0.20.13" }', 'board = { host = "10.0.20.13", relay = { open_coil = 0 } }',
         "lanes[2].board.relay", "does not belong"),
        ("[lanes.board.relay] ", "[lanes.board.rely] ", "lanes[6].board.rely", "unknown key"),
        ("exit_coil = 1 ", "exit_coil = 0 ", "lanes[6].board.relay", "the same coil"),
        ('controller = "c1", door = 1, open_s', 'controller = "c2", door = 1, open_s', "lanes[7].board.controller",
         'unknown controller "c2"'),
        ('controller = "c1", door = 1, open_s = 3.0', 'controller = "c1", open_s = 3.0', "lanes[7].board.door",
         "missing"),
        ("serial = 405419896", "serial = 0", "controllers[0].serial", "out of range"),
        ('host = "10.0.20.40"', 'host = "door.example"', "controllers[0].host", "IPv4"),
        ("address = 2, key", "address = 1, key", "lanes[8].readers[2].address", "already that of"),
        ('kind = "idcard", path', 'kind = "idcard", trigger = "gm65", path', "lanes[8].readers[5].trigger",
         "does not belong"),
        ('"/dev/input/by-id/usb-Newland_HID_KBW-event-kbd"', '"/dev/ttyS9"', "lanes[8].readers[3].path",
         "not an input device"),
        ('key = "keys/cards.key"', 'key = "/etc/cards.key"', "lanes[8].readers[4].key", "below the data folder"),
        ('key = "keys/cards.key", require', "require", "lanes[8].readers[4].key", "missing"),
        ('kind = "mqtt", host', 'kind = "mqtt", url = "http://x/", host', "lanes[10].counter.url",
         "does not belong"),
        ('url = "http://10.0.20.61/local', 'url = "http://me:secret@10.0.20.61/local', "lanes[9].counter.url",
         "not the address"),
        ('kind = "open"                     # whoever', 'kind = "wing"                     # whoever', "lanes[9].kind",
         '"open" with a counter'),
        ("port = 8470, secret", "secret", "lanes[12].counter.port", "missing"),
        ('kind = "antivalent", second_input = 9', 'kind = "antivalent"', "fire[0].contacts[0]", "second_input"),
        ('name = "kitchen"', 'name = "hall"', "fire[0].contacts[1].name", "named twice"),
        ('id = "panel"', 'id = "boards"', "fire[0].id", "any other name"),
        ('contacts = [{ name = "fire" }]', 'contacts = [{ name = "smoke" }]', "fire[1].contacts[0].name",
         "no input of a controller"),
        ('language = "zpl"', 'language = "zpll"', "printers[3].language", "zpl"),
        ('path = "/dev/usb/lp0"', 'path = "/dev/usb/lp0"\nlanguage = "tspl"', "printers[2].language", "reached by TCP"),
        ('template = "plain-80"', 'template = "plain-8O"', "printers[0].template", 'Did you mean "plain-80"'),
        ('template = "label-zpl"', 'template = "label-tspl"', "printers[3].template", "speaks zpl"),
        ('template = "plain-80"', 'template = "../plain.toml"', "printers[0].template", "below the data folder"),
        ('confirm = "status"', 'confirm = "hope"', "printers[1].confirm", "auto"),
        ('colour = "green"', 'colour = "grün"', "feedback[0].light.colour", "green"),
        ("count = 2 }", "count = 200 }", "feedback[1].sound.count", "out of range"),
        ('class = "discount"  ', 'class = ""  ', "feedback[1]", "already that of"),
    ],
)  # fmt: skip
def test_a_mistake_about_a_device_is_reported_once(tmp_path: Path, old: str, new: str, key: str, words: str) -> None:
    lines = changed(tmp_path, old, new)
    assert len(lines) == 1, lines
    assert f" {key} " in lines[0] or f" {key}:" in lines[0], lines
    assert words in lines[0]
    assert "secret@" not in lines[0]


def test_what_works_but_was_probably_not_meant(tmp_path: Path) -> None:
    [line] = changed(tmp_path, '"/dev/serial/by-id/usb-scanner-n2"', '"/dev/ttyUSB0"')
    assert "warning: lanes[1].readers[0].path" in line
    assert "whichever adapter was plugged in first" in line
    [line] = changed(tmp_path, "listen_port = 60001 ", "listen_port = 0 ")
    assert "warning: controllers[0].listen_port" in line
    [line] = changed(tmp_path, ', key = "keys/osdp-e1-in.key"', "")
    assert "warning: lanes[8].readers[1].key" in line
    [line] = changed(tmp_path, 'kind = "loop", second_input = 11, ', "")
    assert "warning: fire[0].contacts[1].kind" in line


def test_the_demo_has_no_doubt_either() -> None:
    assert check(EXAMPLE.with_name("demo.toml")).lines() == []
