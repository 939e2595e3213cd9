"""Read and validate the site file (`paifang check site.toml`).

Every complaint says file, line, key, what is wrong and what is allowed, and all of them come at once: a person who
commissions a gate at five in the morning should not have to start the server once per typing mistake.

>>> from paifang.check import load
>>> load("site.toml").site.timezone            # doctest: +SKIP
'Asia/Shanghai'

The shape is that of `paifang.site`; what must hold between its parts is in `_site_rules`.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from paifang import _site_rules as rules
from paifang._site_lines import line_of, lines_of_keys
from paifang._site_modes import ModesTable
from paifang._site_shape import Problem, examine
from paifang.site import (
    Alarms,
    Controller,
    Database,
    EvacuationTable,
    Face,
    FeedbackPattern,
    Fire,
    Http,
    Lane,
    Link,
    Printer,
    Product,
    Site,
    SiteFile,
    Web,
    Zone,
)

__all__ = ["Problem", "Report", "SiteFileError", "check", "load"]

SITE_FILE_MAX_BYTES = 1_048_576
PROBLEMS_SHOWN_MAX = 100  # a file that is not a site file at all should not fill the screen

_Table = TypeVar("_Table", bound=msgspec.Struct)
_SITE_FILE = inspect.type_info(SiteFile)
_ENTRIES = {
    "zones": "zone",
    "lanes": "lane",
    "controllers": "controller",
    "fire": "fire contacts",
    "feedback": "feedback",
    "printers": "printer",
    "products": "product",
}
_ENTRY_KEY = re.compile(rf"({'|'.join(_ENTRIES)})\[(\d+)\]")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `check` found. `site` is None exactly when there are problems; warnings do not stop a start."""

    path: str
    site: SiteFile | None
    problems: list[Problem]
    warnings: list[Problem]

    def lines(self) -> list[str]:
        """One line per finding, problems first: `site.toml:42: lanes[2].to_zone (lane "north-3"): unknown zone …`."""
        found = [_line(self.path, problem) for problem in self.problems[:PROBLEMS_SHOWN_MAX]]
        if (rest := len(self.problems) - len(found)) > 0:
            found.append(f"{self.path}: and {rest} more problems")
        return found + [_line(self.path, each, "warning: ") for each in self.warnings]


