"""The code of docs/actors.md runs and prints what the page says."""

import inspect
import re
from pathlib import Path

import pytest
import trio

import core
import core.testing

PAGE = Path(__file__).parents[2] / "docs" / "actors.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def page():
    namespace = {"__name__": "page"}
    exec(compile("\n".join(blocks("python")), str(PAGE), "exec"), namespace)
    return namespace


def test_the_example_prints_what_the_page_says(page, capsys):
    trio.run(page["main"], clock=trio.testing.MockClock(autojump_threshold=0))
    assert capsys.readouterr().out == blocks("text")[0]


def test_the_tests_of_the_page_pass(page):
    tests = [value for name, value in page.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        trio.run(test, None, clock=trio.testing.MockClock(autojump_threshold=0))


def test_every_name_the_page_mentions_exists():
    """Names in running text, such as `Machine` or `state_timeout`, are those of the runtime."""
    known = {*dir(core), *core.testing.__all__, *dir(core.Machine), *dir(core.Envelope), *dir(core.Supervisor)}
    known |= {*dir(core.Address), *dir(core.DeadLetters), *dir(core.Restart), *dir(core.Strategy)}
    known |= {*inspect.signature(core.Child).parameters, *inspect.signature(core.Supervisor).parameters}
    known |= {*inspect.signature(core.Address.tell).parameters, "autojump_clock", "main", "None", "await"}
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    mentioned = set(re.findall(r"`([A-Za-z_]\w*)`", prose))
    assert mentioned - known == set()
