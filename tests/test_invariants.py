"""The page about invariants names constraints, checks and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from storage.audit import check_names
from storage.migrate import migrations

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
ROWS = [line.split("|") for line in PAGE.splitlines() if line.startswith("| **")]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[^`]+::[^`]+)`", PAGE))))
def test_the_tests_that_it_names_are_there(name: str) -> None:
    file, function = name.split("::")
    assert re.search(rf"^(async )?def {function}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name


def test_the_checks_that_it_names_are_made() -> None:
    named = {check for row in ROWS if len(row) == 6 for check in spans(row[3])}
    assert named <= set(check_names()), named - set(check_names())


def test_the_constraints_that_it_names_are_in_the_migrations() -> None:
    sql = "\n".join(migration.sql for migration in migrations())
    for row in ROWS:
        for name in spans(row[2]) if len(row) == 6 else ():
            assert "/" in name or name in sql, name


def test_every_line_says_what_tries_it() -> None:
    assert ROWS and all("tests/" in row[-2] for row in ROWS)