class SiteFileError(Exception):
    """The site file cannot be used; `problems` holds every reason, the text names them line by line."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        super().__init__("\n".join(Report(path=path, site=None, problems=problems, warnings=[]).lines()))


def load(path: str | os.PathLike[str]) -> SiteFile:
    """Read a site file. Raises `SiteFileError`, which holds all problems, also when it cannot be read at all."""
    report = check(path)
    if report.site is None:
        raise SiteFileError(report.path, report.problems)
    return report.site


def check(path: str | os.PathLike[str]) -> Report:
    """Read a site file and say everything that is wrong or doubtful. Raises nothing."""
    shown_path = os.fspath(path)
    try:
        text, data = _read(Path(path))
    except SiteFileError as error:
        return Report(path=shown_path, site=None, problems=error.problems, warnings=[])
    problems: list[Problem] = []
    examine(data, _SITE_FILE, "", problems)
    parts = _parts(data, complete=not problems)
    problems += rules.problems(parts)
    site: SiteFile | None = None
    warnings: list[Problem] = []
    if not problems:
        try:
            site = msgspec.convert(data, SiteFile)
        except msgspec.ValidationError as error:  # the last word is with the types themselves
            problems.append(Problem("", str(error), "what sites/demo.toml shows"))
        else:
            warnings = list(rules.warnings(parts))
    lines = lines_of_keys(text)
    return Report(
        path=shown_path,
        site=site,
        problems=_placed(problems, data, lines),
        warnings=_placed(warnings, data, lines),
    )


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    def refuse(wrong: str, allowed: str, line: int | None = None) -> SiteFileError:
        return SiteFileError(os.fspath(path), [Problem("", wrong, allowed, line=line)])

    try:
        with path.open("rb") as file:
            raw = file.read(SITE_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror or error}", "a TOML file") from error
    except ValueError as error:  # a zero byte in the path
        raise refuse(f"cannot be read: {error}", "a TOML file") from error
    if len(raw) > SITE_FILE_MAX_BYTES:
        raise refuse("too large to be a site file", f"at most {SITE_FILE_MAX_BYTES} bytes")
    try:
        text = raw.decode("utf-8").replace("\r\n", "\n")
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise refuse(f"byte {raw[error.start]:#04x} is not UTF-8", "a file saved as UTF-8", line) from error
    except tomllib.TOMLDecodeError as error:
        place = _TOML_PLACE.search(str(error))
        at_line = int(place[1]) if place and place[1] else None
        column = f" (column {place[2]})" if place and place[2] else ""
        wrong = f"not TOML: {_TOML_PLACE.sub('', str(error))}{column}"
        raise refuse(wrong, "TOML, as in sites/demo.toml", at_line) from error
    except RecursionError as error:
        raise refuse("nested too deeply", "a site file has tables in tables, three deep at most") from error
    except ValueError as error:  # e.g. a whole number of more digits than Python converts
        raise refuse(f"not TOML: {error}", "TOML, as in sites/demo.toml") from error


def _parts(data: dict[str, Any], *, complete: bool) -> rules.Parts:
    return rules.Parts(
        site=_table(data.get("site"), Site),
        database=_table(data.get("database", {}), Database),
        http=_table(data.get("http", {}), Http),
        web=_table(data.get("web", {}), Web),
        link=_table(data.get("link", {}), Link),
        face=_table(data.get("face", {}), Face),
        zones=_entries(data.get("zones"), Zone),
        lanes=_entries(data.get("lanes"), Lane),
        controllers=_entries(data.get("controllers"), Controller),
        fire=_entries(data.get("fire"), Fire),
        feedback=_entries(data.get("feedback"), FeedbackPattern),
        printers=_entries(data.get("printers"), Printer),
        products=_entries(data.get("products"), Product),
        zone_ids=[zone for zone in _ids(data.get("zones")) if zone != rules.OUTSIDE],
        controller_ids=_ids(data.get("controllers")),
        evacuation=_table(data.get("evacuation", {}), EvacuationTable),
        alarms=_table(data.get("alarms", {}), Alarms),
        modes=_table(data.get("modes", {}), ModesTable),
        complete=complete,
    )


def _ids(value: object) -> list[str]:
    """The names in a table of the raw file: an entry with a mistake in it is still one that exists."""
    entries = value if isinstance(value, list) else []
    return [each["id"] for each in entries if isinstance(each, dict) and isinstance(each.get("id"), str)]


def _entries(value: object, kind: type[_Table]) -> list[tuple[int, _Table]]:
    tables = [_table(each, kind) for each in value] if isinstance(value, list) else []
    return [(position, table) for position, table in enumerate(tables) if table is not None]


def _table(value: object, kind: type[_Table]) -> _Table | None:
    """The typed table when it is sound by itself; else None, and `examine` has said why."""
    if not examine(value, inspect.type_info(kind), "", []):
        return None
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def _placed(problems: list[Problem], data: dict[str, Any], lines: dict[str, int]) -> list[Problem]:
    """Add line and entry's id to each problem, and put them in the order of the file."""
    placed = [
        msgspec.structs.replace(each, line=line_of(lines, each.key), where=_where(each.key, data)) for each in problems
    ]
    return sorted(placed, key=lambda each: each.line or 0)


def _where(key: str, data: dict[str, Any]) -> str:
    match = _ENTRY_KEY.match(key)
    entries = data.get(match[1]) if match else None
    if match is None or not isinstance(entries, list) or int(match[2]) >= len(entries):
        return ""
    entry = entries[int(match[2])]
    name = entry.get("id") if isinstance(entry, dict) else None
    return f'{_ENTRIES[match[1]]} "{name}"' if isinstance(name, str) and name.isprintable() else ""


def _line(path: str, problem: Problem, kind: str = "") -> str:
    place = f"{path}:{problem.line}" if problem.line is not None else path
    return f"{place}: {kind}{problem}"
