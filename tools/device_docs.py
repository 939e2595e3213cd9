#!/usr/bin/env python3
"""Write docs/devices.md from the checklists of the drivers (drivers/*/checklist.yaml).

    .venv/bin/python tools/device_docs.py           write the page
    .venv/bin/python tools/device_docs.py --check    exit 1 when the page is not what the checklists say

What a driver was proven against stands in its own folder, beside the code; the page only puts it together.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "devices.md"
OURS = "none"  # how `real_peer` begins when nobody else's implementation was at hand
TEXTS = ("family", "driver", "real_peer", "golden", "recovery")
LISTS = ("devices", "transport", "capabilities", "limits", "tests")
KEYS = (*TEXTS, *LISTS, "units_on_a_bus")

HEAD = """# Devices

<!-- Made by tools/device_docs.py from drivers/*/checklist.yaml: change those, then run it. -->

> 摘要：本页由各驱动目录下的 `checklist.yaml` 生成：型号、接线、能力、总线上可挂的台数、断线后的恢复、已知限制，以及
> **每个驱动是用什么验证的**。凡是只用我们自己的模拟器验证过的，都如实写明；上线前请用真机走一遍
> [commissioning.md](commissioning.md)。

How to put a device into service stands in [commissioning.md](commissioning.md), how a driver is written in
[drivers.md](drivers.md), every key of the site file in `sites/devices.toml`.

## What each was proven against

A driver that was only proven against a simulator of our own may still be wrong about the real device in the same way as
the simulator is. Golden frames are bytes that others have published.

| family | driver | somebody else's implementation | golden frames |
|---|---|---|---|
"""


class ChecklistError(Exception):
    """A checklist cannot be used; the text names the file and what is wrong."""


def checklists(root: Path = ROOT) -> list[dict[str, Any]]:
    """Every driver's checklist, by family and driver. Raises ChecklistError."""
    found: list[dict[str, Any]] = []
    for path in sorted((root / "drivers").glob("*/checklist.yaml")):
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as exc:
            raise ChecklistError(f"{path}: {exc}") from exc
        for entry in loaded if isinstance(loaded, list) else [loaded]:
            _check(path, entry)
            found.append(entry)
    return sorted(found, key=lambda entry: (entry["family"], entry["driver"]))


def _check(path: Path, entry: Any) -> None:
    if not isinstance(entry, dict):
        raise ChecklistError(f"{path}: not a table of {', '.join(KEYS)}")
    for key in KEYS:
        if key not in entry:
            raise ChecklistError(f"{path}: {key} is missing")
    for key in entry:
        if key not in KEYS:
            raise ChecklistError(f"{path}: unknown key {key}")
    for key in TEXTS:
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise ChecklistError(f"{path}: {key} is a text, not {entry[key]!r}")
    for key in LISTS:
        if not isinstance(entry[key], list) or not all(isinstance(each, str) for each in entry[key]):
            raise ChecklistError(f"{path}: {key} is a list of texts, not {entry[key]!r}")
    if not entry["tests"]:
        raise ChecklistError(f"{path}: no test is named")


def is_ours(entry: dict[str, Any]) -> bool:
    """Only our own simulator has answered this driver."""
    return str(entry["real_peer"]).strip().lower().startswith(OURS)


def page(entries: list[dict[str, Any]]) -> str:
    """The whole page."""
    parts = [HEAD]
    for entry in entries:
        peer = f"**none** {_rest(entry['real_peer'])}" if is_ours(entry) else _line(entry["real_peer"])
        parts.append(f"| {entry['family']} | `{_name(entry)}` | {_cell(peer)} | {_cell(_line(entry['golden']))} |\n")
    ours = sorted({name for entry in entries if is_ours(entry) for name in _name(entry).split(", ")})
    parts.append(f"\nOnly our own simulators have answered: {', '.join(f'`{name}`' for name in ours) or 'nobody'}.\n")
    return "".join([*parts, *(_section(entry) for entry in entries)])


def _section(entry: dict[str, Any]) -> str:
    def block(title: str, key: str) -> str:
        return f"\n**{title}**\n\n" + "".join(f"* {_line(each)}\n" for each in entry[key]) if entry[key] else ""

    return (
        f"\n## {_name(entry)}\n\n"
        + ", ".join(f"`{name}`" for name in drivers_of(entry))
        + "\n"
        + block("Devices", "devices")
        + block("Transport", "transport")
        + block("Can do", "capabilities")
        + f"\n**Units on a bus**: {_line(str(entry['units_on_a_bus']))}\n"
        + f"\n**Proven against**: {_line(entry['real_peer'])}\n"
        + f"\n**Golden frames**: {_line(entry['golden'])}\n"
        + f"\n**Recovery**: {_line(entry['recovery'])}\n"
        + block("Known limits", "limits")
        + "\n<details><summary>Tests</summary>\n\n"
        + "".join(f"* `{each}`\n" for each in entry["tests"])
        + "\n</details>\n"
    )


def drivers_of(entry: dict[str, Any]) -> list[str]:
    """The dotted names of the drivers that a checklist is about; several have commas between them."""
    return [name.strip() for name in str(entry["driver"]).split(",")]


def _name(entry: dict[str, Any]) -> str:
    return ", ".join(name.rsplit(".", 1)[-1] for name in drivers_of(entry))


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _rest(text: str) -> str:
    return _line(text).removeprefix(OURS).lstrip(": ")


def main(arguments: list[str]) -> int:
    """0 when the page was written, or is as it should be."""
    try:
        fresh = page(checklists())
    except ChecklistError as exc:
        print(exc, file=sys.stderr)
        return 1
    if "--check" in arguments:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != fresh:
            print(f"{PAGE.relative_to(ROOT)} is stale: run tools/device_docs.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
