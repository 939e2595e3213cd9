"""`paifang bench`: what is said on the command line reaches the bench that it is meant for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from bench import admission, evacuation
from paifang.cli import main


@pytest.mark.parametrize(
    ("words", "module", "expected"),
    [
        (["evacuation", "--lanes", "500", "--json"], evacuation, {"quick": False, "lanes": 500}),
        (["evacuation", "--quick", "--json"], evacuation, {"quick": True}),
        (["admission", "--history", "--json"], admission, {"quick": False, "history": 5_000_000}),
        (["admission", "--history", "1000", "--json"], admission, {"quick": False, "history": 1000}),
        (["admission", "--json"], admission, {"quick": False}),
    ],
)
def test_options_reach_the_bench(
    words: list[str], module: Any, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(**options: Any) -> dict[str, Any]:
        return {"said": options}

    monkeypatch.setattr(module, "run", run)
    result = CliRunner().invoke(main, ["bench", *words])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == {"said": expected}


@pytest.mark.parametrize(
    "words", [["face", "--lanes", "3"], ["lane", "--history", "5"], ["nothing"], ["evacuation", "--lanes", "0"]]
)
def test_what_a_bench_does_not_know_is_refused(words: list[str]) -> None:
    result = CliRunner().invoke(main, ["bench", *words])
    assert result.exit_code == 2
    assert "Error" in result.output
