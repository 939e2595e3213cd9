"""Every way in which the parsed TOML does not have the shape of `paifang.site.SiteFile`, all of them at once.

`msgspec.convert` stops at the first mistake; an installer who has made four wants to hear of four.  So this walks the
data beside the types, describes what each place allows, and converts only what is sound.
"""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import inspect

NAME_RULE = "lower-case letters, digits, - and _, at most 40 of them, the first a letter or a digit"
_NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,39}$"
_CLOSE_ENOUGH = 0.6  # difflib's ratio from which a suggestion helps rather than puzzles
_SHOWN_CHARACTERS = 60  # of a wrong value

_TOML_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "a whole number"),
    (float, "a number with a fraction"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a table"),
    (datetime.datetime, "a date and time"),
    (datetime.date, "a date"),
    (datetime.time, "a time"),
)


class Problem(msgspec.Struct, frozen=True):
    """One complaint about a site file: which key, what is wrong, what is allowed instead.

    `key` is a path such as `lanes[2].to_zone`, counted from 0; `where` names the entry by its id (`lane "north-3"`);
    `line` counts from 1 and is None where it cannot be told; `suggestion` is what was probably meant, or empty.
    """

    key: str
    wrong: str
    allowed: str
    where: str = ""
    line: int | None = None
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.key} ({self.where})" if self.where and self.key else self.key or self.where
        text = f"{place}: {self.wrong}" if place else self.wrong
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.suggestion:
            text += f'. Did you mean "{self.suggestion}"?'
        return text


def nearest(word: object, words: Iterable[str]) -> str:
    """The word that was probably meant, or an empty string."""
    close = difflib.get_close_matches(str(word).lower(), list(words), n=1, cutoff=_CLOSE_ENOUGH)
    return close[0] if close else ""


def quoted(words: Iterable[str]) -> str:
    """Words as they would be written in the file: `"a", "b"`."""
    return ", ".join(f'"{word}"' for word in words)


def shown(value: object) -> str:
    """A wrong value, short and on one line, so that it can stand in a complaint."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def toml_type(value: object) -> str:
    """What a parsed value is called in words."""
    return next((name for kind, name in _TOML_NAMES if isinstance(value, kind)), type(value).__name__)


def examine(value: object, kind: inspect.Type, key: str, problems: list[Problem]) -> bool:
    """Append what is wrong with `value` as a `kind` to `problems`; true when nothing was."""
    before = len(problems)
    if isinstance(kind, inspect.UnionType):  # the site file's only unions are "this or absent"
        kind = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
    if isinstance(kind, inspect.StructType):
        _examine_table(value, kind, key, problems)
    elif isinstance(kind, inspect.ListType):
        _examine_list(value, kind, key, problems)
    else:
        _examine_scalar(value, kind, key, problems)
    return len(problems) == before


def _examine_table(value: object, kind: inspect.StructType, key: str, problems: list[Problem]) -> None:
    names = [field.encode_name for field in kind.fields]
    if not isinstance(value, dict):
        problems.append(Problem(key, f"{toml_type(value)} where a table belongs", f"a table with {', '.join(names)}"))
        return
    prefix = f"{key}." if key else ""
    for name in value:
        if name not in names:
            free = [each for each in names if each not in value]
            problems.append(
                Problem(f"{prefix}{name}", "unknown key", ", ".join(names), suggestion=nearest(name, free))
            )
    for field in kind.fields:
        if field.encode_name in value:
            examine(value[field.encode_name], field.type, f"{prefix}{field.encode_name}", problems)
        elif field.required:
            problems.append(Problem(f"{prefix}{field.encode_name}", "missing", described(field.type)))


def _examine_list(value: object, kind: inspect.ListType, key: str, problems: list[Problem]) -> None:
    if not isinstance(value, list):
        hint = f"{toml_type(value)} where a list belongs"
        if isinstance(value, dict):
            hint += f" (write [[{key}]] rather than [{key}])"
        problems.append(Problem(key, hint, described(kind)))
        return
    for position, item in enumerate(value):
        examine(item, kind.item_type, f"{key}[{position}]", problems)


def _examine_scalar(value: object, kind: inspect.Type, key: str, problems: list[Problem]) -> None:
    if isinstance(kind, inspect.LiteralType):
        if value not in kind.values:
            words = [str(each) for each in kind.values]
            problems.append(Problem(key, f"{shown(value)} is unknown", quoted(words), suggestion=nearest(value, words)))
    elif not _has_type(value, kind):
        problems.append(Problem(key, f"{toml_type(value)}, {shown(value)}, is the wrong type", described(kind)))
    elif isinstance(kind, inspect.StrType):
        text = str(value)
        if not text.isprintable():
            problems.append(Problem(key, f"{shown(text)} holds characters that cannot be printed", described(kind)))
        elif kind.pattern is not None and not re.search(kind.pattern, text):
            problems.append(Problem(key, f"{shown(text)} is not a valid name", described(kind)))
    elif isinstance(kind, inspect.IntType | inspect.FloatType) and not _within(value, kind):
        problems.append(Problem(key, f"{shown(value)} is out of range", described(kind)))


def _has_type(value: object, kind: inspect.Type) -> bool:
    match kind:
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return isinstance(value, int | float) and not isinstance(value, bool)
    return True  # judged by msgspec itself when the table is converted


def _within(value: Any, kind: inspect.IntType | inspect.FloatType) -> bool:
    return (
        math.isfinite(value)
        and (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )


def described(kind: inspect.Type) -> str:
    """What a place allows, in words."""
    match kind:
        case inspect.UnionType():
            return described(next(each for each in kind.types if not isinstance(each, inspect.NoneType)))
        case inspect.StructType():
            return "a table with " + ", ".join(field.encode_name for field in kind.fields)
        case inspect.ListType():
            return f"a list, each {described(kind.item_type)}"
        case inspect.LiteralType():
            return quoted(str(each) for each in kind.values)
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            if kind.pattern is None:
                return "a text"
            return NAME_RULE if kind.pattern == _NAME_PATTERN else f"a text that matches {kind.pattern}"
        case inspect.IntType() | inspect.FloatType():
            return _described_number(kind)
    return type(kind).__name__.removesuffix("Type").lower()


def _described_number(kind: inspect.IntType | inspect.FloatType) -> str:
    noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
    bounds: list[tuple[str, Any]] = [("from", kind.ge), ("above", kind.gt), ("to", kind.le), ("below", kind.lt)]
    return " ".join([noun, *(f"{word} {bound}" for word, bound in bounds if bound is not None)])
