"""Where in a TOML file a key stands: `tomllib` tells values but not lines, and a complaint wants both.

This is not a second TOML parser: it only follows table headers and `key =` lines of a text that `tomllib` has already
accepted.  Where it cannot tell (keys inside an inline table), the line of the enclosing key is the answer.
"""

from __future__ import annotations

import re

_BARE_OR_QUOTED = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_BARE_OR_QUOTED}(?:\s*\.\s*{_BARE_OR_QUOTED})*"
_ARRAY_HEADER = re.compile(rf"^\s*\[\[\s*({_DOTTED})\s*\]\]")
_TABLE_HEADER = re.compile(rf"^\s*\[\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"^\s*({_DOTTED})\s*=")
_PART = re.compile(_BARE_OR_QUOTED)
_TRIPLE_QUOTES = ('"""', "'''")


def lines_of_keys(text: str) -> dict[str, int]:
    """Map key paths such as `lanes[2].board.path` to line numbers, counted from 1."""
    found: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    quotes = ""  # the triple quotes that we are inside of
    depth = 0  # open brackets of a value that runs over several lines
    for number, line in enumerate(text.split("\n"), start=1):
        if not quotes and depth == 0:
            if header := _ARRAY_HEADER.match(line):
                plain = _resolve(_parts(header[1]), counts, last_is_array=True)
                counts[plain] = counts.get(plain, -1) + 1
                table = f"{plain}[{counts[plain]}]"
                found.setdefault(table, number)
                found.setdefault(plain, number)
                continue
            if header := _TABLE_HEADER.match(line):
                table = _resolve(_parts(header[1]), counts, last_is_array=False)
                found.setdefault(table, number)
                continue
            if key := _KEY.match(line):
                path = table
                for part in _parts(key[1]):
                    path = f"{path}.{part}" if path else part
                    found.setdefault(path, number)
                line = line[key.end() :]
        quotes, depth = _after_line(line, quotes, depth)
    return found


def line_of(lines: dict[str, int], key: str) -> int | None:
    """The line of `key`, or of the nearest table around it (a missing key has no line of its own)."""
    while key:
        if key in lines:
            return lines[key]
        cut = max(key.rfind("."), key.rfind("["))
        key = key[:cut] if cut > 0 else ""
    return None


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") if part[0] in "\"'" else part for part in _PART.findall(dotted)]


def _resolve(parts: list[str], counts: dict[str, int], *, last_is_array: bool) -> str:
    """A header's path with the indices of the arrays that it passes through: `[lanes.board]` is `lanes[3].board`."""
    path = ""
    for position, part in enumerate(parts):
        path = f"{path}.{part}" if path else part
        is_last = position == len(parts) - 1
        if path in counts and not (is_last and last_is_array):
            path = f"{path}[{counts[path]}]"
    return path


def _after_line(line: str, quotes: str, depth: int) -> tuple[str, int]:
    """Follow strings, comments and brackets to the end of a line: (open triple quotes or empty, open brackets)."""
    at = 0
    while at < len(line):
        if quotes:
            end = line.find(quotes, at)
            while end > 0 and quotes == '"""' and _is_escaped(line, end):
                end = line.find(quotes, end + 1)
            if end < 0:
                return quotes, depth
            at, quotes = end + 3, ""
        elif line.startswith(_TRIPLE_QUOTES, at):
            quotes, at = line[at : at + 3], at + 3
        elif line[at] in "\"'":
            end = line.find(line[at], at + 1)
            while end > 0 and line[at] == '"' and _is_escaped(line, end):
                end = line.find('"', end + 1)
            if end < 0:
                return quotes, depth
            at = end + 1
        elif line[at] == "#":
            break
        else:
            depth += (line[at] in "[{") - (line[at] in "]}")
            at += 1
    return quotes, depth


def _is_escaped(line: str, at: int) -> bool:
    backslashes = 0
    while at > backslashes and line[at - 1 - backslashes] == "\\":
        backslashes += 1
    return backslashes % 2 == 1
