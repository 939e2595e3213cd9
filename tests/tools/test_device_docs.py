"""docs/devices.md says what the drivers' checklists say, and the checklists say what is there."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import device_docs
import pytest
import yaml

ROOT = device_docs.ROOT
FAMILIES_WITHOUT = {"face", "nng", "serial", "safety"}  # no device of a gate: faces, the device link, the line itself
GOOD = {
    "family": "x", "driver": "drivers.x.X", "devices": ["a"], "transport": ["tty"], "capabilities": ["b"],
    "real_peer": "none: our own simulator", "golden": "none", "recovery": "comes back", "units_on_a_bus": 1,
    "limits": [], "tests": ["tests/x.py::test_x"],
}  # fmt: skip


def test_the_page_is_what_the_checklists_say() -> None:
    fresh = device_docs.page(device_docs.checklists())
    assert device_docs.PAGE.read_text(encoding="utf-8") == fresh, "run: .venv/bin/python tools/device_docs.py"


def test_every_family_of_drivers_has_a_checklist() -> None:
    folders = {p.parent.name for p in (ROOT / "drivers").glob("*/__init__.py")} - FAMILIES_WITHOUT
    having = {p.parent.name for p in (ROOT / "drivers").glob("*/checklist.yaml")}
    assert folders == having


def test_every_driver_that_is_named_exists() -> None:
    for entry in device_docs.checklists():
        for dotted in device_docs.drivers_of(entry):
            module, name = dotted.rsplit(".", 1)
            assert isinstance(getattr(import_module(module), name), type), dotted


def test_every_test_that_is_named_exists() -> None:
    known: dict[str, set[str]] = {}
    for entry in device_docs.checklists():
        for test in entry["tests"]:
            file, *names = test.split("::")
            path = ROOT / file
            assert path.exists(), f"{entry['family']}: {test}"
            if file not in known:
                tree = ast.parse(path.read_text(encoding="utf-8"))
                known[file] = {
                    node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                }
            for name in names:
                assert name.split("[")[0] in known[file], f"{entry['family']}: {test}"


def test_a_driver_that_met_only_our_own_simulator_is_marked() -> None:
    text = device_docs.page([GOOD, {**GOOD, "driver": "drivers.x.Y", "real_peer": "a foreign one"}])
    assert "| x | `X` | **none** our own simulator |" in text
    assert "| x | `Y` | a foreign one |" in text
    assert "Only our own simulators have answered: `X`." in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recovery": None}, "recovery is a text"),
        ({"tests": []}, "no test is named"),
        ({"limits": "none"}, "limits is a list"),
        ({"colour": "red"}, "unknown key colour"),
    ],
)
def test_a_wrong_checklist_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    folder = tmp_path / "drivers" / "x"
    folder.mkdir(parents=True)
    (folder / "checklist.yaml").write_text(yaml.safe_dump({**GOOD, **change}), encoding="utf-8")
    with pytest.raises(device_docs.ChecklistError, match=words) as error:
        device_docs.checklists(tmp_path)
    assert "checklist.yaml" in str(error.value)
    del (entry := dict(GOOD))["driver"]
    (folder / "checklist.yaml").write_text(yaml.safe_dump([entry]), encoding="utf-8")
    with pytest.raises(device_docs.ChecklistError, match="driver is missing"):
        device_docs.checklists(tmp_path)
